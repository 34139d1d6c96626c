"""Asking other peers: requests over streams that are used again, within limits that follow what was measured.

Rules:
- One request at a time on a stream, its answer is the next message; a stream that failed is not used again.
- ADD_PROVIDER has no answer. It goes over a stream of its own, whose end tells that it was read: an answer that a peer
  sends all the same must not be taken for that to the next request.
- Memory: at most `max_requests` answers are under way, of which `_LARGE_ANSWERS` may be large.
- A connection that was opened for a request is closed when it has been idle for long, unless others use it by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass

from ...connection import Connection, ServiceHost, Stream
from ...errors import (
    ConnectionClosed,
    DialError,
    IncompleteRead,
    Libp2pError,
    LocalProtocolError,
    MessageTooLarge,
    RemoteProtocolError,
    StreamReset,
)
from ...identity import PeerId
from ...io import time_limit
from ...multiaddr import Multiaddr, Reach
from ...peerstore import TEMP_ADDR_TTL
from ...routing import unrouted
from ...spans import span
from .config import KadConfig
from .request_time import RequestTime
from .wire import Message, decode, encode

_LARGE = 64 * 1024
"""Bytes above which an answer counts as large..."""
_LARGE_ANSWERS = 4
"""...of which so many are read at a time."""

_READING = 0.05
"""Seconds that a peer may take to read an announcement: servers take so many a second of one peer, and only so many
streams."""

_STALE = (StreamReset, ConnectionClosed, IncompleteRead)
"""How a stream that was kept for later turns out to be gone."""


@dataclass(frozen=True, slots=True)
class Told:
    """Addresses of a peer, and how far away the peer is that told us of them."""

    addrs: tuple[Multiaddr, ...]
    reach: Reach


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer answered, and over which connection."""

    message: Message
    connection: Connection


class _Idle:
    """A stream that waits for the next request, and the timer that ends it."""

    def __init__(self, stream: Stream, timer: asyncio.TimerHandle) -> None:
        self.stream = stream
        self.timer = timer


class Messenger:
    """Sends requests to peers."""

    def __init__(self, host: ServiceHost, config: KadConfig) -> None:
        self._connected = RequestTime(config.request_time)
        self._dialed = RequestTime(config.request_time)  # those that had to connect first, some round trips more
        self._host = host
        self._config = config
        self._idle: dict[Connection, _Idle] = {}
        self._opened: dict[Connection, asyncio.TimerHandle | None] = {}  # by us, and when they end
        self._busy: dict[Connection, int] = {}
        self._requests = asyncio.Semaphore(config.max_requests)
        self._large = asyncio.Semaphore(_LARGE_ANSWERS)
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    def patience(self, peer: PeerId) -> float:
        """Seconds after which `peer`, asked now, counts as slow."""
        return self._times(peer).patience

    async def request(self, peer: PeerId, message: Message, told: Iterable[Told] = ()) -> Answer:
        """Ask `peer`, which is at the addresses `told` if it is not known or connected.

        Raises `DialError`, `ProtocolNotSupported`, `StageTimeout`, `RemoteProtocolError` for an answer that is none,
        what ended the stream or the connection, and `LocalProtocolError` behind `close`.
        """
        async with self._requests:
            if self._closed:
                raise LocalProtocolError("the DHT is closed")
            started = asyncio.get_running_loop().time()
            times = self._times(peer)
            with span("dht_request", host=self._host.id, peer=peer, type=message.type.name):
                async with time_limit(f"a DHT request to {peer}", times.limit):
                    connection = await self._connect(peer, told)
                    answer = await self._exchange(connection, message)
            times.answered(asyncio.get_running_loop().time() - started)
            return answer

    async def announce(
        self, peer: PeerId, messages: Callable[[Connection], Iterable[Message]], told: Iterable[Told] = ()
    ) -> None:
        """Send ADD_PROVIDER messages, which are not answered; `messages` makes them for a connection. Raises what
        `request` does.
        """
        async with self._requests:
            async with time_limit(f"a DHT request to {peer}", self._times(peer).limit):
                connection = await self._connect(peer, told)
                stream = await self._open(connection)
            count = 0
            try:
                for message in messages(connection):
                    count += 1
                    async with time_limit(f"announcing to {peer}", self._connected.limit):
                        await stream.write_message(encode(message))
                await self._wait_read(stream, self._connected.patience + count * _READING)
            except BaseException:
                stream.reset()
                raise
            finally:
                self._done_with(connection)

    async def close(self) -> None:
        """End all streams that wait; connections are left to the host."""
        self._closed = True
        for idle in self._idle.values():
            idle.timer.cancel()
            idle.stream.reset()
        self._idle.clear()
        for timer in self._opened.values():
            if timer is not None:
                timer.cancel()
        self._opened.clear()
        for task in self._closing:
            task.cancel()
        if self._closing:
            await asyncio.wait(self._closing)

    def lost(self, connection: Connection) -> None:
        """A connection has ended."""
        if (idle := self._idle.pop(connection, None)) is not None:
            idle.timer.cancel()
        if (timer := self._opened.pop(connection, None)) is not None:
            timer.cancel()

    # Inside

    def _times(self, peer: PeerId) -> RequestTime:
        return self._connected if self._host.connections_to(peer) else self._dialed

    async def _connect(self, peer: PeerId, told: Iterable[Told]) -> Connection:
        if connections := self._host.connections_to(peer):
            return connections[0]
        for one in told:
            self._host.peerstore.add_addrs(peer, one.addrs, TEMP_ADDR_TTL, told=one.reach)
        if not self._host.peerstore.addrs(peer):
            raise DialError(peer, {})
        with unrouted():  # a dead peer is no reason for another lookup
            connection = await self._host.connect(peer)
        self._opened.setdefault(connection, None)
        return connection

    async def _open(self, connection: Connection) -> Stream:
        self._busy[connection] = self._busy.get(connection, 0) + 1
        try:
            return await self._host.new_stream(connection, self._config.protocol)
        except BaseException:
            self._done_with(connection)
            raise

    async def _exchange(self, connection: Connection, message: Message) -> Answer:
        idle = self._idle.pop(connection, None)
        if idle is not None:
            idle.timer.cancel()
            self._busy[connection] = self._busy.get(connection, 0) + 1
            try:
                return await self._ask(idle.stream, message)
            except _STALE:
                pass  # the peer had ended it meanwhile, or does now: a new one tells
            finally:
                self._done_with(connection)
        stream = await self._open(connection)
        try:
            return await self._ask(stream, message)
        finally:
            self._done_with(connection)

    async def _ask(self, stream: Stream, message: Message) -> Answer:
        try:
            await stream.write_message(encode(message))
            answer = decode(await self._read(stream))
            if answer.type is not message.type:
                raise RemoteProtocolError(f"{message.type.name} was answered by {answer.type.name}")
        except BaseException:
            stream.reset()
            raise
        self._keep(stream)
        return Answer(answer, stream.connection)

    async def _read(self, stream: Stream) -> bytes:
        size = await stream.read_varint(what="length of a DHT message")
        if size > self._config.max_answer_size:
            raise MessageTooLarge("DHT message", limit=self._config.max_answer_size, size=size)
        if size <= _LARGE:
            return await stream.readexactly(size)
        async with self._large:
            return await stream.readexactly(size)

    async def _wait_read(self, stream: Stream, patience: float) -> None:
        """Wait until the peer has read to the end, as far as that shows: it then ends its own direction."""
        await stream.close_write()
        echoed = False
        try:
            async with asyncio.timeout(patience):
                while await stream.read(1024):
                    echoed = True  # older implementations answer
        except TimeoutError:
            await stream.agreed()  # it was there, at least
        except StreamReset:
            if not echoed:
                raise  # it was refused
        await stream.close()

    def _keep(self, stream: Stream) -> None:
        connection = stream.connection
        if self._closed or connection in self._idle or connection.is_closed:
            self._close_soon(stream)
            return
        timer = asyncio.get_running_loop().call_later(self._config.stream_idle, self._drop_idle, connection)
        self._idle[connection] = _Idle(stream, timer)

    def _drop_idle(self, connection: Connection) -> None:
        if (idle := self._idle.pop(connection, None)) is not None:
            self._close_soon(idle.stream)

    def _close_soon(self, stream: Stream) -> None:
        if self._closed:
            stream.reset()
            return
        self._spawn(_close(stream))

    def _done_with(self, connection: Connection) -> None:
        busy = self._busy.get(connection, 0) - 1
        if busy > 0:
            self._busy[connection] = busy
            return
        self._busy.pop(connection, None)
        if connection not in self._opened or self._closed:
            return
        if (timer := self._opened[connection]) is not None:
            timer.cancel()
        loop = asyncio.get_running_loop()
        self._opened[connection] = loop.call_later(self._config.connection_idle, self._drop_connection, connection)

    def _drop_connection(self, connection: Connection) -> None:
        """Close a connection that we opened and that nobody has used for long; one with streams is in use."""
        del self._opened[connection]
        if not connection.streams and not connection.is_closed and not self._busy.get(connection):
            self._spawn(connection.close("idle"))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="DHT: closing")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _close(stream: Stream) -> None:
    try:
        await stream.close()
    except (Libp2pError, OSError):
        stream.reset()
