"""The peer gater: whose messages are looked at while there are more than validators can take. Spec: gossipsub-v1.1.md,
"Spam Protection Measures"; the numbers are go-libp2p-pubsub's (peer_gater.go).

        throttled / validated  >= threshold, of late     the gater is on: for each RPC with messages dice are rolled
        1 + deliveries
        -------------------------------------------      the chance that they are looked at (random early drop)
        1 + deliveries + duplicates / 8 + ignored + 16 rejected

Rules:
- It is reactive: as long as validation keeps up, all are listened to, and nothing is counted against anybody.
- All peers of one address share one record: who comes with a hundred names is listened to as one. In IPv6 a /64 is one
  address. A peer of whom no address is known has a record of its own.
- It drops messages, never control; and nobody for ever: a first delivery is always possible.
- A record outlasts its peers for a while, so that nobody gets rid of it by connecting anew; how many do is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from random import Random

from ...errors import InvalidInput
from ...identity import PeerId
from .score import Rejection, decay_over


@dataclass(frozen=True, slots=True)
class PeerGaterParams:
    """When the gater is on, and what counts against whom; times in seconds. Raises `InvalidInput`."""

    threshold: float = 0.33
    """Throttled messages for each validated one from which on the gater is on."""
    quiet: float = 60.0
    """Time without a throttled message behind which it is off."""
    global_decay: float = decay_over(120.0)
    """The factor by which the counts of throttled and validated messages decay, each `decay_interval`."""
    source_decay: float = decay_over(3600.0)
    """The same for the counts of an address."""
    decay_interval: float = 1.0
    """A heartbeat at the earliest."""
    decay_to_zero: float = 0.01
    """What a count has decayed to when it counts as 0."""
    retain: float = 6 * 3600.0
    """Time for which the record of an address is kept behind its last peer."""
    max_retained: int = 10_000
    """Such records at most; the oldest make way."""
    duplicate_weight: float = 0.125
    """What a copy counts, where a first delivery counts 1."""
    ignore_weight: float = 1.0
    """What a message counts that validators ignore."""
    reject_weight: float = 16.0
    """What one counts that is wrong."""
    topic_weights: Mapping[str, float] = field(default_factory=dict)
    """What a first delivery counts in a topic, if not 1: topics that matter more are worth more."""

    def __post_init__(self) -> None:
        for name in ("threshold", "quiet", "decay_interval", "duplicate_weight"):
            _check(name, getattr(self, name), above=0)
        for name in ("ignore_weight", "reject_weight"):
            _check(name, getattr(self, name), low=1)
        for name in ("global_decay", "source_decay", "decay_to_zero"):
            if not 0 < getattr(self, name) < 1:
                raise InvalidInput(f"{name} {getattr(self, name):g} must be between 0 and 1")
        _check("retain", self.retain, low=0)
        _check("max_retained", self.max_retained, low=0)
        for topic, weight in self.topic_weights.items():
            _check(f"weight of {topic!r}", weight, above=0)


@dataclass(slots=True)
class Source:
    """The record of an address."""

    peers: set[PeerId] = field(default_factory=set)
    """Those that come from it now."""
    expires: float = 0.0
    """When it is forgotten, if there are none."""
    delivered: float = 0.0
    duplicate: float = 0.0
    ignored: float = 0.0
    rejected: float = 0.0


class PeerGater:
    """Counts, and decides by `dice`. Without `params` all are accepted. `now` is in seconds of a clock that doesn't
    go back.
    """

    def __init__(self, params: PeerGaterParams | None, dice: Random) -> None:
        self.enabled = params is not None
        self.validated = 0.0
        self.throttled = 0.0
        self._params = params or PeerGaterParams()
        self._dice = dice
        self._throttled_at: float | None = None
        self._sources: dict[str | PeerId, Source] = {}
        self._of_peer: dict[PeerId, str | PeerId] = {}
        self._retained: dict[str | PeerId, None] = {}
        self._refreshed: float | None = None

    # The decision

    def is_on(self, now: float) -> bool:
        """Whether validation has been overloaded of late."""
        params = self._params
        return (
            self._throttled_at is not None
            and now - self._throttled_at <= params.quiet
            and self.throttled > 0
            and self.throttled >= params.threshold * self.validated
        )

    def accepts(self, peer: PeerId, now: float) -> bool:
        """Whether the messages of an RPC of `peer` are looked at."""
        return not self.enabled or not self.is_on(now) or self._dice.random() < self.chance(peer)

    def chance(self, peer: PeerId) -> float:
        """The chance that they are, while the gater is on."""
        source = self.source(peer)
        if source is None:
            return 1.0
        params = self._params
        total = (
            source.delivered
            + params.duplicate_weight * source.duplicate
            + params.ignore_weight * source.ignored
            + params.reject_weight * source.rejected
        )
        return (1 + source.delivered) / (1 + total)

    def source(self, peer: PeerId) -> Source | None:
        """The record that counts for `peer`, not to be changed; None for a peer that is not here."""
        return self._sources.get(self._of_peer.get(peer, peer)) if self.enabled else None

    # What happens

    def peer_up(self, peer: PeerId, address: str | None, now: float) -> None:
        """The peer is here, from this address: what `ip_keys` calls it."""
        if not self.enabled:
            return
        key = address if address is not None else peer
        if self._of_peer.get(peer) == key:
            return
        self.peer_down(peer, now)
        self._of_peer[peer] = key
        self._sources.setdefault(key, Source()).peers.add(peer)
        self._retained.pop(key, None)

    def peer_down(self, peer: PeerId, now: float) -> None:
        """The peer is gone."""
        key = self._of_peer.pop(peer, None)
        if key is None:
            return
        source = self._sources[key]
        source.peers.discard(peer)
        if not source.peers:
            source.expires = now + self._params.retain
            self._retained[key] = None
            while len(self._retained) > self._params.max_retained:
                self._forget(next(iter(self._retained)))

    def validating(self) -> None:
        """A message that is new is about to be judged."""
        self.validated += 1

    def delivered(self, peer: PeerId, topic: str) -> None:
        """The message that `peer` was the first to bring is valid."""
        if (source := self.source(peer)) is not None:
            source.delivered += self._params.topic_weights.get(topic, 1.0)

    def duplicate(self, peer: PeerId) -> None:
        """The peer brought a copy."""
        if (source := self.source(peer)) is not None:
            source.duplicate += 1

    def rejected(self, peer: PeerId, why: Rejection, now: float) -> None:
        """The message that `peer` was the first to bring is not delivered."""
        if why is Rejection.THROTTLED:
            self.throttled += 1
            self._throttled_at = now
        elif (source := self.source(peer)) is not None:
            if why is Rejection.IGNORED:
                source.ignored += 1
            else:
                source.rejected += 1

    def refresh(self, now: float) -> None:
        """Let the counts decay, and forget what is over: to be called each heartbeat."""
        params = self._params
        if not self.enabled or (self._refreshed is not None and now - self._refreshed < params.decay_interval - 1e-6):
            return
        self._refreshed = now
        self.validated = self._decay(self.validated, params.global_decay)
        self.throttled = self._decay(self.throttled, params.global_decay)
        for source in self._sources.values():
            if source.peers:
                source.delivered = self._decay(source.delivered, params.source_decay)
                source.duplicate = self._decay(source.duplicate, params.source_decay)
                source.ignored = self._decay(source.ignored, params.source_decay)
                source.rejected = self._decay(source.rejected, params.source_decay)
        for key in [key for key in self._retained if self._sources[key].expires < now]:
            self._forget(key)

    # Inside

    def _decay(self, count: float, factor: float) -> float:
        count *= factor
        return count if count >= self._params.decay_to_zero else 0.0

    def _forget(self, key: str | PeerId) -> None:
        del self._retained[key], self._sources[key]


def gater_address(ips: tuple[str, ...]) -> str | None:
    """What the gater takes for a peer's address, of what `ip_keys` gives for that: of IPv6 the /64."""
    return ips[-1] if ips else None


def _check(name: str, value: float, *, above: float | None = None, low: float | None = None) -> None:
    if not isfinite(value) or (above is not None and value <= above) or (low is not None and value < low):
        bound = f"more than {above:g}" if above is not None else f"at least {low:g}"
        raise InvalidInput(f"{name} {value:g} must be {bound}")
