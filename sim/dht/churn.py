"""Servers come and go all the time, for 48 hours: are records still found?

`nodes` servers with an hourly refresh. Half of them are replaced in each `period`, one after the other at equal
distances: one vanishes without a word, and a new one joins. The first servers stay; they have provided contents and put
values, and do so again after `republish`. Every quarter of an hour some records are looked for by servers at random, by
which they need not be among the nearest: a search counts as successful where the value, or a provider, is found.

Connections stay open here, as those of a node that lives among many applications do: what a run costs is halved, and
who has vanished is asked over a connection that hangs.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from libp2p.cid import Cid
from libp2p.errors import RoutingError

from .network import FIRST, HOUR, Dhts, dhts, percentile, settings
from .outcome import Outcome

_HEADER = ["", "value found", "provider found", "seconds p50 / p90", "servers replaced"]
_RECORDS = 40
_EACH = 2
"""Records of either kind that are looked for each time."""
_PAUSE = HOUR / 4


async def churn(name: str, nodes: int, *, hours: float, period: float, republish: float) -> Outcome:
    """Half of the servers are replaced in `period` seconds; records are announced again after `republish` seconds."""
    title = f"Half of {nodes:,} servers replaced every {period / HOUR:g} h, records again after {republish / HOUR:g} h"
    outcome = Outcome(name, title, header=_HEADER, axis="seconds of a search")
    config = settings(provide_interval=republish, republish_interval=republish, connection_idle=2 * HOUR)
    async with dhts(nodes, config=config) as network:
        await network.refreshed()
        keys = [b"/v/%d" % n for n in range(_RECORDS)]
        for n, key in enumerate(keys):
            publisher = network.sim.services[n % FIRST]
            await publisher.put_value(key, b"value of " + key)
            await publisher.provide(Cid.of(key))
        search = _Searches(network, keys)
        replacing = asyncio.create_task(_replace(network, 2 * period / nodes))
        for _ in range(int(hours * HOUR / _PAUSE)):
            await asyncio.sleep(_PAUSE)
            await search.some()
        replacing.cancel()
        await asyncio.wait([replacing])
        if not replacing.cancelled():
            replacing.result()
        replaced = len(network.sim.hosts) - nodes
    outcome.rows.append(
        [
            f"{hours:g} hours",
            f"{search.values} of {search.searches}",
            f"{search.providers} of {search.searches}",
            f"{percentile(search.seconds, 50):.2f} / {percentile(search.seconds, 90):.2f}",
            str(replaced),
        ]
    )
    outcome.curves["searches"] = search.seconds
    worse = min(search.values, search.providers) / search.searches
    outcome.want(
        "99 % of records found",
        f"values {search.values / search.searches:.2%}, providers {search.providers / search.searches:.2%}",
        worse >= 0.99,
    )
    return outcome


async def _replace(network: Dhts, pause: float) -> None:
    """Replace a server by a new one, again and again."""
    while True:
        await asyncio.sleep(pause)
        await network.kill([network.dice.choice(sorted(n for n in network.live if n >= FIRST))])
        await network.grow(1)


class _Searches:
    """Looks for records, and counts."""

    def __init__(self, network: Dhts, keys: list[bytes]) -> None:
        self._network = network
        self._keys = keys
        self.searches = self.values = self.providers = 0
        self.seconds: list[float] = []

    async def some(self) -> None:
        """Look for some records."""
        network = self._network
        for key in network.dice.sample(self._keys, _EACH):
            self.searches += 1
            began = network.now()
            with suppress(RoutingError):
                self.values += await network.any().get_value(key) == b"value of " + key
            self.seconds.append(network.now() - began)
            began = network.now()
            self.providers += bool([info async for info in network.any().find_providers(Cid.of(key), limit=1)])
            self.seconds.append(network.now() - began)
