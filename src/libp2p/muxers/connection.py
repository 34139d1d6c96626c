"""The asyncio half of every muxer: drives a `MuxerSession` over a secure channel.

    channel -> data_received -> session.receive_data -> the stream's buffer -> its reader
    writer -> the write gate -> session.send -> one flush per loop tick -> channel

Rules:
- No task per connection or stream: received bytes are pushed up, writers send for themselves.
- What is written in one tick of the loop leaves in one `channel.send`.
- Writers of one connection take turns of about `_TURN` bytes while it takes data, and wait while it does not.
"""

from __future__ import annotations

import asyncio

from ..connection import Direction, SecureChannel
from ..connection.muxed_stream import MuxedStream
from ..connection.streamed import StreamedConnection
from ..errors import ConnectionClosed, RemoteProtocolError, StreamReset
from ..io import MemoryAccount, WriteGate
from .session import (
    DataReceived,
    EndOfStream,
    Event,
    GoAwayReceived,
    MuxerSession,
    PeerSilent,
    StreamAccepted,
    StreamOpened,
    StreamWasReset,
    WindowOpened,
)

_TURN = 64 * 1024
"""Bytes, about, that one writer sends before the next one has its turn; also what is queued before it is flushed at
once. A turn is as many full frames: two of 64 KiB in one piece are slower, since memory beyond 128 KiB is slow to get.
"""

_MAX_BACKLOG = 1024 * 1024
"""Bytes of control frames that may pile up while the peer reads nothing: one that makes us answer without reading the
answers is disconnected."""


class MuxedConnection(StreamedConnection[MuxedStream]):
    """A secure channel that carries many streams. It is the channel's sink."""

    def __init__(
        self,
        channel: SecureChannel,
        session: MuxerSession,
        direction: Direction,
        *,
        muxer: str,
        memory: MemoryAccount | None = None,
    ) -> None:
        super().__init__(
            local_peer=channel.local_peer,
            remote_key=channel.remote_key,
            local_addr=channel.local_addr,
            remote_addr=channel.remote_addr,
            direction=direction,
            security=channel.protocol,
            muxer=muxer,
            memory=memory,
        )
        self._channel = channel
        self._session = session
        self._gate = WriteGate()
        self._turn = max(1, _TURN // session.max_payload) * session.max_payload
        self._flush_scheduled = False
        self._reading = True  # whether the channel pushes
        self._backlog = 0  # bytes sent while the gate was shut
        self._timer: asyncio.TimerHandle | None = None
        session.start(self._loop.time())
        self._schedule_flush()
        self._set_timer()
        channel.attach(self)

    @property
    def rtt(self) -> float | None:
        return self._session.rtt

    async def close(self, reason: str = "closed by the application") -> None:
        if self._close_reason is None:
            self._session.go_away()
            self._flush()
            self._end(ConnectionClosed(reason, by="local", code=0))
        await self._channel.close()

    def abort(self, reason: str = "aborted by the application") -> None:
        self._end(ConnectionClosed(reason, by="local"))
        self._channel.abort()

    def _can_open(self) -> bool:
        return self._session.can_open()

    def _open(self) -> MuxedStream:
        stream = MuxedStream(self._session.open_stream(self._loop.time()), self, Direction.OUTBOUND)
        self._schedule_flush()
        return stream

    # What streams call

    async def send(self, stream: MuxedStream, data: memoryview) -> int:
        """Wait for a turn, then send as much of `data` as a turn and the stream's window take."""
        await self._gate.wait(stream)
        try:
            if not stream.is_writable:
                return 0  # closed or reset while it waited; the stream knows the error
            sent = self._session.send(stream.id, data[: self._turn])
            if self._session.unsent >= self._turn:
                self._flush()
            else:
                self._schedule_flush()
            return sent
        finally:
            self._gate.passed()

    def dismiss(self, stream: MuxedStream) -> None:
        self._gate.dismiss(stream)

    def consumed(self, stream: MuxedStream, n: int) -> None:
        if self._close_reason is None:
            if growth := self._session.consumed(stream.id, n, self._loop.time()):
                stream.grown(growth)
            self._pause_or_resume()
            if self._session.unsent:
                self._schedule_flush()

    def close_write(self, stream: MuxedStream) -> None:
        if self._close_reason is None:
            self._session.close_write(stream.id)
            self._schedule_flush()
            self._forget_if_done(stream.id)

    def reset(self, stream: MuxedStream, code: int) -> None:
        if self._close_reason is None and self._session.is_open(stream.id):
            self._session.reset(stream.id, code)
            self._schedule_flush()
            self._forget_if_done(stream.id)
        stream.end(StreamReset(code, by="local"))

    # The channel's sink

    def data_received(self, data: memoryview) -> None:
        if self._close_reason is not None:
            return
        try:
            events = self._session.receive_data(data, self._loop.time())
        except RemoteProtocolError as error:
            self._flush()
            self._end(ConnectionClosed(str(error), by="local", code=1))
            raise
        for event in events:
            if type(event) is DataReceived:
                if stream := self._streams.get(event.stream_id):
                    stream.data_received(event.data)
            else:
                self._handle(event)
        self._pause_or_resume()
        if self._session.unsent:
            self._schedule_flush()

    def eof_received(self) -> None:
        self._end(self._goodbye or ConnectionClosed("the peer ended the connection", by="remote"))
        self._channel.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if isinstance(error, ConnectionClosed):
            self._end(error)
        elif self._goodbye is not None:
            self._end(self._goodbye, cause=error)  # it was announced: how the rest went matters little
        elif error is not None:
            self._end(ConnectionClosed(f"connection lost: {error}", by="remote"), cause=error)
        else:
            self._end(ConnectionClosed("the connection was closed", by="local"))

    def pause_writing(self) -> None:
        self._gate.pause()

    def resume_writing(self) -> None:
        self._backlog = 0
        self._gate.resume()

    # Inside

    def _handle(self, event: Event) -> None:
        match event:
            case StreamOpened(stream_id):
                self._opened_by_peer(MuxedStream(stream_id, self, Direction.INBOUND))
            case EndOfStream() | StreamWasReset() | WindowOpened():
                if known := self._streams.get(event.stream_id):
                    self._handle_for(known, event)
            case StreamAccepted():
                self._wake_opener()
            case GoAwayReceived(code):
                self._peer_goes(code)
            case PeerSilent(seconds):
                self.abort(f"the peer has not answered a ping for {seconds:g} s")
            case _:
                raise TypeError(f"unexpected event {event!r}")

    def _handle_for(self, stream: MuxedStream, event: EndOfStream | StreamWasReset | WindowOpened) -> None:
        match event:
            case EndOfStream():
                stream.eof_received()
                self._forget_if_done(stream.id)
            case StreamWasReset(code=code):
                stream.end(StreamReset(code, by="remote"))
                self._forget_if_done(stream.id)
            case WindowOpened():
                stream.window_opened()

    def _hand_out(self, stream: MuxedStream) -> None:
        self._session.accept_stream(stream.id)
        super()._hand_out(stream)
        self._schedule_flush()  # last, so that what a task started just now writes at once leaves with the ACK

    def _peer_goes(self, code: int) -> None:
        reason = "the peer said goodbye" if code == 0 else f"the peer gave up with go-away code {code}"
        self._goodbye = ConnectionClosed(reason, by="remote", code=code)
        self._refuse_openers(self._goodbye)

    def _forget_if_done(self, stream_id: int) -> None:
        if not self._session.is_open(stream_id) and self._forget(stream_id):
            self._pause_or_resume()

    def _pause_or_resume(self) -> None:
        """Read from the channel while the session wants it."""
        if self._session.wants_data is not self._reading:
            self._reading = not self._reading
            if self._reading:
                self._channel.resume_reading()
            else:
                self._channel.pause_reading()

    def _schedule_flush(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_tick)

    def _flush_tick(self) -> None:
        self._flush_scheduled = False
        self._flush()

    def _flush(self) -> None:
        if self._close_reason is not None or not (buffers := self._session.data_to_send()):
            return
        if self._gate.paused:
            self._backlog += sum(map(len, buffers))
            if self._backlog > _MAX_BACKLOG:
                self.abort(f"the peer asks for answers but reads none: {self._backlog} bytes wait for it")
                return
        self._channel.send(buffers)

    def _set_timer(self) -> None:
        if (deadline := self._session.next_deadline()) is not None:
            self._timer = self._loop.call_at(deadline, self._timer_due)

    def _timer_due(self) -> None:
        for event in self._session.handle_timer(self._loop.time()):
            self._handle(event)
        if self._close_reason is None:
            self._flush()
            self._set_timer()

    def _end(self, reason: ConnectionClosed, *, cause: Exception | None = None) -> bool:
        if self._close_reason is None:
            if self._timer is not None:
                self._timer.cancel()
            self._gate.fail(reason)
        return super()._end(reason, cause=cause)
