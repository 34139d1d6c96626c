"""Who may write next: the back-pressure of one connection, shared fairly by its writers."""

from __future__ import annotations

import asyncio
from collections import deque


class WriteGate:
    """Shut while the connection takes no more data. Writers pass one by one, in the order they came.

    A writer calls `await wait()`, sends a bounded amount without awaiting in between, and calls `passed()`.
    """

    __slots__ = ("_error", "_waiting", "paused")

    def __init__(self) -> None:
        self.paused = False
        self._error: Exception | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Return when it is this writer's turn. Raises what `fail` was called with."""
        if self._error is not None:
            raise self._error
        if not self.paused and not self._waiting:
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            else:
                self.passed()
            raise

    def passed(self) -> None:
        """The writer whose turn it was is done with it: let the next one through, if the gate is open."""
        while not self.paused and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def pause(self) -> None:
        """Shut the gate."""
        self.paused = True

    def resume(self) -> None:
        """Open the gate."""
        self.paused = False
        self.passed()

    def fail(self, error: Exception) -> None:
        """All writers, waiting and later ones, get `error`."""
        self._error = error
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(error)
