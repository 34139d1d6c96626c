"""How much a stream's peer may send: the receive window, and its growth.

The window starts at 256 KiB on every stream, as the specification has it. The best window is the product of bandwidth
and round-trip time; both are unknown, so: when the reader took half of the window within `_FAST_ROUND_TRIPS` round
trips of the previous update, the window was what held the sender, and it is doubled. A reader that is slow never
causes growth, since it is the reading that triggers updates. What a window grows by is drawn from the connection's
`MemoryAccount`; the stream's buffer gives it back when nothing more can come. Windows never shrink.

Invariants, asserted after every step (0 <= all):
    window = granted + buffered + (consumed, not yet granted again)
    granted + buffered <= window <= maximum
"""

from __future__ import annotations

from collections.abc import Callable

INITIAL_WINDOW = 256 * 1024
"""Bytes that either side may send on a new stream ("yamux initially starts each stream with a 256KiB window size")."""

_FAST_ROUND_TRIPS = 4


class StreamWindow:
    """The receive window of one stream. `draw` asks for memory, in bytes, and says whether there is as much."""

    __slots__ = ("_draw", "_maximum", "_updated_at", "buffered", "granted", "size")

    def __init__(self, *, maximum: int, draw: Callable[[int], bool], now: float) -> None:
        self.size = INITIAL_WINDOW
        self.granted = INITIAL_WINDOW
        self.buffered = 0
        self._maximum = maximum
        self._draw = draw
        self._updated_at = now

    def receive(self, n: int) -> bool:
        """`n` bytes arrived; False if the peer was not allowed to send them."""
        if n > self.granted:
            return False
        self.granted -= n
        self.buffered += n
        return True

    def consume(self, n: int, now: float, rtt: float | None) -> int:
        """The reader took `n` bytes: return how many more to grant the peer, 0 while it isn't worth a frame."""
        self.buffered -= n
        grant = self.size - self.granted - self.buffered
        if grant < self.size // 2:
            return 0
        if rtt is not None and now - self._updated_at < _FAST_ROUND_TRIPS * rtt:
            growth = min(self.size, self._maximum - self.size)
            if growth and self._draw(growth):
                self.size += growth
                grant += growth
        self._updated_at = now
        self.granted += grant
        assert 0 <= self.buffered <= self.granted + self.buffered <= self.size <= self._maximum
        return grant
