"""Peer scores: how well a peer has served us. Spec: pubsub/gossipsub/gossipsub-v1.1.md, "Peer Scoring"."""

from .explain import explain
from .params import ScoreParams, ScoreThresholds, TopicScoreParams, decay_over
from .score import PeerScores, PeerStats, Rejection, TopicStats

__all__ = [
    "PeerScores",
    "PeerStats",
    "Rejection",
    "ScoreParams",
    "ScoreThresholds",
    "TopicScoreParams",
    "TopicStats",
    "decay_over",
    "explain",
]
