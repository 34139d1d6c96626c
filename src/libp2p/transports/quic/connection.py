"""A QUIC connection as the rest of the package knows it: the streams, and how everything ends.

    driver -> events of the engine -> the stream's buffer -> its reader
    writer -> the engine's buffer of the stream -> one transmission per loop tick -> driver

Rules:
- A writer waits while more than `_HIGH_WATER` bytes of its stream were not sent yet, not for acknowledgements.
- `close` ends the streams here at once, and the connection when the peer has acknowledged what was written, or after
  `QuicConfig.linger`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aioquic.quic.events import StopSendingReceived, StreamDataReceived, StreamReset

from ...connection import Direction
from ...errors import ConnectionClosed
from ...errors import StreamReset as StreamResetError
from ...identity import PeerId, PublicKey
from ...io import MemoryAccount
from ...multiaddr import Multiaddr
from .driver import Driver
from .engine import Engine, Lane
from .stream import QuicStream, QuicStreams

SECURITY = "/tls/1.0.0"
MUXER = "/quic-v1"

_HIGH_WATER = 256 * 1024
_LOW_WATER = 128 * 1024
"""Bytes of a stream not sent yet at which its writer waits, and goes on."""


class QuicConnection(QuicStreams):
    """A connection to a peer that has proven who it is in the TLS handshake of QUIC."""

    def __init__(
        self,
        driver: Driver,
        engine: Engine,
        *,
        local_peer: PeerId,
        remote_key: PublicKey,
        local_addr: Multiaddr,
        remote_addr: Multiaddr,
        direction: Direction,
        memory: MemoryAccount | None = None,
    ) -> None:
        super().__init__(
            local_peer=local_peer,
            remote_key=remote_key,
            local_addr=local_addr,
            remote_addr=remote_addr,
            direction=direction,
            security=SECURITY,
            muxer=MUXER,
            memory=memory,
        )
        engine.window.draw = self.memory.draw
        self._driver = driver
        self._engine = engine
        self._held: set[QuicStream] = set()  # whose writers wait

    @property
    def rtt(self) -> float | None:
        return self._engine.rtt

    @property
    def heard_at(self) -> float | None:
        return self._driver.heard_at

    def probe(self) -> None:
        if self._close_reason is None:
            self._driver.probe()

    async def close(self, reason: str = "closed by the application", code: int = 0) -> None:
        if self._end(ConnectionClosed(reason, by="local", code=code)):
            self._driver.close(reason, code)
        await self._driver.wait_gone()

    def abort(self, reason: str = "aborted by the application", code: int | None = None) -> None:
        self._end(ConnectionClosed(reason, by="local", code=code))
        self._driver.abort(reason, code=code or 0)

    # What streams call

    async def send(self, stream: QuicStream, data: memoryview) -> int:
        return self.try_send(stream, data)

    def try_send(self, stream: QuicStream, data: memoryview) -> int:
        room = _HIGH_WATER - stream.lane.unsent
        if room <= 0:
            self._held.add(stream)
            return 0
        piece = data[:room]
        self._engine.write(stream.lane, piece)
        self._driver.soon()
        return len(piece)

    def dismiss(self, stream: QuicStream) -> None:
        self._held.discard(stream)

    def consumed(self, stream: QuicStream, n: int) -> None:
        if self._engine.consumed(stream.lane, n, self._loop.time()):
            self._driver.soon()

    def abandon(self, stream: QuicStream) -> None:
        if self._close_reason is None:
            self._engine.abandon(stream.lane, self._loop.time())
            self._engine.stop(stream.lane, 0)
            self._driver.soon()
            self._forget_if_over(stream)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def forsaken(self, lane: Lane) -> None:
        if self._close_reason is None and self._engine.abandon(lane, self._loop.time()):
            self._driver.soon()

    def close_write(self, stream: QuicStream) -> None:
        if self._close_reason is None:
            self._engine.finish(stream.lane)
            self._driver.soon()
            self._forget_if_over(stream)

    def reset(self, stream: QuicStream, code: int) -> None:
        is_open = self._close_reason is None
        if is_open:
            if not stream.is_over:
                self._engine.reset(stream.lane, code)
                self._engine.stop(stream.lane, code)
            self._engine.abandon(stream.lane, self._loop.time())
            self._driver.soon()
        stream.end(StreamResetError(code, by="local"))
        if is_open:
            self._forget_if_over(stream)

    # What the driver reports

    def lanes_opened(self, lanes: Iterable[Lane]) -> None:
        """The peer has opened these streams."""
        for lane in lanes:
            if self._close_reason is not None:  # whoever was given the one before may have ended the connection
                return
            self._opened_by_peer(QuicStream(lane, self, Direction.INBOUND))

    def data_received(self, lane: Lane, data: bytes) -> None:
        """These bytes follow on a stream."""
        if self._close_reason is None:
            lane.stream.data_received(data)

    def handle(self, event: StreamDataReceived | StreamReset | StopSendingReceived) -> None:
        """Something else has happened to a stream."""
        lane = self._engine.lanes.get(event.stream_id)
        if lane is None or self._close_reason is not None:
            return
        stream: QuicStream = lane.stream
        match event:
            case StreamDataReceived(data=data, end_stream=end_stream):
                if data:
                    stream.data_received(data)
                if end_stream:
                    stream.eof_received()
                    self._engine.ended(lane)
            case StreamReset(error_code=code):
                stream.reset_received(code)
                self._engine.ended(lane)
            case StopSendingReceived(error_code=code):
                stream.stop_received(code)
                self._engine.stopped(lane)
        self._forget_if_over(stream)

    def progressed(self) -> None:
        """Datagrams were sent or received: writers and openers may go on."""
        if self._held:
            for stream in [one for one in self._held if one.lane.unsent <= _LOW_WATER]:
                self._held.discard(stream)
                stream.window_opened()
        if self._openers:
            self._wake_opener()

    def lost(self, reason: ConnectionClosed) -> None:
        """The connection is over, if it was not yet."""
        self._end(reason)

    # What `StreamedConnection` asks

    def _can_open(self) -> bool:
        return self._engine.can_open

    def _open(self) -> QuicStream:
        return QuicStream(self._engine.open(self._loop.time()), self, Direction.OUTBOUND)

    def _forget_if_over(self, stream: QuicStream) -> None:
        if stream.is_over:
            self._forget(stream)
