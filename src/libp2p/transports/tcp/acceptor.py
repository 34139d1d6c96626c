"""Accepts connections on a listening socket.

Rules:
- Closing frees the port at once. What was accepted before it is still handed over, and is for its protocol to refuse:
  asyncio's server forgets such a socket, and from Python 3.12 on leaves half a transport behind.
- Descriptors are given out lowest first, so the number of a new one tells how many are left: before the process runs
  out of them nothing is accepted for a while, and what is left is for files, names and dials. So it is where the system
  has no room. One line is logged at times.
- Who has no chance to be let in is closed at once, before anything is made of the connection: a flood from one address
  costs little.
- An error that says that the socket is none any more ends the acceptor; any other one is of one connection only.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import socket
from collections.abc import Callable
from typing import Any

from ...io.descriptors import max_descriptors

logger = logging.getLogger(__name__)

_AT_ONCE = 16
"""Connections accepted in one turn of the loop: each takes some tenths of a millisecond."""

_AT_ONCE_OF_FEW = 8
_MANY = 1024
"""The same where the process may have fewer descriptors than this: those that make room are closed a turn later."""

_PAUSE = 1.0
"""Seconds without accepting where the system has no room."""

_RESERVE = 8
"""One in so many of the descriptors that the process may have is not for what is accepted."""

_LOG_INTERVAL = 10.0
"""Seconds between two lines that say that nothing is accepted."""

_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_NO_SOCKET = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}


Screen = Callable[[Any], bool]
"""Whether who comes from a socket address has a chance to be let in."""


class Acceptor:
    """Makes a protocol by `factory` for each connection to `sock`, which it owns, that passes `screen`; `died` is told
    where it can't go on. For loops that have `add_reader`.
    """

    def __init__(
        self,
        sock: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        died: Callable[[OSError], None],
        screen: Screen | None = None,
    ) -> None:
        self._sock = sock
        self._factory = factory
        self._died = died
        self._screen = screen
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._refused = 0
        self._logged: float | None = None
        self._starting: set[asyncio.Task[object]] = set()  # accepted; they end within a turn or two, whatever happens

    def start(self, backlog: int) -> None:
        """Begin. Raises `OSError`; the socket is closed then."""
        try:
            self._sock.setblocking(False)
            self._sock.listen(backlog)
        except BaseException:
            self._sock.close()
            raise
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Accept no more. Idempotent."""
        if self._pause is not None:
            self._pause.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _accept(self) -> None:
        last = _last_descriptor()
        for _ in range(_AT_ONCE if last > _MANY else _AT_ONCE_OF_FEW):
            try:
                connection, addr = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _NO_SOCKET:
                    self.close()
                    self._died(error)
                    return
                if error.errno not in _NO_ROOM:
                    logger.debug("a connection ended before it was accepted: %s", error)
                    return
                self._stop_for_a_while(str(error))
                return
            if self._screen is not None and not self._screen(addr):
                connection.close()
                continue
            if connection.fileno() > last:
                connection.close()
                self._stop_for_a_while(f"of the process's descriptors {last:g} are in use")
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._begin(connection), name="begin an accepted connection")
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    def _stop_for_a_while(self, why: str) -> None:
        self._refused += 1
        now = self._loop.time()
        if self._logged is None or now - self._logged >= _LOG_INTERVAL:
            self._logged = now
            logger.warning("no connection is accepted for %g s (%d such pauses so far): %s", _PAUSE, self._refused, why)
        self._loop.remove_reader(self._sock)
        self._pause = self._loop.call_later(_PAUSE, self._loop.add_reader, self._sock, self._accept)

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, connection)
        except OSError as error:
            logger.debug("an accepted connection did not last: %s", error)
            connection.close()


def _last_descriptor() -> float:
    """The highest number of a descriptor that is still accepted."""
    limit = max_descriptors()
    return math.inf if limit is None else limit - 1 - max(1, limit // _RESERVE)
