"""The peer gater: when it is on, whom it listens to, what it remembers; and in a service whose validators are slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from random import Random

import pytest

from libp2p.errors import InvalidInput
from libp2p.identity import PeerId, PrivateKey
from libp2p.protocols.pubsub import GossipSubConfig, Message, PeerGaterParams, PubSub, Tracer, Verdict
from libp2p.protocols.pubsub.gater import PeerGater, gater_address
from libp2p.protocols.pubsub.score import Rejection
from libp2p.protocols.pubsub.score.score import ip_keys

Nodes = Callable[..., AbstractAsyncContextManager[list[PubSub]]]

PEERS = [PrivateKey.generate().peer_id for _ in range(5)]
A, B, C = PEERS[:3]


def overloaded(params: PeerGaterParams | None = None) -> PeerGater:
    """A gater that is on at time 0; A and B come from one address, C from another."""
    gater = PeerGater(params or PeerGaterParams(), Random(1))
    for peer, address in ((A, "192.0.2.1"), (B, "192.0.2.1"), (C, "192.0.2.2")):
        gater.peer_up(peer, address, 0)
    for _ in range(3):
        gater.validating()
    gater.rejected(A, Rejection.THROTTLED, 0)
    assert gater.is_on(0)
    return gater


def accepted(gater: PeerGater, peer: PeerId, now: float = 0) -> int:
    return sum(gater.accepts(peer, now) for _ in range(1000))


def test_all_are_accepted_while_validation_keeps_up() -> None:
    gater = PeerGater(PeerGaterParams(), Random(1))
    gater.peer_up(A, "192.0.2.1", 0)
    for _ in range(100):
        gater.validating()
        gater.rejected(A, Rejection.INVALID, 0)
    for _ in range(32):
        gater.rejected(A, Rejection.THROTTLED, 0)
    assert (gater.is_on(0), accepted(gater, A)) == (False, 1000)
    gater.rejected(A, Rejection.THROTTLED, 0)
    assert gater.is_on(0)
    assert accepted(gater, A) < 10


def test_the_chance_is_what_go_computes() -> None:
    gater = overloaded(PeerGaterParams(topic_weights={"blocks": 10}))
    assert gater.chance(A) == 1.0
    gater.delivered(A, "news")
    gater.delivered(A, "blocks")
    for _ in range(8):
        gater.duplicate(A)
    gater.rejected(A, Rejection.IGNORED, 0)
    assert gater.chance(A) == pytest.approx(12 / (1 + 11 + 1 + 1))
    gater.rejected(A, Rejection.INVALID, 0)
    assert gater.chance(A) == pytest.approx(12 / (1 + 11 + 1 + 1 + 16))
    assert 350 < accepted(gater, A) < 450
    assert accepted(gater, C) == 1000


def test_one_address_is_one_record_whatever_names_it_takes() -> None:
    gater = overloaded()
    for _ in range(10):
        gater.rejected(A, Rejection.INVALID, 0)
    assert gater.chance(B) == gater.chance(A) == pytest.approx(1 / 161)
    for peer in (A, B):
        gater.peer_down(peer, 1)
    gater.peer_up(PEERS[3], "192.0.2.1", 2)
    assert gater.chance(PEERS[3]) == pytest.approx(1 / 161)
    gater.peer_up(PEERS[4], None, 2)
    assert gater.chance(PEERS[4]) == 1.0


def test_a_prefix_of_ipv6_is_one_address() -> None:
    one, other = (gater_address(ip_keys(f"2001:db8::{n}")) for n in (1, 2))
    assert one == other == "2001:db8::/64"
    assert gater_address(ip_keys("192.0.2.1")) == "192.0.2.1"
    assert gater_address(ip_keys("127.0.0.1")) is None


def test_it_ends_with_quiet_and_with_decay() -> None:
    gater = overloaded()
    assert gater.is_on(60)
    assert not gater.is_on(60.1)
    gater = overloaded(PeerGaterParams(quiet=1000))
    now = 0.0
    while gater.is_on(now):
        now += 1
        gater.refresh(now)
    assert now == pytest.approx(120, abs=1)


def test_counts_decay_once_an_interval_and_records_end() -> None:
    gater = overloaded(PeerGaterParams(retain=10, source_decay=0.5))
    gater.rejected(C, Rejection.INVALID, 0)
    for now in (0.0, 0.3, 0.6, 1.0):
        gater.refresh(now)
    source = gater.source(C)
    assert source is not None
    assert source.rejected == 0.25
    gater.peer_down(C, 1)
    gater.refresh(11)
    gater.peer_up(C, "192.0.2.2", 11)
    assert gater.source(C) is source
    gater.peer_down(C, 11)
    gater.refresh(22)
    gater.peer_up(C, "192.0.2.2", 22)
    assert gater.source(C) is not source


def test_what_is_kept_of_who_is_gone_is_bounded() -> None:
    gater = PeerGater(PeerGaterParams(max_retained=100), Random(1))
    for n in range(10_000):
        gater.peer_up(A, f"192.0.{n >> 8}.{n & 255}", n)
        gater.peer_down(A, n)
    assert len(gater._sources) == len(gater._retained) == 100
    assert not gater._of_peer


def test_a_peer_that_moves_takes_nothing_along() -> None:
    gater = overloaded()
    gater.rejected(C, Rejection.INVALID, 0)
    gater.peer_up(C, "192.0.2.3", 1)
    assert gater.chance(C) == 1.0
    gater.peer_up(C, "192.0.2.2", 2)
    assert gater.chance(C) < 1.0


def test_without_params_all_are_accepted_and_nothing_is_kept() -> None:
    gater = PeerGater(None, Random(1))
    gater.peer_up(A, "192.0.2.1", 0)
    gater.rejected(A, Rejection.THROTTLED, 0)
    gater.refresh(0)
    assert gater.accepts(A, 0)
    assert gater.source(A) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 0},
        {"quiet": 0},
        {"global_decay": 1},
        {"source_decay": 0},
        {"ignore_weight": 0.5},
        {"reject_weight": float("nan")},
        {"duplicate_weight": 0},
        {"retain": -1},
        {"max_retained": -1},
        {"topic_weights": {"news": 0}},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        PeerGaterParams(**wrong)  # type: ignore[arg-type]


async def test_who_floods_slow_validators_makes_room_for_who_does_not(nodes: Nodes) -> None:
    """The RPCs of a spammer are dropped, those of an honest peer are not, so that all its messages find room."""
    gated: dict[PeerId, int] = {}

    class Counting(Tracer):
        def gated(self, peer: PeerId, count: int) -> None:
            gated[peer] = gated.get(peer, 0) + count

    config = GossipSubConfig(validator_concurrency=1, validator_queue=4, gater=PeerGaterParams())
    async with nodes(config, None, None, tracer=Counting()) as (victim, honest, spammer):
        news = await victim.subscribe("news")
        for peer in (honest, spammer):
            await peer.host.connect(victim.host.addrs[0])
            await peer.wait_for_peers("news")

        async def judge(message: Message) -> Verdict:
            await asyncio.sleep(0.02)
            return Verdict.REJECT if message.data.startswith(b"spam") else Verdict.ACCEPT

        victim.add_validator("news", judge)
        await honest.publish("news", b"hello")
        for n in range(400):
            await spammer.publish("news", b"spam %d" % n)
            await asyncio.sleep(0.005)
        assert gated[spammer.host.id] > 150
        for n in range(50):
            await spammer.publish("news", b"spam more %d" % n)
            if n % 5 == 0:
                await honest.publish("news", b"news %d" % n)
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        assert honest.host.id not in gated
        assert len(news) == 11
