"""One timer of an event loop for many deadlines that need no precision: keepalives and the like.

Rules:
- A deadline is met up to `GRANULARITY` late, never early.
- What is due together runs in batches, other work of the loop in between.
- While nothing waits there is no timer.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary, ref

GRANULARITY = 1.0
"""Seconds."""

_BATCH = 64
"""Callbacks that run in one turn of the loop."""


def loop_time() -> float:
    """Seconds by the running event loop's clock, which in a simulation is a virtual one. Where no loop runs it is the
    system's, which by default is the same.
    """
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()


class Deadline:
    """A callback that waits for its time. `cancel` it when it is not wanted any more."""

    __slots__ = ("_callback", "_slot", "_timer")

    def __init__(self, timer: CoarseTimer, slot: int, callback: Callable[[], None]) -> None:
        self._timer = timer
        self._slot = slot
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Don't call any more. Idempotent."""
        if self._callback is not None:
            self._callback = None
            self._timer.remove(self, self._slot)

    def meet(self) -> None:
        """Call back, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class CoarseTimer:
    """The deadlines of one loop, in slots of `GRANULARITY`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)  # which holds this timer
        self._slots: dict[int, dict[Deadline, None]] = {}
        self._order: list[int] = []  # a heap of the slots
        self._due: deque[Deadline] = deque()
        self._handle: asyncio.TimerHandle | None = None
        self._running = False

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> CoarseTimer:
        """The one of `loop`."""
        timer = _timers.get(loop)
        if timer is None:
            timer = _timers[loop] = CoarseTimer(loop)
        return timer

    def call_at(self, when: float, callback: Callable[[], None]) -> Deadline:
        """Call back at `when`, by the loop's clock, or up to `GRANULARITY` later."""
        slot = math.ceil(when / GRANULARITY)
        deadline = Deadline(self, slot, callback)
        if slot not in self._slots:
            self._slots[slot] = {}
            heapq.heappush(self._order, slot)
        self._slots[slot][deadline] = None
        if self._order[0] == slot and len(self._slots[slot]) == 1:
            self._set()
        return deadline

    def remove(self, deadline: Deadline, slot: int) -> None:
        """The deadline was cancelled."""
        waiting = self._slots.get(slot)
        if waiting is not None and waiting.pop(deadline, self) is None and not waiting:
            del self._slots[slot]
            self._set()

    def _set(self) -> None:
        """Wait for the first slot there is."""
        while self._order and self._order[0] not in self._slots:
            heapq.heappop(self._order)
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._order and (loop := self._loop()) is not None:
            self._handle = loop.call_at(self._order[0] * GRANULARITY, self._elapsed)

    def _elapsed(self) -> None:
        self._handle = None
        if asyncio.get_running_loop().time() < self._order[0] * GRANULARITY:  # loops are early by a tick of their clock
            self._set()
            return
        self._due.extend(self._slots.pop(heapq.heappop(self._order)))
        self._set()
        if not self._running:
            self._running = True
            self._run()

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(min(_BATCH, len(self._due))):
            deadline = self._due.popleft()
            try:
                deadline.meet()
            except Exception as error:
                loop.call_exception_handler({"message": "a deadline's callback failed", "exception": error})
        self._running = bool(self._due)
        if self._running:
            loop.call_soon(self._run)


_timers: WeakKeyDictionary[asyncio.AbstractEventLoop, CoarseTimer] = WeakKeyDictionary()
