"""A rate: so many at once, and so many a second in the long run. Pure: time comes in as `now`."""

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
        self._fill(now)
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)

    def try_take(self, now: float, count: float = 1) -> bool:
        """Take `count`, if there are so many."""
        self._fill(now)
        if self._tokens < count:
            return False
        self._tokens -= count
        return True

    def give_back(self) -> None:
        """One that was taken was not used."""
        self._tokens += 1

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
        self._updated = now
