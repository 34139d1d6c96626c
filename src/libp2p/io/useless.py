"""Frames that are of no use: allowed now and then, but not as a way to keep a host busy. Pure: `now` is in seconds.

Honest peers send some: streams that both sides end at once, data that crosses a reset, pings, a window opened bit by
bit. Every layer of a connection draws on the same allowance, its muxer's. What each kind costs is up to the layer. A
peer that has used up what it may send is told goodbye.
"""

from __future__ import annotations

from ..errors import RemoteProtocolError
from .rate import TokenBucket


class UselessFrames(RemoteProtocolError):
    """A peer sends more frames that are of no use than it may."""


class Allowance:
    """What one connection may send of them: `burst` at once, then `rate` a second."""

    __slots__ = ("_bucket", "_burst", "_rate")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._bucket: TokenBucket | None = None  # most connections need none

    def charge(self, what: str, now: float, cost: float = 1.0) -> None:
        """One more has come. Raises `UselessFrames`, which names `what` it was."""
        if self._bucket is None:
            self._bucket = TokenBucket(self._rate, self._burst, now)
        if not self._bucket.try_take(now, cost):
            raise UselessFrames(f"too many frames of no use, {self._burst} and {self._rate:g} a second: at last {what}")
