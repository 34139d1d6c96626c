"""Task supervision: who starts a task owns it, sees its failure, and ends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

logger = logging.getLogger(__name__)


class TaskSupervisor:
    """Runs tasks side by side: the failure of one is logged and harms no other; `close` cancels and awaits all."""

    __slots__ = ("_closed", "_name", "_tasks")

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: dict[asyncio.Task[Any], bool] = {}  # whether we have cancelled it. (An empty dict is small.)
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(
        self, work: Coroutine[Any, Any, Any], *, name: str, at_end: Callable[[], None] | None = None
    ) -> asyncio.Task[Any] | None:
        """Start `work` as a task; None where the supervisor is closed already (`work` then never runs). `at_end` is
        called when the task has ended, also where it was cancelled before its first step.
        """
        if self._closed:
            work.close()
            return None
        task = asyncio.get_running_loop().create_task(work, name=f"{self._name}: {name}")
        self._tasks[task] = False
        task.add_done_callback(self._done if at_end is None else partial(self._done_with, at_end))
        return task

    def _done_with(self, at_end: Callable[[], None], task: asyncio.Task[Any]) -> None:
        self._done(task)
        at_end()

    def _done(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed", task.get_name(), exc_info=error)

    def abort(self) -> list[asyncio.Task[Any]]:
        """Cancel all tasks, each once, and return those that have not ended yet. No other starts from here on. The
        calling task, if supervised, is left to end by itself.
        """
        self._closed = True
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            if not self._tasks[task]:  # one that is cleaning up goes on with it
                self._tasks[task] = True
                task.cancel()
        return tasks

    async def ended(self) -> None:
        """Wait until no task runs, those that start meanwhile included. None is cancelled by this."""
        current = asyncio.current_task()
        while tasks := [task for task in self._tasks if task is not current]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Cancel all tasks and wait until they have ended. Where this is cancelled they have been cancelled too."""
        while tasks := self.abort():
            await asyncio.wait(tasks)


async def all_of(*works: Awaitable[Any]) -> None:
    """Wait for all of them, side by side, also where some fail; then raise the error, or an `ExceptionGroup`."""
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if len(errors) > 1:
        raise ExceptionGroup("several failed", errors)
    if errors:
        raise errors[0]
