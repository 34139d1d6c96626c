"""The client's side of calls: many of one message each way on one kept stream, or one of many messages on its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self

from ...connection import Stream, StreamErrorCode
from ...errors import (
    IncompleteRead,
    Libp2pError,
    LocalProtocolError,
    RemoteProtocolError,
    RequestFailed,
    StageTimeout,
    StreamClosed,
    StreamReset,
    copy_of,
)
from ...io import Buffer
from .outbox import Outbox
from .wire import (
    ANSWER,
    CANCEL,
    END,
    ERROR,
    ITEM,
    OPEN,
    OVERHEAD,
    REQUEST,
    Frame,
    FrameParser,
    decode_error,
    encode_deadline,
    encode_frame,
)

CHUNK = 256 * 1024
"""Bytes at most that one read takes from a stream."""


class SharedStream:
    """Calls of one message each way, told apart by a number. `run` reads the answers until the stream ends."""

    def __init__(self, stream: Stream, *, limit: int, idle_timeout: float) -> None:
        self.stream = stream
        self._idle_timeout = idle_timeout
        self._outbox = Outbox(stream)
        self._parser = FrameParser(limit=limit + OVERHEAD, what="answer")
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._last = 0
        self._error: Exception | None = None
        self._used_at = self._loop.time()

    @property
    def is_open(self) -> bool:
        """Whether it takes calls."""
        return self._error is None

    async def call(self, data: Buffer, timeout: float | None) -> bytes:
        """The answer. Raises `RequestFailed`, `StageTimeout`, and what has ended the stream."""
        if self._outbox.is_full:
            started = self._loop.time()
            async with asyncio.timeout(timeout):
                await self._outbox.room()
            timeout = None if timeout is None else max(0.0, timeout - (self._loop.time() - started))
        if self._error is not None:
            raise copy_of(self._error)
        self._last = number = self._last + 1
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._calls[number] = answer
        self._outbox.put(encode_frame(number, REQUEST, encode_deadline(timeout) + bytes(data)))
        timer = None if timeout is None else self._loop.call_later(timeout, self._expire, answer, timeout)
        try:
            return await answer
        finally:
            if timer is not None:
                timer.cancel()
            if self._calls.pop(number, None) is not None:  # nobody waits any more
                self._outbox.put(encode_frame(number, CANCEL))
            self._used_at = self._loop.time()

    async def run(self) -> None:
        """Send the calls, and give each its answer. Returns when the stream is over; calls that wait are told why."""
        sending = self._loop.create_task(self._outbox.run(), name="calls: sending")
        self._idle = self._loop.call_later(self._idle_timeout, self._check_idle)
        try:
            while data := await self.stream.read(CHUNK):
                for frame in self._parser.feed(data):
                    self._answered(frame)
            raise StreamReset(by="remote", reason="the peer ended the stream of calls")
        except Libp2pError as error:
            self._end(error)
        finally:
            self._idle.cancel()
            self._end(StreamClosed("the stream of calls was closed"))
            self.stream.reset()
            sending.cancel()
            await asyncio.wait({sending})
            if not sending.cancelled():
                sending.exception()  # the reader was told the same

    def _answered(self, frame: Frame) -> None:
        if frame.kind not in {ANSWER, ERROR}:
            raise RemoteProtocolError(f"the peer answered a call with a frame of kind {frame.kind}")
        answer = self._calls.pop(frame.call, None)
        if answer is None or answer.done():
            return
        if frame.kind == ANSWER:
            answer.set_result(frame.body)
        else:
            answer.set_exception(RequestFailed(*decode_error(frame.body), peer=self.stream.connection.remote_peer))

    def _expire(self, answer: asyncio.Future[bytes], timeout: float) -> None:
        if not answer.done():
            answer.set_exception(StageTimeout(f"request {self.stream.protocol}", timeout))

    def _check_idle(self) -> None:
        since = self._loop.time() - self._used_at
        if self._calls or since < self._idle_timeout:
            wait = self._idle_timeout if self._calls else self._idle_timeout - since
            self._idle = self._loop.call_later(wait, self._check_idle)
        else:
            self._end(StreamClosed("the stream of calls was not used any more"))
            self.stream.reset(StreamErrorCode.GARBAGE_COLLECTED)

    def _end(self, error: Exception) -> None:
        if self._error is not None:
            return
        self._error = error
        calls, self._calls = self._calls, {}
        for answer in calls.values():
            if not answer.done():
                answer.set_exception(copy_of(error))


class Call:
    """A call of many messages each way: a context manager, and an async iterator of the peer's messages.

    Leaving it before the peer has ended cancels the call on both sides.
    """

    def __init__(self, stream: Stream, *, limit: int, timeout: float | None) -> None:
        self._stream = stream
        self._limit = limit
        self._timeout = timeout
        self._parser = FrameParser(limit=limit + OVERHEAD, what="answer")
        self._messages = self._read()
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False
        self._is_over = False

    async def open(self) -> None:
        """Begin the call."""
        if self._timeout is not None:
            self._timer = asyncio.get_running_loop().call_later(self._timeout, self._expire)
        await self._write(encode_frame(0, OPEN, encode_deadline(self._timeout)))

    async def send(self, data: Buffer) -> None:
        """Send one message; waits while the peer takes no more. Raises what has ended the call."""
        await self._write(encode_frame(0, ITEM, bytes(data)))

    async def end(self) -> None:
        """Say that no more messages come from this side."""
        await self._write(encode_frame(0, END))
        await self._stream.close_write()

    async def __anext__(self) -> bytes:
        return await anext(self._messages)

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._messages.aclose()
        if self._is_over and error is None:
            await self._stream.close()
        else:
            self._stream.abort()

    async def _read(self) -> AsyncGenerator[bytes, None]:
        try:
            while data := await self._stream.read(CHUNK):
                for frame in self._parser.feed(data):
                    if frame.kind == ITEM:
                        yield frame.body
                    elif frame.kind == END:
                        self._is_over = True
                        return
                    elif frame.kind == ERROR:
                        self._is_over = True
                        raise RequestFailed(*decode_error(frame.body), peer=self._stream.connection.remote_peer)
                    else:
                        raise RemoteProtocolError(f"the peer answered a call with a frame of kind {frame.kind}")
            raise IncompleteRead(b"", None)
        except StreamReset as error:
            raise self._reason(error) from None

    async def _write(self, frame: bytes) -> None:
        if self._is_over:
            raise LocalProtocolError("the peer has ended the call")
        try:
            await self._stream.write(frame)
        except StreamReset as error:
            raise self._reason(error) from None

    def _reason(self, error: StreamReset) -> Exception:
        if self._expired and self._timeout is not None:
            return StageTimeout(f"call {self._stream.protocol}", self._timeout)
        return error

    def _expire(self) -> None:
        self._expired = True
        self._stream.abort()
