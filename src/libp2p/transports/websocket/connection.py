"""A WebSocket as a raw connection, over any other raw connection: a TCP socket, or TLS on one.

Closing, seen from the side that begins:

    -- Close(1000) -->    <-- Close(1000) --    then the connection below is closed in order

A connection that ends below without a Close frame was cut, and says so: nobody can tell what was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from websockets.frames import CloseCode
from websockets.protocol import Protocol

from ...connection import RawConnection, TurnedConnection
from ...errors import ConnectionClosed, RemoteProtocolError
from ...io import Buffer
from ...multiaddr import Multiaddr
from .core import Framing

_IN_ORDER = (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD)


class WsConnection(TurnedConnection):
    """An open WebSocket. `protocol` has done its opening handshake over `raw`, which it takes over.

    `close_timeout` is how many seconds a closed connection waits for the peer's Close frame.
    """

    def __init__(
        self,
        raw: RawConnection,
        protocol: Protocol,
        *,
        local_addr: Multiaddr,
        remote_addr: Multiaddr,
        close_timeout: float,
    ) -> None:
        super().__init__(raw)
        self.local_addr, self.remote_addr = local_addr, remote_addr
        self._framing = Framing(protocol)
        self._close_timeout = close_timeout
        self._deaf = False  # closed or aborted by us, or lost: nothing is pushed any more
        self._blocked = False  # the connection below takes no more data
        self._late: Sequence[bytes] = ()  # a Pong that waits until it does
        self._peer_done = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        raw.attach(self)

    # RawConnection

    def send(self, buffers: Sequence[Buffer]) -> None:
        if self._framing.is_open:
            self._raw.send(self._framing.seal(buffers))
        elif self._framing.close_code is not None and not self._deaf:
            self.abort(self._closed_by_peer())  # it reads no more, and has to be told from a peer that does

    async def close(self) -> None:
        if self._closing is None:
            self._deaf = True
            if self._framing.is_open:
                self._raw.send(self._framing.close())
            self._closing = asyncio.get_running_loop().create_task(self._close_below())
        try:
            await asyncio.shield(self._closing)
        except BaseException:  # cancelled, mostly: nobody will wait for the rest to be sent
            self.abort()
            raise

    async def _close_below(self) -> None:
        if self._framing.close_code is None:
            self.resume_reading()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._close_timeout):
                    await self._peer_done.wait()
        await self._raw.close()

    def abort(self, error: Exception | None = None) -> None:
        self._deaf = True
        super().abort(error)

    # The sink of the connection below

    def _take(self, data: memoryview) -> int:
        """Push the payload on, answer pings. Raises `RemoteProtocolError`."""
        closed_before = self._framing.close_code is not None
        try:
            taken = self._framing.receive(data, self._push, self._useless)
        except RemoteProtocolError:
            self._raw.send(self._framing.answer())
            raise
        self._answer(self._framing.answer())
        if self._framing.close_code is not None and not closed_before:
            self._peer_closed()
        return taken

    def _useless(self, what: str, cost: float) -> None:
        if not self._deaf:
            self._sink.useless(what, cost)

    def _push(self, data: memoryview) -> None:
        if not self._deaf:
            self._sink.data_received(data)

    def _answer(self, frames: Sequence[bytes]) -> None:
        if self._blocked and self._framing.is_open:
            self._late = frames or self._late
        elif frames:
            self._raw.send(frames)

    def _peer_closed(self) -> None:
        self._peer_done.set()
        if self._deaf:
            return
        if self._framing.close_code in _IN_ORDER:
            self._sink.eof_received()
        else:
            self.abort(self._closed_by_peer())

    def _closed_by_peer(self) -> ConnectionClosed:
        code = self._framing.close_code
        reason = self._framing.close_reason or f"WebSocket close code {code}"
        return ConnectionClosed(reason, by="remote", code=code)

    def _ended(self) -> None:
        self._peer_done.set()
        if self._framing.close_code is None and not self._deaf:
            self.abort(ConnectionClosed("it ended without a WebSocket Close frame", by="remote"))

    def _lost(self, error: Exception | None) -> None:
        self._deaf = True
        self._peer_done.set()
        self._sink.connection_lost(error)

    def pause_writing(self) -> None:
        self._blocked = True
        self._sink.pause_writing()

    def resume_writing(self) -> None:
        self._blocked = False
        if self._late and self._framing.is_open:
            self._raw.send(self._late)
        self._late = ()
        self._sink.resume_writing()
