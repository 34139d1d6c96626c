"""How fast handshakes go, all prefixes together: one costly step in a turn of the loop, so many handshakes a second.
Pure: time comes in as `now`, `later` has something called after some seconds (0: in the next turn of the loop).

    first step of a handshake -> its prefix's queue -> one after the other, prefix by prefix
    further steps             -> one queue, which goes first: what has begun comes to its end

Rules:
- While nothing waits, and nothing was begun in this turn, a step goes at once. So a lone dialer is not slowed down.
- Every prefix has its turn: one with a thousand handshakes delays another one by one of them.
- Who waits is bounded by the handshakes that may be under way.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from ...io import TokenBucket

Start = Callable[[], bool]
"""Does a step; False where nobody wants it any more, which takes no turn."""


class Pace:
    """The steps of one host's inbound handshakes. `clock` tells the time in seconds."""

    def __init__(
        self, rate: int, burst: int, clock: Callable[[], float], later: Callable[[float, Callable[[], None]], None]
    ) -> None:
        self._rate = rate
        self._bucket = TokenBucket(rate, burst, clock())
        self._clock = clock
        self._later = later
        self._begun = False  # whether this turn has had its step
        self._going: deque[Start] = deque()
        self._new: OrderedDict[str, deque[Start]] = OrderedDict()  # by prefix; whose turn is next comes first

    @property
    def waiting(self) -> int:
        """Steps that wait."""
        return len(self._going) + sum(map(len, self._new.values()))

    def enter(self, prefix: str, start: Start, *, is_first: bool) -> None:
        """Do a step of a handshake with who comes from `prefix`, now or when it is its turn."""
        if not self._begun and not self._going and not self._new and (not is_first or self._may_begin()):
            self._do(start)
        elif is_first:
            self._new.setdefault(prefix, deque()).append(start)
            self._wait_for_turn(0.0)
        else:
            self._going.append(start)

    def _may_begin(self) -> bool:
        return self._bucket.try_take(self._clock())

    def _do(self, start: Start) -> bool:
        if not start():
            return False
        self._wait_for_turn(0.0)
        return True

    def _wait_for_turn(self, seconds: float) -> None:
        if not self._begun:
            self._begun = True
            self._later(seconds, self._turn)

    def _turn(self) -> None:
        """The next turn of the loop, or the time at which another handshake may begin."""
        self._begun = False
        while self._going:
            if self._do(self._going.popleft()):
                return
        while self._new:
            if not self._may_begin():
                self._wait_for_turn(1 / self._rate)
                return
            prefix, queue = self._new.popitem(last=False)
            start = queue.popleft()
            if queue:
                self._new[prefix] = queue
            if self._do(start):
                return
            self._bucket.give_back()
