"""One stream socket, of TCP or another family, as a raw connection.

Received bytes go from the socket into one buffer that all connections of a transport share, and from there to the sink
before the next `recv`: a connection that is idle holds no buffer. (Where the event loop keeps a receive pending in the
buffer, as the Proactor loop of Windows does, each connection has one of its own.)
"""

from __future__ import annotations

import asyncio
import logging
import sys
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

from ...connection import RawConnection
from ...errors import Libp2pError
from ...forks import ForkGuard
from ...io import Buffer
from ...multiaddr import Multiaddr, from_socket_address

logger = logging.getLogger(__name__)

_LINGER = 2.0
"""Seconds that a closed connection waits for the peer to close too: closing a socket in which the peer's bytes lie
unread would reset the connection, and could destroy what we sent last. While the peer takes what is unsent, the wait
goes on."""

_HIGH_WATER = 64 * 1024
"""Bytes that may wait for the socket before writers are held."""


def _queued_by_system(descriptor: int) -> int:
    """Bytes that were written to a socket and not acknowledged yet; 0 where the system does not tell."""
    try:
        from fcntl import ioctl  # noqa: PLC0415 - not on every system
        from termios import TIOCOUTQ  # noqa: PLC0415
    except ImportError:
        return 0
    with suppress(OSError, ValueError):  # the socket may be gone
        return int.from_bytes(ioctl(descriptor, TIOCOUTQ, bytes(4)), sys.byteorder)
    return 0


class SocketConnection(RawConnection, asyncio.BufferedProtocol):
    """A connected stream socket. `connected` runs once the socket is there."""

    def __init__(self, memory: memoryview, connected: Callable[[Any], None] | None = None) -> None:
        self._memory = memory
        self._connected = connected
        self._closing = False
        self._lost = False
        self._guard = ForkGuard()
        self._reason: Exception | None = None  # what `abort` was called with
        self._linger: asyncio.TimerHandle | None = None
        self._closed = asyncio.get_running_loop().create_future()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type
        super().__init__(
            local_addr=self.address_of(transport.get_extra_info("sockname")),
            remote_addr=self.address_of(transport.get_extra_info("peername")),
        )
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        if self._connected is not None:
            self._connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self._memory

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing:
            return
        try:
            self._sink.data_received(self._memory[:nbytes])
        except Libp2pError as error:
            logger.debug("%s: %s", self.remote_addr, error)
            self.abort(error)

    def eof_received(self) -> bool:
        if self._closing:
            return False
        self._sink.eof_received()
        return not self._lost

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        if self._linger is not None:
            self._linger.cancel()
        self._closed.set_result(None)
        self._sink.connection_lost(self._reason or error)

    def pause_writing(self) -> None:
        self._sink.pause_writing()

    def resume_writing(self) -> None:
        self._sink.resume_writing()

    @abstractmethod
    def address_of(self, socket_name: Any) -> Multiaddr:
        """The address that `getsockname` or `getpeername` gave."""

    # RawConnection

    def send(self, buffers: Sequence[Buffer]) -> None:
        if not self._closing and not self._transport.is_closing():  # a lost one may not have told us yet
            self._guard.check("this socket")
            write = self._transport.write
            for buffer in buffers:
                write(buffer)

    @property
    def unsent(self) -> int:
        """Bytes that wait here or in the system for the peer to take them."""
        descriptor = self._transport.get_extra_info("socket").fileno()
        return self._transport.get_write_buffer_size() + _queued_by_system(descriptor)

    def pause_reading(self) -> None:
        if not self._closing:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._closing:
            self._transport.resume_reading()

    async def close(self) -> None:
        if not self._closing:
            self._transport.resume_reading()
            self._closing = True
            try:
                self._transport.write_eof()
            except OSError:  # the peer has reset the connection, which the loop has not told us yet
                self._transport.abort()
            else:
                self._wait_for_peer()
        try:
            await asyncio.shield(self._closed)
        except BaseException:  # cancelled, mostly: nobody will wait for the rest to be sent
            self.abort()
            raise

    def _wait_for_peer(self, unsent_before: int | None = None) -> None:
        unsent = self._transport.get_write_buffer_size()
        if unsent_before is None or unsent < unsent_before:
            self._linger = asyncio.get_running_loop().call_later(_LINGER, self._wait_for_peer, unsent)
        else:
            self._transport.abort()

    def abort(self, error: Exception | None = None) -> None:
        self._closing = True
        if self._reason is None:
            self._reason = error
        self._transport.abort()


class TcpConnection(SocketConnection):
    """A connected TCP socket. Made by `connect` and `TcpPorts`."""

    def address_of(self, socket_name: Any) -> Multiaddr:
        scope_id = socket_name[3] if len(socket_name) == 4 else 0
        return from_socket_address(socket_name[0], socket_name[1], scope_id=scope_id)
