"""The scores of all peers: counters, and the one sum over them. `params` says what it is made of.

Rules, with go-libp2p-pubsub (whose scores these equal, for the same events at the same times, where
`TopicScoreParams.deficit_outside_mesh` is set):
- Counters of peers that are gone don't decay; a positive score goes with the peer, another is kept for a while, so
  that nobody gets rid of it by connecting anew.
- Who brings a copy while a message is validated, or shortly after, has delivered it, too; once for each peer.
- Beyond it: how many peers that are gone, and how many messages, are remembered is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address

from ....identity import PeerId
from .params import ScoreParams, TopicScoreParams


class Rejection(Enum):
    """What became of a message that was validated and is not delivered."""

    INVALID = "invalid"
    """The validator, or the signature, says it is wrong: P4 for all who brought it."""
    IGNORED = "ignored"
    """The validator does not want it, and blames nobody."""
    THROTTLED = "throttled"
    """There was no room for validating it."""


@dataclass(slots=True)
class TopicStats:
    """The counters of a peer in a topic."""

    in_mesh: bool = False
    grafted_at: float = 0.0
    mesh_time: float = 0.0
    """Seconds in the mesh, as of the last `PeerScores.refresh`."""
    first_message_deliveries: float = 0.0
    mesh_message_deliveries: float = 0.0
    mesh_message_deliveries_active: bool = False
    mesh_failure_penalty: float = 0.0
    invalid_message_deliveries: float = 0.0

    def deficit(self, params: TopicScoreParams) -> float:
        """Mesh deliveries that lack; 0 until the peer is long enough in the mesh, and behind its time there."""
        if not self.mesh_message_deliveries_active or not (self.in_mesh or params.deficit_outside_mesh):
            return 0.0
        return max(0.0, params.mesh_message_deliveries_threshold - self.mesh_message_deliveries)


@dataclass(slots=True)
class PeerStats:
    """The counters of a peer."""

    connected: bool = True
    expires: float = 0.0
    """When it is forgotten, if it is not connected."""
    topics: dict[str, TopicStats] = field(default_factory=dict)
    ips: tuple[str, ...] = ()
    behaviour_penalty: float = 0.0


@dataclass(slots=True)
class _Delivery:
    """Who brought a message, and what it turned out to be: None while it is validated, True where it is valid."""

    state: Rejection | bool | None = None
    validated: float = 0.0
    peers: dict[PeerId, None] = field(default_factory=dict)


class PeerScores:
    """Keeps the counters. `now` is in seconds of any clock that doesn't go back. Without `params` all score 0."""

    def __init__(self, params: ScoreParams | None) -> None:
        self.params = params or ScoreParams()
        self.enabled = params is not None
        self._peers: dict[PeerId, PeerStats] = {}
        self._retained: dict[PeerId, None] = {}
        self._by_ip: dict[str, dict[PeerId, None]] = {}
        self._deliveries: dict[bytes, _Delivery] = {}
        self._expiry: deque[tuple[float, bytes]] = deque()
        self._allowed: dict[str, bool] = {}

    # The score

    def stats(self, peer: PeerId) -> PeerStats | None:
        """The counters of `peer`, not to be changed; None where there are none."""
        return self._peers.get(peer)

    def score(self, peer: PeerId) -> float:
        """The peer's score; 0 for one that is not known."""
        stats = self._peers.get(peer)
        if stats is None:
            return 0.0
        params = self.params
        score = 0.0
        for topic, counters in stats.topics.items():
            if (weights := params.for_topic(topic)) is not None:
                score += topic_score(counters, weights) * weights.topic_weight
        if 0 < params.topic_score_cap < score:
            score = params.topic_score_cap
        score += params.app_score(peer) * params.app_weight
        score += self.colocation(stats) * params.ip_colocation_weight
        if stats.behaviour_penalty > params.behaviour_penalty_threshold:
            excess = stats.behaviour_penalty - params.behaviour_penalty_threshold
            score += excess * excess * params.behaviour_penalty_weight
        return score

    def colocation(self, stats: PeerStats) -> float:
        """P6: the squares of how many peers too many there are on each of the peer's addresses."""
        result = 0.0
        for ip in stats.ips:
            surplus = len(self._by_ip.get(ip, ())) - self.params.ip_colocation_threshold
            if surplus > 0 and not self._is_allowed(ip):
                result += float(surplus) * surplus
        return result

    # What happens

    def peer_up(self, peer: PeerId, ips: Iterable[str], now: float) -> None:  # noqa: ARG002 - all events have a time
        """We can talk to `peer`, which has these addresses; each IPv6 address comes with its /64 (see `ip_keys`)."""
        if not self.enabled:
            return
        stats = self._peers.setdefault(peer, PeerStats())
        self._retained.pop(peer, None)
        stats.connected = True
        self.set_ips(peer, ips)

    def set_ips(self, peer: PeerId, ips: Iterable[str]) -> None:
        """The addresses of `peer` have changed."""
        if (stats := self._peers.get(peer)) is None:
            return
        new = tuple(dict.fromkeys(ips))
        self._forget_ips(peer, [ip for ip in stats.ips if ip not in new])
        for ip in new:
            self._by_ip.setdefault(ip, {})[peer] = None
        stats.ips = new

    def peer_down(self, peer: PeerId, now: float) -> None:
        """The peer is gone."""
        stats = self._peers.get(peer)
        if stats is None:
            return
        if self.score(peer) > 0:
            self._forget(peer)
            return
        for topic, counters in stats.topics.items():
            counters.first_message_deliveries = 0.0
            if (weights := self.params.for_topic(topic)) is not None and counters.in_mesh:
                counters.mesh_failure_penalty += counters.deficit(weights) ** 2
            counters.in_mesh = False
        stats.connected = False
        stats.expires = now + self.params.retain_score
        self._retained.pop(peer, None)
        self._retained[peer] = None
        while len(self._retained) > self.params.max_retained:
            self._forget(next(iter(self._retained)))

    def graft(self, peer: PeerId, topic: str, now: float) -> None:
        """The peer is in our mesh of the topic now."""
        if (counters := self._counters(peer, topic)) is not None:
            counters.in_mesh = True
            counters.grafted_at = now
            counters.mesh_time = 0.0
            counters.mesh_message_deliveries_active = False

    def prune(self, peer: PeerId, topic: str) -> None:
        """The peer is not in our mesh of the topic any more."""
        counters, weights = self._counters(peer, topic), self.params.for_topic(topic)
        if counters is not None and weights is not None:
            counters.mesh_failure_penalty += counters.deficit(weights) ** 2
            counters.in_mesh = False

    def validating(self, mid: bytes, now: float) -> None:
        """A message is here for the first time, and is validated now."""
        if self.enabled:
            self._delivery(mid, now)

    def delivered(self, mid: bytes, topic: str, peer: PeerId, now: float) -> None:
        """The message, which `peer` was the first to bring, is valid."""
        if not self.enabled:
            return
        self._first_delivery(peer, topic)
        delivery = self._delivery(mid, now)
        if delivery.state is not None:
            return
        delivery.state, delivery.validated = True, now
        for other in delivery.peers:
            if other != peer:
                self._mesh_delivery(other, topic)

    def rejected(self, mid: bytes, topic: str, peer: PeerId, why: Rejection, now: float) -> None:
        """The message, which `peer` was the first to bring, is not delivered."""
        if not self.enabled:
            return
        delivery = self._delivery(mid, now)
        if delivery.state is not None:
            return
        delivery.state = why
        if why is Rejection.INVALID:
            for culprit in (peer, *delivery.peers):
                self.invalid(culprit, topic)
        delivery.peers = {}

    def invalid(self, peer: PeerId, topic: str) -> None:
        """The peer brought what is no valid message, whatever its id: a bad signature, for instance."""
        if (counters := self._counters(peer, topic)) is not None:
            counters.invalid_message_deliveries += 1

    def duplicate(self, mid: bytes, topic: str, peer: PeerId, now: float) -> None:
        """The peer brought a copy of a message that was here before."""
        if not self.enabled:
            return
        delivery = self._delivery(mid, now)
        if peer in delivery.peers:
            return
        if delivery.state is None:
            delivery.peers[peer] = None
        elif delivery.state is True:
            delivery.peers[peer] = None
            weights = self.params.for_topic(topic)
            if weights is not None and now - delivery.validated <= weights.mesh_message_deliveries_window:
                self._mesh_delivery(peer, topic)
        elif delivery.state is Rejection.INVALID:
            self.invalid(peer, topic)

    def penalize(self, peer: PeerId, count: int = 1) -> None:
        """The peer misbehaved so many times (P7)."""
        if (stats := self._peers.get(peer)) is not None:
            stats.behaviour_penalty += count

    def refresh(self, now: float) -> None:
        """Let the counters decay, and forget what is over: to be called each `decay_interval`."""
        params = self.params
        for peer, stats in list(self._peers.items()):
            if not stats.connected:
                if now > stats.expires:
                    self._forget(peer)
                continue
            for topic, counters in stats.topics.items():
                if (weights := params.for_topic(topic)) is not None:
                    _decay(counters, weights, params.decay_to_zero, now)
            stats.behaviour_penalty = _floor(
                stats.behaviour_penalty * params.behaviour_penalty_decay, params.decay_to_zero
            )
        self._forget_deliveries(now)

    # Inside

    def _counters(self, peer: PeerId, topic: str) -> TopicStats | None:
        stats = self._peers.get(peer)
        if stats is None:
            return None
        counters = stats.topics.get(topic)
        if counters is None and self.params.for_topic(topic) is not None:
            counters = stats.topics[topic] = TopicStats()
        return counters

    def _first_delivery(self, peer: PeerId, topic: str) -> None:
        counters, weights = self._counters(peer, topic), self.params.for_topic(topic)
        if counters is None or weights is None:
            return
        counters.first_message_deliveries = min(
            counters.first_message_deliveries + 1, weights.first_message_deliveries_cap
        )
        self._mesh_delivery(peer, topic)

    def _mesh_delivery(self, peer: PeerId, topic: str) -> None:
        counters, weights = self._counters(peer, topic), self.params.for_topic(topic)
        if counters is not None and weights is not None and counters.in_mesh:
            counters.mesh_message_deliveries = min(
                counters.mesh_message_deliveries + 1, weights.mesh_message_deliveries_cap
            )

    def _delivery(self, mid: bytes, now: float) -> _Delivery:
        delivery = self._deliveries.get(mid)
        if delivery is None:
            delivery = self._deliveries[mid] = _Delivery()
            self._expiry.append((now + self.params.delivery_ttl, mid))
            if len(self._expiry) > self.params.max_deliveries:
                del self._deliveries[self._expiry.popleft()[1]]
        return delivery

    def _forget_deliveries(self, now: float) -> None:
        while self._expiry and self._expiry[0][0] < now:
            del self._deliveries[self._expiry.popleft()[1]]

    def _forget(self, peer: PeerId) -> None:
        stats = self._peers.pop(peer)
        self._retained.pop(peer, None)
        self._forget_ips(peer, stats.ips)

    def _forget_ips(self, peer: PeerId, ips: Iterable[str]) -> None:
        for ip in ips:
            peers = self._by_ip.get(ip, {})
            peers.pop(peer, None)
            if not peers:
                self._by_ip.pop(ip, None)
                self._allowed.pop(ip, None)

    def _is_allowed(self, ip: str) -> bool:
        if not self.params.ip_colocation_allow:
            return False
        allowed = self._allowed.get(ip)
        if allowed is None:
            address = ip_address(ip.partition("/")[0])
            allowed = any(address in network for network in self.params.ip_colocation_allow)
            self._allowed[ip] = allowed
        return allowed


def topic_score(counters: TopicStats, weights: TopicScoreParams) -> float:
    """The score of a peer in a topic, before the topic's weight."""
    score = 0.0
    if counters.in_mesh:
        # Whole quanta, as in go-libp2p-pubsub; the small addition is against 0.3 / 0.1 being 2.9999999999999996.
        quanta = float(int(counters.mesh_time / weights.time_in_mesh_quantum + 1e-9))
        score += min(quanta, weights.time_in_mesh_cap) * weights.time_in_mesh_weight
    score += counters.first_message_deliveries * weights.first_message_deliveries_weight
    score += counters.deficit(weights) ** 2 * weights.mesh_message_deliveries_weight
    score += counters.mesh_failure_penalty * weights.mesh_failure_penalty_weight
    score += counters.invalid_message_deliveries**2 * weights.invalid_message_deliveries_weight
    return score


def ip_keys(ip: str) -> tuple[str, ...]:
    """What P6 counts an address under: itself, and in IPv6 its /64 as well. None for a loopback address."""
    address = ip_address(ip.partition("%")[0])
    if address.is_loopback:
        return ()
    if address.version == 4:
        return (str(address),)
    return str(address), f"{ip_address(int(address) >> 64 << 64)}/64"


def _decay(counters: TopicStats, weights: TopicScoreParams, to_zero: float, now: float) -> None:
    counters.first_message_deliveries = _floor(
        counters.first_message_deliveries * weights.first_message_deliveries_decay, to_zero
    )
    counters.mesh_message_deliveries = _floor(
        counters.mesh_message_deliveries * weights.mesh_message_deliveries_decay, to_zero
    )
    counters.mesh_failure_penalty = _floor(counters.mesh_failure_penalty * weights.mesh_failure_penalty_decay, to_zero)
    counters.invalid_message_deliveries = _floor(
        counters.invalid_message_deliveries * weights.invalid_message_deliveries_decay, to_zero
    )
    if counters.in_mesh:
        counters.mesh_time = now - counters.grafted_at
        if counters.mesh_time > weights.mesh_message_deliveries_activation:
            counters.mesh_message_deliveries_active = True


def _floor(value: float, to_zero: float) -> float:
    return 0.0 if value < to_zero else value
