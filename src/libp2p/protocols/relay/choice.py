"""Which relays to listen at: one decision, made anew whenever something has changed. Pure: time comes in as `now`, in
seconds; chance as a function.

    given, connected, from a source --> candidates --> decide --> listen at these, leave those, ask the source
                                            ^------ back-off <-- refused, unreachable, lost for long

Rules:
- Given relays are all listened at, and never left for others. Others fill up to the number that is wanted.
- Of the others those that we are connected with come first; among equals chance decides, so that relays share the load.
- While few are known, others may still come: a choice waits for `boot_delay` at most.
- A relay that is lost keeps its place while it may be restarting. After `patience` it is left, and backs off.
- Who is public needs no relay. Who does not know yet waits for `unknown_delay`, but for the given ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from ...host.events import Reachability
from ...identity import PeerId
from ...multiaddr import Multiaddr
from .config import AutoRelayConfig

_MAX_BACKOFFS = 1024
_GIVEN_BACKOFF = (1.0, 10.0)
"""Seconds between two attempts at a relay that was given: the first pause, and the longest."""


class Origin(IntEnum):
    """How a relay was found; the best first."""

    GIVEN = 0
    CONNECTED = 1
    SOURCE = 2


@dataclass(slots=True)
class Candidate:
    """A peer that may be a relay, and where it is dialed; the address has its peer id."""

    peer: PeerId
    addr: Multiaddr
    origin: Origin
    seen: float
    chance: float


@dataclass(slots=True)
class _Backoff:
    until: float
    failures: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done now."""

    listen: tuple[Candidate, ...] = ()
    """Ask these for a reservation. They count as taken until `failed` or `left`."""
    leave: tuple[PeerId, ...] = ()
    """Give the reservations at these back."""
    find: int = 0
    """So many more candidates are of use: ask the source, if there is one."""
    wake: float | None = None
    """When to decide again, if nothing happens before."""


@dataclass(slots=True)
class RelayChoice:
    """What is known of relays, and the decision."""

    config: AutoRelayConfig
    dice: Callable[[], float]
    """A number from 0 to 1."""
    started: float
    reachability: Reachability = Reachability.UNKNOWN
    _since: float | None = None
    """When `reachability` has become what it is."""
    _candidates: dict[PeerId, Candidate] = field(default_factory=dict)
    _taken: dict[PeerId, float | None] = field(default_factory=dict)
    """Relays that we listen at, or are asking; and since when they are lost (None: they are not)."""
    _backoffs: OrderedDict[PeerId, _Backoff] = field(default_factory=OrderedDict)

    @property
    def taken(self) -> tuple[PeerId, ...]:
        """The relays that we listen at, or are asking."""
        return tuple(self._taken)

    def found(self, peer: PeerId, addr: Multiaddr, origin: Origin, now: float) -> None:
        """`peer` may be a relay. What was found before keeps its better origin, and its place."""
        known = self._candidates.get(peer)
        if known is not None:
            known.seen = now
            if origin <= known.origin:
                known.origin, known.addr = origin, addr
        elif origin is Origin.GIVEN or self._others() < self.config.max_candidates:
            self._candidates[peer] = Candidate(peer, addr, origin, now, self.dice())

    def no_relay(self, peer: PeerId) -> None:
        """`peer` relays no more. Given ones are asked nevertheless."""
        known = self._candidates.get(peer)
        if known is not None and known.origin is not Origin.GIVEN and peer not in self._taken:
            del self._candidates[peer]

    def reachability_changed(self, reachability: Reachability, now: float) -> None:
        """Whether strangers reach us is known anew."""
        if reachability is not self.reachability:
            self.reachability, self._since = reachability, now

    def reserved(self, peer: PeerId) -> None:
        """`peer` takes connections for us."""
        if peer in self._taken:
            self._taken[peer] = None
            self._backoffs.pop(peer, None)

    def lost(self, peer: PeerId, now: float) -> None:
        """`peer` takes none at the moment; it is asked again and again."""
        if peer in self._taken and self._taken[peer] is None:
            self._taken[peer] = now

    def failed(self, peer: PeerId, now: float) -> None:
        """`peer` gave no reservation when it was asked."""
        self._taken.pop(peer, None)
        self._back_off(peer, now)

    def decide(self, now: float) -> Decision:
        """What is to be done. What it says is taken as done."""
        self._expire(now)
        leave = [peer for peer in self._taken if not self._keeps(peer, now)]
        for peer in leave:
            if self._taken.pop(peer) is not None:
                self._back_off(peer, now)
        listen, find = self._fill(now)
        for candidate in listen:
            self._taken[candidate.peer] = None
        return Decision(tuple(listen), tuple(leave), find, self._next(now))

    # Inside

    def _fill(self, now: float) -> tuple[list[Candidate], int]:
        ready = [one for one in self._candidates.values() if one.peer not in self._taken and self._may_ask(one, now)]
        listen = [one for one in ready if one.origin is Origin.GIVEN] if self._wants_given() else []
        if self.config.relays <= 0 or now < self._wants_others_at():
            return listen, 0
        missing = self.config.relays - len(self._taken) - len(listen)
        others = sorted((one for one in ready if one.origin is not Origin.GIVEN), key=lambda c: (c.origin, c.chance))
        if missing <= 0:
            return listen, 0
        if len(others) >= self.config.min_candidates or now >= self.started + self.config.boot_delay:
            listen += others[:missing]
        return listen, max(0, self.config.min_candidates - len(others))

    def _wants_given(self) -> bool:
        return self.reachability is not Reachability.PUBLIC

    def _wants_others_at(self) -> float:
        if self.reachability is Reachability.PUBLIC:
            return float("inf")
        since = self.started if self._since is None else self._since
        return since + (self.config.unknown_delay if self.reachability is Reachability.UNKNOWN else 0)

    def _keeps(self, peer: PeerId, now: float) -> bool:
        if not self._wants_given():
            return False
        lost, known = self._taken[peer], self._candidates.get(peer)
        is_given = known is not None and known.origin is Origin.GIVEN
        return is_given or lost is None or now < lost + self.config.patience

    def _may_ask(self, candidate: Candidate, now: float) -> bool:
        backoff = self._backoffs.get(candidate.peer)
        return backoff is None or now >= backoff.until

    def _back_off(self, peer: PeerId, now: float) -> None:
        known, before = self._candidates.get(peer), self._backoffs.pop(peer, None)
        failures = 0 if before is None else before.failures + 1
        is_given = known is not None and known.origin is Origin.GIVEN
        least, most = _GIVEN_BACKOFF if is_given else (self.config.min_backoff, self.config.max_backoff)
        pause = min(most, least * 2 ** min(failures, 20)) * (0.75 + self.dice() / 4)
        self._backoffs[peer] = _Backoff(now + pause, failures)
        while len(self._backoffs) > _MAX_BACKOFFS:
            self._backoffs.popitem(last=False)

    def _expire(self, now: float) -> None:
        old = now - self.config.candidate_age
        for peer, one in list(self._candidates.items()):
            if one.origin is not Origin.GIVEN and peer not in self._taken and one.seen <= old:
                del self._candidates[peer]

    def _others(self) -> int:
        return sum(one.origin is not Origin.GIVEN for one in self._candidates.values())

    def _next(self, now: float) -> float | None:
        return min((at for at in self._moments() if now < at < float("inf")), default=None)

    def _moments(self) -> Iterable[float]:
        yield self.started + self.config.boot_delay
        yield self._wants_others_at()
        yield from (lost + self.config.patience for lost in self._taken.values() if lost is not None)
        yield from (self._backoffs[peer].until for peer in self._candidates if peer in self._backoffs)
        yield from (one.seen + self.config.candidate_age for one in self._candidates.values())
