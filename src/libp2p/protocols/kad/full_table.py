"""A client that knows all servers: it crawls the network, then looks nobody up, but reads from a map who is nearest.

    async with Host(...) as host, KadDht(host, KadConfig(mode=Mode.CLIENT)) as dht, FullTable(dht) as full:
        await full.ready()
        await dht.provide(cid)      # tells the nearest at once; a sweep over many keys needs no lookup at all

Worth it for who announces or looks for much: a crawl asks each server some ten questions.

Rules:
- The map holds the servers that answered in the last crawl; a crawl that reached nobody leaves it as it was.
- What is found is found by asking the nearest as ever, and the lookup still follows nearer peers that they name: a map
  that is old costs requests, not results. Announcing and putting trust the map.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass, field

from ...connection import Service
from ...errors import RoutingError
from .crawl import CrawlConfig, crawl
from .messenger import Told
from .peer_map import PeerMap
from .service import KadDht

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FullTableConfig:
    """Settings of a full table; times in seconds."""

    crawl_interval: float = 3600.0
    """Between two crawls (as go-libp2p-kad-dht's full client does it)."""
    retry_interval: float = 60.0
    """Behind a crawl that reached nobody."""
    crawl: CrawlConfig = field(default_factory=CrawlConfig)


class FullTable(Service):
    """Keeps a map of all servers for `dht`, as long as it runs."""

    def __init__(self, dht: KadDht, config: FullTableConfig | None = None) -> None:
        super().__init__(dht.host)
        self.config = config or FullTableConfig()
        self._dht = dht
        self._mapped = asyncio.Event()

    async def start(self) -> None:
        """Crawl, now and again, in the background."""
        self._undo.append(lambda: self._dht.use_map(None))
        self.spawn(self._run(), name="crawling for the full table")

    async def ready(self) -> None:
        """Wait until there is a map."""
        await self._mapped.wait()

    def __len__(self) -> int:
        """How many servers the map has."""
        return 0 if self._dht.map is None else len(self._dht.map)

    async def crawl(self) -> int:
        """Make the map anew; how many servers it has. Raises `RoutingError` where none answered."""
        servers = {}
        async with aclosing(crawl(self._dht, self.config.crawl)) as found:
            async for one in found:
                if not one.error:
                    servers[one.info.peer] = Told(one.info.addrs, one.reach)
        if not servers:
            raise RoutingError("no server of the DHT answered the crawl")
        self._dht.use_map(PeerMap(servers))
        self._mapped.set()
        return len(servers)

    async def _run(self) -> None:
        await self._dht.ready()
        while True:
            try:
                logger.debug("the map has %d servers", await self.crawl())
                pause = self.config.crawl_interval
            except RoutingError as error:
                logger.debug("the map was not renewed: %s", error)
                pause = self.config.retry_interval
            await asyncio.sleep(pause)
