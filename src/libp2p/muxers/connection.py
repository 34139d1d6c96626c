"""The asyncio half of every muxer: drives a `MuxerSession` over a secure channel.

    channel -> data_received -> session.receive_data -> the stream's buffer -> its reader
    writer -> the write gate -> session.send -> one flush per loop tick -> channel

Rules:
- No task per connection or stream: received bytes are pushed up, writers send for themselves.
- What is written in one tick of the loop leaves in one `channel.send`.
- Events are handled one by one, as if each had come alone, although the session is ahead of them. A stream is told, and
  forgotten, by what it was told itself.
- Writers of one connection take turns of about `_TURN` bytes while it takes data, and wait while it does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from ..connection import Direction, Role, SecureChannel
from ..connection.streamed import OPEN_TIMEOUT, StreamedConnection
from ..errors import ConnectionClosed, Libp2pError, StreamReset
from ..io import MemoryAccount, WriteGate
from ..io.timers import CoarseTimer, Deadline
from .session import (
    DataReceived,
    EndReceived,
    Event,
    GoAwayReceived,
    MuxerSession,
    PeerAccepted,
    PeerOpened,
    PeerSilent,
    ResetReceived,
    Violation,
    WindowOpened,
)
from .stream import FramedStream

_TURN = 64 * 1024
"""Bytes, about, that one writer sends before the next one has its turn; also what is queued before it is flushed at
once. A turn is as many full frames: two of 64 KiB in one piece are slower, since memory beyond 128 KiB is slow to get.
"""

_FRAMES = 128
"""Small and odd frames of one connection that are taken in one turn of the loop: each may cost a task, or an answer.
What came behind them waits, and nothing more is read meanwhile."""

_MAX_BACKLOG = 1024 * 1024
"""Bytes of control frames that may pile up while the peer reads nothing: one that makes us answer without reading the
answers is disconnected."""

_FAREWELL = 10.0
"""Seconds that a peer which said goodbye, and has no stream left, gets to take what was sent before."""


class MuxedConnection(StreamedConnection[FramedStream]):
    """A secure channel that carries many streams. It is the channel's sink."""

    __slots__ = (
        "_at_end",
        "_backlog",
        "_channel",
        "_deadline",
        "_gate",
        "_held",
        "_reading",
        "_sent",
        "_session",
        "_tick_due",
        "_turn",
    )

    def __init__(
        self,
        channel: SecureChannel,
        session: MuxerSession,
        direction: Direction,
        *,
        muxer: str,
        role: Role | None = None,
        memory: MemoryAccount | None = None,
        open_timeout: float = OPEN_TIMEOUT,
    ) -> None:
        super().__init__(
            local_peer=channel.local_peer,
            remote_key=channel.remote_key,
            local_addr=channel.local_addr,
            remote_addr=channel.remote_addr,
            direction=direction,
            security=channel.protocol,
            muxer=muxer,
            role=role,
            memory=memory,
            open_timeout=open_timeout,
            max_served=session.max_served,
        )
        self._channel = channel
        self._session = session
        self._gate = WriteGate()
        self._turn = max(1, _TURN // session.max_payload) * session.max_payload
        self._tick_due = False
        self._reading = True  # whether the channel pushes
        self._backlog = 0  # bytes sent while the gate was shut
        self._deadline: Deadline | None = None
        self._sent = 0  # bytes given to the channel
        self._held: bytearray | None = None  # bytes that came, and wait for their turn
        self._at_end: Callable[[], None] | None = None  # what happened to the channel behind what is held
        session.frames_left = _FRAMES
        self._leaving: asyncio.Task[None] | None = None
        session.start(self._loop.time())
        self._tick_soon()
        self._set_timer()
        channel.attach(self)

    @property
    def rtt(self) -> float | None:
        return self._session.rtt

    @property
    def heard_at(self) -> float | None:
        return self._session.heard_at

    def probe(self) -> None:
        if self._close_reason is None:
            self._session.probe(self._loop.time())
            self._tick_soon()

    async def close(self, reason: str = "closed by the application", code: int = 0) -> None:
        if self._close_reason is None:
            self._session.go_away(code)
            self._flush()
            self._end(ConnectionClosed(reason, by="local", code=code))
        try:
            await self._channel.close()
            if self._leaving is not None:
                await asyncio.wait({self._leaving})
        except BaseException:  # cancelled, mostly: nobody will wait for the rest to be sent
            self._channel.abort()
            raise

    def abort(self, reason: str = "aborted by the application", code: int | None = None) -> None:
        self._end(ConnectionClosed(reason, by="local", code=code))
        self._channel.abort()

    def _can_open(self) -> bool:
        return self._session.can_open()

    def _open(self) -> FramedStream:
        stream = FramedStream(self._session.open_stream(self._loop.time()), self)
        self._tick_soon()
        return stream

    # What streams call

    async def send(self, stream: FramedStream, data: memoryview) -> int:
        """Wait for a turn, then send as much of `data` as a turn and the stream's window take."""
        await self._gate.wait(stream)
        try:
            if not stream.is_writable:
                return 0  # closed or reset while it waited; the stream knows the error
            return self._send(stream, data)
        finally:
            self._gate.passed()

    def try_send(self, stream: FramedStream, data: memoryview) -> int:
        return self._send(stream, data) if self._gate.is_free else 0

    def _send(self, stream: FramedStream, data: memoryview) -> int:
        sent = self._session.send(stream.substream, data[: self._turn])
        if self._session.unsent >= self._turn:
            self._flush()
        else:
            self._tick_soon()
        return sent

    def dismiss(self, stream: FramedStream) -> None:
        self._gate.dismiss(stream)

    def consumed(self, stream: FramedStream, n: int) -> None:
        if self._close_reason is None:
            if growth := self._session.consumed(stream.substream, n, self._loop.time()):
                stream.grown(growth)
            self._pause_or_resume()
            if self._session.unsent:
                self._tick_soon()

    def close_write(self, stream: FramedStream) -> None:
        if self._close_reason is None:
            self._session.close_write(stream.substream)
            self._tick_soon()
            self._forget_if_over(stream)

    def reset(self, stream: FramedStream, code: int) -> None:
        if self._close_reason is None:
            self._session.reset(stream.substream, code)
            self._tick_soon()
        stream.end(StreamReset(code, by="local"))
        self._forget_if_over(stream)

    # The channel's sink

    def data_received(self, data: memoryview) -> None:
        if self._held is not None:
            self._held += data
        elif self._close_reason is None:
            self._take(data)

    def _take(self, data: memoryview) -> None:
        """Receive `data`; what does not fit into this turn of the loop is held for the next one."""
        for event in self._session.receive_data(data, self._loop.time()):
            if type(event) is DataReceived:
                if (stream := event.stream.owner) is not None:
                    stream.data_received(event.data)
            else:
                self._handle(event)
                if self._closed.done():  # whoever was told may have ended the connection
                    return
        if self._session.rest:
            self._held, self._session.rest = bytearray(self._session.rest), b""
        self._pause_or_resume()
        if self._session.unsent or self._session.frames_left < _FRAMES:
            self._tick_soon()

    def _next_turn(self) -> None:
        """Frames were counted in the turn before: count anew, and take what was held."""
        if self._close_reason is not None:
            self._held = None
            return
        self._session.frames_left = _FRAMES
        if self._held is not None:
            data, self._held = memoryview(bytes(self._held)), None
            try:
                self._take(data)
            except Libp2pError as error:
                self._channel.abort(error)
                return
        if self._at_end is not None and self._held is None:
            self._at_end()

    def useless(self, what: str, cost: float = 1.0) -> None:
        if self._close_reason is None and (end := self._session.useless(what, cost, self._loop.time())) is not None:
            self._handle(end)

    def eof_received(self) -> None:
        if self._held is not None and self._close_reason is None:
            self._at_end = self.eof_received
            return
        self._end(self._goodbye or ConnectionClosed("the peer ended the connection", by="remote"))
        self._channel.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if self._held is not None and self._close_reason is None:
            self._at_end = lambda: self.connection_lost(error)
            return
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
            case PeerOpened(substream):
                self._opened_by_peer(FramedStream(substream, self))
            case EndReceived() | ResetReceived() | WindowOpened():
                if (stream := event.stream.owner) is not None:
                    self._handle_for(stream, event)
            case PeerAccepted():
                self._wake_opener()
            case GoAwayReceived(code):
                self._peer_goes(code)
            case PeerSilent(seconds):
                self.abort(f"nothing was heard of the peer for {seconds:g} s")
            case Violation(error, code):
                self._flush()
                self._end(ConnectionClosed(str(error), by="local", code=code))
                raise error
            case _:
                raise TypeError(f"unexpected event {event!r}")

    def _handle_for(self, stream: FramedStream, event: EndReceived | ResetReceived | WindowOpened) -> None:
        match event:
            case EndReceived():
                stream.eof_received()
            case ResetReceived(code=code):
                stream.end(StreamReset(code, by="remote"))
            case WindowOpened():
                stream.window_opened()
        self._forget_if_over(stream)

    def _hand_out(self, stream: FramedStream) -> None:
        self._session.accept_stream(stream.substream)
        super()._hand_out(stream)
        self._tick_soon()  # last, so that what a task started just now writes at once leaves with the ACK

    def _peer_goes(self, code: int) -> None:
        reason = "the peer said goodbye" if code == 0 else f"the peer gave up with go-away code {code}"
        self._goodbye = ConnectionClosed(reason, by="remote", code=code)
        self._refuse_openers(self._goodbye)
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        """Where the peer has said goodbye, and no stream is left, nothing can happen here any more."""
        if self._goodbye is not None and not self._streams and self._leaving is None and not self._closed.done():
            self._leaving = self._loop.create_task(self._leave(self._goodbye), name=f"{self!r} leaves")

    async def _leave(self, goodbye: ConnectionClosed) -> None:
        self._session.go_away(0)
        self._flush()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await self._channel.close()
        finally:
            self._end(goodbye)
            self._channel.abort()

    def _forget_if_over(self, stream: FramedStream) -> None:
        if stream.is_over and self._forget(stream):
            self._pause_or_resume()
            self._leave_if_idle()

    def _over(self, stream: FramedStream) -> None:
        stream.substream.owner = None
        super()._over(stream)

    def _pause_or_resume(self) -> None:
        """Read from the channel while the session wants it."""
        if (self._session.wants_data and self._held is None) is not self._reading:
            self._reading = not self._reading
            if self._reading:
                self._channel.resume_reading()
            else:
                self._channel.pause_reading()

    def _tick_soon(self) -> None:
        """There is something to send, or a turn has to end: at the end of this tick, one call for both."""
        if not self._tick_due:
            self._tick_due = True
            self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self._tick_due = False
        if self._session.frames_left < _FRAMES:
            self._next_turn()
        self._flush()

    def _flush(self) -> None:
        if self._close_reason is not None or not (buffers := self._session.data_to_send()):
            return
        if self._gate.paused:
            self._backlog += sum(map(len, buffers))
            if self._backlog > _MAX_BACKLOG:
                self.abort(f"the peer asks for answers but reads none: {self._backlog} bytes wait for it")
                return
        self._sent += sum(map(len, buffers))
        self._channel.send(buffers)

    def _set_timer(self) -> None:
        if (when := self._session.next_deadline()) is not None:
            self._deadline = CoarseTimer.of(self._loop).call_at(when, self._timer_due)

    def _timer_due(self) -> None:
        queued = self._channel.unsent
        for event in self._session.handle_timer(self._loop.time(), self._sent - queued, queued):
            self._handle(event)
        if self._close_reason is None:
            self._flush()
            self._set_timer()

    def _end(self, reason: ConnectionClosed, *, cause: Exception | None = None) -> bool:
        if self._close_reason is None:
            if self._deadline is not None:
                self._deadline.cancel()
            self._gate.fail(reason)
        return super()._end(reason, cause=cause)
