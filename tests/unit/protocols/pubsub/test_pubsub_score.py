"""Scores: the same as go-libp2p-pubsub's for a recorded history, what bounds them, and the words for them."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from libp2p.errors import InvalidInput
from libp2p.identity import PeerId, PrivateKey
from libp2p.protocols.pubsub.score import (
    PeerScores,
    Rejection,
    ScoreParams,
    ScoreThresholds,
    TopicScoreParams,
    decay_over,
    explain,
)
from libp2p.protocols.pubsub.score.score import ip_keys

PEERS = [PrivateKey.generate().peer_id for _ in range(6)]
A, B, C = PEERS[:3]


def traced_params() -> ScoreParams:
    """Those of interop/go/scoretrace."""

    def topic(weight: float) -> TopicScoreParams:
        return TopicScoreParams(
            topic_weight=weight,
            time_in_mesh_weight=0.0027,
            time_in_mesh_quantum=0.7,
            time_in_mesh_cap=30,
            first_message_deliveries_weight=0.664,
            first_message_deliveries_decay=0.9916,
            first_message_deliveries_cap=15,
            mesh_message_deliveries_weight=-0.25,
            mesh_message_deliveries_decay=0.97,
            mesh_message_deliveries_cap=40,
            mesh_message_deliveries_threshold=6,
            mesh_message_deliveries_window=0.15,
            mesh_message_deliveries_activation=3,
            mesh_failure_penalty_weight=-0.25,
            mesh_failure_penalty_decay=0.97,
            invalid_message_deliveries_weight=-99,
            invalid_message_deliveries_decay=0.9994,
            deficit_outside_mesh=True,
        )

    return ScoreParams(
        topics={"a": topic(1), "b": topic(0.5)},
        topic_score_cap=12,
        app_score=lambda peer: PEERS.index(peer) / 4,
        app_weight=1.5,
        behaviour_penalty_weight=-15.92,
        behaviour_penalty_threshold=2,
        behaviour_penalty_decay=0.9857,
        retain_score=20,
    )


def play(scores: PeerScores, step: dict[str, Any]) -> None:
    now, peer, topic = step["at"], PEERS[step["peer"]], step.get("topic", "")
    mid = step.get("msg", 0).to_bytes(2, "big")
    why = {"rejected": Rejection.INVALID, "ignored": Rejection.IGNORED, "throttled": Rejection.THROTTLED}
    match step["op"]:
        case "up":
            scores.peer_up(peer, (), now)
        case "down":
            scores.peer_down(peer, now)
        case "graft":
            scores.graft(peer, topic, now)
        case "prune":
            scores.prune(peer, topic)
        case "penalize":
            scores.penalize(peer)
        case "invalid":
            scores.invalid(peer, topic)
        case "validating":
            scores.validating(mid, now)
        case "delivered":
            scores.delivered(mid, topic, peer, now)
        case "duplicate":
            scores.duplicate(mid, topic, peer, now)
        case "refresh":
            scores.refresh(now)
        case op:
            scores.rejected(mid, topic, peer, why[op], now)


def test_the_same_scores_as_go() -> None:
    steps = json.loads((Path(__file__).parent / "score_trace.json").read_text())
    scores = PeerScores(traced_params())
    expected = dict.fromkeys(range(6), 0.0)
    for n, step in enumerate(steps):
        play(scores, step)
        expected.update({int(peer): score for peer, score in step.get("scores", {}).items()})
        ours = {peer: scores.score(PEERS[peer]) for peer in expected}
        assert ours == pytest.approx(expected, rel=1e-9, abs=1e-12), (n, step)
    assert {step["op"] for step in steps} >= {"down", "prune", "delivered", "rejected", "ignored", "throttled"}
    assert min(min(step.get("scores", {}).values(), default=0) for step in steps) < -100


def test_who_is_not_in_the_mesh_owes_it_nothing() -> None:
    topic = TopicScoreParams(
        mesh_message_deliveries_weight=-1,
        mesh_message_deliveries_threshold=2,
        mesh_message_deliveries_activation=1,
        mesh_failure_penalty_weight=-1,
        mesh_failure_penalty_decay=0.5,
    )
    scores = PeerScores(ScoreParams({"a": topic}))
    for peer in (A, B):
        scores.peer_up(peer, (), 0)
        scores.graft(peer, "a", 0)
    for n in range(4):
        scores.delivered(bytes([n]), "a", A, 2)
    scores.refresh(2)
    assert (scores.score(A), scores.score(B)) == (0, -4)
    for peer in (A, B):
        scores.prune(peer, "a")  # for want of room, perhaps
    assert (scores.score(A), scores.score(B)) == (0, -4)
    for now in range(3, 15):
        scores.refresh(now)
    assert (scores.score(A), scores.score(B)) == (0, 0)


def test_many_on_one_address() -> None:
    params = ScoreParams(ip_colocation_weight=-2, ip_colocation_threshold=3)
    scores = PeerScores(params)
    for n, peer in enumerate(PEERS):
        scores.peer_up(peer, ip_keys(f"2001:db8::{n}"), 0)
    assert scores.score(A) == -2 * (6 - 3) ** 2  # the /64, not the single addresses
    scores.set_ips(B, ip_keys("192.0.2.1"))
    assert scores.score(A) == -2 * (5 - 3) ** 2
    assert scores.score(B) == 0
    assert ip_keys("127.0.0.1") == ip_keys("::1") == ()
    allowing = PeerScores(
        ScoreParams(ip_colocation_weight=-2, ip_colocation_threshold=1, ip_colocation_allow=(ip_network("10.0.0.0/8"),))
    )
    for peer in PEERS:
        allowing.peer_up(peer, ip_keys("10.1.2.3"), 0)
    assert allowing.score(A) == 0


def test_a_bad_score_is_kept_and_a_good_one_goes() -> None:
    topic = TopicScoreParams(first_message_deliveries_weight=1)
    scores = PeerScores(ScoreParams({"a": topic}, behaviour_penalty_weight=-1, retain_score=10))
    for peer in (A, B):
        scores.peer_up(peer, (), 0)
    scores.penalize(A, 3)
    scores.delivered(b"1", "a", B, 0)
    assert (scores.score(A), scores.score(B)) == (-9, 1)
    for peer in (A, B):
        scores.peer_down(peer, 0)
    assert (scores.score(A), scores.stats(B)) == (-9, None)
    scores.peer_up(A, (), 5)
    assert scores.score(A) == -9
    scores.peer_down(A, 5)
    scores.refresh(16)
    assert scores.stats(A) is None


def test_memory_is_bounded() -> None:
    scores = PeerScores(ScoreParams({"a": TopicScoreParams()}, max_retained=10, max_deliveries=20))
    for n in range(100):
        peer = PeerId(b"\x12\x20" + n.to_bytes(32, "big"))
        scores.peer_up(peer, (f"192.0.2.{n}",), 0)
        scores.peer_down(peer, 0)
        scores.validating(n.to_bytes(2, "big"), 0)
    assert len(scores._peers) == len(scores._by_ip) == 10
    assert len(scores._deliveries) == 20
    scores.refresh(1000)
    scores.refresh(10_000)
    assert not scores._peers
    assert not scores._by_ip
    assert not scores._deliveries


def test_without_params_nothing_is_kept() -> None:
    scores = PeerScores(None)
    scores.peer_up(A, ("192.0.2.1",), 0)
    scores.validating(b"1", 0)
    scores.delivered(b"1", "a", A, 0)
    scores.penalize(A)
    assert (scores.score(A), scores.stats(A)) == (0, None)
    assert not scores._deliveries


def test_a_score_in_words() -> None:
    topic = TopicScoreParams(topic_weight=0.5, first_message_deliveries_weight=2, invalid_message_deliveries_weight=-10)
    params = ScoreParams({"news": topic}, behaviour_penalty_weight=-1, app_score=lambda _: 3, app_weight=2)
    scores = PeerScores(params)
    assert explain(scores, A) == f"{A} scores 0: nothing is known of it"
    scores.peer_up(A, (), 0)
    scores.delivered(b"1", "news", A, 0)
    scores.invalid(A, "news")
    scores.penalize(A, 2)
    assert explain(scores, A).splitlines() == [
        f"{A} scores -2",
        "  topic news: -4, times the topic's weight 0.5",
        "    +2 for bringing 1 messages first (P2)",
        "    -10 for 1 invalid messages (P4)",
        "  +6 is the application's word (P5)",
        "  -4 for 2 misbehaviours above the 0 that are free (P7)",
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: TopicScoreParams(topic_weight=-1),
        lambda: TopicScoreParams(mesh_message_deliveries_weight=1),
        lambda: TopicScoreParams(invalid_message_deliveries_decay=1),
        lambda: TopicScoreParams(time_in_mesh_quantum=0),
        lambda: ScoreParams(ip_colocation_weight=1),
        lambda: ScoreParams(app_weight=float("nan")),
        lambda: ScoreParams(decay_interval=0),
        lambda: ScoreParams(ip_colocation_threshold=0),
        lambda: ScoreThresholds(gossip=1),
        lambda: ScoreThresholds(publish=-1),
        lambda: ScoreThresholds(accept_px=-1),
        lambda: decay_over(0.5),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any) -> None:
    with pytest.raises(InvalidInput):
        make()


def test_decay() -> None:
    assert decay_over(10) ** 10 == pytest.approx(0.01)
