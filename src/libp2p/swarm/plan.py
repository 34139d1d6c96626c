"""What to do next in one dial: which names to look up, which addresses to try, how long to wait. Pure: time comes in as
`now`, in seconds, and nothing waits here.

    given, known -> names ---- look up ----> resolved
                 -> addresses -> judged -> ranked -> tried -> a connection, or an error

Rules:
- What needs no name is tried at once; names are looked up meanwhile, so many at a time.
- `step` is the one place that decides. All that may speak against an address (it is our own, it rests after a failure,
  no transport dials it, it is not allowed) is asked there, at one moment: the one at which the address may be tried.
- Addresses that come later are ranked with those that there are. What is due by then starts at once.
- What becomes of every address is in `errors`, once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ..errors import Libp2pError, ResolveError
from ..identity import PeerId
from ..multiaddr import Multiaddr, begins_with_name, unmapped
from .ranking import rank


class Step(NamedTuple):
    """What to do now."""

    look_up: Sequence[Multiaddr]
    dial: Sequence[Multiaddr]
    wait: float | None
    """Seconds until the next step, unless something happens before; None: nothing is planned."""


class Origin(NamedTuple):
    """Where an address that may be dialed came from."""

    addr: Multiaddr
    """As it was given, or known: with the name that led to it."""
    is_given: bool
    """Whether the caller gave it."""
    host_name: str = ""
    """The name of its host, where it was looked up by one."""


Obstacle = Callable[[Multiaddr, Origin], Exception | None]
"""What speaks against dialing an address now, if anything does."""


class DialPlan:
    """The addresses of one dial, in the order in which they are wanted: those given by the caller, then those known."""

    def __init__(
        self,
        peer: PeerId | None,
        given: Iterable[Multiaddr],
        known: Iterable[Multiaddr],
        *,
        max_addrs: int,
        max_parallel: int,
        max_lookups: int,
    ) -> None:
        self.errors: dict[Multiaddr, Exception] = {}
        """By address, why it did not lead to a connection."""
        self._peer = peer
        self._max_addrs = max_addrs
        self._max_parallel = max_parallel
        self._max_lookups = max_lookups
        self._names: deque[Origin] = deque()
        self._looking_up: dict[Multiaddr, Origin] = {}
        self._waiting: dict[Multiaddr, Origin] = {}
        self._tried: dict[Multiaddr, Origin] = {}
        self._running: set[Multiaddr] = set()
        self._start: float | None = None
        wanted = dict.fromkeys(given, True)
        for addr in known:
            wanted.setdefault(addr, False)
        for origin in (Origin(addr, is_given) for addr, is_given in wanted.items()):
            if begins_with_name(origin.addr):
                self._names.append(origin)
            else:
                self._candidate(origin.addr, origin)

    # What has happened

    def resolved(self, name: Multiaddr, outcome: Mapping[Multiaddr, str] | Exception) -> None:
        """`name` was looked up: the addresses, each with the name of its host."""
        origin = self._looking_up.pop(name)
        if isinstance(outcome, Exception):
            self.errors[name] = outcome
            return
        for addr, host_name in outcome.items():
            self._candidate(addr, origin._replace(host_name=host_name))

    def host_name(self, addr: Multiaddr) -> str:
        """The name that `addr`, which is tried, was looked up by; "" where there was none."""
        return self._tried[addr].host_name

    def failed(self, addr: Multiaddr, error: Exception) -> None:
        """The attempt at `addr` came to nothing."""
        self._running.discard(addr)
        self.errors[addr] = error

    def out_of_time(self, error: Exception) -> None:
        """The dial's limit is over: what has no outcome yet has this one."""
        for addr in (*self._running, *self._waiting, *self._looking_up, *(origin.addr for origin in self._names)):
            self.errors.setdefault(addr, error)

    # What to do

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to try, nor to wait for."""
        return not (self._waiting or self._running or self._looking_up or self._names)

    @property
    def is_alone(self) -> bool:
        """Whether one attempt is all that is left, and nothing can come beside it."""
        return len(self._running) == 1 and not (self._waiting or self._looking_up or self._names)

    def step(self, now: float, obstacle: Obstacle) -> Step:
        """Decide: what it returns counts as begun."""
        if self._start is None:
            self._start = now
        look_up = self._next_lookups()
        for addr, origin in list(self._waiting.items()):
            if (error := obstacle(addr, origin)) is not None:
                del self._waiting[addr]
                self.errors[addr] = error
        dial: list[Multiaddr] = []
        if not self._waiting:
            return Step(look_up, dial, None)
        for delay, addr in rank([*self._tried, *self._waiting]):
            if addr not in self._waiting:
                continue
            if len(self._running) >= self._max_parallel:
                return Step(look_up, dial, None)
            if self._running and (due := self._start + delay) > now:
                return Step(look_up, dial, due - now)
            self._tried[addr] = self._waiting.pop(addr)
            self._running.add(addr)
            dial.append(addr)
        return Step(look_up, dial, None)

    # Inside

    def _next_lookups(self) -> list[Multiaddr]:
        begun = []
        while self._names and len(self._looking_up) < self._max_lookups:
            origin = self._names.popleft()
            self._looking_up[origin.addr] = origin
            begun.append(origin.addr)
        return begun

    def _candidate(self, addr: Multiaddr, origin: Origin) -> None:
        """An address without a name, with or without /p2p: it waits for its attempt, unless it is known already."""
        named, bare = addr.peer_id_text, unmapped(addr.without_peer())
        if named is not None and self._peer is not None and named != str(self._peer):
            self.errors[addr] = ResolveError(f"it leads to another peer than {self._peer}")
        elif not len(bare):
            self.errors[addr] = ResolveError("it names a peer, and no address")
        elif bare in self._waiting:
            if origin.is_given:
                self._waiting[bare] = origin
        elif bare not in self._tried and len(self._waiting) + len(self._tried) < self._max_addrs:
            self._waiting[bare] = origin


def unfinished(seconds: float) -> Libp2pError:
    """What is said of an address that the dial's limit did not leave time for."""
    return Libp2pError(f"not finished when the dial's limit of {seconds:g} s was over")
