"""Identify and identify push, both sides. Spec: libp2p/specs, identify/README.md.

    /ipfs/id/1.0.0        the listener of the stream tells who it is and closes it; asked once on each new connection
    /ipfs/id/push/1.0.0   the dialer of the stream tells what has changed

Rules:
- Nothing waits for identify: it runs in the background, and its outcome is an event.
- What a peer says is stored for the peer that the connection is proven to lead to, and for no other; its signed record
  only where it signed it itself.
- A malformed message costs its stream, not the connection.
- What a peer may lead us to, and what of ours it is told, depends on how far away it is (`multiaddr/reach.py`): no
  path and no private or loopback address comes from, or goes to, a peer on the Internet. So there is a signed record
  of ours for each such reach.
- Addresses live as long as a connection to the peer (the swarm sees to that); those that it no longer names, 2 minutes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ...connection import Connection, Direction, Stream, StreamErrorCode
from ...errors import InvalidRecord, Libp2pError, LimitExceeded, MessageTooLarge
from ...identity import PeerId
from ...io import time_limit
from ...multiaddr import Multiaddr, Reach, ip_of, may_share, reach_of_remote
from ...peerstore import CONNECTED_ADDR_TTL, RECENTLY_CONNECTED_ADDR_TTL, TEMP_ADDR_TTL
from ...records import PeerRecord
from ...swarm.events import ConnectionOpened, ListenAddrAdded, ListenAddrRemoved
from .wire import IdentifyInfo, decode, encode

if TYPE_CHECKING:
    from ..host import Host

logger = logging.getLogger(__name__)

ID = "/ipfs/id/1.0.0"
PUSH_ID = "/ipfs/id/push/1.0.0"


@cache
def _default_agent() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - slow to import

    try:
        return f"py-libp2p/{version('py-libp2p')}"
    except PackageNotFoundError:
        return "py-libp2p"  # run from source, not installed


@dataclass(frozen=True, slots=True)
class IdentifyConfig:
    """Settings of identify."""

    automatic: bool = True
    """Whether each new connection is identified."""
    agent_version: str | None = None
    """What we say we are; None: `py-libp2p/<version>`."""
    protocol_version: str = "ipfs/0.1.0"
    """The family of protocols we say we speak; what go-libp2p says by default."""
    timeout: float = 10.0
    """Seconds that one exchange may take, in either role."""
    max_message_size: int = 64 * 1024
    """Bytes that a peer may send on one stream, in all its messages."""
    max_addrs: int = 128
    """Addresses that are taken of one peer; more are dropped."""
    max_protocols: int = 128
    """Protocols that are taken of one peer; more are dropped."""
    max_inbound_streams: int = 8
    """Streams of identify and identify push that one peer may have open; one more is reset."""
    max_pushes: int = 32
    """Peers that are told of a change at a time; the others follow."""


@dataclass(frozen=True, slots=True)
class PeerIdentified:
    """The peer has answered our question who it is."""

    connection: Connection
    info: IdentifyInfo


@dataclass(frozen=True, slots=True)
class IdentifyFailed:
    """The peer has not, or not properly, answered our question who it is."""

    connection: Connection
    error: Exception


@dataclass(frozen=True, slots=True)
class PeerUpdated:
    """The peer has pushed a change; `info` is all that it said on this connection, the change included."""

    connection: Connection
    info: IdentifyInfo


@dataclass(frozen=True, slots=True)
class _Own:
    """What we say of ourselves, as far as it changes."""

    protocols: tuple[str, ...]
    addrs: tuple[Multiaddr, ...]
    records: dict[Reach, bytes | None]
    """Our signed record for peers that are so far away; made when the first of them is told."""


class Identify:
    """Tells peers who we are, and learns who they are. `wall_clock` gives the Unix time in nanoseconds."""

    def __init__(
        self, host: Host, config: IdentifyConfig | None = None, *, wall_clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._host = host
        self._config = config or IdentifyConfig()
        self._wall_clock = wall_clock
        self._infos: WeakKeyDictionary[Connection, IdentifyInfo] = WeakKeyDictionary()
        self._told: WeakKeyDictionary[Connection, _Own] = WeakKeyDictionary()
        self._inbound: Counter[PeerId] = Counter()
        self._own: _Own | None = None
        self._seq = 0
        self._changed = False
        self._pushing = False

    def start(self) -> None:
        """Serve both protocols, and follow the host's connections and addresses. To be called once."""
        events = self._host.events
        events.on(ConnectionOpened, self._connection_opened)
        events.on(ListenAddrAdded, lambda _: self.changed())
        events.on(ListenAddrRemoved, lambda _: self.changed())
        self._host.handle(ID)(self._answer)
        self._host.handle(PUSH_ID)(self._receive_push)

    # Learning

    def info(self, connection: Connection) -> IdentifyInfo | None:
        """What the peer has said on this connection; None before it was identified."""
        return self._infos.get(connection)

    async def identify(self, connection: Connection) -> IdentifyInfo:
        """Ask the peer who it is, and store the answer in the peer store. Also emits the outcome as an event.

        Raises `ProtocolNotSupported`, `RemoteProtocolError` for a malformed answer or another peer's key,
        `StageTimeout`, `LimitExceeded` where the peer store takes no more, and what ended the stream or the connection.
        """
        try:
            async with (
                time_limit("identify", self._config.timeout),
                await self._host.new_stream(connection, ID) as stream,
            ):
                data = await self._read(stream)
            info = self._decode(data, IdentifyInfo(connection.remote_peer, connection.remote_key))
            self._store(info)
            info = self._store_addrs(connection, info, info.signed_peer_record)
        except (Libp2pError, OSError) as error:
            self._host.events.emit(IdentifyFailed(connection, error))
            raise
        self._infos[connection] = info
        self._host.events.emit(PeerIdentified(connection, info))
        return info

    async def _identify_in_background(self, connection: Connection) -> None:
        for _ in range(2):
            await asyncio.sleep(0)  # whoever waits for the connection goes first: that takes two turns of the loop
        try:
            await self.identify(connection)
        except (Libp2pError, OSError) as error:
            logger.debug("%r was not identified: %s", connection, error)

    async def _receive_push(self, stream: Stream) -> None:
        connection = stream.connection
        with self._admitted(stream):
            async with time_limit("identify push", self._config.timeout):
                data = await self._read(stream)
        known = self._infos.get(connection) or IdentifyInfo(connection.remote_peer, connection.remote_key)
        info = self._decode(data, known)
        self._store(info)
        # "Missing fields should be ignored, as peers may choose to send partial updates": the record may be an old one.
        record = info.signed_peer_record if info.signed_peer_record != known.signed_peer_record else None
        if record or info.listen_addrs != known.listen_addrs:
            info = self._store_addrs(connection, info, record)
        self._infos[connection] = info
        self._host.events.emit(PeerUpdated(connection, info))

    async def _read(self, stream: Stream) -> bytes:
        limit = self._config.max_message_size
        try:
            return await stream.read(limit=limit)
        except MessageTooLarge as error:
            raise MessageTooLarge(f"identify message of {stream.connection.remote_peer}", limit=limit) from error

    def _decode(self, data: bytes, known: IdentifyInfo) -> IdentifyInfo:
        return decode(data, known, max_addrs=self._config.max_addrs, max_protocols=self._config.max_protocols)

    def _store(self, info: IdentifyInfo) -> None:
        """Put everything but the addresses in the peer store."""
        store = self._host.peerstore
        store.add_key(info.peer, info.public_key)
        store.set_protocols(info.peer, info.protocols)
        store.set_metadata(info.peer, "agent", info.agent_version)
        store.set_metadata(info.peer, "protocol_version", info.protocol_version)

    def _store_addrs(self, connection: Connection, info: IdentifyInfo, record: bytes | None) -> IdentifyInfo:
        """Put the addresses, those of `record` if it is valid, in the peer store, in place of those before. Returns
        `info` without an invalid record, and without the addresses that this peer must not lead us to.
        """
        store, peer = self._host.peerstore, info.peer
        connected = bool(self._host.connections_to(peer))  # it may have gone while we read
        ttl = CONNECTED_ADDR_TTL if connected else RECENTLY_CONNECTED_ADDR_TTL
        store.update_addrs(peer, CONNECTED_ADDR_TTL, TEMP_ADDR_TTL)
        if connection.direction is Direction.OUTBOUND:
            store.add_addrs(peer, [connection.remote_addr], ttl)  # known to work
        own = self._own_ips()
        told = reach_of_remote(connection.remote_addr, own=own)
        addrs = tuple(addr for addr in info.listen_addrs if may_share(addr, told, own=own))
        info = replace(info, listen_addrs=addrs)
        taken = False
        if record:
            try:
                taken = store.consume_peer_record(record, ttl, told=told, expected_peer=peer)
            except InvalidRecord as error:
                logger.debug("signed record of %s dropped: %s", peer, error)
                info = replace(info, signed_peer_record=None)
        if not taken:
            store.add_addrs(peer, addrs, ttl, told=told)
        return info

    def _own_ips(self) -> set[IPv4Address | IPv6Address]:
        return {ip for addr in self._host.listen_addrs if (ip := ip_of(addr)) is not None}

    # Telling

    def changed(self) -> None:
        """The host's protocols or addresses may have changed: tell the peers, once for all changes of a loop tick."""
        self._changed = True
        if not self._pushing and self._host.connections:
            self._pushing = self._host.spawn(self._push_changes(), name="identify push") is not None

    async def push(self) -> None:
        """Tell all connected peers that can be told, and that don't know yet, what we now are. Failures are logged."""
        own = self._current()
        untold = [one for one in self._host.connections if self._told.get(one) is not own and self._can_push(one)]
        waiting = iter(untold)

        async def tell_some() -> None:
            for connection in waiting:
                await self._push_to(connection, own)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(untold), self._config.max_pushes)):
                group.create_task(tell_some())

    async def _push_changes(self) -> None:
        try:
            while self._changed:
                self._changed = False
                await self.push()
        finally:
            self._pushing = False

    async def _push_to(self, connection: Connection, own: _Own) -> None:
        self._told[connection] = own  # so that another push, meanwhile, leaves it out
        try:
            async with (
                time_limit("identify push", self._config.timeout),
                await self._host.new_stream(connection, PUSH_ID) as stream,
            ):
                await stream.write(self._message(connection, own))
                await stream.close_write()
                await stream.agreed()
        except (Libp2pError, OSError) as error:
            logger.debug("no identify push on %r: %s", connection, error)
            self._told.pop(connection, None)

    def _can_push(self, connection: Connection) -> bool:
        """Whether the peer takes pushes, or has not said yet what it supports."""
        info = self._infos.get(connection)
        return not connection.is_closed and (info is None or PUSH_ID in info.protocols)

    async def _answer(self, stream: Stream) -> None:
        own = self._current()
        with self._admitted(stream):
            async with time_limit("identify", self._config.timeout):
                await stream.write(self._message(stream.connection, own))
        self._told[stream.connection] = own

    def _message(self, connection: Connection, own: _Own) -> bytes:
        remote, agent = connection.remote_addr, self._config.agent_version
        reach = reach_of_remote(remote, own=self._own_ips())
        addrs = tuple(addr for addr in own.addrs if may_share(addr, reach))
        if reach not in own.records:
            own.records[reach] = self._seal(addrs)
        return encode(
            IdentifyInfo(
                self._host.id,
                self._host.key.public_key,
                protocol_version=self._config.protocol_version,
                agent_version=_default_agent() if agent is None else agent,
                listen_addrs=addrs,
                observed_addr=remote.without_peer(),
                protocols=own.protocols,
                signed_peer_record=own.records[reach],
            )
        )

    def _current(self) -> _Own:
        """What we are now: the same object as long as nothing changes."""
        protocols = tuple(sorted(self._host.protocols))
        addrs = tuple(self._host.listen_addrs)[: self._config.max_addrs]
        own = self._own
        if own is None or own.addrs != addrs:
            self._own = _Own(protocols, addrs, {})
        elif own.protocols != protocols:
            self._own = replace(own, protocols=protocols)
        assert self._own is not None
        return self._own

    def _seal(self, addrs: tuple[Multiaddr, ...]) -> bytes | None:
        if not addrs:
            return None
        # A peer that knows a higher seq ignores the record, so it rises even where the clock is set back.
        self._seq = max(self._seq + 1, self._wall_clock())
        return PeerRecord(self._host.id, self._seq, addrs).seal(self._host.key).to_bytes()

    # The host's events

    def _connection_opened(self, event: ConnectionOpened) -> None:
        if self._config.automatic:
            self._host.spawn(self._identify_in_background(event.connection), name="identify")

    @contextmanager
    def _admitted(self, stream: Stream) -> Iterator[None]:
        """Count an inbound stream while it is served; reset one too many and raise `LimitExceeded`."""
        peer, limit = stream.connection.remote_peer, self._config.max_inbound_streams
        if self._inbound[peer] >= limit:
            stream.reset(StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
            raise LimitExceeded("max_inbound_streams of identify", scope=str(peer), value=limit)
        self._inbound[peer] += 1
        try:
            yield
        finally:
            self._inbound[peer] -= 1
            if not self._inbound[peer]:
                del self._inbound[peer]
