"""The router alone: mesh, gossip, back-off, IDONTWANT, peer exchange, fanout; and what hostile peers can't do to it."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from libp2p.identity import PeerId
from libp2p.protocols.pubsub import GossipSubConfig, ScoreParams, ScoreThresholds, TopicScoreParams
from libp2p.protocols.pubsub.mesh_rules import gossip_target, median, to_keep
from libp2p.protocols.pubsub.message import Message
from libp2p.protocols.pubsub.peers import Version
from libp2p.protocols.pubsub.router import Router
from libp2p.protocols.pubsub.wire import Extensions, IHave, Prune, PxPeer, Rpc, SubOpts, WireMessage


def peer_id(n: int) -> PeerId:
    return PeerId(b"\x12\x20" + n.to_bytes(32, "big"))


OWN = peer_id(0)
NEWS = Rpc(subscriptions=[SubOpts("news")])


def router(seed: int = 1, **settings: Any) -> Router:
    return Router(OWN, replace(GossipSubConfig(flood_publish=False), **settings), Random(seed))


def meet(ours: Router, *numbers: int, version: Version = Version.V13, outbound: bool = True, now: float = 0) -> None:
    """Peers that are in "news"."""
    for n in numbers:
        ours.stream_opened(peer_id(n))
        ours.peer_ready(peer_id(n), version, outbound=outbound, now=now)
        ours.receive(peer_id(n), NEWS, now)


def message(n: int = 0, *, source: PeerId = OWN, size: int = 10, topic: str = "news") -> Message:
    wire = WireMessage(topic, bytes(size), b"author", n.to_bytes(8, "big"))
    return Message.of(wire, b"id %d" % n, source, wire.data or b"")


def said(ours: Router) -> dict[PeerId, Rpc]:
    return dict(ours.take_outbox())


def test_a_peer_is_greeted_with_our_topics_and_extensions() -> None:
    ours = router(partial_messages=True)
    ours.join("news", 0)
    meet(ours, 1)
    meet(ours, 2, version=Version.V12)
    out = said(ours)
    assert out[peer_id(1)].subscriptions == [SubOpts("news")]
    assert out[peer_id(1)].extensions == Extensions(partial_messages=True)
    assert out[peer_id(2)].extensions is None
    assert out[peer_id(1)].graft == ["news"]


def test_joining_grafts_d_peers_and_the_heartbeat_keeps_the_number() -> None:
    ours = router()
    meet(ours, *range(1, 21))
    ours.join("news", 0)
    mesh = ours.state.mesh["news"]
    assert len(mesh) == 6
    out = said(ours)
    assert {peer for peer, rpc in out.items() if rpc.graft == ["news"]} == set(mesh)
    assert all(rpc.subscriptions == [SubOpts("news")] for rpc in out.values())
    for n in range(1, 21):
        ours.receive(peer_id(n), Rpc(graft=["news"]), 1)
    assert len(mesh) == 20
    ours.heartbeat(2)
    assert len(mesh) == 6
    pruned = {peer: rpc.prune for peer, rpc in said(ours).items() if rpc.prune}
    assert len(pruned) == 14
    assert set(map(tuple, pruned.values())) == {(Prune("news", 60),)}
    for peer in list(mesh):
        ours.peer_gone(peer, 3)
    ours.heartbeat(4)
    assert not mesh  # all others are backed off
    ours.heartbeat(2 + 60 + 2)
    assert len(mesh) == 6


def test_a_full_mesh_takes_only_peers_that_we_connected_to() -> None:
    ours = router()
    meet(ours, *range(1, 13))
    meet(ours, 20, outbound=False)
    ours.join("news", 0)
    for n in range(1, 13):
        ours.receive(peer_id(n), Rpc(graft=["news"]), 0)
    said(ours)
    ours.receive(peer_id(20), Rpc(graft=["news"]), 0)
    assert said(ours)[peer_id(20)].prune == [Prune("news", 60)]
    meet(ours, 21)
    ours.receive(peer_id(21), Rpc(graft=["news"]), 0)
    assert peer_id(21) in ours.state.mesh["news"]


def test_grafts_in_backoff_misbehave_and_are_pruned() -> None:
    ours = router(score=ScoreParams(behaviour_penalty_weight=-1))
    meet(ours, 1)
    ours.join("news", 0)
    ours.receive(peer_id(1), Rpc(prune=[Prune("news", 60)]), 0)
    said(ours)
    ours.receive(peer_id(1), Rpc(graft=["news"]), 30)
    assert ours.scores.score(peer_id(1)) == -1
    assert said(ours)[peer_id(1)].prune == [Prune("news", 60)]
    ours.receive(peer_id(1), Rpc(graft=["news"]), 31)  # at once again: twice as bad
    assert ours.scores.score(peer_id(1)) == -9
    assert ours.state.mesh["news"] == {}


@pytest.mark.parametrize("backoff", [2**64 - 1, 2**63, 10**9])
def test_an_endless_backoff_is_cut(backoff: int) -> None:
    ours = router()
    meet(ours, 1)
    ours.join("news", 0)
    ours.receive(peer_id(1), Rpc(prune=[Prune("news", backoff)]), 0)
    assert ours.state.backoffs.until("news", peer_id(1)) == 3600


def test_a_backoff_of_zero_counts_as_ours() -> None:
    ours = router()
    meet(ours, 1)
    ours.join("news", 0)
    ours.receive(peer_id(1), Rpc(prune=[Prune("news", 0)]), 0)
    assert ours.state.backoffs.until("news", peer_id(1)) == 60


def test_grafts_for_topics_that_we_are_not_in_are_not_answered() -> None:
    ours = router()
    meet(ours, 1)
    said(ours)
    ours.receive(peer_id(1), Rpc(graft=[f"topic {n}" for n in range(1000)], prune=[Prune("x", 1)]), 0)
    assert not said(ours)
    assert len(ours.state.backoffs) == 0


def test_peers_with_a_bad_score_leave_the_mesh() -> None:
    ours = router(score=ScoreParams({"news": TopicScoreParams(invalid_message_deliveries_weight=-1)}))
    meet(ours, 1, 2)
    ours.join("news", 0)
    ours.scores.invalid(peer_id(1), "news")
    ours.heartbeat(1)
    assert list(ours.state.mesh["news"]) == [peer_id(2)]
    said(ours)
    ours.receive(peer_id(1), Rpc(graft=["news"]), 100)
    assert said(ours)[peer_id(1)].prune == [Prune("news", 60)]


def test_leaving() -> None:
    ours = router()
    meet(ours, 1)
    ours.join("news", 0)
    said(ours)
    ours.leave("news", 0)
    rpc = said(ours)[peer_id(1)]
    assert (rpc.subscriptions, rpc.prune) == ([SubOpts("news", subscribe=False)], [Prune("news", 10)])
    ours.join("news", 1)
    assert ours.state.mesh["news"] == {}
    ours.heartbeat(13)
    assert list(ours.state.mesh["news"]) == [peer_id(1)]


def test_old_peers_get_prunes_that_they_can_read() -> None:
    ours = router(peer_exchange=True)
    meet(ours, 1, version=Version.V10)
    meet(ours, 2)
    ours.join("news", 0)
    ours.leave("news", 0)
    assert said(ours)[peer_id(1)].prune == [Prune("news")]


def test_who_grafts_us_and_takes_no_stream_of_ours_is_not_kept() -> None:
    ours = router()
    ours.join("news", 0)
    for n in (1, 2):
        ours.stream_opened(peer_id(n))
        ours.receive(peer_id(n), Rpc(subscriptions=[SubOpts("news")], graft=["news"]), 0)
    assert len(ours.state.mesh["news"]) == 2
    assert ours.route(message(1), 0) == []
    ours.heartbeat(1)  # a stream may take longer to open than it is to the next heartbeat
    assert len(ours.state.mesh["news"]) == 2
    ours.peer_ready(peer_id(1), Version.V11, outbound=False, now=1)
    ours.heartbeat(2)
    assert list(ours.state.mesh["news"]) == [peer_id(1)]
    assert ours.route(message(2), 2) == [peer_id(1)]


# Messages


def test_messages_go_to_the_mesh_but_not_back() -> None:
    ours = router()
    meet(ours, *range(1, 10))
    ours.join("news", 0)
    mesh = list(ours.state.mesh["news"])
    assert set(ours.route(message(1, source=mesh[0]), 0)) == set(mesh[1:])
    ours.receive(mesh[1], Rpc(idontwant=[b"id 2"]), 0)
    assert set(ours.route(message(2, source=mesh[0]), 0)) == set(mesh[2:])
    assert ours.is_unwanted(mesh[1], b"id 2")
    for now in (1, 2, 3):
        ours.heartbeat(now)
    assert not ours.is_unwanted(mesh[1], b"id 2")


def test_own_messages_flood() -> None:
    config = {"score": ScoreParams({"news": TopicScoreParams(invalid_message_deliveries_weight=-60)})}
    ours = router(flood_publish=True, **config)
    meet(ours, *range(1, 31))
    ours.join("news", 0)
    ours.scores.invalid(peer_id(30), "news")  # below the threshold to publish to
    assert set(ours.route(message(1), 0)) == {peer_id(n) for n in range(1, 30)}


def test_floodsub_peers_get_everything() -> None:
    ours = router()
    meet(ours, *range(1, 20), version=Version.FLOODSUB)
    ours.join("news", 0)
    assert not ours.state.mesh["news"]
    assert len(ours.route(message(1), 0)) == 19
    ours.heartbeat(1)
    assert all(not rpc.ihave for rpc in said(ours).values())


def test_fanout() -> None:
    ours = router()
    meet(ours, *range(1, 20))
    first = set(ours.route(message(1), 0))
    assert len(first) == 6
    assert set(ours.route(message(2), 1)) == first
    ours.heartbeat(62)
    assert not ours.state.fanout
    ours.route(message(3), 63)
    chosen = set(ours.state.fanout["news"])
    ours.join("news", 64)
    assert set(ours.state.mesh["news"]) == chosen  # whom we published to before


def test_direct_peers() -> None:
    ours = router(direct_peers=frozenset({peer_id(1), peer_id(2)}))
    meet(ours, 1, 3)
    ours.join("news", 0)
    assert list(ours.state.mesh["news"]) == [peer_id(3)]
    assert set(ours.route(message(1, source=peer_id(3)), 0)) == {peer_id(1)}
    said(ours)
    ours.receive(peer_id(1), Rpc(graft=["news"]), 0)
    assert said(ours)[peer_id(1)].prune == [Prune("news", 60)]
    ours.heartbeat(1)
    assert ours.missing_direct_peers() == [peer_id(2)]
    ours.heartbeat(2)
    assert ours.missing_direct_peers() == []


# Gossip


def test_gossip_tells_and_sends() -> None:
    ours = router()
    meet(ours, *range(1, 40))
    ours.join("news", 0)
    ours.route(message(1), 0)
    said(ours)
    ours.heartbeat(1)
    told = {peer: rpc.ihave for peer, rpc in said(ours).items() if rpc.ihave}
    assert len(told) == gossip_target(33, d_lazy=6, factor=0.25) == 8
    assert not set(told) & set(ours.state.mesh["news"])
    assert set(map(tuple, told.values())) == {(IHave("news", (b"id 1",)),)}
    asker = next(iter(told))
    for _ in range(5):
        ours.receive(asker, Rpc(iwant=[b"id 1", b"id 9"]), 1)
    assert [(peer, answer.id) for peer, answer in ours.take_answers()] == [(asker, b"id 1")] * 3
    for now in range(2, 7):
        ours.heartbeat(now)
    ours.receive(peer_id(39), Rpc(iwant=[b"id 1"]), 7)
    assert ours.take_answers() == []
    assert len(ours.gossip.cache) == ours.gossip.cache.size == 0


def test_what_is_offered_is_asked_for_and_must_come() -> None:
    ours = router(score=ScoreParams(behaviour_penalty_weight=-1))
    meet(ours, 1, 2)
    ours.join("news", 0)
    ours.seen.add(b"old", 0)
    said(ours)
    offer = Rpc(ihave=[IHave("news", (b"old", b"new")), IHave("other", (b"x",))])
    for n in (1, 2):
        ours.receive(peer_id(n), offer, 0)
    assert {peer: rpc.iwant for peer, rpc in said(ours).items()} == {peer_id(1): [b"new"], peer_id(2): [b"new"]}
    ours.heartbeat(3)
    assert ours.scores.score(peer_id(1)) == 0
    ours.heartbeat(3.1)
    assert (ours.scores.score(peer_id(1)), ours.scores.score(peer_id(2))) == (-1, -1)
    ours.receive(peer_id(1), Rpc(ihave=[IHave("news", (b"newer",))]), 4)
    ours.gossip.arrived(b"newer", "news", 10, peer_id(2))  # from anybody
    for now in range(5, 20):
        ours.heartbeat(now)
    assert ours.scores.score(peer_id(1)) == 0  # decayed, and nothing new
    assert len(ours.gossip.promises) == 0


def test_offers_are_limited() -> None:
    ours = router(max_ihave_length=100, max_ihave_messages=3)
    meet(ours, 1)
    ours.join("news", 0)
    asked = 0
    for n in range(10):
        said(ours)
        ours.receive(peer_id(1), Rpc(ihave=[IHave("news", tuple(b"%d %d" % (n, k) for k in range(80)))]), 0)
        asked += sum(len(rpc.iwant) for rpc in said(ours).values())
    assert asked == 100
    ours.heartbeat(1)
    ours.receive(peer_id(1), Rpc(ihave=[IHave("news", (b"next",))]), 1)
    assert said(ours)[peer_id(1)].iwant == [b"next"]


def test_answers_are_limited() -> None:
    ours = router(max_iwant_length=50)
    meet(ours, 1)
    for n in range(100):
        ours.route(message(n), 0)
    ours.receive(peer_id(1), Rpc(iwant=[b"id %d" % n for n in range(100)]), 0)
    ours.receive(peer_id(1), Rpc(iwant=[b"id %d" % n for n in range(100)]), 0)
    assert len(ours.take_answers()) == 50


def test_no_gossip_with_who_scores_badly() -> None:
    ours = router(score=ScoreParams(behaviour_penalty_weight=-1), thresholds=ScoreThresholds(gossip=-3))
    meet(ours, *range(1, 10))
    ours.join("news", 0)
    ours.route(message(1), 0)
    outside = [peer_id(n) for n in range(1, 10) if peer_id(n) not in ours.state.mesh["news"]]
    for peer in outside:
        ours.scores.penalize(peer, 2)
    said(ours)
    ours.receive(outside[0], Rpc(ihave=[IHave("news", (b"new",))], iwant=[b"id 1"]), 0)
    assert (said(ours), ours.take_answers()) == ({}, [])


def test_large_messages_are_not_wanted_twice() -> None:
    ours = router()
    meet(ours, 1, 2, 3)
    meet(ours, 4, version=Version.V11)
    ours.join("news", 0)
    said(ours)
    ours.gossip.arrived(b"big", "news", 1024, peer_id(1))
    ours.gossip.arrived(b"small", "news", 1023, peer_id(1))
    assert ours.take_unwanted() == [([peer_id(2), peer_id(3)], [b"big"])]
    assert ours.take_unwanted() == []


# Peer exchange


def test_peers_are_offered_and_taken_from_who_scores_well() -> None:
    records = {peer_id(n): b"record %d" % n for n in range(1, 30)}
    config = GossipSubConfig(peer_exchange=True)
    ours = Router(OWN, config, Random(1), record_of=records.get)
    meet(ours, *range(1, 21))
    ours.join("news", 0)
    for n in range(1, 21):
        ours.receive(peer_id(n), Rpc(graft=["news"]), 0)
    said(ours)
    ours.heartbeat(1)
    prunes = {peer: rpc.prune[0] for peer, rpc in said(ours).items() if rpc.prune}
    for pruned, prune in prunes.items():
        offered = {PeerId.from_bytes(px.peer) for px in prune.peers}
        assert len(offered) == 16
        assert pruned not in offered
        assert all(px.record == records[PeerId.from_bytes(px.peer)] for px in prune.peers)

    theirs = router(
        score=ScoreParams(app_score=lambda peer: 10 if peer == peer_id(1) else 9, app_weight=1),
        thresholds=ScoreThresholds(accept_px=10),
    )
    meet(theirs, 1, 2)
    theirs.join("news", 0)
    many = tuple(PxPeer(b"%d" % n) for n in range(1000))
    theirs.receive(peer_id(2), Rpc(prune=[Prune("news", 60, many)]), 0)
    assert theirs.take_offers() == []
    for _ in range(20):
        theirs.receive(peer_id(1), Rpc(prune=[Prune("news", 60, many)]), 0)
    assert len(theirs.take_offers()) == 128


# What peers leave behind


def test_reconnects_leave_nothing() -> None:
    ours = router()
    ours.join("news", 0)
    for n in range(10_000):
        peer = peer_id(1 + n % 3)
        meet(ours, 1 + n % 3, now=n)
        ours.receive(peer, Rpc(ihave=[IHave("news", (b"%d" % n,))], idontwant=[b"%d" % n], graft=["news", "x"]), n)
        ours.peer_silent(peer, n)
        ours.peer_gone(peer, n)
    state = ours.state
    assert not state.peers
    assert not state.topics
    assert not state.outbox
    assert state.mesh == {"news": {}}
    assert len(ours.gossip.promises) == len(state.backoffs) == 0


def test_floods_of_everything_are_bounded() -> None:
    ours = router(max_topics_per_peer=50, max_idontwant_ids=100, max_backoffs=30, max_seen=1000)
    ours.join("news", 0)
    meet(ours, 1)
    for n in range(1000):
        ours.receive(
            peer_id(1),
            Rpc(
                subscriptions=[SubOpts(f"{n} {k}") for k in range(10)] + [SubOpts("x" * 2000)],
                idontwant=[b"%d %d" % (n, k) for k in range(10)],
                iwant=[b"%d" % n],
                graft=[f"{n}"],
                prune=[Prune(f"{n}", 2**64 - 1)],
            ),
            0,
        )
        ours.seen.add(b"%d" % n, 0)
        meet(ours, 1000 + n, now=0)
        ours.receive(peer_id(1000 + n), Rpc(prune=[Prune("news", 2**64 - 1)]), 0)
        ours.peer_gone(peer_id(1000 + n), 0)
        said(ours)
    peer = ours.state.peers[peer_id(1)]
    assert (len(peer.topics), len(peer.unwanted), len(ours.state.backoffs)) == (50, 100, 30)
    assert len(ours.state.topics) == 50
    assert len(ours.state.peers) == 1
    ours.heartbeat(1)
    ours.heartbeat(200)
    assert len(ours.seen) == 0


def test_history_is_bounded_in_bytes() -> None:
    ours = router(max_history_size=10_000)
    for n in range(100):
        ours.route(message(n, size=900), 0)
    assert ours.gossip.cache.size <= 10_000
    assert len(ours.gossip.cache) == 10
    ours.route(message(1000, size=20_000), 0)
    assert ours.gossip.cache.get(b"id 1000") is None
    assert len(ours.gossip.cache) == 10


def test_extensions_said_twice_are_misbehaviour() -> None:
    ours = router(score=ScoreParams(behaviour_penalty_weight=-1))
    ours.stream_opened(peer_id(1))
    ours.peer_ready(peer_id(1), Version.V13, outbound=True, now=0)
    ours.receive(peer_id(1), Rpc(extensions=Extensions()), 0)
    assert ours.scores.score(peer_id(1)) == 0
    ours.receive(peer_id(1), Rpc(extensions=Extensions()), 0)
    assert ours.scores.score(peer_id(1)) == -100
    assert not ours.accepts(peer_id(1))


def test_the_same_seed_decides_the_same() -> None:
    def run(seed: int) -> list[object]:
        ours = router(seed)
        meet(ours, *range(1, 40))
        ours.join("news", 0)
        ours.route(message(1), 0)
        ours.heartbeat(1)
        return [(peer, rpc.graft, rpc.ihave) for peer, rpc in ours.take_outbox()]

    assert run(1) == run(1)
    assert run(1) != run(2)


# The rules alone


def test_whom_to_keep() -> None:
    mesh = [peer_id(n) for n in range(20)]
    score = {peer: float(n) for n, peer in enumerate(mesh)}.__getitem__
    for seed in range(50):
        kept = to_keep(
            mesh, d=6, d_score=4, d_out=2, score=score, is_outbound=lambda p: p in mesh[:3], dice=Random(seed)
        )
        assert len(set(kept)) == 6
        assert set(mesh[16:]) <= set(kept)
        assert len(set(kept) & set(mesh[:3])) >= 2


def test_median_and_gossip_target() -> None:
    scores = {peer_id(n): float(n) for n in range(4)}
    assert median(list(scores), scores.__getitem__) == 2
    assert [gossip_target(n, d_lazy=6, factor=0.25) for n in (0, 3, 10, 100)] == [0, 3, 6, 25]


def test_opportunistic_grafting() -> None:
    scores = dict.fromkeys(range(1, 7), 1.0) | dict.fromkeys(range(7, 20), 5.0)
    params = ScoreParams(app_score=lambda peer: scores[int.from_bytes(peer.to_bytes()[2:], "big")], app_weight=1)
    ours = router(score=params, opportunistic_graft_ticks=2)
    meet(ours, *range(1, 7))
    ours.join("news", 0)
    meet(ours, *range(7, 20))
    ours.heartbeat(1)
    assert len(ours.state.mesh["news"]) == 6
    ours.heartbeat(2)
    assert len(ours.state.mesh["news"]) == 8
