"""Who has what: finding providers, and announcing that we are one. Spec: kad-dht/README.md, "Content provider
advertisement and discovery".

Rules:
- A key is a multihash: CIDs of any version and codec that share it share their providers.
- Providers are yielded as they are found, each once, by its first answer that names addresses, or at the end without.
- What we provide is remembered in the record store, and announced again until `stop`.
- Optimistic: once the size of the network is known, a server that must be among the nearest is told as soon as it has
  answered, and `provide` returns when three quarters of the nearest know; the rest is told in the background.
- Where so many peers crowd around a key that it can't be chance (sybils), its whole region is announced to and asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any

from ...connection import Connection
from ...errors import Libp2pError, RoutingError
from ...identity import PeerId
from ...multiaddr import Multiaddr, reach_of_remote
from ...peerstore import TEMP_ADDR_TTL
from ...routing import PeerInfo
from .keys import peer_position, position
from .messenger import Answer
from .node import Node
from .query import OnAnswer, Progress, Query
from .store import ProviderRecord
from .stream_of import stream_of
from .wire import Message, MessageType

logger = logging.getLogger(__name__)

_CERTAINTY = 0.9
"""How certain it must be that a server is among the nearest, to be told before the lookup has ended."""

_MAX_FOUND = 10_000
"""Providers that one search yields at most, when it is asked for all."""


class Providers:
    """What a user does with content."""

    def __init__(self, node: Node, spawn: Callable[[Coroutine[Any, Any, Any], str], asyncio.Task[Any] | None]) -> None:
        """`spawn` runs a coroutine in the background, until the DHT is closed."""
        self._node = node
        self._spawn = spawn

    async def provide(self, key: bytes, *, progress: Progress | None = None) -> None:
        """Announce `key` to the nearest peers; most of them know when this returns. Raises `RoutingError` where nobody
        could be told.
        """
        node = self._node
        if not (addrs := node.own_addrs()):
            raise RoutingError("this peer has no address that the network deals in: nobody could find it")
        own = ProviderRecord(key, node.host.id, addrs, node.wall_clock())
        await node.store.set_provided([key], 0.0)
        await node.store.add_provider(own)
        announcement = _Announcement(self, node, key, progress)
        task = self._spawn(announcement.run(), "announcing")
        if task is None:
            raise RoutingError("the DHT is closed")
        enough = asyncio.create_task(announcement.enough.wait(), name="DHT: enough told")
        try:
            await asyncio.wait([task, enough], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            enough.cancel()
        if not announcement.told:
            raise RoutingError(f"none of the nearest peers was told of {key.hex()}: {announcement.asked} were to be")
        await node.store.set_provided([key], node.wall_clock())

    async def nearest(
        self, key: bytes, progress: Progress | None = None, on_answer: OnAnswer | None = None
    ) -> tuple[Query, list[PeerId]]:
        """The peers that should know who provides `key`: the nearest, or its whole region where it is crowded."""
        node = self._node
        query = await node.lookup(key, progress=progress, on_answer=on_answer if node.map is None else None)
        return query, await node.holders(query)

    async def announce(self, key: bytes, peer: PeerId, query: Query | None) -> bool:
        """Announce `key` to one peer; whether that worked."""
        told = await self.announce_all([key], {key: [peer]}, query)
        return bool(told[key])

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
        await node.holders(query)
        search.finish()


class _Announcement:
    """One key, announced while the lookup for its nearest servers goes on, and behind it."""

    def __init__(self, providers: Providers, node: Node, key: bytes, progress: Progress | None) -> None:
        self._providers = providers
        self._node = node
        self._key = key
        self._progress = progress
        self._sure = node.size.sure_distance(_CERTAINTY)
        self._tasks: dict[PeerId, asyncio.Task[None]] = {}
        self._wanted = max(1, node.config.lookup.k * 3 // 4)
        self.told: list[PeerId] = []
        self.enough = asyncio.Event()

    @property
    def asked(self) -> int:
        """Peers that were to be told so far."""
        return len(self._tasks)

    async def run(self) -> None:
        """Find the nearest, and tell them."""
        try:
            query, peers = await self._providers.nearest(self._key, self._progress, self._answered)
            for peer in peers:
                self._tell(peer, query)
            if self._tasks:
                await asyncio.wait(self._tasks.values())
        finally:
            for task in self._tasks.values():
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks.values())

    async def _answered(self, peer: PeerId, answer: Answer) -> bool:  # noqa: ARG002 - a query's callback
        if self._sure is not None and peer_position(peer) ^ position(self._key) < self._sure:
            self._tell(peer, None)  # it has answered, so it is connected
        return False

    def _tell(self, peer: PeerId, query: Query | None) -> None:
        if peer not in self._tasks:
            self._tasks[peer] = asyncio.create_task(self._tell_one(peer, query), name=f"announcing to {peer.short}")

    async def _tell_one(self, peer: PeerId, query: Query | None) -> None:
        if await self._providers.announce(self._key, peer, query):
            self.told.append(peer)
            if len(self.told) >= self._wanted and not self._is_crowded():
                self.enough.set()

    def _is_crowded(self) -> bool:
        """Whether those told so far are too near to be honest: then their region is to be told first."""
        target = position(self._key)
        positions = sorted((peer_position(peer) for peer in self.told), key=lambda point: point ^ target)
        return self._node.size.is_crowded(target, positions)


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
