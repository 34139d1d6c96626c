"""A lookup: which peers are nearest to a key. A state machine: what to ask next is a plain function of what came; time
comes in as `now`, in seconds. Spec: kad-dht/README.md, "Peer routing"; the end is Amino's.

    HEARD --ask--> WAITING --answered--> ANSWERED           one that is SLOW or OVERDUE may still answer
                      |--- patience over --> SLOW --- and again --> OVERDUE
                      '--- failed --------> FAILED

Rules:
- The nearest peers are asked first, `alpha` at a time. A slow one does not count among these, so it holds up nobody.
  At the end, those that would be part of the result are waited for as long again, and no longer.
- It converges when the `beta` nearest peers, without those that failed or are slow, have answered, or when there is
  nobody left to ask. Then the rest of the `k` nearest are asked, all at once: the result is peers that answered.
- Where peers crowd around the key (sybils) it is widened: it goes on until those of the key's whole region, who share
  as many bits with it, have been asked, so that the honest ones behind the crowd are found. Of those that share equally
  many bits so many are asked as chance may put there: a crowd costs no more requests for being larger.
- Bounded: `max_requests` are asked at most, `max_candidates` remembered at most: the nearest.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from ...identity import PeerId
from .keys import BITS, Position, peer_position


@dataclass(frozen=True, slots=True)
class LookupConfig:
    """What a lookup does, and its limits."""

    k: int = 20
    """Peers that are looked for."""
    alpha: int = 10
    """Requests under way at a time, slow ones not counted."""
    beta: int = 3
    """The search converges when so many nearest peers have answered."""
    max_requests: int = 400
    """Peers that are asked in all."""
    max_candidates: int = 1000
    """Peers that are remembered; further ones are dropped."""


class State(Enum):
    """What is known of a candidate."""

    HEARD = "heard"
    WAITING = "waiting"
    SLOW = "slow"
    OVERDUE = "overdue"
    ANSWERED = "answered"
    FAILED = "failed"


_BEING_WAITED_FOR = (State.WAITING, State.SLOW)
_PASSED_OVER = (State.FAILED, State.SLOW, State.OVERDUE)


@dataclass(slots=True)
class Candidate:
    """A peer that was heard of. `hops`: answers between the first peers (0) and the one that named it."""

    distance: int
    peer: PeerId
    hops: int
    state: State = State.HEARD
    impatient_at: float = 0.0
    """When it becomes slow, or, slow already, overdue."""
    patience: float = 0.0

    def __lt__(self, other: Candidate) -> bool:
        return self.distance < other.distance

    @property
    def common(self) -> int:
        """Bits that it shares with the target."""
        return BITS - self.distance.bit_length()


@dataclass(frozen=True, slots=True)
class _Region:
    """Those who share `bits` bits with the target, in a network of so many servers."""

    bits: int
    servers: float

    def most(self, common: int) -> float:
        """How many honest servers share exactly `common` bits with the target, at most: twice what is to be expected,
        and two. There are hardly ever more.
        """
        return self.servers / float(1 << common) + 2


class Lookup:
    """The search for the peers nearest to `target`, starting from `seeds`."""

    def __init__(
        self,
        target: Position,
        seeds: Iterable[PeerId],
        config: LookupConfig | None = None,
        *,
        own: PeerId | None = None,
    ) -> None:
        self.target = target
        self._config = config or LookupConfig()
        self._own = own
        self._region: _Region | None = None
        self._asked: Counter[int] = Counter()  # by the bits that they share with the target
        self._order: list[Candidate] = []  # the nearest first
        self._candidates: dict[PeerId, Candidate] = {}
        self._converged = False
        self.requests = 0
        """Peers asked so far."""
        for peer in seeds:
            self._hear(peer, 0)

    # What to do

    def ask(self, now: float, patience: Callable[[PeerId], float]) -> list[PeerId]:
        """The peers to ask now; they count as asked. One that does not answer for as many seconds as `patience` says is
        slow, behind twice as many overdue.
        """
        for candidate in self._order:
            if candidate.state in _BEING_WAITED_FOR and candidate.impatient_at <= now:
                candidate.state = State.SLOW if candidate.state is State.WAITING else State.OVERDUE
                candidate.impatient_at += candidate.patience
        asked: list[PeerId] = []
        while (chosen := self._next()) is not None:
            chosen.state = State.WAITING
            chosen.patience = patience(chosen.peer)
            chosen.impatient_at = now + chosen.patience
            self.requests += 1
            self._asked[chosen.common] += 1
            asked.append(chosen.peer)
        return asked

    def widen(self, bits: int, servers: float) -> None:
        """Go on: in the whole region that shares `bits` bits with the target, in a network of so many servers."""
        self._region = _Region(bits, servers)
        self._converged = False

    def hear(self, other: Lookup) -> None:
        """Hear of all that another lookup has heard of; they count as named by the first peers."""
        for peer in other.heard():
            self._hear(peer, 1)

    def take_for_answered(self) -> None:
        """All that were heard of are known to be there: nobody is asked."""
        for candidate in self._order:
            candidate.state = State.ANSWERED

    def answered(self, peer: PeerId, closer: Iterable[PeerId]) -> None:
        """A peer has answered, and named these."""
        candidate = self._candidates.get(peer)
        if candidate is None or candidate.state is State.ANSWERED:
            return
        candidate.state = State.ANSWERED
        for one in closer:
            self._hear(one, candidate.hops + 1)

    def failed(self, peer: PeerId) -> None:
        """A peer was not reached, did not answer in time, or answered nonsense."""
        candidate = self._candidates.get(peer)
        if candidate is not None and candidate.state is not State.ANSWERED:
            candidate.state = State.FAILED

    # What is known

    @property
    def finished(self) -> bool:
        """Whether nothing is under way that the result needs, and nobody is left to ask: to be read behind `ask`.

        Slow peers are waited for where they would be among the `k` nearest, overdue ones only where fewer than `beta`
        have answered.
        """
        counts = Counter(one.state for one in self._order)
        if counts[State.WAITING]:
            return False
        if counts[State.ANSWERED] < self._config.beta:
            return not counts[State.SLOW] and not counts[State.OVERDUE]
        left = self._config.k
        for one in self._order:
            if one.state is State.SLOW:
                return False
            left -= one.state is State.ANSWERED
            if left <= 0:
                break
        return True

    @property
    def next_impatience(self) -> float | None:
        """When the next peer becomes slow, or overdue: `ask` is to be called then."""
        return min((one.impatient_at for one in self._order if one.state in _BEING_WAITED_FOR), default=None)

    def nearest(self, n: int | None = None) -> list[PeerId]:
        """The nearest peers that have answered, the nearest first: `n`, by default `k`."""
        n = self._config.k if n is None else n
        return [one.peer for one in self._order if one.state is State.ANSWERED][:n]

    def answered_within(self, bits: int) -> list[PeerId]:
        """The peers that have answered and share that many bits with the target, the nearest first."""
        return [one.peer for one in self._order if one.state is State.ANSWERED and one.common >= bits]

    def heard(self) -> list[PeerId]:
        """All that were heard of, the nearest first."""
        return [one.peer for one in self._order]

    def hops(self, peer: PeerId) -> int | None:
        """How many answers lie between the first peers and this one; None for one that was not heard of."""
        candidate = self._candidates.get(peer)
        return None if candidate is None else candidate.hops

    def state(self, peer: PeerId) -> State | None:
        """What is known of `peer`; None for one that was not heard of."""
        candidate = self._candidates.get(peer)
        return None if candidate is None else candidate.state

    @property
    def distance_left(self) -> int:
        """Bits of the distance from the target to the nearest peer that has answered; 256 before any has."""
        return next((one.distance.bit_length() for one in self._order if one.state is State.ANSWERED), 256)

    # Inside

    def _next(self) -> Candidate | None:
        """The next peer to ask, if one is to be asked now."""
        if self.requests >= self._config.max_requests:
            return None
        waiting = sum(one.state is State.WAITING for one in self._order)
        if not self._converged:
            self._converged = self._has_converged()
        if self._converged:
            return self._rest()
        if waiting >= self._config.alpha:
            return None
        return next((one for one in self._order if one.state is State.HEARD and self._is_wanted(one)), None)

    def _has_converged(self) -> bool:
        """Whether the nearest that can be reached have answered."""
        left = self._config.beta
        for one in self._order:
            if one.state in _PASSED_OVER or (one.state is State.HEARD and not self._is_wanted(one)):
                continue
            in_region = self._region is not None and one.common >= self._region.bits
            if one.state is not State.ANSWERED:
                if left > 0 or in_region:
                    return False
            else:
                left -= 1
            if left <= 0 and not in_region:
                return True
        return left <= 0 or not any(one.state in (State.SLOW, State.OVERDUE) for one in self._order)

    def _is_wanted(self, candidate: Candidate) -> bool:
        """Whether a peer heard of may be asked: not one more of a crowd."""
        region, common = self._region, candidate.common
        return region is None or common < region.bits or self._asked[common] < region.most(common)

    def _rest(self) -> Candidate | None:
        """The next of the `k` nearest that has not been asked, failed and slow ones not counted."""
        left = self._config.k
        for one in self._order:
            if one.state is State.HEARD and self._is_wanted(one):
                return one
            left -= one.state in (State.ANSWERED, State.WAITING)
            if left <= 0:
                return None
        return None

    def _hear(self, peer: PeerId, hops: int) -> None:
        known = self._candidates.get(peer)
        if known is not None:
            known.hops = min(known.hops, hops)
        if known is not None or peer == self._own:
            return
        candidate = Candidate(peer_position(peer) ^ self.target, peer, hops)
        if len(self._order) >= self._config.max_candidates and not self._make_room(candidate):
            return
        self._candidates[peer] = candidate
        insort(self._order, candidate)

    def _make_room(self, candidate: Candidate) -> bool:
        """Drop the farthest peer that was not asked yet, if it is farther than `candidate`."""
        for index in range(len(self._order) - 1, -1, -1):
            one = self._order[index]
            if one < candidate:
                return False
            if one.state is State.HEARD:
                del self._order[index], self._candidates[one.peer]
                return True
        return False
