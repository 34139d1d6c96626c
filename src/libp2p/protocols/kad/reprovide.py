"""Announcing what we provide again and again, by the sweep of `sweep`.

What was announced is written down as it is done, so a process that was killed goes on where it was.
"""

from __future__ import annotations

import asyncio
import logging

from ...identity import PeerId
from .keys import position
from .node import Node
from .providers import Providers
from .sweep import Coverage, chunks, due, region_bits

logger = logging.getLogger(__name__)

_CHUNK = 500
"""Keys that are announced, and then written down, together."""
_MIN_PAUSE, _MAX_PAUSE = 30.0, 600.0
"""Seconds between two looks for keys that are due."""


class Reprovider:
    """Keeps our announcements alive."""

    def __init__(self, node: Node, providers: Providers) -> None:
        self._node = node
        self._providers = providers
        self.lookups = 0
        """Lookups made so far."""

    async def run(self) -> None:
        """Announce what is due, for ever."""
        interval = self._node.config.provide_interval
        while True:
            bits = region_bits(self._node.size.servers)
            await asyncio.sleep(min(max(interval / 2**bits / 4, _MIN_PAUSE), _MAX_PAUSE))
            if len(self._node.table):
                await self.sweep()

    async def sweep(self) -> int:
        """Announce all that is due now; how many keys were announced."""
        node = self._node
        bits = region_bits(node.size.servers)
        keys = due(await node.store.provided(), node.wall_clock(), node.config.provide_interval, bits)
        coverage = Coverage(node.config.lookup.k)
        announced = 0
        for chunk in chunks(keys, _CHUNK):
            peers = {key: await self._nearest(key, coverage) for key in chunk}
            told = await self._providers.announce_all(chunk, peers)
            done = [key for key in chunk if told[key]]
            await node.store.set_provided(done, node.wall_clock())
            announced += len(done)
        return announced

    async def _nearest(self, key: bytes, coverage: Coverage) -> list[PeerId]:
        target = position(key)
        known = coverage.nearest(target)
        if known is not None:
            return known
        self.lookups += 1
        query, peers = await self._providers.nearest(key)
        coverage.found(target, query.lookup.nearest())
        return peers
