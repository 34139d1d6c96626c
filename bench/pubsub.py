"""What the router costs: `python -m bench.pubsub`.

    first copy   a message of 1 KiB that is new: read, its id (SHA-256), passed on to six peers
    duplicate    a copy of it that another peer brings
    signed       a first copy whose Ed25519 signature is checked, beside that check alone, over as many bytes
    heartbeat    of 100 peers in 50 topics each, scored, with messages to tell of

A hub with eight peers in its mesh is given what their streams would bring; what it says is queued, and goes to peers
that read. Figures are CPU time, the best of some rounds: they say what it costs where nothing else disturbs.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from libp2p.host import Host, HostConfig
from libp2p.host.identify import IdentifyConfig
from libp2p.identity import KeyType, PeerId, PrivateKey
from libp2p.protocols.pubsub import GossipSub, GossipSubConfig, PubSub, SignaturePolicy, TopicConfig
from libp2p.protocols.pubsub.ids import sha256_of_data
from libp2p.protocols.pubsub.message import Message
from libp2p.protocols.pubsub.peers import Version
from libp2p.protocols.pubsub.presets import SMALL_PRIVATE_NETWORK
from libp2p.protocols.pubsub.router import Router
from libp2p.protocols.pubsub.signing import PREFIX, author_message
from libp2p.protocols.pubsub.wire import Rpc, SubOpts, WireMessage, publish_field
from libp2p.testing.loop import run
from libp2p.testing.simulation import Simulation
from libp2p.testing.topology import star

TOPIC = "blocks"
PEERS = 8
OUT = 6
BATCH = 200
LIMITS = {"duplicate / first copy": 0.2, "signed / bare check": 2.0, "heartbeat / its interval": 0.1}
"""What each must not exceed."""


@dataclass(frozen=True, slots=True)
class Costs:
    """In seconds."""

    first: float
    duplicate: float
    signed: float
    check: float
    heartbeat: float
    interval: float
    told: int
    """IHAVEs of a heartbeat."""

    def ratios(self) -> dict[str, float]:
        """What `LIMITS` bounds."""
        values = (self.duplicate / self.first, self.signed / self.check, self.heartbeat / self.interval)
        return dict(zip(LIMITS, values, strict=True))


def measure(rounds: int = 10) -> Costs:
    """All of it."""
    first, duplicate = run(_copies(SignaturePolicy.STRICT_NO_SIGN, rounds))
    signed, _ = run(_copies(SignaturePolicy.STRICT_SIGN, rounds))
    heartbeat, told = _heartbeat(rounds)
    return Costs(first, duplicate, signed, _check(rounds), heartbeat, GossipSubConfig().heartbeat_interval, told)


async def _copies(policy: SignaturePolicy, rounds: int) -> tuple[float, float]:
    """The cost of a first copy, and of a duplicate."""
    # A mesh of seven: who brought a message does not get it, six do.
    config = GossipSubConfig(topic=TopicConfig(policy, sha256_of_data), d=OUT + 1, d_low=OUT + 1, d_high=OUT + 2)
    quiet = HostConfig(identify=IdentifyConfig(automatic=False))

    def service(host: Host) -> PubSub:
        return GossipSub(host, config, dice=Random(1))

    async with Simulation(PEERS + 1, service, config=quiet) as sim:
        hub = sim.services[0]
        await sim.connect(star(PEERS + 1))
        topics = [await pubsub.subscribe(TOPIC, capacity=1) for pubsub in sim.services]
        await asyncio.sleep(3)
        mesh = hub.mesh(TOPIC)
        best = [float("inf")] * 2
        for n in range(rounds):
            rpcs = [publish_field(_authored(policy, n * BATCH + m).encode()) for m in range(BATCH)]
            for place, peer in enumerate(mesh[:2]):
                best[place] = min(best[place], _timed(lambda peer=peer, rpcs=rpcs: _bring(hub, peer, rpcs)) / BATCH)
            await asyncio.sleep(1)
        for topic in topics:
            await topic.close()
    return best[0], best[1]


def _bring(hub: PubSub, peer: PeerId, rpcs: Sequence[bytes]) -> None:
    for rpc in rpcs:
        hub.link_received(peer, rpc)


_AUTHOR = PrivateKey.generate(KeyType.ED25519)


def _authored(policy: SignaturePolicy, n: int) -> WireMessage:
    data = n.to_bytes(8, "big") + bytes(1016)
    return author_message(TOPIC, data, author=_AUTHOR.public_key.peer_id, key=_AUTHOR, seqno=n, policy=policy)


def _check(rounds: int) -> float:
    message = _authored(SignaturePolicy.STRICT_SIGN, 1)
    part, signature, key = PREFIX + message.signed_part(), message.signature or b"", _AUTHOR.public_key

    def check() -> None:
        for _ in range(BATCH):
            if not key.verify(part, signature):
                raise RuntimeError("the signature is not valid")

    return min(_timed(check) for _ in range(rounds)) / BATCH


def _heartbeat(rounds: int) -> tuple[float, int]:
    """A heartbeat's cost, and how many IHAVEs it says."""
    router = Router(_peer(0), SMALL_PRIVATE_NETWORK, Random(1))
    topics = [f"topic {n}" for n in range(50)]
    for topic in topics:
        router.join(topic, 0.0)
    for n in range(1, 101):
        router.peer_ready(_peer(n), Version.V12, outbound=n % 2 == 0, now=0.0)
        router.receive(_peer(n), Rpc(subscriptions=[SubOpts(topic) for topic in topics]), 0.0)
    best, told = float("inf"), 0
    for n in range(rounds):
        for topic in topics:
            for m in range(10):
                data = b"%d %d %s" % (n, m, topic.encode())
                wire = WireMessage(topic, data)
                router.route(Message.of(wire, sha256_of_data(wire, None), _peer(1 + m), data), float(n))
        best = min(best, _timed(lambda n=n: router.heartbeat(float(n))))
        told = sum(len(rpc.ihave) for _, rpc in router.take_outbox())
    return best, told


def _peer(n: int) -> PeerId:
    return PeerId.from_bytes(b"\x12\x20" + n.to_bytes(32, "big"))


def _timed(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pubsub", description="What the router costs.")
    parser.add_argument("--rounds", type=int, default=10)
    costs = measure(parser.parse_args().rounds)
    for name, seconds in (
        ("first copy", costs.first),
        ("duplicate", costs.duplicate),
        ("signed", costs.signed),
        ("bare check", costs.check),
        ("heartbeat", costs.heartbeat),
    ):
        print(f"{name:12} {seconds * 1e6:10.1f} us")
    missed = 0
    for name, value in costs.ratios().items():
        missed += value > LIMITS[name]
        print(f"{name:26} {value:.3f}, at most {LIMITS[name]:g}{'' if value <= LIMITS[name] else ': missed'}")
    return 0 if not missed else 1


if __name__ == "__main__":
    sys.exit(main())
