"""What the parts of a running DHT share: its table, records, server, and the way to carry out a lookup."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from random import Random

from ...connection import Connection, ServiceHost
from ...identity import PeerId
from ...multiaddr import Multiaddr
from ...routing import PeerInfo
from ...spans import span
from .config import KadConfig
from .diversity import group_of
from .keys import key_near, peer_position, position
from .lookup import Lookup
from .messenger import Answer, Messenger, Told
from .network_size import NetworkSize
from .peer_map import PeerMap
from .query import OnAnswer, Progress, Query
from .server import Server
from .store import RecordStore
from .stragglers import Stragglers
from .table import RoutingTable
from .validators import Validators
from .wire import Message, MessageType

_TABLE_ADDR_TTL = 2 * 3600.0
"""Seconds for which the addresses of a peer in the table are kept without a connection: longer than `max_silence`."""

_REGION_PEERS = 20
"""Honest peers that the region asked of a crowded key should hold."""


class Node:
    """The running DHT, without what its users call."""

    def __init__(
        self,
        host: ServiceHost,
        config: KadConfig,
        store: RecordStore,
        wall_clock: Callable[[], float],
        dice: Random,
    ) -> None:
        self.host = host
        self.config = config
        self.store = store
        self.wall_clock = wall_clock
        self.dice = dice
        self.validators = Validators(config.validators)
        self.table = RoutingTable(host.id, config.table)
        self.messenger = Messenger(host, config)
        self.server = Server(host, config, self.table, store, self.validators, wall_clock)
        self.size = NetworkSize(config.lookup.k)
        self.map: PeerMap | None = None
        """All servers, where somebody keeps a map of them."""
        self._lookups = asyncio.Semaphore(config.max_lookups)
        self._stragglers = Stragglers(config.max_stragglers, self.heard_from)

    async def close(self) -> None:
        """End what goes on without a lookup, and all streams."""
        try:
            await self._stragglers.close()
        finally:
            await self.messenger.close()

    async def lookup(
        self,
        key: bytes,
        kind: MessageType = MessageType.FIND_NODE,
        *,
        on_answer: OnAnswer | None = None,
        progress: Progress | None = None,
        until: Callable[[], bool] | None = None,
        use_map: bool = True,
    ) -> Query:
        """Look up the peers nearest to `key`, asking each for `kind`; begins with those of the table.

        Where there is a map it begins with those that are the nearest by that; for FIND_NODE, with nobody to watch the
        answers, it ends there, too: nobody is asked.
        """
        target = position(key)
        by_map = self.map if use_map else None
        known = self.table if by_map is None else by_map
        lookup = Lookup(target, known.nearest(target, self.config.lookup.k), self.config.lookup, own=self.host.id)
        query = self._query(lookup, Message(kind, key), on_answer, progress, until)
        if by_map is not None:
            query.begin_with(by_map)
        if by_map is not None and kind is MessageType.FIND_NODE and on_answer is None and until is None:
            lookup.take_for_answered()
        else:
            async with self._lookups:
                with span("dht_lookup", host=self.host.id, type=kind.name):
                    await query.run()
        if not query.stopped:
            self.size.found(target, [peer_position(peer) for peer in lookup.nearest()])
        return query

    async def holders(self, query: Query) -> list[PeerId]:
        """The peers that should keep what belongs to the target of a lookup that has ended: the nearest. Where so many
        peers crowd around the target that it can't be chance, the lookup goes on, and they are its whole region.
        """
        lookup, servers, bits = query.lookup, self.size.servers, self.size.region_bits(_REGION_PEERS)
        nearest = lookup.nearest()
        positions = [peer_position(peer) for peer in nearest]
        if query.stopped or servers is None or bits is None or not self.size.is_crowded(lookup.target, positions):
            return nearest
        lookup.widen(bits, servers)
        async with self._lookups:
            await self._explore(query, bits)
            await query.run()
        return list(dict.fromkeys([*lookup.answered_within(bits), *lookup.nearest()]))

    async def _explore(self, query: Query, bits: int) -> None:
        """Let a lookup hear of the peers of its target's region. Who is asked for the target itself names the crowd;
        for keys that share exactly `bits` bits, or one more, with it, the honest ones are named: three quarters of all.
        """
        config = replace(self.config.lookup, k=1, beta=1, alpha=2)  # whoever is nearest to such a key knows the others
        for common in (bits, bits + 1):
            key = key_near(query.lookup.target, common, self.dice)
            seeds = self.table.nearest(position(key), self.config.lookup.k)
            side = self._query(
                Lookup(position(key), seeds, config, own=self.host.id), Message(MessageType.FIND_NODE, key)
            )
            await side.run()
            query.hear(side)

    def _query(
        self,
        lookup: Lookup,
        request: Message,
        on_answer: OnAnswer | None = None,
        progress: Progress | None = None,
        until: Callable[[], bool] | None = None,
    ) -> Query:
        """A lookup, to be carried out by asking each peer `request`."""

        async def ask(peer: PeerId, told: tuple[Told, ...]) -> Answer:
            return await self.messenger.request(peer, request, told)

        return Query(
            lookup,
            self.messenger,
            self.config,
            ask,
            on_answer=on_answer,
            on_peer=self.heard_from,
            progress=progress,
            until=until,
            keep=self._finish_later,
        )

    def _finish_later(self, peer: PeerId, request: asyncio.Task[Answer]) -> bool:
        """A lookup has ended before a request: it goes on where it decides whether a peer stays in the table."""
        return peer in self.table and self._stragglers.take(peer, request)

    def heard_from(self, peer: PeerId, connection: Connection | None) -> None:
        """A peer has answered one of our requests over `connection`; None: it has not answered."""
        if connection is None:
            if self.host.connections:  # else it is we who are cut off
                self.table.remove(peer)
        elif self.config.scope.admits(connection.remote_addr):
            now = asyncio.get_running_loop().time()
            self.table.add(peer, group_of(connection.remote_addr), now)

    def connection_lost(self, connection: Connection) -> None:
        """A connection has ended. Where a peer of the table is must be known for as long as it may stay silent."""
        self.messenger.lost(connection)
        peer, store = connection.remote_peer, self.host.peerstore
        if peer in self.table:
            for addr in store.addrs(peer):
                store.add_addrs(peer, [addr], _TABLE_ADDR_TTL, told=store.told_over(peer, addr))

    def own_addrs(self) -> tuple[Multiaddr, ...]:
        """Our addresses that the network deals in."""
        bare = [addr.without_peer() for addr in self.host.addrs]
        return tuple(dict.fromkeys(addr for addr in bare if len(addr) and self.config.scope.contains(addr)))

    def info(self, peer: PeerId) -> PeerInfo:
        """Where the peer store says that `peer` is."""
        return PeerInfo(peer, tuple(self.host.peerstore.addrs(peer)))
