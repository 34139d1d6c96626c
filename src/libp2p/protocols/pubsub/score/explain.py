"""Why a peer has its score, in words."""

from __future__ import annotations

from ....identity import PeerId
from .params import TopicScoreParams
from .score import PeerScores, TopicStats, topic_score


def explain(scores: PeerScores, peer: PeerId) -> str:
    """The peer's score and each part that is not 0, a line each: what it is for, and what it adds.

    12D3KooW... scores -23.5
      topic news: +1.5
        +2 for 2 quanta of time in the mesh (P1)
        ...
      -25 for 5 misbehaviours above the 0 that are free (P7)
    """
    stats, params = scores.stats(peer), scores.params
    if stats is None:
        return f"{peer} scores 0: nothing is known of it"
    lines = [f"{peer} scores {scores.score(peer):+g}" + ("" if stats.connected else ", which is kept: it is gone")]
    total = 0.0
    for topic, counters in stats.topics.items():
        weights = params.for_topic(topic)
        if weights is None:
            continue
        value = topic_score(counters, weights) * weights.topic_weight
        total += value
        if parts := _topic_parts(counters, weights):
            times = "" if weights.topic_weight == 1 else f", times the topic's weight {weights.topic_weight:g}"
            lines.append(f"  topic {topic}: {value:+g}{times}")
            lines += [f"    {part}" for part in parts]
    if 0 < params.topic_score_cap < total:
        lines.append(f"  topics count {params.topic_score_cap:g} at most, not {total:g}")
    if (app := params.app_score(peer) * params.app_weight) != 0:
        lines.append(f"  {app:+g} is the application's word (P5)")
    if (colocation := scores.colocation(stats) * params.ip_colocation_weight) != 0:
        lines.append(f"  {colocation:+g} for too many peers on its addresses, {', '.join(stats.ips)} (P6)")
    excess = stats.behaviour_penalty - params.behaviour_penalty_threshold
    if excess > 0 and params.behaviour_penalty_weight:
        lines.append(
            f"  {excess * excess * params.behaviour_penalty_weight:+g} for {excess:g} misbehaviours above the "
            f"{params.behaviour_penalty_threshold:g} that are free (P7)"
        )
    return "\n".join(lines)


def _topic_parts(counters: TopicStats, weights: TopicScoreParams) -> list[str]:
    deficit = counters.deficit(weights)
    quanta = min(int(counters.mesh_time / weights.time_in_mesh_quantum + 1e-9), weights.time_in_mesh_cap)
    parts = [
        (
            quanta * weights.time_in_mesh_weight if counters.in_mesh else 0.0,
            f"for {quanta:g} quanta of time in the mesh (P1)",
        ),
        (
            counters.first_message_deliveries * weights.first_message_deliveries_weight,
            f"for bringing {counters.first_message_deliveries:g} messages first (P2)",
        ),
        (
            deficit**2 * weights.mesh_message_deliveries_weight,
            f"for bringing {deficit:g} messages less than the {weights.mesh_message_deliveries_threshold:g} due (P3)",
        ),
        (
            counters.mesh_failure_penalty * weights.mesh_failure_penalty_weight,
            "for what it was in arrears with when it left the mesh (P3b)",
        ),
        (
            counters.invalid_message_deliveries**2 * weights.invalid_message_deliveries_weight,
            f"for {counters.invalid_message_deliveries:g} invalid messages (P4)",
        ),
    ]
    return [f"{value:+g} {what}" for value, what in parts if value != 0]
