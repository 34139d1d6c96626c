"""Who may write next: the back-pressure of one connection, shared fairly by its writers."""

from __future__ import annotations

import asyncio

from ..errors import copy_of


class WriteGate:
    """Shut while the connection takes no more data. Writers pass one by one, in the order they came.

    A writer calls `await wait()`, sends a bounded amount without awaiting in between, and calls `passed()`.
    """

    __slots__ = ("_error", "_waiting", "paused")

    def __init__(self) -> None:
        self.paused = False
        self._error: Exception | None = None
        self._waiting: list[tuple[object, asyncio.Future[None]]] = []  # mostly empty: a deque takes 760 bytes then

    @property
    def is_free(self) -> bool:
        """Whether a writer could pass without waiting."""
        return not self.paused and not self._waiting and self._error is None

    async def wait(self, writer: object = None) -> None:
        """Return when it is this writer's turn, or when `writer` is dismissed. Raises what `fail` was called with."""
        if self._error is not None:
            raise copy_of(self._error)
        if not self.paused and not self._waiting:
            return
        entry = writer, asyncio.get_running_loop().create_future()
        self._waiting.append(entry)
        try:
            await entry[1]
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            else:
                self.passed()
            raise

    def passed(self) -> None:
        """The writer whose turn it was is done with it: let the next one through, if the gate is open."""
        while not self.paused and self._waiting:
            _, turn = self._waiting.pop(0)
            if not turn.done():
                turn.set_result(None)
                return

    def dismiss(self, writer: object) -> None:
        """`writer` has nothing to send any more: where it waits, let it go, whether the gate is open or not."""
        for entry in self._waiting:
            if entry[0] is writer:
                self._waiting.remove(entry)
                if not entry[1].done():
                    entry[1].set_result(None)
                return

    def pause(self) -> None:
        """Shut the gate."""
        self.paused = True

    def resume(self) -> None:
        """Open the gate."""
        self.paused = False
        self.passed()

    def fail(self, error: Exception) -> None:
        """All writers, waiting and later ones, get `error`, each a copy of its own."""
        self._error = error
        while self._waiting:
            _, turn = self._waiting.pop(0)
            if not turn.done():
                turn.set_exception(copy_of(error))
