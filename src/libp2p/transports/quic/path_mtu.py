"""Finding out how large datagrams may be: a small version of DPLPMTUD (RFC 8899), with one step. Pure.

    base -- probe of the full size acknowledged --> full -- several timeouts in a row (a black hole) --> base
    base -- several timeouts in a row in the handshake --> 1,200, which QUIC assumes of every path
    base -- `_TRIES` probes lost --> base; the next one `_AGAIN` seconds later

"Loss of a QUIC packet that is carried in a PMTU probe is therefore not a reliable indication of congestion" (RFC 9000,
14.4): probes are kept away from the congestion controller by who sends them.
"""

from __future__ import annotations

MINIMUM = 1200
"""Bytes of a datagram that every path must carry (RFC 9000, 14): what an IPv6 packet of 1,280 has room for."""

_FIRST = 0.01
"""Seconds behind the handshake before which nothing is probed: what the handshake was for goes first."""

_TRIES = 3
_AGAIN = 600.0
"""Seconds until a path that did not carry the full size is tried again: PMTU_RAISE_TIMER."""

_BLACK_HOLE = 3
"""Probe timeouts in a row after which the path is no longer trusted to carry the full size."""


class PathMtu:
    """Which size the datagrams of one path have, in bytes."""

    __slots__ = ("_full", "_in_flight", "_lost", "_lost_at", "_next_at", "base", "losses", "size")

    def __init__(self, base: int, full: int) -> None:
        self.base = base
        self.size = base
        """The size to use."""
        self._full = full
        self._in_flight = False
        self._lost = 0
        self._lost_at = 0.0
        self._next_at = 0.0
        self.losses = 0
        """How often in a row datagrams larger than the base were lost, and none arrived."""

    def start(self, now: float) -> None:
        """The handshake is over."""
        self._next_at = now + _FIRST

    def limit(self, maximum: int) -> None:
        """The peer takes no larger datagrams."""
        self.base, self.size, self._full = (min(size, maximum) for size in (self.base, self.size, self._full))

    def probe(self, now: float) -> int | None:
        """The size of the probe to send now, None for none."""
        if self.size == self._full or self._in_flight or now < self._next_at:
            return None
        self._in_flight = True
        return self._full

    def on_probe(self, acked: bool, now: float) -> None:
        """A probe was acknowledged, or lost."""
        self._in_flight = False
        if acked:
            self.size, self._lost = self._full, 0
            return
        self._lost += 1
        if self._lost >= _TRIES:
            self._lost, self._next_at = 0, now + _AGAIN

    def on_full_lost(self, now: float) -> None:
        """A datagram larger than the base was lost; those lost at one time count once."""
        if now > self._lost_at:
            self._lost_at = now
            self.losses += 1
            self.on_timeouts(self.losses, now)

    def on_handshake_timeouts(self, count: int) -> None:
        """There were `count` probe timeouts in a row before anything was known of the path."""
        if count >= _BLACK_HOLE:
            self.base = self.size = MINIMUM

    def on_timeouts(self, count: int, now: float) -> None:
        """There were `count` probe timeouts in a row: nothing was acknowledged for long."""
        if self.size > self.base and count >= _BLACK_HOLE:
            self.size, self._next_at = self.base, now + _AGAIN
