"""Timers of drivers that ring together, served in turns of the loop: handshakes that began together do so."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

_RINGS = 8
"""Drivers that are served in one turn of the loop: each may have several datagrams to send again."""


class Rings:
    """Those of one socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._served = 0  # in this turn
        self._waiting: deque[Callable[[], None]] = deque()

    def call(self, callback: Callable[[], None]) -> None:
        """Call now, or in a later turn."""
        if self._served >= _RINGS:
            self._waiting.append(callback)
            return
        if not self._served:
            self._loop.call_soon(self._next_turn)
        self._served += 1
        callback()

    def _next_turn(self) -> None:
        count = self._served = min(_RINGS, len(self._waiting))
        if count:
            self._loop.call_soon(self._next_turn)
        for _ in range(count):
            self._waiting.popleft()()
