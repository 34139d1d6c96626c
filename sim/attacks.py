"""Sybils against honest peers: do messages still arrive, and do meshes become honest again?

Each sybil connects to some honest peers, is in the topic, grafts all of them, and then does its worst. Honest peers
score by what they see: who brings its share stays (P1, P2), who brings nothing is pruned (P3), and so is who sends what
is invalid (P4) or grafts in back-off (P7). They don't flood their own messages: that would make it easy.

- `delivered`: of all (message, honest peer) pairs, the part that arrived.
- `p99`: seconds from publication to arrival.
- `sybils at first`, `at last`: part of the honest peers' mesh links that lead to sybils.
- `honest again`: seconds until less than a twentieth of them did.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

from libp2p.host import Host, HostConfig
from libp2p.host.identify import IdentifyConfig
from libp2p.identity import PeerId
from libp2p.protocols.pubsub import (
    GossipSub,
    GossipSubConfig,
    Message,
    PubSub,
    ScoreParams,
    ScoreThresholds,
    SignaturePolicy,
    TopicConfig,
    TopicScoreParams,
    Verdict,
    decay_over,
)
from libp2p.protocols.pubsub.ids import sha256_of_data
from libp2p.testing.links import Link
from libp2p.testing.simulation import Simulation
from libp2p.testing.topology import regular

from .spread import TOPIC

_WARM_UP = 5.0
"""Seconds of messages that are not counted: connections, subscriptions and meshes are being made."""

_HONEST = b"honest "


class Attack(Enum):
    """What sybils do once they are in meshes."""

    SILENT = "silent"
    """They pass nothing on: eclipse and censorship."""
    INVALID = "invalid messages"
    """They also publish, all the time, what validators reject."""


@dataclass(frozen=True, slots=True)
class Siege:
    """A network under attack."""

    attack: Attack
    honest: int
    sybils: int
    seconds: float
    rate: float = 10.0
    """Messages a second, by honest peers in turn."""
    targets: int = 20
    """Honest peers that each sybil connects to."""


@dataclass(slots=True)
class Outcome:
    """What a siege came to."""

    siege: Siege
    delivered: float
    p99: float
    at_first: float
    at_last: float
    honest_again: float | None


def defence(rate: float) -> GossipSubConfig:
    """The settings of honest peers in a topic with so many messages a second."""
    expected = rate / (1 - decay_over(10.0))  # what the counter of a peer that brings all comes to
    topic = TopicScoreParams(
        time_in_mesh_weight=0.01,
        time_in_mesh_cap=300.0,
        first_message_deliveries_weight=0.1,
        first_message_deliveries_decay=decay_over(60.0),
        first_message_deliveries_cap=100.0,
        mesh_message_deliveries_weight=-1.0,
        mesh_message_deliveries_decay=decay_over(10.0),
        mesh_message_deliveries_cap=expected,
        mesh_message_deliveries_threshold=expected / 4,
        mesh_message_deliveries_window=1.0,
        mesh_message_deliveries_activation=10.0,
        mesh_failure_penalty_weight=-1.0,
        mesh_failure_penalty_decay=decay_over(300.0),
        invalid_message_deliveries_weight=-20.0,
        invalid_message_deliveries_decay=decay_over(300.0),
    )
    return GossipSubConfig(
        topic=TopicConfig(SignaturePolicy.STRICT_NO_SIGN, sha256_of_data),
        d=8,
        d_low=6,
        d_high=12,
        flood_publish=False,
        subscription_capacity=1 << 20,
        score=ScoreParams({TOPIC: topic}, behaviour_penalty_weight=-10.0, behaviour_penalty_decay=decay_over(60.0)),
        thresholds=ScoreThresholds(opportunistic_graft=1.0),
    )


def hostile(siege: Siege) -> GossipSubConfig:
    """The settings of sybils: they want everybody in their meshes, at once and again."""
    everybody = siege.honest + siege.sybils
    return GossipSubConfig(
        topic=TopicConfig(SignaturePolicy.STRICT_NO_SIGN, sha256_of_data),
        d=everybody,
        d_low=everybody,
        d_high=2 * everybody,
        prune_backoff=1.0,
        max_backoff=1.0,
        backoff_slack=0.0,
    )


def is_honest(message: Message) -> Verdict:
    """The honest peers' validator."""
    return Verdict.ACCEPT if message.data.startswith(_HONEST) else Verdict.REJECT


def passes_on_spam_only(message: Message) -> Verdict:
    """The sybils' validator."""
    return Verdict.IGNORE if message.data.startswith(_HONEST) else Verdict.ACCEPT


async def besiege(siege: Siege, *, seed: int = 1) -> Outcome:
    """Run a siege. The sybils are there first: honest peers find them when they come."""
    made = 0

    def service(host: Host) -> PubSub:
        nonlocal made
        made += 1
        return GossipSub(host, defence(siege.rate) if made <= siege.honest else hostile(siege), dice=Random(made))

    quiet = HostConfig(identify=IdentifyConfig(automatic=False))
    count = siege.honest + siege.sybils
    async with Simulation(count, service, seed=seed, link=Link(latency=0.025), config=quiet) as sim:
        honest, sybils = sim.services[: siege.honest], sim.services[siege.honest :]
        for sybil in sybils:
            sybil.add_validator(TOPIC, passes_on_spam_only)
            await sybil.relay(TOPIC)
        targets = min(siege.targets, siege.honest)
        await sim.connect(
            (siege.honest + n, target)
            for n in range(siege.sybils)
            for target in sim.dice.sample(range(siege.honest), targets)
        )
        await sim.connect(regular(siege.honest, 10, sim.dice))
        topics = [await pubsub.subscribe(TOPIC) for pubsub in honest]
        for pubsub in honest:
            pubsub.add_validator(TOPIC, is_honest)
        for n in range(int(siege.rate * _WARM_UP)):
            await honest[n % siege.honest].publish(TOPIC, _HONEST + b"warm up %d" % n)
            await asyncio.sleep(1 / siege.rate)
        hostile_ids = {sybil.host.id for sybil in sybils}
        loop = asyncio.get_running_loop()
        sent: dict[bytes, float] = {}
        delays: list[float] = []

        async def read(n: int) -> None:
            arrivals = [(message.data, loop.time()) async for message in topics[n]]
            delays.extend(when - sent[data] for data, when in arrivals if data in sent)

        async def spam() -> None:
            while True:
                for sybil in sybils:
                    await sybil.publish(TOPIC, b"spam" + sim.dice.randbytes(8))
                await asyncio.sleep(1)

        readers = [asyncio.create_task(read(n)) for n in range(siege.honest)]
        tasks = [asyncio.create_task(spam())] if siege.attack is Attack.INVALID else []
        shares = [share(honest, hostile_ids)]
        started = loop.time()
        honest_again: float | None = None
        for n in range(int(siege.rate * siege.seconds)):
            data = _HONEST + n.to_bytes(8, "big")
            sent[data] = loop.time()
            await honest[n % siege.honest].publish(TOPIC, data)
            await asyncio.sleep(1 / siege.rate)
            if n % int(siege.rate) == 0:
                shares.append(share(honest, hostile_ids))
                if shares[-1] < 0.05 and honest_again is None:
                    honest_again = loop.time() - started
        for task in tasks:
            task.cancel()
        await asyncio.sleep(10)
        for topic in topics:
            await topic.close()
        await asyncio.gather(*readers)
        await asyncio.gather(*tasks, return_exceptions=True)
    return Outcome(
        siege,
        len(delays) / (len(sent) * (siege.honest - 1)),
        statistics.quantiles(delays, n=100)[98],
        shares[0],
        shares[-1],
        honest_again,
    )


def share(honest: Sequence[PubSub], hostile_ids: set[PeerId]) -> float:
    """Which part of the links of all honest peers' meshes leads to sybils."""
    links = [peer for pubsub in honest for peer in pubsub.mesh(TOPIC)]
    return sum(peer in hostile_ids for peer in links) / max(1, len(links))
