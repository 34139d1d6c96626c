"""The Kademlia DHT of libp2p: finding peers, content and values by asking ever nearer peers. Spec: kad-dht/README.md.

    async with Host(listen_addrs=[...]) as host, KadDht(host, KadConfig(bootstrap=(...,))) as dht:
        info = await dht.find_peer(peer)
        async for provider in dht.find_providers(cid): ...
        await dht.provide(cid)
        await dht.put_value(key, value)

Rules:
- A client asks, a server answers as well. Only servers announce the protocol, so only they come into tables. In mode
  `AUTO` a peer serves while strangers can dial it, as AutoNAT says; before it does, while it listens on a public
  address; in a LAN always.
- Everything is bounded: `KadConfig` says how.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from random import Random
from typing import Any

from ...cid import Cid
from ...connection import Direction, Service, ServiceHost
from ...errors import RoutingError
from ...figures import Figure, FigureKind
from ...host.events import AddrsChanged, Reachability, ReachabilityChanged
from ...host.identify import PeerIdentified, PeerUpdated
from ...identity import PeerId
from ...multiaddr import Reach, is_relayed, reach_of
from ...records import ipns
from ...routing import PeerInfo
from ...swarm.events import ConnectionLost
from .config import KadConfig, Mode
from .keys import peer_position
from .maintenance import Maintenance
from .memory_store import MemoryRecordStore
from .messenger import Answer, Told
from .node import Node
from .peer_map import PeerMap
from .providers import Providers
from .query import Progress
from .reprovide import Reprovider
from .scope import Scope
from .store import RecordStore
from .table import RoutingTable
from .validators import PK_NAMESPACE
from .values import Values
from .wire import Message

logger = logging.getLogger(__name__)


class KadDht(Service):
    """A DHT, as a client or a server of it. It is a `PeerRouting`, a `ContentRouting` and a `ValueStore`.

    `store` keeps what is kept for others, and what we announce (None: in memory); it is opened and closed with the
    service. `wall_clock` gives the Unix time in seconds; `dice` chooses the keys that refreshes look for.
    """

    def __init__(
        self,
        host: ServiceHost,
        config: KadConfig | None = None,
        *,
        store: RecordStore | None = None,
        wall_clock: Callable[[], float] = time.time,
        dice: Random | None = None,
    ) -> None:
        super().__init__(host)
        self.config = config or KadConfig()
        self._node = Node(
            host,
            self.config,
            MemoryRecordStore() if store is None else store,
            wall_clock,
            dice or Random(),  # noqa: S311 - chooses keys to look for, no secrets
        )
        self._maintenance = Maintenance(self._node, self._spawn)
        self._providers = Providers(self._node, self._spawn)
        self._reprovider = Reprovider(self._node, self._providers)
        self._values = Values(self._node, self._spawn)
        self._serving = False
        self._stop_serving: Callable[[], None] = lambda: None
        self._reachability = Reachability.UNKNOWN

    # The service

    async def start(self) -> None:
        """Open the record store, serve if this peer is a server, and fill the table in the background."""
        node = self._node
        await node.store.open(peer_position(self.host.id))
        self.follow(PeerIdentified, self._maintenance.identified)
        self.follow(PeerUpdated, self._maintenance.identified)
        self.follow(ConnectionLost, lambda event: node.connection_lost(event.connection))
        self.follow(AddrsChanged, lambda _: self._follow_mode())
        self.follow(ReachabilityChanged, self._reachability_changed)
        self._undo.append(lambda: self._serve_requests(False))
        self._follow_mode()
        self._undo.append(self.host.add_router(self))
        self._spawn(self._maintenance.run(), "maintenance")
        self._spawn(self._reprovider.run(), "announcing again")
        self._spawn(self._expire(), "expiring")
        self._spawn(self._put_again(), "putting again")

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            try:
                await self._node.close()
            finally:
                await self._node.store.close()

    @property
    def is_server(self) -> bool:
        """Whether this peer answers requests now."""
        return self._serving

    @property
    def table(self) -> RoutingTable:
        """The servers that we know."""
        return self._node.table

    @property
    def network_size(self) -> float | None:
        """How many servers the network has, by an estimate; None before there is one."""
        return self._node.size.servers

    def figures(self) -> Iterator[Figure]:
        """See `Host.figures`."""
        network = {"network": self.config.protocol}
        yield Figure("dht_peers", "Servers in the routing table.", len(self.table), network)
        yield Figure("dht_serving", "1 while requests are answered.", self.is_server, network)
        if (size := self.network_size) is not None:
            yield Figure("dht_network_peers", "Servers of the network, by an estimate.", size, network)
        for kind, count in self._node.server.answered.items():
            labels = {**network, "type": kind.name}
            yield Figure("dht_answered", "Requests that were answered.", count, labels, FigureKind.COUNTER)

    @property
    def map(self) -> PeerMap | None:
        """All servers, where a `FullTable` keeps a map of them."""
        return self._node.map

    def use_map(self, map_: PeerMap | None) -> None:
        """From now on read from this map who is nearest; None: look it up."""
        self._node.map = map_

    async def ready(self) -> None:
        """Wait until the table was filled for the first time, as far as it could be."""
        await self._maintenance.refreshed.wait()

    async def refresh(self) -> None:
        """Fill the table now: look up ourselves, and a key in each bucket."""
        if not len(self._node.table):
            await self._maintenance.bootstrap()
        await self._maintenance.refresh()

    # Peers

    async def find_peer(self, peer: PeerId, *, progress: Progress | None = None) -> PeerInfo:
        """Where `peer` is: as it said itself if it is connected, or else as others say. Raises `RoutingError`."""
        node = self._node
        if peer == self.host.id:
            return PeerInfo(peer, node.own_addrs())
        if (known := self._connected(peer)) is not None:
            return known
        query = await node.lookup(peer.to_bytes(), progress=progress, until=lambda: self._connected(peer) is not None)
        if (known := self._connected(peer)) is not None:
            return known
        said = dict.fromkeys(addr for told in query.told(peer) for addr in told.addrs)
        if not said:
            raise RoutingError(f"{peer} was not found: {query.lookup.requests} peers were asked")
        return PeerInfo(peer, tuple(said))

    async def closest_peers(self, key: bytes, *, progress: Progress | None = None) -> list[PeerInfo]:
        """The servers nearest to `key` that answer, the nearest first. Raises `RoutingError` where none does."""
        query = await self._node.lookup(key, progress=progress)
        if not (nearest := query.lookup.nearest()):
            raise RoutingError(f"no peer of the DHT answered: {query.lookup.requests} were asked")
        return [self._node.info(peer) for peer in nearest]

    async def ask(self, peer: PeerId, request: Message, told: tuple[Told, ...] = ()) -> Answer:
        """Ask one peer one thing; `told` says where it is said to be. Raises `DialError`, `ProtocolNotSupported`,
        `StageTimeout`, `RemoteProtocolError`, and what ended the stream or the connection.
        """
        return await self._node.messenger.request(peer, request, told)

    # Content

    async def provide(self, cid: Cid, *, progress: Progress | None = None) -> None:
        """Announce that we have `cid`, now, and again until `stop_providing`. Raises `RoutingError` where nobody could
        be told; it is tried again later nonetheless. Most of the nearest servers know when this returns.
        """
        await self._providers.provide(cid.multihash, progress=progress)

    async def stop_providing(self, cid: Cid) -> None:
        """Announce `cid` no more; others forget within two days that we had it."""
        await self._node.store.remove_provided(cid.multihash)

    async def providing(self) -> list[bytes]:
        """The multihashes that we announce."""
        return list(await self._node.store.provided())

    def find_providers(
        self, cid: Cid, *, limit: int = 20, progress: Progress | None = None
    ) -> AsyncGenerator[PeerInfo, None]:
        """Peers that have `cid`, each once, as they are found: `limit` at most; 0: all that the nearest servers know.

        Their addresses are in the peer store by then.
        """
        return self._providers.find(cid.multihash, limit=limit, progress=progress)

    # Values

    async def put_value(self, key: bytes, value: bytes, *, progress: Progress | None = None) -> None:
        """Store `value` at the servers nearest to `key`, and again while we run. Raises `InvalidRecord` for one that
        the rules of the key's namespace forbid or that is worse than one we know, `RoutingError` where nobody took it.
        """
        await self._values.put(key, value, progress=progress)

    async def get_value(self, key: bytes, *, quorum: int = 0, progress: Progress | None = None) -> bytes:
        """The best value of `key`. `quorum`: see `search_value`. Raises `RoutingError` where there is none,
        and `InvalidRecord` where nobody here knows the rules of the key's namespace.
        """
        return await self._values.get(key, quorum=quorum, progress=progress)

    def search_value(
        self, key: bytes, *, quorum: int = 0, progress: Progress | None = None
    ) -> AsyncGenerator[bytes, None]:
        """A valid value of `key` as soon as one is found, then each that is better.

        The search ends when so many peers as `quorum` says have answered with a valid value; 0: when the nearest have
        answered.
        """
        return self._values.search(key, quorum=quorum, progress=progress)

    async def publish_public_key(self) -> None:
        """Put our public key under `/pk/`, for who knows our peer id only: needed where that does not embed it."""
        await self.put_value(PK_NAMESPACE + self.host.id.to_bytes(), self.host.key.public_key.to_protobuf())

    async def publish_name(self, record: ipns.IpnsRecord) -> None:
        """Put an IPNS record under its name. Raises what `put_value` does."""
        await self.put_value(ipns.routing_key(record.name), record.encoded)

    async def resolve_name(self, name: PeerId, *, quorum: int = 16) -> ipns.IpnsRecord:
        """The newest IPNS record of `name`. Raises `RoutingError` where there is none."""
        value = await self.get_value(ipns.routing_key(name), quorum=quorum)
        return ipns.IpnsRecord.open(value, name, self._node.wall_clock())

    # Inside

    def _connected(self, peer: PeerId) -> PeerInfo | None:
        """Where a connected peer is, once that is known. What it dialed from is a port of the moment, where nobody can
        reach it."""
        connections = self.host.connections_to(peer)
        dialed = [one.remote_addr.without_peer() for one in connections if one.direction is Direction.OUTBOUND]
        addrs = dict.fromkeys([*self.host.peerstore.addrs(peer), *dialed]) if connections else ()
        return PeerInfo(peer, tuple(addrs)) if addrs else None

    def _follow_mode(self) -> None:
        mode = self.config.mode
        self._serve_requests(mode is Mode.SERVER or (mode is Mode.AUTO and self._is_reachable()))

    def _is_reachable(self) -> bool:
        """Whether our network can reach us: as AutoNAT has found out, else by where we listen."""
        direct = [addr for addr in self.host.addrs if not is_relayed(addr)]
        if self.config.scope is Scope.LAN:
            return any(self.config.scope.contains(addr) for addr in direct)
        if self._reachability is not Reachability.UNKNOWN:
            return self._reachability is Reachability.PUBLIC
        return any(reach_of(addr) is Reach.PUBLIC for addr in direct)

    def _reachability_changed(self, event: ReachabilityChanged) -> None:
        self._reachability = event.reachability
        self._follow_mode()

    def _serve_requests(self, serve: bool) -> None:
        """Begin or end to answer; identify tells connected peers."""
        if serve is self._serving:
            return
        self._serving = serve
        if serve:
            self.serve([self.config.protocol], self._node.server.handle)
            self._stop_serving = self._undo.pop()  # it may begin and end many times: `start` has noted it once
        else:
            self._stop_serving()

    async def _put_again(self) -> None:
        await self.ready()
        await self._values.run()

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(self.config.expire_interval)
            await self._node.store.expire(self._node.wall_clock())

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any] | None:
        return self.spawn(work, name=name)
