"""Sybils against honest peers: do messages still arrive, and do meshes become honest again?

Honest peers have the `FILECOIN` preset, and score besides who brings less than its share of a topic whose rate they
know (P3), as the spec advises. They don't flood their own messages: that would make it easy. What sybils do: see
`Attack`, and `sybils`.

- `delivered`: of all pairs of a message and an honest peer that is not its author, the part where it arrived.
- `p99`: time from publication to arrival; the victims': the same, for what they get and what they publish.
- `sybils at most`, `at last`: part of the mesh links of those under attack that lead to sybils.
- `honest again`: time from the attack's beginning until that is below a twentieth, and stays there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from random import Random

from libp2p.connection import Service
from libp2p.host import Host, HostConfig
from libp2p.host.identify import IdentifyConfig
from libp2p.identity import PeerId
from libp2p.protocols.pubsub import (
    GossipSub,
    GossipSubConfig,
    Message,
    PubSub,
    SignaturePolicy,
    Topic,
    Verdict,
    decay_over,
)
from libp2p.protocols.pubsub.presets import FILECOIN, filecoin_topics
from libp2p.protocols.pubsub.score import TopicScoreParams
from libp2p.testing.links import Link
from libp2p.testing.simulation import Simulation
from libp2p.testing.topology import regular

from .spread import percentiles
from .sybils import (
    Censor,
    Degrader,
    GraftSpammer,
    IDontWantSpammer,
    IHaveSpammer,
    IWantSpammer,
    Liar,
    Sybil,
)

TOPIC = "/fil/msgs/simulated"

_HONEST = b"honest"
_DEGREE = 20
"""Honest peers that each honest peer is connected with, about."""
_PUBLISHERS = 10
"""Who publishes where publishers are attacked."""


class Attack(Enum):
    """What sybils do."""

    ECLIPSE_ONE = "eclipse one"
    """All of them graft one peer, and pass nothing on."""
    ECLIPSE_ALL = "eclipse all"
    """They graft all that they can, and pass nothing on."""
    ECLIPSE_PUBLISHERS = "eclipse the publishers"
    """They graft the ten peers that publish, and pass nothing on."""
    CENSOR = "censor"
    """They pass on everything but one peer's messages."""
    DEGRADE = "degrade"
    """They pass on half of all."""
    COLD_BOOT = "cold boot"
    """They are there before anybody else, so that meshes begin with them; they pass nothing on."""
    COVERT_FLASH = "covert flash"
    """They behave well for two minutes, then pass nothing on, all at once."""
    IHAVE = "IHAVE spam"
    IWANT = "IWANT spam"
    GRAFT = "GRAFT spam"
    IDONTWANT = "IDONTWANT spam"
    INVALID = "invalid messages"
    ONE_IP = "one IP"
    """They come from one address, and behave well but for that."""


_KINDS: dict[Attack, type[Sybil]] = {
    Attack.CENSOR: Censor,
    Attack.DEGRADE: Degrader,
    Attack.IHAVE: IHaveSpammer,
    Attack.IWANT: IWantSpammer,
    Attack.GRAFT: GraftSpammer,
    Attack.IDONTWANT: IDontWantSpammer,
    Attack.INVALID: Liar,
}
"""All others are plain sybils."""


@dataclass(frozen=True, slots=True)
class Siege:
    """A network under attack; times in seconds."""

    attack: Attack
    honest: int
    sybils: int
    rate: float = 10.0
    """Messages a second, by honest peers in turn."""
    targets: int = 20
    """Honest peers that each sybil connects to, of those that are attacked."""
    warm_up: float = 12.0
    """Honest peers are alone for so long, unless the sybils are there first."""
    covert: float = 120.0
    """Sybils behave for so long where they do."""
    seconds: float = 20.0
    """The attack lasts so long at least..."""
    at_most: float = 120.0
    """...and so long where meshes are not honest again."""

    @property
    def attacked(self) -> range:
        """Those whose meshes are wanted, by number."""
        if self.attack is Attack.ECLIPSE_ONE:
            return range(1)
        return range(min(_PUBLISHERS, self.honest) if self.attack is Attack.ECLIPSE_PUBLISHERS else self.honest)

    @property
    def publishers(self) -> int:
        """How many publish, of the honest."""
        return len(self.attacked) if self.attack is Attack.ECLIPSE_PUBLISHERS else self.honest

    def is_victims(self, author: int, reader: int) -> bool:
        """Whether what `author` says to `reader` is what the attack is about."""
        if self.attack is Attack.CENSOR:
            return author == 0
        return author in self.attacked or reader in self.attacked


@dataclass(slots=True)
class Outcome:
    """What a siege came to; delays are percentiles, from the 0th to the 100th."""

    siege: Siege
    arrived: int
    expected: int
    delays: list[float]
    victims: list[float]
    shares: list[float] = field(default_factory=list)
    """Sybils' part of the meshes, each second from the attack's beginning on."""

    @property
    def honest_again(self) -> float | None:
        """When the sybils' part of the meshes has become less than a twentieth, for good; None: never."""
        last = max((second for second, share in enumerate(self.shares) if share >= 0.05), default=-1)
        return last + 1 if last + 1 < len(self.shares) else None


def defence(rate: float) -> GossipSubConfig:
    """The settings of honest peers in a topic with so many messages a second."""
    expected = rate / (1 - decay_over(20.0))  # what the counter of a peer that brings all comes to
    known: TopicScoreParams = filecoin_topics("simulated")[TOPIC]
    assert FILECOIN.score is not None
    topic = replace(
        known,
        mesh_message_deliveries_weight=-4000.0 / expected**2,
        mesh_message_deliveries_decay=decay_over(20.0),
        mesh_message_deliveries_cap=expected,
        mesh_message_deliveries_threshold=expected * 0.4,
        mesh_message_deliveries_window=1.0,
        mesh_message_deliveries_activation=10.0,
        mesh_failure_penalty_weight=-4000.0 / expected**2,
        mesh_failure_penalty_decay=decay_over(600.0),
    )
    return replace(
        FILECOIN,
        topic=replace(FILECOIN.topic, signature_policy=SignaturePolicy.STRICT_NO_SIGN),
        flood_publish=False,
        subscription_capacity=1 << 20,
        score=replace(FILECOIN.score, topics={TOPIC: topic}),
    )


def is_honest(message: Message) -> Verdict:
    """The honest peers' validator."""
    return Verdict.ACCEPT if message.data.startswith(_HONEST) else Verdict.REJECT


async def besiege(siege: Siege, *, seed: int = 1) -> Outcome:
    """Run a siege."""
    made = 0

    def service(host: Host) -> Service:
        nonlocal made
        made += 1
        if made <= siege.honest:
            return GossipSub(host, defence(siege.rate), dice=Random(made))
        return _KINDS.get(siege.attack, Sybil)(host, TOPIC, Random(made))

    quiet = HostConfig(identify=IdentifyConfig(automatic=False))
    together = siege.honest if siege.attack is Attack.ONE_IP else siege.honest + siege.sybils
    async with Simulation(
        siege.honest + siege.sybils,
        service,
        seed=seed,
        link=Link(latency=0.025),
        config=quiet,
        machine_of=lambda number: min(number, together),
    ) as sim:
        return await _Battle(siege, sim).run()


class _Battle:
    """A siege that is under way."""

    def __init__(self, siege: Siege, sim: Simulation[Service]) -> None:
        self.siege = siege
        self.sim = sim
        self.honest = [one for one in sim.services if isinstance(one, PubSub)]
        self.sybils = [one for one in sim.services if isinstance(one, Sybil)]
        self.hostile = {sybil.host.id for sybil in self.sybils}
        self.counted: dict[bytes, float] = {}  # messages of the time of the attack, each with when it was published
        self.delays: list[float] = []
        self.victims: list[float] = []
        self.counting = False

    async def run(self) -> Outcome:
        siege = self.siege
        if siege.attack is Attack.COLD_BOOT:
            await self.bring_sybils()
        await self.sim.connect(regular(siege.honest, min(_DEGREE, siege.honest // 4 * 2), self.sim.dice))
        topics = [await pubsub.subscribe(TOPIC) for pubsub in self.honest]
        for pubsub in self.honest:
            pubsub.add_validator(TOPIC, is_honest)
        readers = [asyncio.create_task(self.read(n, topics[n])) for n in range(siege.honest)]
        publisher = asyncio.create_task(self.publish())
        if siege.attack is not Attack.COLD_BOOT:
            await asyncio.sleep(siege.warm_up)
            await self.bring_sybils()
        if siege.attack is Attack.COVERT_FLASH:
            await asyncio.sleep(siege.covert)
        outcome = await self.watch()
        publisher.cancel()
        await asyncio.sleep(10)
        for topic in topics:
            await topic.close()
        await asyncio.gather(*readers)
        await asyncio.gather(publisher, return_exceptions=True)
        outcome.arrived, outcome.expected = len(self.delays), len(self.counted) * (siege.honest - 1)
        outcome.delays, outcome.victims = percentiles(self.delays), percentiles(self.victims)
        return outcome

    async def bring_sybils(self) -> None:
        """Connect them to those that they attack; those that are to be at work at once are, then."""
        siege, attacked = self.siege, list(self.siege.attacked)
        for sybil in self.sybils:
            sybil.at_work = siege.attack not in (Attack.COVERT_FLASH, Attack.ONE_IP)
        targets = min(siege.targets, len(attacked))
        await self.sim.connect(
            (siege.honest + n, target)
            for n in range(siege.sybils)
            for target in self.sim.dice.sample(attacked, targets)
        )

    async def watch(self) -> Outcome:
        """The attack: from now on messages count."""
        siege = self.siege
        for sybil in self.sybils:
            sybil.at_work = siege.attack is not Attack.ONE_IP
        self.counting = True
        outcome = Outcome(siege, 0, 0, [], [])
        while len(outcome.shares) < siege.seconds or (
            outcome.honest_again is None and len(outcome.shares) < siege.at_most
        ):
            outcome.shares.append(share([self.honest[n] for n in siege.attacked], self.hostile))
            await asyncio.sleep(1)
        return outcome

    async def publish(self) -> None:
        """Publish, by one honest peer after the other."""
        siege, loop, number = self.siege, asyncio.get_running_loop(), 0
        while True:
            author, number = number % siege.publishers, number + 1
            data = _HONEST + bytes([author]) + number.to_bytes(8, "big")
            if self.counting:
                self.counted[data] = loop.time()
            await self.honest[author].publish(TOPIC, data)
            await asyncio.sleep(1 / siege.rate)

    async def read(self, reader: int, topic: Topic) -> None:
        """Note when messages arrive at an honest peer."""
        loop = asyncio.get_running_loop()
        async for message in topic:
            if message.data not in self.counted:
                continue
            delay = loop.time() - self.counted[message.data]
            self.delays.append(delay)
            if self.siege.is_victims(message.data[len(_HONEST)], reader):
                self.victims.append(delay)


def share(honest: Sequence[PubSub], hostile: set[PeerId]) -> float:
    """Which part of the links of all these peers' meshes leads to sybils."""
    links = [peer for pubsub in honest for peer in pubsub.mesh(TOPIC)]
    return sum(peer in hostile for peer in links) / max(1, len(links))
