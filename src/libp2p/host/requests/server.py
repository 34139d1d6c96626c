"""The server's side of calls: a stream of many calls, or one call of many messages.

Rules:
- Each call runs in a task of its own; at `max_calls` of one stream nothing more is read from it until one ends, so the
  client waits.
- A handler is cancelled when its deadline has passed, when its client cancels, and when the stream is gone.
- What a handler raises goes to the client, as type and text. What is no `Libp2pError` is a mistake, and logged too.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias, cast

from ...connection import Stream
from ...errors import IncompleteRead, InvalidInput, Libp2pError, LocalProtocolError, RemoteProtocolError, RequestFailed
from ...identity import PeerId
from ...io import all_of
from .client import CHUNK
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
    decode_deadline,
    encode_error,
    encode_frame,
)

logger = logging.getLogger(__name__)


class Request:
    """What a responder is asked: who asks, and the message; or the messages, as an async iterator."""

    __slots__ = ("_data", "_deadline", "_messages", "peer", "protocol")

    def __init__(
        self,
        peer: PeerId,
        protocol: str,
        deadline: float | None,
        data: bytes | None,
        messages: AsyncIterator[bytes] | None = None,
    ) -> None:
        self.peer = peer
        """Who asks: proven."""
        self.protocol = protocol
        self._deadline = deadline
        self._data = data
        self._messages = messages

    @property
    def data(self) -> bytes:
        """The message. Raises `LocalProtocolError` where the caller sends many: iterate then."""
        if self._data is None:
            raise LocalProtocolError("this request has many messages: read them by `async for`")
        return self._data

    @property
    def time_left(self) -> float | None:
        """Seconds until the caller waits no more; None where it waits for ever."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._messages if self._messages is not None else _once(self.data)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


Unary: TypeAlias = Callable[[Request], Awaitable[bytes]]
"""Answers a request with one message."""

Streaming: TypeAlias = Callable[[Request], AsyncIterator[bytes]]
"""Answers a request with as many messages as it yields."""

Responder: TypeAlias = Unary | Streaming


def is_streaming(responder: Responder) -> bool:
    """Which of the two it is. Raises `InvalidInput` for what is neither."""
    function = inspect.unwrap(responder)
    function = function if inspect.isroutine(function) else type(function).__call__
    if inspect.isasyncgenfunction(function):
        return True
    if inspect.iscoroutinefunction(function):
        return False
    raise InvalidInput(f"a responder is an `async def` function, which {responder!r} is not")


class Server:
    """Serves the calls of one application protocol. Requests have at most `limit` bytes."""

    def __init__(self, protocol: str, responder: Responder, *, limit: int, max_calls: int) -> None:
        self.protocol = protocol
        self._responder = responder
        self._is_streaming = is_streaming(responder)
        self._limit = limit
        self._max_calls = max_calls
        self._draining = False
        self._shared: set[_Calls] = set()

    async def drain(self) -> None:
        """Take no more calls on the streams that are shared; return when those at work have been answered."""
        self._draining = True
        await all_of(*(calls.drain() for calls in self._shared))

    @property
    def is_draining(self) -> bool:
        """Whether no more calls are taken."""
        return self._draining

    @property
    def is_streaming(self) -> bool:
        """Whether the answers have many messages."""
        return self._is_streaming

    async def serve_plain(self, stream: Stream) -> None:
        """A stream, a message each way: how others do requests."""
        request = Request(stream.connection.remote_peer, self.protocol, None, await stream.read(limit=self._limit))
        await stream.write(await self.answer(request))

    async def serve(self, stream: Stream) -> None:
        """Serve a stream of calls."""
        parser = FrameParser(limit=self._limit + OVERHEAD, what="request")
        while data := await stream.read(CHUNK):
            frames = parser.feed(data)
            first = next(frames, None)
            if first is None:
                continue
            if first.kind == OPEN:
                await _Exchange(self, stream, parser).run(first, list(frames))
            else:
                calls = _Calls(self, stream, parser, self._max_calls)
                self._shared.add(calls)
                try:
                    await calls.run(first, list(frames))
                finally:
                    self._shared.discard(calls)
            return

    async def answer(self, request: Request) -> bytes:
        """The one message that answers `request`."""
        if self._is_streaming:
            raise LocalProtocolError(f"{self.protocol} answers with many messages: ask by `call`, not by `request`")
        answer = await cast(Unary, self._responder)(request)
        if not isinstance(answer, bytes | bytearray | memoryview):
            raise TypeError(f"the responder of {self.protocol} returned {type(answer).__name__}, not bytes")
        return bytes(answer)

    def answers(self, request: Request) -> AsyncIterator[bytes]:
        """The messages that answer `request`."""
        if self._is_streaming:
            return cast(Streaming, self._responder)(request)
        return self._only(request)

    async def _only(self, request: Request) -> AsyncIterator[bytes]:
        yield await self.answer(request)

    def error_frame(self, call: int, error: Exception) -> bytes:
        """What the client is told of `error`."""
        if isinstance(error, RequestFailed):
            return encode_frame(call, ERROR, encode_error(error.kind, error.text))
        if not isinstance(error, Libp2pError):
            logger.error("the responder of %s failed", self.protocol, exc_info=error)
        return encode_frame(call, ERROR, encode_error(type(error).__name__, str(error)))


class _Calls:
    """The calls of one message each way that share a stream."""

    def __init__(self, server: Server, stream: Stream, parser: FrameParser, max_calls: int) -> None:
        self._server = server
        self._stream = stream
        self._peer = stream.connection.remote_peer
        self._parser = parser
        self._max_calls = max_calls
        self._outbox = Outbox(stream)
        self._loop = asyncio.get_running_loop()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._ended: asyncio.Future[None] | None = None  # what the reader waits for at `max_calls`

    async def run(self, first: Frame, following: list[Frame]) -> None:
        """Serve the calls, until the client ends the stream and each has its answer."""
        sending = self._loop.create_task(self._outbox.run(), name="answers: sending")
        sending.add_done_callback(self._sending_ended)
        try:
            for frame in (first, *following):
                await self._take(frame)
            while data := await self._stream.read(CHUNK):
                for frame in self._parser.feed(data):
                    await self._take(frame)
            while self._running:
                await asyncio.wait(self._running.values())
            await self._outbox.flushed()
        finally:
            tasks = [sending, *self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def drain(self) -> None:
        """Wait until the calls at work have been answered, then end our side: the client ends its own by that."""
        while self._running:
            await asyncio.wait(self._running.values())
        with suppress(Libp2pError):  # it is gone: nobody waits for answers
            await self._outbox.flushed()
            await self._stream.close_write()

    def _sending_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._stream.reset()  # nobody hears the answers: the reader ends by it

    async def _take(self, frame: Frame) -> None:
        if frame.kind == CANCEL:
            if (task := self._running.get(frame.call)) is not None:
                task.cancel()
            return
        if frame.kind != REQUEST:
            raise RemoteProtocolError(f"a frame of kind {frame.kind} among requests")
        if self._server.is_draining:
            self._outbox.put(encode_frame(frame.call, ERROR, encode_error("Shutdown", "the host is shutting down")))
            return
        if frame.call in self._running:
            raise RemoteProtocolError(f"call {frame.call} begins twice")
        await self._room()
        task = self._loop.create_task(self._answer(frame), name="call")
        self._running[frame.call] = task
        task.add_done_callback(lambda _: self._done(frame.call))

    async def _room(self) -> None:
        while len(self._running) >= self._max_calls:
            self._ended = self._loop.create_future()
            await self._ended
        if self._outbox.is_full:
            await self._outbox.room()

    def _done(self, call: int) -> None:
        del self._running[call]
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def _answer(self, frame: Frame) -> None:
        server, call = self._server, frame.call
        timer = None
        try:
            left, data = decode_deadline(frame.body)
            deadline = None
            if left is not None:
                deadline = self._loop.time() + left
                timer = self._loop.call_at(deadline, self._running[call].cancel)
            answer = await server.answer(Request(self._peer, server.protocol, deadline, data))
            self._outbox.put(encode_frame(call, ANSWER, answer))
        except Exception as error:
            self._outbox.put(server.error_frame(call, error))
        finally:
            if timer is not None:
                timer.cancel()


class _Exchange:
    """One call of many messages, which has the stream for itself."""

    def __init__(self, server: Server, stream: Stream, parser: FrameParser) -> None:
        self._server = server
        self._stream = stream
        self._parser = parser

    async def run(self, opening: Frame, following: list[Frame]) -> None:
        left, _ = decode_deadline(opening.body)
        server, stream = self._server, self._stream
        deadline = None if left is None else asyncio.get_running_loop().time() + left
        request = Request(
            stream.connection.remote_peer, server.protocol, deadline, None, messages=self._messages(following)
        )
        try:
            async with asyncio.timeout_at(deadline) as limit:
                await self._send(server.answers(request))
            last = encode_frame(0, END)
        except TimeoutError as error:
            if limit.expired():
                stream.reset()  # the client has given up too
                return
            last = server.error_frame(0, error)
        except Exception as error:
            last = server.error_frame(0, error)
        await stream.write(last)

    async def _send(self, answers: AsyncIterator[bytes]) -> None:
        try:
            async for message in answers:
                await self._stream.write(encode_frame(0, ITEM, message))
        finally:
            if isinstance(answers, AsyncGenerator):
                await answers.aclose()

    async def _messages(self, frames: list[Frame]) -> AsyncIterator[bytes]:
        while True:
            for frame in frames:
                if frame.kind == END:
                    return
                if frame.kind != ITEM:
                    raise RemoteProtocolError(f"a frame of kind {frame.kind} within a call")
                yield frame.body
            data = await self._stream.read(CHUNK)
            if not data:
                raise IncompleteRead(b"", None)
            frames = list(self._parser.feed(data))
