"""Fifty nodes of a DHT that grew by joining, in virtual time: lookups among dead and silent peers."""

import asyncio
import random
from collections.abc import Callable, Sequence

from libp2p.cid import Cid
from libp2p.connection import Stream
from libp2p.host import Host
from libp2p.identity import PeerId
from libp2p.protocols.kad import KadConfig, KadDht, Mode
from libp2p.protocols.kad.keys import peer_position, position
from libp2p.testing.links import Link
from libp2p.testing.simulation import Simulation

NODES = 50
PROTOCOL = "/test/kad/1.0.0"


class Largest:
    """Any value, the largest is the best."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        pass

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        return list(values).index(max(values))


def joining(first: list[Host]) -> Callable[[Host], KadDht]:
    """Makes the node of a host; each begins with the first host only."""

    def make(host: Host) -> KadDht:
        first.append(host)
        bootstrap = () if host is first[0] else tuple(first[0].addrs[:1])
        rules = {"v": Largest()}
        config = KadConfig(
            protocol=PROTOCOL, mode=Mode.SERVER, bootstrap=bootstrap, validators=rules, max_silence=300.0
        )
        clock = asyncio.get_running_loop().time
        return KadDht(host, config, wall_clock=clock, dice=random.Random(len(first)))

    return make


def nearest(peers: list[PeerId], key: bytes, count: int = 20) -> list[PeerId]:
    return sorted(peers, key=lambda one: peer_position(one) ^ position(key))[:count]


async def test_fifty_nodes() -> None:
    async with Simulation(NODES, joining([]), seed=1, link=Link(latency=0.05)) as sim:
        dice, loop = sim.dice, asyncio.get_running_loop()
        for dht in sim.services:
            await dht.ready()
        await asyncio.sleep(700)  # a refresh: those who came first learn of the later ones
        assert min(len(dht.table) for dht in sim.services) >= 20

        keys = [b"/v/%d" % n for n in range(10)]
        cids = [Cid.of(key) for key in keys]
        for key, cid in zip(keys, cids, strict=True):
            await dice.choice(sim.services).put_value(key, b"value of " + key)
            await dice.choice(sim.services).provide(cid)

        hosts = dict(zip((host.id for host in sim.hosts), sim.services, strict=True))
        victims = dice.sample(sim.hosts[1:], NODES * 4 // 10)
        dead, silent = victims[: NODES * 3 // 10], victims[NODES * 3 // 10 :]
        for host in dead:
            await hosts[host.id].close()
            await host.close()
        for host in silent:

            async def nothing(stream: Stream) -> None:
                await asyncio.sleep(1e9)

            host.remove_handler(PROTOCOL)
            host.handle(PROTOCOL)(nothing)
        alive = [host.id for host in sim.hosts if host not in victims]
        times = []
        for key, cid in zip(keys, cids, strict=True):
            seeker = hosts[dice.choice(alive)]
            started = loop.time()
            assert await seeker.get_value(key) == b"value of " + key
            assert [info async for info in seeker.find_providers(cid, limit=1)]
            times.append((loop.time() - started) / 2)
        assert sorted(times)[8] < 6.0  # seconds of a lookup, among peers that died just now

        # At first everybody still names the dead, and an answer has room for 20: the dead are gone by the next refresh,
        # the silent when they were asked for life.
        await asyncio.sleep(1300)
        for key in keys:
            seeker = hosts[dice.choice(alive)]
            found = [info.peer for info in await seeker.closest_peers(key)]
            expected = nearest([one for one in alive if one != seeker.host.id], key)
            assert len(set(found) & set(expected)) >= 18
