"""Rates of what others may ask for, by who asks. Pure: time comes in as `now`, in seconds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Rates:
    """A token bucket for each key: `burst` at once, then one every `interval` seconds.

    At most `max_keys` buckets are kept. One that is full again is as good as none; where all are in use, the one that
    was longest not asked for goes.
    """

    def __init__(self, burst: int, interval: float, max_keys: int = 4096) -> None:
        self._burst = burst
        self._interval = interval
        self._max_keys = max_keys
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()  # the one asked for last comes last

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: Hashable, now: float) -> bool:
        """Take one of `key`'s, if it has one left."""
        full_at = max(self._full_at.get(key, now), now)
        if full_at + self._interval > now + self._burst * self._interval:
            return False
        self._full_at[key] = full_at + self._interval
        self._full_at.move_to_end(key)
        while len(self._full_at) > self._max_keys or self._full_at[next(iter(self._full_at))] <= now:
            self._full_at.popitem(last=False)
        return True
