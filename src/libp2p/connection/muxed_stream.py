"""One stream of a connection: the receive buffer, and who may write."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from ..error_codes import StreamErrorCode
from ..errors import BusyResource, ConnectionClosed, IncompleteRead, InvalidInput, StreamClosed, StreamReset, copy_of
from ..io import Buffer, ReceiveBuffer, joined
from .streams import Direction, Stream

if TYPE_CHECKING:
    from .streamed import StreamedConnection


class Taker(Protocol):
    """Who is given a stream's bytes as they come, in place of a task that reads."""

    def arrived(self) -> None:
        """There is something to take, or the peer's direction has ended."""

    def lost(self, error: Exception) -> None:
        """Both directions are over."""


MAX_DISCARDED = 128 * 1024
"""Bytes that a peer may go on sending on a stream that we closed; then the stream is reset, so that its writer
learns.
"""


class MuxedStream(Stream):
    """A stream of a `StreamedConnection`."""

    def __init__(
        self, stream_id: int, connection: StreamedConnection[Any], direction: Direction, *, to_the_end: bool = False
    ) -> None:
        super().__init__(stream_id, connection, direction, to_the_end=to_the_end)
        self._muxed = connection
        self._writing = False  # whether a task has its turn
        self._writers: list[asyncio.Future[None]] | None = None  # those that wait for theirs, in order
        self._window: asyncio.Future[None] | None = None  # what a writer waits for while the peer's window is shut
        self._write_error: Exception | None = None
        self._read_ended = False  # the peer's direction is over
        self._taker: Taker | None = None
        self._closed: asyncio.Future[None] | None = None  # what `wait_closed` waits for
        self._discarded: int | None = None  # bytes dropped since close(); None before it

    async def write(self, *parts: Buffer) -> None:
        view = memoryview(parts[0] if len(parts) == 1 and type(parts[0]) is bytes else joined(parts))
        if not self._writing and self._write_error is None:
            sent = self._muxed.try_send(self, view)
            self.bytes_written += sent
            if sent == len(view):
                return
            view = view[sent:]
        if self._writing:
            await self._turn_to_write()
        self._writing = True
        try:
            while True:
                if self._write_error is not None:
                    raise copy_of(self._write_error)
                sent = await self._muxed.send(self, view)
                self.bytes_written += sent
                view = view[sent:]
                if not view:
                    return
                if not sent and self._write_error is None:
                    await self._window_opened()
        except StreamReset:
            if self._incoming.is_guarded:
                # The peer says why, or is about to: it does not support the protocol. Who reads is told the same.
                with suppress(BusyResource, IncompleteRead, StreamReset, ConnectionClosed):
                    await self.agreed()
            raise
        finally:
            if self._writers:
                self._pass_turn()
            else:
                self._writing = False

    async def _turn_to_write(self) -> None:
        """Wait for those that came before to be done."""
        turn = asyncio.get_running_loop().create_future()
        if self._writers is None:
            self._writers = []
        self._writers.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._pass_turn()
            elif turn in self._writers:
                self._writers.remove(turn)
            raise

    def _pass_turn(self) -> None:
        """The next one that waits writes, if any does."""
        while self._writers:
            turn = self._writers.pop(0)
            if not turn.done():
                turn.set_result(None)
                return
        self._writing = False

    def try_write(self, data: memoryview) -> int:
        """Send as much of `data`, memory that does not change, as may be sent without waiting; how much that was."""
        if self._writing or self._write_error is not None:
            return 0
        sent = self._muxed.try_send(self, data)
        self.bytes_written += sent
        return sent

    async def close_write(self) -> None:
        if self._write_error is None:
            self._finish()

    def _finish(self) -> None:
        self._write_error = StreamClosed("the stream was closed for writing")
        self._muxed.close_write(self)
        self._end_write()

    async def close(self) -> None:
        if self._write_error is None:
            self._finish()
        if self._discarded is None:
            self._discarded = 0
            unread, ended = self._incoming.discard(), self._incoming.ended
            self._incoming.set_error(StreamClosed("the stream was closed"))
            self._abandon(unread, ended)
            if not self.is_over:
                self._muxed.lingers(self)

    def reset(self, code: int = StreamErrorCode.NONE) -> None:
        if not 0 <= code < 1 << 32:
            raise InvalidInput(f"a stream error code has 32 bits, {code} does not fit")
        self._muxed.reset(self, code)
        self._incoming.discard()

    async def wait_closed(self) -> StreamReset | ConnectionClosed | None:
        if not self.is_over:
            if self._closed is None:
                self._closed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._closed)
        for error in (self._write_error, self._incoming.error):
            if isinstance(error, StreamReset | ConnectionClosed):
                return copy_of(error)
        return None

    # Called by a raw connection over this stream

    def divert(self, taker: Taker) -> None:
        """No task reads any more: `taker` is told, and takes from `diverted`."""
        assert not self._incoming.is_guarded, "nobody has read the answer to the protocol that was offered"
        self._taker = taker
        self._incoming.on_arrival = taker.arrived

    @property
    def is_diverted(self) -> bool:
        return self._taker is not None

    @property
    def diverted(self) -> ReceiveBuffer:
        """What has arrived for the taker."""
        return self._incoming

    # Called by the connection

    @property
    def is_writable(self) -> bool:
        """Whether our direction is open."""
        return self._write_error is None

    @property
    def unread(self) -> int:
        """Bytes that were received, and that nobody has asked for."""
        return self._incoming.unclaimed

    @property
    def held(self) -> int:
        """Bytes that the connection's account counts for this stream."""
        return self._incoming.held

    def grown(self, n: int) -> None:
        """The receive window has grown by `n` bytes, which the connection's account has granted."""
        self._incoming.prepay(n)

    def sacrifice(self, reason: str) -> None:
        """End the stream, and drop what it holds, because memory is short."""
        self.reset(StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
        self._incoming.drop(StreamReset(StreamErrorCode.RESOURCE_LIMIT_EXCEEDED, by="local", reason=reason))

    def data_received(self, data: bytes | memoryview) -> None:
        if self._discarded is None:
            self._incoming.feed(data)
        else:
            self._discard(len(data))

    @property
    def is_over(self) -> bool:
        """Whether both directions have ended."""
        return self._read_ended and self._write_error is not None

    def told_over(self) -> None:
        """Both directions have ended, and the connection has forgotten the stream."""
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def eof_received(self) -> None:
        self._read_ended = True
        self._incoming.feed_eof()

    def window_opened(self) -> None:
        if self._window is not None and not self._window.done():
            self._window.set_result(None)

    def end(self, error: Exception) -> None:
        """Both directions are over: every call raises `error`, reads once what had arrived was read. A reset with a
        code also takes the place of an end that came before it; one without says that the peer wants no more of us:
        the end is told, once, before it.
        """
        self._read_ended = True
        is_reset = isinstance(error, StreamReset)
        if self._write_error is None or (is_reset and not isinstance(self._write_error, StreamReset)):
            self._write_error = error
        voids = isinstance(error, StreamReset) and (error.code != StreamErrorCode.NONE or error.by == "local")
        self._incoming.set_error(error, instead_of_end=voids, behind_end=is_reset and not voids)
        self._end_write()
        if self._taker is not None:
            self._taker.lost(error)
        if isinstance(error, StreamReset) and error.by == "remote":
            self._given_up()

    def _given_up(self) -> None:
        """The peer has reset the stream."""
        if self.on_reset is not None:
            self.on_reset()

    def _end_write(self) -> None:
        """A write that waits, for the peer's window or its turn, ends by the error."""
        self.window_opened()
        self._muxed.dismiss(self)

    def _abandon(self, unread: int, ended: bool) -> None:
        """The reader is gone: `unread` bytes were dropped; more may come unless the peer's direction has `ended`."""
        if not ended:
            self._discard(unread)

    def _discard(self, n: int) -> None:
        assert self._discarded is not None
        self._discarded += n
        if self._discarded > MAX_DISCARDED:
            self.reset()

    async def _window_opened(self) -> None:
        self._window = asyncio.get_running_loop().create_future()
        try:
            await self._window
        finally:
            self._window = None

    def _consumed(self, n: int) -> None:
        self._muxed.consumed(self, n)
