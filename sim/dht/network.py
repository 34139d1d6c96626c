"""A network of DHT servers that grows by joining: each newcomer knows three of the first servers, and learns the rest.

Figures of a lookup:

- `hops`: answers between the first peers asked, those of the own table, and the one that named the nearest server
  found; of several such chains the shortest.
- `requests`: peers asked.
- `seconds`: virtual time; each link takes 50 ms one way, a dial two round trips.
- `known`: how many of the 20 live servers nearest to the key are among the result.

Addresses are private, so the limits for each /16 don't help: here every attacker has addresses enough.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import statistics
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random

from libp2p.connection import Stream
from libp2p.host import Host
from libp2p.identity import PrivateKey
from libp2p.protocols.kad import KadConfig, KadDht, Mode, RecordStore
from libp2p.protocols.kad.keys import peer_position, position
from libp2p.testing.links import Link
from libp2p.testing.simulation import Simulation

PROTOCOL = "/sim/kad/1.0.0"
FIRST = 8
"""Servers that newcomers know of, and that never leave."""
HOUR = 3600.0
LATENCY = 0.05

_JOINING = 8
"""Servers that join at a time."""
_FOR_EVER = 1e9


class Largest:
    """Rules of `/v/`: any value, the largest is the best."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        """Allow it."""

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        """The largest."""
        return list(values).index(max(values))


@dataclass(frozen=True, slots=True)
class Found:
    """What a lookup came to."""

    hops: int
    requests: int
    seconds: float
    known: int


class Dhts:
    """The servers; `live` are the numbers of those that are there and answer."""

    def __init__(self, sim: Simulation[KadDht]) -> None:
        self.sim = sim
        self.dice = sim.dice
        self.live: set[int] = set()

    async def grow(self, count: int) -> list[int]:
        """`count` servers more, a few at a time, each until its table is filled; their numbers."""
        joined = []

        async def join() -> None:
            number = await self.join()
            self.live.add(number)
            joined.append(number)

        while count:
            together = min(count, _JOINING if len(self.live) >= _JOINING else 1)
            await asyncio.gather(*(join() for _ in range(together)))
            count -= together
        return joined

    async def join(self, key: PrivateKey | None = None) -> int:
        """One server more, until its table is filled; its number. It is not counted among the live ones."""
        number = await self.sim.add(key)
        await self.sim.services[number].ready()
        return number

    async def refreshed(self, hours: float = 1.0) -> None:
        """Wait until every server has filled its table again, each in its own time."""
        await asyncio.sleep(hours * HOUR + 60)

    def any(self) -> KadDht:
        """A live server at random, none of the first: those know more than others."""
        return self.sim.services[self.dice.choice(sorted(number for number in self.live if number >= FIRST))]

    def two(self) -> tuple[KadDht, KadDht]:
        """Two different ones."""
        one = other = self.any()
        while other is one:
            other = self.any()
        return one, other

    def sample(self, part: float) -> list[int]:
        """So many of the live servers, none of the first."""
        return self.dice.sample(sorted(number for number in self.live if number >= FIRST), int(part * len(self.live)))

    async def kill(self, numbers: Iterable[int]) -> None:
        """These vanish without a word: nobody answers at their addresses any more."""
        for number in numbers:
            self.live.discard(number)
            await self.sim.remove(number)

    def silence(self, numbers: Iterable[int]) -> None:
        """These go on to take connections and streams, and answer nothing."""

        async def nothing(_: Stream) -> None:
            await asyncio.sleep(_FOR_EVER)

        for number in numbers:
            self.live.discard(number)
            self.answer(number, nothing)

    def answer(self, number: int, handler: Callable[[Stream], object]) -> None:
        """From now on `handler` serves the DHT's protocol at that server."""
        host = self.sim.hosts[number]
        host.remove_handler(PROTOCOL)
        host.handle(PROTOCOL)(handler)  # type: ignore[arg-type]

    def nearest(self, key: bytes, *, without: KadDht, count: int = 20) -> list[bytes]:
        """The live servers nearest to `key`."""
        ids = [self.sim.hosts[number].id for number in self.live]
        target = position(key)
        ids.sort(key=lambda one: peer_position(one) ^ target)
        return [one.to_bytes() for one in ids if one != without.host.id][:count]

    async def look_up(self, key: bytes) -> Found:
        """A lookup from a server at random."""
        dht, loop = self.any(), asyncio.get_running_loop()
        started = loop.time()
        query = await dht._node.lookup(key)
        took = loop.time() - started
        result = query.lookup.nearest()
        expected = set(self.nearest(key, without=dht))
        hops = query.lookup.hops(result[0]) if result else None
        known = len(expected & {peer.to_bytes() for peer in result}) + 20 - len(expected)
        return Found(hops or 0, query.lookup.requests, took, known)

    async def look_up_many(self, count: int, name: str) -> list[Found]:
        """`count` lookups, one after the other."""
        return [await self.look_up(f"{name} {n}".encode()) for n in range(count)]

    @staticmethod
    def now() -> float:
        """Virtual time, in seconds."""
        return asyncio.get_running_loop().time()


@asynccontextmanager
async def dhts(
    count: int,
    *,
    seed: int = 1,
    config: KadConfig | None = None,
    store: Callable[[int], RecordStore | None] = lambda _: None,
) -> AsyncIterator[Dhts]:
    """A network of `count` servers that has grown by joining. `store` makes that of each, by its number. Collecting
    garbage is left to rare moments meanwhile.
    """
    base = config or settings()
    first: list[Host] = []
    numbers = itertools.count()
    dice = Random(seed)

    def make(host: Host) -> KadDht:
        known = dice.sample(first, min(3, len(first)))
        if len(first) < FIRST:
            first.append(host)
        return KadDht(
            host,
            replace(base, bootstrap=tuple(host.addrs[0] for host in known)),
            store=store(next(numbers)),
            wall_clock=wall_clock,
            dice=Random(dice.random()),
        )

    before = gc.get_threshold()
    gc.set_threshold(200_000, 20, 20)
    try:
        async with Simulation(0, make, seed=seed, link=Link(latency=LATENCY)) as sim:
            network = Dhts(sim)
            await network.grow(count)
            yield network
    finally:
        gc.set_threshold(*before)


def settings(**changes: float) -> KadConfig:
    """The settings of all servers: the default ones, with an hourly refresh."""
    return KadConfig(
        protocol=PROTOCOL,
        mode=Mode.SERVER,
        validators={"v": Largest()},
        refresh_interval=HOUR,
        **changes,  # type: ignore[arg-type]
    )


def wall_clock() -> float:
    """Unix time, in seconds: that of the loop, from some day on."""
    return 1_750_000_000.0 + asyncio.get_running_loop().time()


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` of all are at most."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
