"""How messages spread: everything must arrive everywhere, soon, and with few copies.

Figures of a run:

- `delivered`: of all pairs of a message and a peer that is not its author, the part where it arrived.
- `p50`, `p99`: time from publication to arrival.
- `shortest p99`: what p99 would be if each message took the shortest path in the meshes as they were then.
- `duplicates`: copies of a message that a peer gets beyond the first, on average.
- `degree`: peers in a mesh, on average.
- `control`: bytes of all that is not messages, as a part of all bytes queued for peers. (Messages that an IDONTWANT
  takes out of a queue again are counted here: what it saves on the wire is more than these figures show.)
- `MB`: all these bytes, in 10^6.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from libp2p.host import Host, HostConfig
from libp2p.host.identify import IdentifyConfig
from libp2p.identity import PeerId
from libp2p.protocols.pubsub import GossipSub, GossipSubConfig, Message, PubSub, SignaturePolicy, TopicConfig, Tracer
from libp2p.protocols.pubsub.ids import sha256_of_data
from libp2p.protocols.pubsub.wire import Rpc, encode_rpc, frame
from libp2p.testing.links import Link
from libp2p.testing.simulation import Simulation
from libp2p.testing.topology import regular

TOPIC = "blocks"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A network, and what is published in it."""

    name: str
    nodes: int
    degree: int
    rate: float
    """Messages a second, by peers in turn."""
    seconds: float
    size: int
    latency: float = 0.025
    idontwant: bool = True


@dataclass(slots=True)
class Figures:
    """What a run came to."""

    scenario: Scenario
    arrived: int
    expected: int
    delays: list[float]
    """Percentiles, from the 0th to the 100th."""
    shortest: list[float]
    duplicates: float
    degree: float
    message_bytes: int
    control_bytes: int

    @property
    def delivered(self) -> float:
        return self.arrived / self.expected

    @property
    def control(self) -> float:
        return self.control_bytes / (self.control_bytes + self.message_bytes)

    @property
    def total(self) -> int:
        return self.control_bytes + self.message_bytes


def percentiles(values: Iterable[float]) -> list[float]:
    """From the 0th to the 100th."""
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] for percent in range(101)]


class Counter(Tracer):
    """Counts what one peer sends, and what it gets twice."""

    def __init__(self) -> None:
        self.duplicates = 0
        self.message_bytes = 0
        self.control_bytes = 0
        self._last = Rpc()
        self._last_size = 0

    def duplicate(self, peer: PeerId, topic: str, mid: bytes) -> None:
        self.duplicates += 1

    def forwarded(self, peer: PeerId, message: Message) -> None:
        self.message_bytes += message.size

    def sent(self, peer: PeerId, rpc: Rpc) -> None:
        if rpc is not self._last:  # the same goes to many
            self._last, self._last_size = rpc, len(frame(encode_rpc(rpc)))
        self.control_bytes += self._last_size


async def spread(scenario: Scenario, *, seed: int = 1) -> Figures:
    """Run a scenario."""
    counters: list[Counter] = []
    config = GossipSubConfig(
        topic=TopicConfig(SignaturePolicy.STRICT_NO_SIGN, sha256_of_data),
        d=8,
        d_low=6,
        d_high=12,
        flood_publish=False,
        idontwant_threshold=1024 if scenario.idontwant else 1 << 40,
        subscription_capacity=1 << 20,
    )

    def service(host: Host) -> PubSub:
        counters.append(Counter())
        return GossipSub(host, config, dice=Random(len(counters)), tracer=counters[-1])

    quiet = HostConfig(identify=IdentifyConfig(automatic=False))
    async with Simulation(scenario.nodes, service, seed=seed, link=Link(latency=scenario.latency), config=quiet) as sim:
        await sim.connect(regular(scenario.nodes, scenario.degree, sim.dice))
        topics = [await pubsub.subscribe(TOPIC) for pubsub in sim.services]
        await asyncio.sleep(10)
        gc.freeze()  # the network is no garbage, and looking through it again and again takes its time
        before = [(counter.duplicates, counter.message_bytes, counter.control_bytes) for counter in counters]
        loop = asyncio.get_running_loop()
        sent: dict[bytes, float] = {}
        delays: list[float] = []
        shortest: list[float] = []

        async def read(n: int) -> None:
            delays.extend([loop.time() - sent[message.data[:8]] async for message in topics[n]])

        readers = [asyncio.create_task(read(n)) for n in range(scenario.nodes)]
        count = int(scenario.rate * scenario.seconds)
        for n in range(count):
            publisher = n % scenario.nodes
            data = n.to_bytes(8, "big") + sim.dice.randbytes(scenario.size - 8)
            sent[data[:8]] = loop.time()
            if n % max(1, count // 20) == 0:
                shortest += [hops * scenario.latency for hops in _hops(sim.services, publisher)]
            await sim.services[publisher].publish(TOPIC, data)
            await asyncio.sleep(1 / scenario.rate)
        await asyncio.sleep(10)
        degree = statistics.mean(len(pubsub.mesh(TOPIC)) for pubsub in sim.services)
        for topic in topics:
            await topic.close()
        await asyncio.gather(*readers)
        change = [
            (counter.duplicates - old[0], counter.message_bytes - old[1], counter.control_bytes - old[2])
            for counter, old in zip(counters, before, strict=True)
        ]
    gc.unfreeze()
    duplicates, message_bytes, control_bytes = map(sum, zip(*change, strict=True))
    return Figures(
        scenario,
        len(delays),
        count * (scenario.nodes - 1),
        percentiles(delays),
        percentiles(shortest),
        duplicates / (count * scenario.nodes),
        degree,
        message_bytes,
        control_bytes,
    )


def _hops(services: Sequence[PubSub], start: int) -> list[int]:
    """How many hops each other peer is away in the meshes."""
    index = {pubsub.host.id: n for n, pubsub in enumerate(services)}
    distance = {start: 0}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for peer in services[here].mesh(TOPIC):
            there = index[peer]
            if there not in distance:
                distance[there] = distance[here] + 1
                queue.append(there)
    return [hops for node, hops in distance.items() if node != start]
