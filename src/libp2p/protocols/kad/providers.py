"""Who has what: finding providers, and announcing that we are one. Spec: kad-dht/README.md, "Content provider
advertisement and discovery".

Rules:
- A key is a multihash: CIDs of any version and codec that share it share their providers.
- Providers are yielded as they are found, each once, by its first answer that names addresses, or at the end without.
- What we provide is remembered in the record store, and announced again until `stop`.
- Where so many peers crowd around a key that it can't be chance (sybils), its whole region is announced to and asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator

from ...connection import Connection
from ...errors import Libp2pError, RoutingError
from ...identity import PeerId
from ...multiaddr import Multiaddr, reach_of_remote
from ...peerstore import TEMP_ADDR_TTL
from ...routing import PeerInfo
from .keys import peer_position, position
from .messenger import Answer
from .node import Node
from .query import Progress, Query
from .store import ProviderRecord
from .stream_of import stream_of
from .wire import Message, MessageType

logger = logging.getLogger(__name__)

_REGION_PEERS = 20
"""Honest peers that the region asked of a crowded key should hold."""

_MAX_FOUND = 10_000
"""Providers that one search yields at most, when it is asked for all."""


class Providers:
    """What a user does with content."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def provide(self, key: bytes, *, progress: Progress | None = None) -> list[PeerId]:
        """Announce `key` to the nearest peers; to whom it was. Raises `RoutingError` where it was to nobody."""
        node = self._node
        if not (addrs := node.own_addrs()):
            raise RoutingError("this peer has no address that the network deals in: nobody could find it")
        own = ProviderRecord(key, node.host.id, addrs, node.wall_clock())
        await node.store.set_provided([key], 0.0)
        await node.store.add_provider(own)
        query, peers = await self.nearest(key, progress)
        told = await self.announce_all([key], {key: peers}, query)
        if not told[key]:
            raise RoutingError(f"none of the {len(peers)} nearest peers was told of {key.hex()}")
        await node.store.set_provided([key], node.wall_clock())
        return told[key]

    async def nearest(self, key: bytes, progress: Progress | None = None) -> tuple[Query, list[PeerId]]:
        """The peers that should know who provides `key`: the nearest, or its whole region where it is crowded."""
        node = self._node
        query = await node.lookup(key, progress=progress)
        peers = query.lookup.nearest()
        if node.size.is_crowded(position(key), [peer_position(peer) for peer in peers]):
            bits = node.size.region_bits(_REGION_PEERS)
            query = await node.lookup(key, progress=progress, region=bits)
            peers = list(dict.fromkeys([*query.lookup.answered_within(bits or 0), *query.lookup.nearest()]))
        return query, peers

    async def announce_all(
        self, keys: list[bytes], peers: dict[bytes, list[PeerId]], query: Query | None = None
    ) -> dict[bytes, list[PeerId]]:
        """Announce each of `keys` to its peers, all keys of one peer over one stream; to whom each was."""
        node = self._node
        addrs = node.own_addrs()
        by_peer: dict[PeerId, list[bytes]] = {}
        for key in keys:
            for peer in peers[key]:
                by_peer.setdefault(peer, []).append(key)
        told: dict[bytes, list[PeerId]] = {key: [] for key in keys}

        async def tell(peer: PeerId, wanted: list[bytes]) -> None:
            def messages(connection: Connection) -> Iterator[Message]:
                shared = node.config.scope.filter(addrs, reach_of_remote(connection.remote_addr))
                own = (PeerInfo(node.host.id, shared),)
                return (Message(MessageType.ADD_PROVIDER, key, providers=own) for key in wanted)

            try:
                await node.messenger.announce(peer, messages, query.told(peer) if query else ())
            except (Libp2pError, OSError) as error:
                logger.debug("%s was not told of what we provide: %s", peer, error)
                return
            for key in wanted:
                told[key].append(peer)

        await asyncio.gather(*(tell(peer, wanted) for peer, wanted in by_peer.items()))
        return told

    def find(self, key: bytes, *, limit: int = 20, progress: Progress | None = None) -> AsyncGenerator[PeerInfo, None]:
        """Providers of `key` as they are found, `limit` at most; 0: all that the nearest peers know."""
        return stream_of(lambda found: self._find(key, limit, found, progress))

    async def _find(self, key: bytes, limit: int, found: Callable[[PeerInfo], None], progress: Progress | None) -> None:
        node = self._node
        search = _Search(node, limit, found)
        for record in await node.store.providers(key, node.wall_clock()):
            search.add(record.peer, record.addrs)
        if search.is_done:
            return

        async def on_answer(peer: PeerId, answer: Answer) -> bool:  # noqa: ARG001 - a query's callback
            reach = reach_of_remote(answer.connection.remote_addr)
            for info in answer.message.providers:
                addrs = node.config.scope.filter(info.addrs, reach)
                if info.peer != node.host.id:
                    node.host.peerstore.add_addrs(info.peer, addrs, TEMP_ADDR_TTL, told=reach)
                search.add(info.peer, addrs)
            return search.is_done

        query = await node.lookup(key, MessageType.GET_PROVIDERS, on_answer=on_answer, progress=progress)
        positions = [peer_position(peer) for peer in query.lookup.nearest()]
        if not search.is_done and node.size.is_crowded(position(key), positions):
            bits = node.size.region_bits(_REGION_PEERS)
            await node.lookup(key, MessageType.GET_PROVIDERS, on_answer=on_answer, progress=progress, region=bits)
        search.finish()


class _Search:
    """The providers found so far; `found` is told of each once."""

    def __init__(self, node: Node, limit: int, found: Callable[[PeerInfo], None]) -> None:
        self._node = node
        self._limit = min(limit, _MAX_FOUND) if limit > 0 else _MAX_FOUND
        self._found = found
        self._yielded: set[PeerId] = set()
        self._bare: dict[PeerId, None] = {}

    @property
    def is_done(self) -> bool:
        return len(self._yielded) >= self._limit

    def add(self, peer: PeerId, addrs: tuple[Multiaddr, ...]) -> None:
        if peer in self._yielded or self.is_done:
            return
        if not addrs and not (addrs := tuple(self._node.host.peerstore.addrs(peer))):
            if len(self._bare) < _MAX_FOUND:
                self._bare[peer] = None  # another answer may know where it is
            return
        self._yield(PeerInfo(peer, addrs))

    def finish(self) -> None:
        """Yield those that nobody knew an address of."""
        for peer in self._bare:
            if peer not in self._yielded and not self.is_done:
                self._yield(PeerInfo(peer))

    def _yield(self, info: PeerInfo) -> None:
        self._yielded.add(info.peer)
        self._found(info)
