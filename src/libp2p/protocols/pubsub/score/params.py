"""What counts how much in a peer's score, and what a score has as its consequence.

    score = min(sum over topics of weight * (P1 + P2 + P3 + P3b + P4), cap) + P5 + P6 + P7

    P1   time in our mesh           what a peer earns by staying                    weight >= 0
    P2   first deliveries           ... by being the first to bring a message       weight >= 0
    P3   mesh deliveries            brought less than its share, deficit squared    weight <= 0
    P3b  mesh failures              the deficit it was pruned with, which sticks    weight <= 0
    P4   invalid messages           squared                                         weight <= 0
    P5   the application's word     what a function of the application says
    P6   one address                peers beyond a threshold on one IP, squared     weight <= 0
    P7   behaviour                  broken promises, grafts in back-off, squared    weight <= 0

Counters decay by a factor each `decay_interval`. A part with weight 0 counts for nothing; that is the default of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from math import isfinite

from ....errors import InvalidInput
from ....identity import PeerId

DECAY_INTERVAL = 1.0
DECAY_TO_ZERO = 0.01


def decay_over(seconds: float, *, interval: float = DECAY_INTERVAL, to_zero: float = DECAY_TO_ZERO) -> float:
    """The factor by which a counter of 1 has decayed to `to_zero` after `seconds`. Raises `InvalidInput` where that is
    less than one `interval`.
    """
    ticks = int(seconds / interval)
    if ticks < 1:
        raise InvalidInput(f"{seconds:g} s of decay are less than its interval, {interval:g} s")
    return float(to_zero ** (1 / ticks))


@dataclass(frozen=True, slots=True)
class TopicScoreParams:
    """How a peer scores in one topic; times in seconds. Raises `InvalidInput` for what makes no sense."""

    topic_weight: float = 1.0
    """Times which the topic counts."""
    time_in_mesh_weight: float = 0.0
    """P1."""
    time_in_mesh_quantum: float = 1.0
    """Time for which P1 is 1."""
    time_in_mesh_cap: float = 3600.0
    """P1 at most."""
    first_message_deliveries_weight: float = 0.0
    """P2."""
    first_message_deliveries_decay: float = 0.5
    first_message_deliveries_cap: float = 2000.0
    """First deliveries that count at most."""
    mesh_message_deliveries_weight: float = 0.0
    """P3."""
    mesh_message_deliveries_decay: float = 0.5
    mesh_message_deliveries_cap: float = 100.0
    """Deliveries that count at most."""
    mesh_message_deliveries_threshold: float = 20.0
    """Deliveries that are due: what lacks is the deficit."""
    mesh_message_deliveries_window: float = 0.010
    """Time behind a message's validation in which another copy counts as a delivery."""
    mesh_message_deliveries_activation: float = 5.0
    """Time in the mesh before a deficit counts."""
    deficit_outside_mesh: bool = False
    """Whether a peer goes on owing deliveries when it is not in our mesh any more, as in go-libp2p-pubsub. There nobody
    comes back who was pruned for want of room: its count decays, and its score is below 0 for good. So sybils that fill
    meshes, and have them pruned, part honest peers.
    """
    mesh_failure_penalty_weight: float = 0.0
    """P3b."""
    mesh_failure_penalty_decay: float = 0.5
    invalid_message_deliveries_weight: float = 0.0
    """P4."""
    invalid_message_deliveries_decay: float = 0.3

    def __post_init__(self) -> None:
        _check("topic_weight", self.topic_weight, low=0)
        _check("time_in_mesh_weight", self.time_in_mesh_weight, low=0)
        _check("first_message_deliveries_weight", self.first_message_deliveries_weight, low=0)
        for name in ("mesh_message_deliveries", "mesh_failure_penalty", "invalid_message_deliveries"):
            _check(f"{name}_weight", getattr(self, f"{name}_weight"), high=0)
        for name in (
            "first_message_deliveries",
            "mesh_message_deliveries",
            "mesh_failure_penalty",
            "invalid_message_deliveries",
        ):
            _check_decay(f"{name}_decay", getattr(self, f"{name}_decay"))
        for name in (
            "time_in_mesh_cap",
            "first_message_deliveries_cap",
            "mesh_message_deliveries_cap",
            "mesh_message_deliveries_threshold",
            "mesh_message_deliveries_window",
            "mesh_message_deliveries_activation",
        ):
            _check(name, getattr(self, name), low=0)
        if not (isfinite(self.time_in_mesh_quantum) and self.time_in_mesh_quantum > 0):
            raise InvalidInput(f"time_in_mesh_quantum {self.time_in_mesh_quantum:g} is no time")


def nobody_special(_: PeerId) -> float:
    """The application's score where it has none: 0 for all."""
    return 0.0


@dataclass(frozen=True, slots=True)
class ScoreParams:
    """How a peer scores; times in seconds. Raises `InvalidInput` for what makes no sense."""

    topics: Mapping[str, TopicScoreParams] = field(default_factory=dict)
    """The topics that count. One that is not here counts for nothing, but as `other_topics` says."""
    other_topics: TopicScoreParams | None = None
    """How topics count that `topics` does not name; go-libp2p-pubsub has no such setting."""
    topic_score_cap: float = 0.0
    """What the topics add to a score at most; 0: no bound."""
    app_score: Callable[[PeerId], float] = nobody_special
    """P5: what the application thinks of a peer; asked often, so it must be quick. Must not raise."""
    app_weight: float = 0.0
    ip_colocation_weight: float = 0.0
    """P6."""
    ip_colocation_threshold: int = 10
    """Peers of one address that cost nothing. In IPv6 those of one /64 count together, too."""
    ip_colocation_allow: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks for which P6 is not counted, such as an operator's own."""
    behaviour_penalty_weight: float = 0.0
    """P7."""
    behaviour_penalty_threshold: float = 0.0
    """Misbehaviours that cost nothing."""
    behaviour_penalty_decay: float = 0.2
    decay_interval: float = DECAY_INTERVAL
    decay_to_zero: float = DECAY_TO_ZERO
    """What a counter has decayed to when it counts as 0."""
    retain_score: float = 3600.0
    """Time for which the score of a peer that went is kept, unless it is positive."""
    max_retained: int = 10_000
    """Peers that went whose scores are kept at most; the oldest make way."""
    delivery_ttl: float = 120.0
    """Time for which it is remembered who brought a message."""
    max_deliveries: int = 100_000
    """Messages of which that is remembered at most; the oldest make way."""

    def __post_init__(self) -> None:
        _check("topic_score_cap", self.topic_score_cap, low=0)
        _check("app_weight", self.app_weight)
        _check("ip_colocation_weight", self.ip_colocation_weight, high=0)
        _check("behaviour_penalty_weight", self.behaviour_penalty_weight, high=0)
        _check("behaviour_penalty_threshold", self.behaviour_penalty_threshold, low=0)
        _check_decay("behaviour_penalty_decay", self.behaviour_penalty_decay)
        _check_decay("decay_to_zero", self.decay_to_zero)
        if not (isfinite(self.decay_interval) and self.decay_interval > 0):
            raise InvalidInput(f"decay_interval {self.decay_interval:g} is no time")
        if self.ip_colocation_threshold < 1:
            raise InvalidInput(f"ip_colocation_threshold {self.ip_colocation_threshold} must be at least 1")

    def for_topic(self, topic: str) -> TopicScoreParams | None:
        """How the topic counts; None: not at all."""
        return self.topics.get(topic, self.other_topics)


@dataclass(frozen=True, slots=True)
class ScoreThresholds:
    """What a peer with a score below these loses, and what it needs for more. Raises `InvalidInput`."""

    gossip: float = -10.0
    """Below: no gossip to it or from it."""
    publish: float = -50.0
    """Below: none of our own messages to it, beyond the mesh."""
    graylist: float = -80.0
    """Below: all that it sends is ignored."""
    accept_px: float = 10.0
    """At least: the peers are taken that it offers when it prunes us."""
    opportunistic_graft: float = 20.0
    """The median score of a mesh below which better peers are grafted."""

    def __post_init__(self) -> None:
        if not self.graylist <= self.publish <= self.gossip <= 0:
            raise InvalidInput(
                f"thresholds must be graylist {self.graylist:g} <= publish {self.publish:g} <= "
                f"gossip {self.gossip:g} <= 0"
            )
        _check("accept_px", self.accept_px, low=0)
        _check("opportunistic_graft", self.opportunistic_graft, low=0)


def _check(name: str, value: float, *, low: float | None = None, high: float | None = None) -> None:
    if not isfinite(value) or (low is not None and value < low) or (high is not None and value > high):
        bound = "a number" if low is high is None else f"at least {low:g}" if low is not None else f"at most {high:g}"
        raise InvalidInput(f"{name} {value:g} must be {bound}")


def _check_decay(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InvalidInput(f"{name} {value:g} must be between 0 and 1")
