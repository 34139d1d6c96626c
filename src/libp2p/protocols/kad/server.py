"""Answering other peers. Spec: kad-dht/README.md, "RPC messages".

Rules:
- "Implementations must handle additional RPC request messages on an incoming stream": until it ends or is idle.
- Requests that make no sense cost their stream, nothing else. A value that is refused, too: PUT_VALUE is answered by an
  echo where it was kept, so a reset is the only "no" that there is.
- A peer announces itself as a provider, nobody else. ADD_PROVIDER is never answered.
- Closer peers are those of our table, without us and who asks; but FIND_NODE also names the peer that it looks for,
  whatever it is, where we know its addresses. Addresses that mean nothing to who asks are left out.
- Bounded: streams, of a peer and in all; bytes of a request; requests a second of each peer, which then wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from ...connection import Connection, ServiceHost, Stream, StreamErrorCode
from ...errors import IncompleteRead, InvalidPeerId, InvalidRecord, RemoteProtocolError
from ...identity import PeerId
from ...io import TokenBucket, time_limit
from ...multiaddr import Reach, reach_of_remote
from ...routing import PeerInfo
from .config import KadConfig
from .keys import position
from .store import ProviderRecord, RecordStore, StoredValue
from .table import RoutingTable
from .validators import Validators
from .wire import MAX_ANSWER_SIZE, MAX_PROVIDER_KEY_SIZE, Message, MessageType, Record, decode, encode_answer

logger = logging.getLogger(__name__)

_MAX_PROVIDER_ADDRS = 16
"""Addresses that are kept of a provider."""


class _Peer:
    """A peer whose streams are served."""

    def __init__(self, bucket: TokenBucket) -> None:
        self.streams = 0
        self.bucket = bucket


class Server:
    """Answers requests; `handle` is the handler of the protocol. `wall_clock` gives the Unix time in seconds."""

    def __init__(
        self,
        host: ServiceHost,
        config: KadConfig,
        table: RoutingTable,
        store: RecordStore,
        validators: Validators,
        wall_clock: Callable[[], float],
    ) -> None:
        self._host = host
        self._config = config
        self._table = table
        self._store = store
        self._validators = validators
        self._wall_clock = wall_clock
        self._peers: dict[PeerId, _Peer] = {}
        self._streams = 0
        self._keeping = asyncio.Lock()
        self.answered: Counter[MessageType] = Counter()
        """Requests served so far, by type."""

    async def handle(self, stream: Stream) -> None:
        """Serve the requests that come on one stream."""
        limits, remote = self._config.server, stream.connection.remote_peer
        loop = asyncio.get_running_loop()
        peer = self._peers.get(remote)
        if peer is None:
            peer = self._peers[remote] = _Peer(TokenBucket(limits.rate, limits.burst, loop.time()))
        if self._streams >= limits.max_streams or peer.streams >= limits.max_streams_per_peer:
            stream.reset(StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
            if not peer.streams:
                del self._peers[remote]
            return
        self._streams += 1
        peer.streams += 1
        try:
            await self._serve(stream, peer.bucket)
        finally:
            self._streams -= 1
            peer.streams -= 1
            if not peer.streams:
                self._peers.pop(remote, None)

    async def _serve(self, stream: Stream, bucket: TokenBucket) -> None:
        limits, loop = self._config.server, asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(limits.idle_timeout):
                    data = await stream.read_message(limit=limits.max_request_size, what="DHT request")
            except IncompleteRead as error:
                if error.partial:
                    raise
                return
            except TimeoutError:
                stream.reset(StreamErrorCode.GARBAGE_COLLECTED)
                return
            if pause := bucket.take(loop.time()):
                await asyncio.sleep(pause)
            request = decode(data)
            try:
                answer = await self.answer(request, stream.connection)
            except InvalidRecord as error:
                raise RemoteProtocolError(f"{request.type.name} refused: {error}") from error
            self.answered[request.type] += 1
            if answer is not None:
                connected = [info.peer for info in answer.closer if self._host.connections_to(info.peer)]
                limit = max(MAX_ANSWER_SIZE, len(answer.record.value) + 4096) if answer.record else MAX_ANSWER_SIZE
                async with time_limit("answering a DHT request", limits.idle_timeout):
                    await stream.write_message(encode_answer(answer, connected, limit=limit))

    async def answer(self, request: Message, connection: Connection) -> Message | None:
        """The answer to one request; None for a message that has none. Raises `RemoteProtocolError` for nonsense, and
        `InvalidRecord` for a value that is refused.
        """
        if request.type is MessageType.PING:
            return Message(MessageType.PING)
        if not request.key:
            raise RemoteProtocolError(f"{request.type.name} without a key")
        match request.type:
            case MessageType.FIND_NODE:
                return self._find_node(request, connection)
            case MessageType.GET_VALUE:
                return await self._get_value(request, connection)
            case MessageType.PUT_VALUE:
                return await self._put_value(request)
            case MessageType.GET_PROVIDERS:
                return await self._get_providers(request, connection)
            case _:
                await self._add_provider(request, connection)
                return None

    def _find_node(self, request: Message, connection: Connection) -> Message:
        closer = self._closer(request.key, connection)
        try:
            target = PeerId.from_bytes(request.key)
        except InvalidPeerId:
            target = None  # other keys are looked for as well
        if target is not None and all(info.peer != target for info in closer):
            info = self._info(target, reach_of_remote(connection.remote_addr))
            closer = ((info,) if info.addrs else ()) + closer
        return Message(MessageType.FIND_NODE, closer=closer)

    async def _get_value(self, request: Message, connection: Connection) -> Message:
        record = None
        now = self._wall_clock()
        if (stored := await self._store.value(request.key, now)) is not None:
            try:
                self._validators.validate(stored.key, stored.value, now)
                record = Record(stored.key, stored.value, _rfc3339(stored.received))
            except InvalidRecord:
                await self._store.remove_value(stored.key)  # it has expired by its own rules
        return Message(request.type, request.key, record, self._closer(request.key, connection))

    async def _put_value(self, request: Message) -> Message:
        record = request.record
        if record is None or record.key != request.key:
            raise RemoteProtocolError("PUT_VALUE without a record of its key")
        await self.keep(record.key, record.value)
        return Message(request.type, request.key, Record(record.key, record.value))

    async def keep(self, key: bytes, value: bytes) -> None:
        """Keep a value if it is valid, and not worse than the one that is there. Raises `InvalidRecord`."""
        limit = self._config.server.max_value_size
        if len(value) > limit:
            raise InvalidRecord(f"value of {len(value)} bytes, the limit is {limit}")
        now = self._wall_clock()
        self._validators.validate(key, value, now)
        async with self._keeping:  # so that nothing better is put between the look and the writing
            stored = await self._store.value(key, now)
            if stored is not None and self._is_worse(key, value, stored.value, now):
                raise InvalidRecord(f"a better value is known for {key[:64]!r}")
            await self._store.put_value(StoredValue(key, value, now))

    def _is_worse(self, key: bytes, value: bytes, known: bytes, now: float) -> bool:
        if value == known:
            return False
        try:
            self._validators.validate(key, known, now)
        except InvalidRecord:
            return False  # it has expired by its own rules
        return not self._validators.is_better(key, value, known)

    async def _get_providers(self, request: Message, connection: Connection) -> Message:
        _check_provider_key(request.key)
        reach = reach_of_remote(connection.remote_addr)
        records = await self._store.providers(request.key, self._wall_clock())
        providers = tuple(
            PeerInfo(record.peer, self._config.scope.filter(record.addrs, reach))
            if record.addrs
            else self._info(record.peer, reach)
            for record in records
        )
        return Message(request.type, request.key, None, self._closer(request.key, connection), providers)

    async def _add_provider(self, request: Message, connection: Connection) -> None:
        _check_provider_key(request.key)
        peer = connection.remote_peer
        # "should validate that the received PeerInfo matches the sender's peerID"
        named = next((info for info in request.providers if info.peer == peer), None)
        if named is None:
            raise RemoteProtocolError(f"ADD_PROVIDER of {peer} does not name itself")
        addrs = self._config.scope.filter(named.addrs, reach_of_remote(connection.remote_addr))
        record = ProviderRecord(request.key, peer, addrs[:_MAX_PROVIDER_ADDRS], self._wall_clock())
        await self._store.add_provider(record)

    def _closer(self, key: bytes, connection: Connection) -> tuple[PeerInfo, ...]:
        reach = reach_of_remote(connection.remote_addr)
        nearest = self._table.nearest(
            position(key), self._config.table.k, without=(connection.remote_peer, self._host.id)
        )
        return tuple(info for peer in nearest if (info := self._info(peer, reach)).addrs)

    def _info(self, peer: PeerId, reach: Reach) -> PeerInfo:
        addrs = self._host.listen_addrs if peer == self._host.id else self._host.peerstore.addrs(peer)
        return PeerInfo(peer, self._config.scope.filter(addrs, reach))


def _check_provider_key(key: bytes) -> None:
    if len(key) > MAX_PROVIDER_KEY_SIZE:
        raise RemoteProtocolError(f"provider key of {len(key)} bytes, the limit is {MAX_PROVIDER_KEY_SIZE}")


def _rfc3339(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
