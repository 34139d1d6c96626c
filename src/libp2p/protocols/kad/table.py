"""The routing table: which servers of the DHT we know, many that are near to us and few that are far. A state machine:
time comes in as `now`, in seconds. Spec: kad-dht/README.md, "Kademlia routing table".

    bucket i        up to k peers that share exactly i bits with us
    last bucket     up to k peers that share as many or more; when it is full it is split into two

Rules:
- Who comes in has answered a request just before (the service asks): a table of hearsay can be filled by anybody.
- A full bucket takes a new peer only in the place of one that is replaceable: one that has not answered for `grace`
  seconds. The service asks each peer for life more often, so those that live stay, however many others come: an
  attacker can't push honest peers out (eclipse attacks).
- Of one group of public addresses (`diversity`) there are at most `max_per_group` peers in the table, and
  `max_per_group_and_bucket` among those that share equally many bits with us. The group is that of the address at
  which a peer answered, not of those that it claims.
- A peer that fails to answer leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from ...identity import PeerId
from .diversity import Group
from .keys import BITS, Position, common_prefix, peer_position

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TableConfig:
    """Limits of the routing table; times in seconds."""

    k: int = 20
    """Peers in a bucket, and in an answer (the spec's replication parameter)."""
    max_per_group: int = 3
    """Peers of one group of public addresses (IPv4 /16, IPv6 /32) in the table; 0: any number."""
    max_per_group_and_bucket: int = 2
    """The same, of those that share equally many bits with us; 0: any number."""
    grace: float = 7200.0
    """A peer that has not answered for so long is replaced by a new one where its bucket is full. To be longer than
    `KadConfig.max_silence` and `refresh_interval` together."""


class Admission(Enum):
    """What came of offering a peer to the table."""

    ADDED = "added"
    KNOWN = "known"
    FULL = "its bucket is full"
    CROWDED = "too many peers of its group of addresses"
    SELF = "it is this peer"


@dataclass(slots=True)
class Entry:
    """A peer in the table."""

    peer: PeerId
    position: Position
    common: int
    """Bits that it shares with us."""
    group: Group | None
    """The group of the address at which it answered."""
    answered: float
    """When it last answered a request of ours."""


class RoutingTable:
    """The servers that we know. `own` is our position."""

    def __init__(self, own: PeerId, config: TableConfig | None = None) -> None:
        self._own = own
        self._position = peer_position(own)
        self._config = config or TableConfig()
        self._buckets: list[dict[PeerId, Entry]] = [{}]
        self._groups: Counter[Group] = Counter()
        self._group_buckets: Counter[tuple[Group, int]] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    def __iter__(self) -> Iterator[PeerId]:
        for bucket in self._buckets:
            yield from bucket

    def __contains__(self, peer: object) -> bool:
        return isinstance(peer, PeerId) and peer in self._bucket_of(peer)

    @property
    def bucket_sizes(self) -> list[int]:
        """How many peers each bucket has."""
        return [len(bucket) for bucket in self._buckets]

    def entry(self, peer: PeerId) -> Entry | None:
        """What the table holds of `peer`."""
        return self._bucket_of(peer).get(peer)

    def would_admit(self, peer: PeerId, group: Group | None, now: float) -> Admission:
        """What `add` would return: whether a peer is worth being asked a question before it is added."""
        if peer == self._own:
            return Admission.SELF
        if peer in self:
            return Admission.KNOWN
        rivals = self._rivals(peer)
        victim = self._victim(rivals, now) if rivals else None
        if rivals and victim is None:
            return Admission.FULL
        if self._is_crowded(self._common(peer), group, victim):
            return Admission.CROWDED
        return Admission.ADDED

    def add(self, peer: PeerId, group: Group | None, now: float) -> Admission:
        """Add a peer that has just answered, from an address of `group`."""
        outcome = self.would_admit(peer, group, now)
        if outcome is Admission.KNOWN:
            self.answered(peer, now)
        if outcome is not Admission.ADDED:
            return outcome
        if (victim := self._victim(self._rivals(peer), now)) is not None:
            self.remove(victim.peer)
        while len(self._bucket_of(peer)) >= self._config.k:
            self._split()
        common = self._common(peer)
        self._bucket_of(peer)[peer] = Entry(peer, peer_position(peer), common, group, now)
        if group is not None:
            self._groups[group] += 1
            self._group_buckets[group, common] += 1
        return outcome

    def answered(self, peer: PeerId, now: float) -> None:
        """A peer has answered a request of ours."""
        if (entry := self.entry(peer)) is not None:
            entry.answered = now

    def remove(self, peer: PeerId) -> bool:
        """A peer did not answer, is no server any more, or is gone; whether it was in the table."""
        entry = self._bucket_of(peer).pop(peer, None)
        if entry is None:
            return False
        if entry.group is not None:
            _take_off(self._groups, entry.group)
            _take_off(self._group_buckets, (entry.group, entry.common))
        while len(self._buckets) > 1 and not self._buckets[-1] and not self._buckets[-2]:
            self._buckets.pop()
        return True

    def nearest(self, target: Position, n: int, *, without: Iterable[PeerId] = ()) -> list[PeerId]:
        """The `n` peers nearest to `target`, the nearest first."""
        left_out = set(without)
        entries = [
            (entry.position ^ target, peer)
            for bucket in self._buckets
            for peer, entry in bucket.items()
            if peer not in left_out
        ]
        entries.sort()
        return [peer for _, peer in entries[:n]]

    def silent(self, now: float, silence: float) -> list[PeerId]:
        """The peers that have not answered for `silence` seconds, the longest silent first: to be asked for life."""
        entries = [entry for bucket in self._buckets for entry in bucket.values() if now - entry.answered >= silence]
        return [entry.peer for entry in sorted(entries, key=lambda entry: entry.answered)]

    def to_refresh(self) -> list[int]:
        """For which numbers of common bits a refresh looks up a key: each bucket that there is."""
        return list(range(len(self._buckets)))

    def _common(self, peer: PeerId) -> int:
        return common_prefix(self._position, peer_position(peer))

    def _bucket_of(self, peer: PeerId) -> dict[PeerId, Entry]:
        return self._buckets[min(self._common(peer), len(self._buckets) - 1)]

    def _can_split(self, peer: PeerId) -> bool:
        return self._common(peer) >= len(self._buckets) - 1 and len(self._buckets) < BITS

    def _rivals(self, peer: PeerId) -> list[Entry]:
        """Where there is no room for the peer, not even behind splits: those that it would share its bucket with."""
        bucket = self._bucket_of(peer)
        entries = list(bucket.values())
        if len(bucket) >= self._config.k and self._can_split(peer):
            # Behind all splits that can be, its bucket holds those that share as many bits with us as it does.
            common = self._common(peer)
            entries = [entry for entry in entries if entry.common == common]
        return entries if len(entries) >= self._config.k else []

    def _split(self) -> None:
        last, edge = self._buckets[-1], len(self._buckets)
        self._buckets[-1] = {peer: entry for peer, entry in last.items() if entry.common < edge}
        self._buckets.append({peer: entry for peer, entry in last.items() if entry.common >= edge})

    def _victim(self, rivals: Iterable[Entry], now: float) -> Entry | None:
        """The peer that goes where its bucket is full: the one that has been silent longest, after `grace` only."""
        candidate = min(rivals, key=lambda entry: entry.answered, default=None)
        return candidate if candidate is not None and now - candidate.answered >= self._config.grace else None

    def _is_crowded(self, common: int, group: Group | None, victim: Entry | None) -> bool:
        if group is None:
            return False
        leaves = victim is not None and victim.group == group
        in_table = self._groups[group] - leaves
        in_bucket = self._group_buckets[group, common] - (leaves and victim is not None and victim.common == common)
        config = self._config
        return bool(
            (config.max_per_group and in_table >= config.max_per_group)
            or (config.max_per_group_and_bucket and in_bucket >= config.max_per_group_and_bucket)
        )


def _take_off(counter: Counter[T], key: T) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
