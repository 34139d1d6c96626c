"""Announcing what we provide again and again, by the sweep of `sweep`.

What was announced is written down as it is done, so a process that was killed goes on where it was.
"""

from __future__ import annotations

import asyncio
import logging

from ...identity import PeerId
from .keys import key_near, position
from .node import Node
from .providers import Providers
from .sweep import Coverage, chunks, due, region_bits

logger = logging.getLogger(__name__)

_CHUNK = 500
"""Keys that are announced, and then written down, together."""
_TRIES = 10
"""Keys beside a covered prefix that are tried before one key is looked up for itself."""
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
            bits = self._bits
            await asyncio.sleep(min(max(interval / 2**bits / 4, _MIN_PAUSE), _MAX_PAUSE))
            if len(self._node.table):
                await self.sweep()

    @property
    def _bits(self) -> int:
        return region_bits(self._node.size.servers, self._node.config.lookup.k)

    async def sweep(self) -> int:
        """Announce all that is due now, one region after the other; how many keys were announced."""
        node = self._node
        interval = node.config.provide_interval
        announced = 0
        for region in due(await node.store.provided(), node.wall_clock(), interval, self._bits):
            coverage = Coverage(node.config.lookup.k)
            known: dict[bytes, list[PeerId]] = {}
            for key in region:
                if not coverage.covers(position(key)):
                    known[key] = await self._look_up(key, coverage)
            for chunk in chunks(region, _CHUNK):
                announced += await self._announce(chunk, coverage, known)
        return announced

    async def _announce(self, keys: list[bytes], coverage: Coverage, known: dict[bytes, list[PeerId]]) -> int:
        """Announce `keys`, and write down when; how many were."""
        node = self._node
        for key in keys:
            if key not in known:
                known[key] = await self._nearest(key, coverage)
        told = await self._providers.announce_all(keys, known)
        done = [key for key in keys if told[key]]
        await node.store.set_provided(done, node.wall_clock())
        return len(done)

    async def _nearest(self, key: bytes, coverage: Coverage) -> list[PeerId]:
        """The servers nearest to `key`: those that are known. Where all servers of its covered prefix are too few, the
        prefix beside it is explored too, which serves all keys that come behind.
        """
        target, dice = position(key), self._node.dice
        for _ in range(_TRIES):
            if (known := coverage.nearest(target)) is not None:
                return known
            covered = coverage.shortest(target)
            if covered is None:
                break
            beside = key_near(target, covered - 1, dice)
            if not coverage.covers(position(beside)):
                await self._look_up(beside, coverage)
        return await self._look_up(key, coverage)

    async def _look_up(self, key: bytes, coverage: Coverage) -> list[PeerId]:
        self.lookups += 1
        query, peers = await self._providers.nearest(key)
        coverage.found(position(key), query.lookup.nearest())
        return peers
