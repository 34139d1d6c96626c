"""Which addresses are left alone for a while because dialing them failed. Pure: time comes in as `now`, in seconds.

After the n-th failure in a row an address rests `BASE + STEP * n**2` seconds, `MAXIMUM` at most (as go-libp2p does it).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

BASE = 5.0
STEP = 1.0
MAXIMUM = 300.0


class Backoff:
    """Failures by key; the oldest are forgotten above `capacity` keys."""

    def __init__(self, *, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._resting: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()  # key -> failures, rests until

    def failed(self, key: Hashable, now: float) -> None:
        """A dial failed."""
        failures = self._resting.pop(key, (0, 0.0))[0] + 1
        self._resting[key] = failures, now + _pause(failures)
        if len(self._resting) > self._capacity:
            self._resting.popitem(last=False)

    def succeeded(self, key: Hashable) -> None:
        """A dial worked: forget the failures."""
        self._resting.pop(key, None)

    def rests_until(self, key: Hashable, now: float, *, first: bool = False) -> float | None:
        """When the key may be dialed again; None if it may be now. With `first` a failure counts as the first one."""
        failures, until = self._resting.get(key, (0, now))
        if first and failures:
            until += _pause(1) - _pause(failures)
        return until if until > now else None


def _pause(failures: int) -> float:
    return min(MAXIMUM, BASE + STEP * failures**2)
