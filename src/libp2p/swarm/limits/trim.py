"""Which connections are worth keeping: tags, and what is closed above the high water. Pure: time comes in as `now`.

    value of a peer = sum of its tags, each halved every `half_life`

Closed first, of those that are older than the grace and not protected: the least valuable; of these those without
streams; of these those on which nothing was ever read; of these inbound ones; of these the youngest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ...errors import LimitExceeded
from ...identity import PeerId

K = TypeVar("K")

_MAX_TAGGED = 65536
"""Peers that may have tags; those tagged first are forgotten."""

_MAX_TAGS = 32
"""Tags of one peer."""

_SPENT = 0.01
"""A tag that has decayed to less than this is none any more."""


@dataclass(frozen=True, slots=True)
class Candidate(Generic[K]):
    """A connection that may be closed."""

    key: K
    value: float
    """Of its peer."""
    has_streams: bool
    has_spoken: bool
    """Whether anything was ever read on its streams."""
    is_outbound: bool
    age: float
    """Seconds."""


def least_worth(candidates: Iterable[Candidate[K]], count: int, *, grace: float) -> list[K]:
    """The keys of at most `count` connections that are closed: see the head of the module."""
    ordered = sorted(
        (one for one in candidates if one.age >= grace),
        key=lambda one: (one.value, one.has_streams, one.has_spoken, one.is_outbound, one.age),
    )
    return [one.key for one in ordered[: max(0, count)]]


@dataclass(slots=True)
class _Tag:
    value: float
    half_life: float | None
    since: float

    def at(self, now: float) -> float:
        if self.half_life is None:
            return self.value
        return float(self.value * 0.5 ** ((now - self.since) / self.half_life))


class PeerTags:
    """What the peers are worth, and who protects them."""

    def __init__(self) -> None:
        self._tags: dict[PeerId, dict[str, _Tag]] = {}
        self._protected: dict[PeerId, set[str]] = {}

    def tag(self, peer: PeerId, tag: str, value: float, now: float, *, half_life: float | None = None) -> None:
        """`peer` is worth `value` more, halved every `half_life` seconds; what the same tag said before is replaced.
        Raises `LimitExceeded` for too many tags of one peer.
        """
        tags = self._tags.pop(peer, {})
        self._tags[peer] = tags  # it is the newest
        if tag not in tags and len(tags) >= _MAX_TAGS:
            raise LimitExceeded("tags", scope=f"peer {peer}", value=_MAX_TAGS)
        tags[tag] = _Tag(value, half_life, now)
        if len(self._tags) > _MAX_TAGGED:
            del self._tags[next(iter(self._tags))]

    def untag(self, peer: PeerId, tag: str) -> None:
        """Take the tag away, if it has it."""
        tags = self._tags.get(peer, {})
        tags.pop(tag, None)
        if not tags:
            self._tags.pop(peer, None)

    def value(self, peer: PeerId, now: float) -> float:
        """What `peer` is worth. Spent tags are forgotten on the way."""
        tags = self._tags.get(peer)
        if tags is None:
            return 0.0
        worth = {name: tag.at(now) for name, tag in tags.items()}
        for name, value in worth.items():
            if tags[name].half_life is not None and abs(value) < _SPENT:
                self.untag(peer, name)
        return sum(worth.values())

    def protect(self, peer: PeerId, tag: str) -> None:
        """Keep the connections to `peer` until every tag is taken back by `unprotect`."""
        self._protected.setdefault(peer, set()).add(tag)

    def unprotect(self, peer: PeerId, tag: str) -> bool:
        """Take back one tag; whether others still protect `peer`."""
        tags = self._protected.get(peer, set())
        tags.discard(tag)
        if not tags:
            self._protected.pop(peer, None)
        return bool(tags)

    def protections(self, peer: PeerId) -> frozenset[str]:
        """The tags that protect `peer`."""
        return frozenset(self._protected.get(peer, ()))
