"""Crawling: every server that can be reached, and whom each of them knows.

Each server is asked for keys that share 0, 1, 2... bits with its own position, so its answers are its buckets, one
after the other, until they bring nothing new. Those that it names are asked next.

Rules: a peer is asked once; bounded are the peers asked at a time, in all, and the questions to each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

from ...errors import Libp2pError
from ...identity import PeerId
from ...multiaddr import Multiaddr, Reach, reach_of_remote
from ...routing import PeerInfo
from .keys import BITS, Position, peer_position, position, prefix_of
from .messenger import Told
from .service import KadDht
from .stream_of import stream_of
from .wire import Message, MessageType

_PREFIX_BITS = 12
"""Bits at the beginning of a key that are aimed at."""


@dataclass(frozen=True, slots=True)
class CrawlConfig:
    """Limits of a crawl."""

    parallel: int = 64
    """Peers that are asked at a time."""
    max_peers: int = 100_000
    """Peers that are asked in all."""
    max_questions: int = 16
    """Questions to one peer."""


@dataclass(frozen=True, slots=True)
class Crawled:
    """What came of asking one peer."""

    info: PeerInfo
    """The peer, and where it is said to be."""
    reach: Reach
    """How far away it is, or, where it did not answer, who said where it is: what its addresses are to be taken for."""
    agent: str
    """What it says that it is; "" where that is not known."""
    neighbours: tuple[PeerId, ...]
    """Those that it knows, as far as it said."""
    error: str
    """Why it was not reached, or did not answer; "" where it did."""


def crawl(dht: KadDht, config: CrawlConfig | None = None) -> AsyncGenerator[Crawled, None]:
    """Ask all servers, beginning with those in the table; each as it has answered, or failed."""
    settings = config or CrawlConfig()
    return stream_of(lambda found: _Crawl(dht, settings, found).run())


class _Crawl:
    def __init__(self, dht: KadDht, config: CrawlConfig, found: Callable[[Crawled], None]) -> None:
        self._dht = dht
        self._config = config
        self._found = found
        self._known: dict[PeerId, dict[Told, None]] = {peer: {} for peer in dht.table}
        self._waiting = deque(self._known)

    async def run(self) -> None:
        running: set[asyncio.Task[None]] = set()
        try:
            while self._waiting or running:
                while self._waiting and len(running) < self._config.parallel:
                    peer = self._waiting.popleft()
                    running.add(asyncio.create_task(self._ask(peer), name=f"crawling {peer.short}"))
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)

    async def _ask(self, peer: PeerId) -> None:
        neighbours: dict[PeerId, None] = {}
        error = ""
        reach = next((told.reach for told in self._known[peer]), Reach.PUBLIC)
        try:
            for common in range(self._config.max_questions):
                before = len(neighbours)
                closer, reach = await self._question(peer, common)
                for info in closer:
                    if info.peer not in (peer, self._dht.host.id):
                        neighbours[info.peer] = None
                if len(neighbours) == before:
                    break
        except (Libp2pError, OSError) as failed:
            error = str(failed) if not neighbours else ""
        store = self._dht.host.peerstore
        info = PeerInfo(peer, tuple(store.addrs(peer)) or self._told(peer))
        self._found(Crawled(info, reach, str(store.metadata(peer).get("agent", "")), tuple(neighbours), error))

    async def _question(self, peer: PeerId, common: int) -> tuple[tuple[PeerInfo, ...], Reach]:
        """Whom the peer knows around a place that shares `common` bits with its own, and how far away it is itself."""
        request = Message(MessageType.FIND_NODE, _key_at(peer_position(peer), common))
        answer = await self._dht.ask(peer, request, tuple(self._known[peer]))
        reach = reach_of_remote(answer.connection.remote_addr)
        for info in answer.message.closer:
            addrs = self._dht.config.scope.filter(info.addrs, reach)
            if info.peer == self._dht.host.id or not addrs:
                continue
            if info.peer not in self._known:
                if len(self._known) >= self._config.max_peers:
                    continue
                self._known[info.peer] = {}
                self._waiting.append(info.peer)
            if len(told := self._known[info.peer]) < 4:
                told[Told(addrs, reach)] = None
        return answer.message.closer, reach

    def _told(self, peer: PeerId) -> tuple[Multiaddr, ...]:
        return tuple(dict.fromkeys(addr for told in self._known[peer] for addr in told.addrs))


def _key_at(point: Position, common: int) -> bytes:
    """A key whose position shares `common` bits with `point`, as far as keys are aimed."""
    flipped = point ^ (1 << (BITS - 1 - common))
    return _keys()[prefix_of(flipped, _PREFIX_BITS)]


@lru_cache(maxsize=1)
def _keys() -> dict[int, bytes]:
    """A key for each prefix."""
    keys: dict[int, bytes] = {}
    for number in count():
        key = number.to_bytes(8, "big")
        keys.setdefault(prefix_of(position(key), _PREFIX_BITS), key)
        if len(keys) == 1 << _PREFIX_BITS:
            return keys
    raise AssertionError("unreachable")
