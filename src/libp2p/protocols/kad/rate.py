"""A rate for each peer: so many at once, and so many a second in the long run. Pure: time comes in as `now`."""

from __future__ import annotations


class TokenBucket:
    """`burst` at once, then `rate` a second."""

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._updated = now

    def take(self, now: float) -> float:
        """Take one; the seconds to wait before it counts."""
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate) - 1
        self._updated = now
        return max(0.0, -self._tokens / self._rate)
