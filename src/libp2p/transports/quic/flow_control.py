"""How much the peer may send on a stream: the receive window, and its growth. Pure.

The window moves on as bytes are read, never as they arrive: a reader that stops holds its sender. When a quarter of the
window was read within `_FAST_ROUND_TRIPS` round trips, the window was what held the sender, and it is doubled. A window
never shrinks. What all streams of a connection may have unread is bounded by the connection's window, which has one
size from the beginning: so streams that nobody reads leave the others room, as long as they are fewer than the initial
windows that fit into it, 30 by default.

Invariants, asserted after every step:
    read <= limit = read + size, as of the last update     initial <= size <= maximum
"""

from __future__ import annotations

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
