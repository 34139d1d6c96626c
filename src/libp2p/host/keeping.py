"""Keeping a connection to a peer: dialed again whenever it is lost, until nobody wants it any more (`Host.keep`).

Rules:
- While any connection to the peer is there, nothing is dialed.
- After the n-th failure in a row the next try is `first * factor**(n - 1)` seconds away, `maximum` at most, less a
  random part: peers that lost the same one at the same moment must not come back at the same moment.
- A connection that lasted less than `steady` seconds counts as a failure, else a peer that lets in and throws out at
  once would be dialed without a pause.
- Addresses that were given, and the last one that led to the peer, are tried every time, whatever the peer store has
  forgotten. The peer's record is protected meanwhile, and its connection from being closed to make room.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from ..connection import Connection, DialOptions, Direction
from ..errors import Libp2pError
from ..identity import PeerId
from ..multiaddr import Multiaddr
from ..peerstore import PeerStore
from ..swarm import HostLimits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RedialBackoff:
    """How long to wait before a kept peer is dialed again."""

    first: float = 0.5
    """Seconds after the first failure."""
    factor: float = 2.0
    """How many times longer each further wait is."""
    maximum: float = 60.0
    """Seconds that no wait exceeds."""
    jitter: float = 0.5
    """Which part of each wait is left to chance, from 0 to 1."""
    steady: float = 10.0
    """Seconds that a connection lives before those that failed before it are forgotten."""

    def wait(self, failures: int, chance: float) -> float:
        """Seconds until the next try, after so many failures in a row; `chance` is from 0 to 1, by a die."""
        longest = self.first
        for _ in range(failures - 1):
            if longest >= self.maximum:
                break
            longest *= self.factor
        return min(longest, self.maximum) * (1 - self.jitter * chance)


Dial = Callable[[PeerId, Sequence[Multiaddr], DialOptions], Coroutine[Any, Any, Connection]]


class Kept:
    """A peer that the host stays connected to: made by `Host.keep`.

    `async for connection in kept` tells of the connection that there is, then of each that replaces it. Who reads late
    gets the newest only. It ends with `close`, and with the host.
    """

    def __init__(
        self,
        peer: PeerId,
        addrs: Sequence[Multiaddr],
        *,
        dial: Dial,
        peerstore: PeerStore,
        limits: HostLimits,
        backoff: RedialBackoff,
        dice: Callable[[], float],
    ) -> None:
        self.peer = peer
        """Who is kept."""
        self.error: Exception | None = None
        """Why the last try failed; None while there is a connection."""
        self._addrs = list(addrs)
        self._led: Multiaddr | None = None  # where the last dial led to the peer
        self._dial = dial
        self._peerstore = peerstore
        self._limits = limits
        self._backoff = backoff
        self._dice = dice
        self._tag = f"keep {id(self):x}"
        self._connection: Connection | None = None
        self._task: asyncio.Task[Any] | None = None
        self._closed = False
        self._change = asyncio.Event()
        peerstore.protect(peer, self._tag)
        limits.protect(peer, self._tag)

    @property
    def connection(self) -> Connection | None:
        """The connection to the peer; None while there is none."""
        connection = self._connection
        return None if connection is None or connection.is_closed else connection

    def run_in(self, task: asyncio.Task[Any] | None) -> None:
        """`task` runs `run`; None where the host is closed already."""
        self._task = task
        if task is None:
            self.close()
        else:
            task.add_done_callback(lambda _: self.close())

    def close(self) -> None:
        """Dial no more. The connection that there is stays. Idempotent."""
        if not self._closed:
            self._closed = True
            self._peerstore.unprotect(self.peer, self._tag)
            self._limits.unprotect(self.peer, self._tag)
            if self._task is not None:
                self._task.cancel()
            self._changed()

    async def __aiter__(self) -> AsyncIterator[Connection]:
        told: Connection | None = None
        while not self._closed:
            change, connection = self._change, self.connection
            if connection is not None and connection is not told:
                told = connection
                yield connection
            else:
                await change.wait()

    async def run(self) -> None:
        """Connect, again and again."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            addrs = self._addrs if self._led is None else [*self._addrs, self._led]
            since = loop.time()
            try:
                connection = await self._dial(self.peer, addrs, DialOptions(heed_backoff=False))
            except (Libp2pError, OSError) as error:
                self.error = error
                logger.debug("%s is kept, and can't be reached: %s", self.peer, error)
            else:
                self._opened(connection)
                self.error = await connection.wait_closed()
                if loop.time() - since >= self._backoff.steady:
                    failures = 0
            failures += 1
            await asyncio.sleep(self._backoff.wait(failures, self._dice()))

    def _opened(self, connection: Connection) -> None:
        self.error = None
        self._connection = connection
        if connection.direction is Direction.OUTBOUND and connection.remote_addr not in self._addrs:
            self._led = connection.remote_addr.without_peer()
        self._changed()

    def _changed(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()
