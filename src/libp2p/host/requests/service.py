"""Requests and answers: `Host.request`, `Host.call`, `Host.respond`.

    protocol                  a stream per request: the request to its end, the answer to its end. What the
                              request-response of rust-libp2p, and most programs of others, speak
    /calls/1.0.0<protocol>    many calls on one stream, which is kept; errors, deadlines and cancelling travel (wire.py)

Both are offered, the second first. Where the peer takes it the stream is kept for the next requests; where it takes the
plain one, that is remembered for as long as the connection lives.

Rules:
- A request has a deadline, which the other side knows.
- Who waits for an answer always gets one, or an error: when the stream or the connection ends, all its calls end.
- A kept stream that has not been used for `idle_timeout` is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

from ...connection import Connection, Service, ServiceHost, Target
from ...identity import PeerId
from ...io import Buffer, all_of, time_limit
from .client import Call, SharedStream
from .server import Responder, Server
from .wire import PREFIX

R = TypeVar("R", bound=Responder)


@dataclass(frozen=True, slots=True)
class RequestsConfig:
    """Settings of requests."""

    limit: int = 4 * 1024 * 1024
    """Bytes of one message, unless a call says otherwise."""
    timeout: float = 60.0
    """Seconds for a request, unless a call says otherwise."""
    max_calls: int = 1024
    """Calls of one stream that are served at a time. Behind them the client waits."""
    max_streams_per_peer: int = 256
    """Streams that one peer may have served at a time, of each protocol and form (requests in the plain form and calls
    of many messages have one each). More wait for their turn."""
    idle_timeout: float = 60.0
    """Seconds after which a kept stream without calls is closed."""


class Requests(Service):
    """Sends requests to peers, and serves theirs."""

    def __init__(self, host: ServiceHost, config: RequestsConfig | None = None) -> None:
        super().__init__(host)
        self._config = config or RequestsConfig()
        self._kept: WeakKeyDictionary[Connection, dict[str, _Kept]] = WeakKeyDictionary()
        self._servers: list[Server] = []

    # Serving

    async def drain(self) -> None:
        """Take no more calls; return when those at work have been answered. Calls of many messages, and plain ones, are
        streams of their own, which the host waits for.
        """
        await all_of(*(server.drain() for server in self._servers))

    def respond(self, protocol: str, *, limit: int | None = None, max_calls: int | None = None) -> Callable[[R], R]:
        """Answer the requests of `protocol`, of at most `limit` bytes each, with the function that this decorates.

        Raises `ValueError` for a protocol that is served already, `InvalidInput` for what is no `async def` function.
        """

        def add(responder: R) -> R:
            server = Server(
                protocol,
                responder,
                limit=self._config.limit if limit is None else limit,
                max_calls=self._config.max_calls if max_calls is None else max_calls,
            )
            self._servers.append(server)
            most = self._config.max_streams_per_peer
            self.serve([PREFIX + protocol], server.serve, max_streams_per_peer=most, when_full="wait")
            if not server.is_streaming:
                self.serve([protocol], server.serve_plain, max_streams_per_peer=most, when_full="wait")
            return responder

        return add

    # Asking

    async def request(
        self,
        target: Target,
        protocol: str,
        data: Buffer | AsyncIterable[bytes],
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """The answer to `data`, of at most `limit` bytes, within `timeout` seconds. Where `data` yields many messages,
        the responder reads them as they come.

        Raises `RequestFailed` with what the responder raised, `StageTimeout`, `MessageTooLarge`, and what `new_stream`
        does.
        """
        timeout = self._config.timeout if timeout is None else timeout
        if not isinstance(data, bytes | bytearray | memoryview):
            return await self._streamed(target, protocol, data, limit, timeout)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        kept = self._kept_for(target, protocol)
        if kept is None:
            async with time_limit(f"request {protocol}", timeout):
                connection = await self.host.connect(target)
                kept = self._kept.setdefault(connection, {}).setdefault(protocol, _Kept())
                if await self._prepare(kept, connection, protocol, limit) is None:
                    return await self._plain(connection, protocol, data, limit)
        assert kept.shared is not None
        return await kept.shared.call(data, deadline - loop.time())

    async def call(
        self, target: Target, protocol: str, *, limit: int | None = None, timeout: float | None = None
    ) -> Call:
        """Begin a call of many messages each way, of at most `limit` bytes each, that ends within `timeout` seconds
        (None: it may take for ever). Used by `async with`. Raises what `new_stream` does.
        """
        stream = await self.host.new_stream(target, PREFIX + protocol)
        call = Call(stream, limit=self._config.limit if limit is None else limit, timeout=timeout)
        await call.open()
        return call

    # Inside

    def _kept_for(self, target: Target, protocol: str) -> _Kept | None:
        if isinstance(target, Connection):
            connections = [target]
        else:
            connections = self.host.connections_to(target) if isinstance(target, PeerId) else []
        for connection in connections:
            kept = self._kept.get(connection, {}).get(protocol)
            if kept is not None and kept.is_ready:
                return kept
        return None

    async def _prepare(
        self, kept: _Kept, connection: Connection, protocol: str, limit: int | None
    ) -> SharedStream | None:
        """The stream of calls to the peer, opened if need be; None where the peer speaks the plain form only."""
        async with kept.lock:
            if kept.is_plain or kept.is_ready:
                return kept.shared
            stream = await self.host.new_stream(connection, PREFIX + protocol, protocol)
            if stream.protocol == protocol:
                kept.is_plain = True
                stream.reset()
                return None
            kept.shared = SharedStream(
                stream,
                limit=self._config.limit if limit is None else limit,
                idle_timeout=self._config.idle_timeout,
            )
            self.spawn(kept.shared.run(), name=f"calls {protocol}")
            return kept.shared

    async def _plain(self, connection: Connection, protocol: str, data: Buffer, limit: int | None) -> bytes:
        async with await self.host.new_stream(connection, protocol) as stream:
            await stream.write(data)
            await stream.close_write()
            return await stream.read(limit=self._config.limit if limit is None else limit)

    async def _streamed(
        self, target: Target, protocol: str, messages: AsyncIterable[bytes], limit: int | None, timeout: float
    ) -> bytes:
        """A request of many messages, and its one answer."""
        async with await self.call(target, protocol, limit=limit, timeout=timeout) as call:
            sending = asyncio.ensure_future(_send_all(call, messages))
            try:
                return b"".join([answer async for answer in call])
            finally:
                sending.cancel()
                await asyncio.wait({sending})
                if not sending.cancelled():
                    sending.exception()  # the answer, or the error instead of it, says how the call went


async def _send_all(call: Call, messages: AsyncIterable[bytes]) -> None:
    async for message in messages:
        await call.send(message)
    await call.end()


class _Kept:
    """What is known of a protocol of a connection: the stream of calls, or that there is none."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.shared: SharedStream | None = None
        self.is_plain = False

    @property
    def is_ready(self) -> bool:
        """Whether calls can go out at once."""
        return self.shared is not None and self.shared.is_open
