"""How much the peer may send, on a stream and on all of them together: receive windows, and their growth. Pure.

A window moves on as bytes are read, never as they arrive: a reader that stops holds its sender. When a quarter of a
window was read within `_FAST_ROUND_TRIPS` round trips, the window was what held the sender, and it is doubled. Windows
never shrink.

What all streams of a connection may have unread is bounded by the connection's window. That begins small, and what it
grows by is drawn from the connection's `MemoryAccount`. It grows also where what nobody reads has left less than a
quarter of it: so streams that nobody reads leave the others room, as long as there is memory for it, and as they are
fewer than the initial windows that fit into its maximum, 30 by default.

Invariants, asserted after every step:
    read <= limit = read + size, as of the last update     initial <= size <= maximum
"""

from __future__ import annotations

from collections.abc import Callable

_FAST_ROUND_TRIPS = 2


class ReceiveWindow:
    """The receive window of one stream."""

    __slots__ = ("_maximum", "_updated_at", "limit", "read", "size")

    def __init__(self, size: int, *, maximum: int, now: float) -> None:
        self.size = size
        self.limit = size
        """Up to which offset the peer may send."""
        self.read = 0
        """Bytes that were read."""
        self._maximum = maximum
        self._updated_at = now

    def consume(self, n: int, now: float, rtt: float | None) -> bool:
        """`n` more bytes were read; whether the limit has moved, and is worth telling the peer."""
        self.read += n
        if self.limit - self.read > self.size - self.size // 4:
            return False
        if rtt is not None and now - self._updated_at < _FAST_ROUND_TRIPS * rtt:
            self.size = min(2 * self.size, self._maximum)
        self._updated_at = now
        self.limit = self.read + self.size
        assert self.read <= self.limit
        assert self.size <= self._maximum
        return True


class ConnectionWindow:
    """The receive window of all streams of a connection together. `draw` asks for memory, in bytes, and says whether
    there is as much; until the peer is known there is none.
    """

    __slots__ = ("_maximum", "_updated_at", "draw", "read", "size")

    def __init__(self, size: int, *, maximum: int) -> None:
        self.size = size
        self.read = 0
        """Bytes that were read."""
        self.draw: Callable[[int], bool] | None = None
        self._maximum = maximum
        self._updated_at = 0.0

    def is_due(self, told: int) -> bool:
        """Whether the window has moved by a quarter since the peer was told that it may send up to `told`."""
        return self.read + self.size - told >= self.size // 4

    def update(self, now: float, rtt: float | None) -> int:
        """Up to which offset the peer may send from now on, which it is told."""
        if rtt is not None and now - self._updated_at < _FAST_ROUND_TRIPS * rtt:
            self._grow()
        self._updated_at = now
        return self.read + self.size

    def make_room(self, left: int) -> bool:
        """The peer may send only `left` bytes more. Whether the window has grown for that."""
        return 4 * left < self.size and self._grow()

    def _grow(self) -> bool:
        growth = min(self.size, self._maximum - self.size)
        if growth <= 0 or self.draw is None or not self.draw(growth):
            return False
        self.size += growth
        return True
