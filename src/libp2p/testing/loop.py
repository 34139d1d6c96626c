"""Run asyncio code in virtual time: deterministic, without waiting, and strict about what is left over.

Rules:
- Time stands still while anything is ready to run; then it jumps to the next timer. A minute's sleep takes no time.
- When nothing is ready, no timer is set and the main coroutine is not done, nothing can ever happen again:
  `DeadlockError` tells which tasks wait, and where.
- Nothing comes from outside: there are no sockets, subprocesses, signals or threads. `run_in_executor` calls its
  function on the loop itself.
- At the end all must be gone: a task or a timer that is left, or an error that nobody handled, fails the run.
"""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Executor
from contextvars import Context
from types import CodeType
from typing import Any, NoReturn, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

WEEK = 7 * 24 * 3600.0

_SPINS = 2_000_000
"""Turns of the loop without any progress of time, after which it counts as spinning."""

_START = 1000.0
"""The time at which a virtual loop starts, in seconds: real loops don't start at 0 either."""

_GRACE = 60.0
"""Seconds that tasks get to end when they are cancelled behind a failed run."""


class DeadlockError(AssertionError):
    """The main coroutine can never finish, or does not within the limits. The message lists every task that waits."""


class LeftoverError(AssertionError):
    """The main coroutine ended well, but left something behind: tasks, timers, errors that nobody handled."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose `time()` is virtual.

    `limit` is how many virtual seconds may pass before the run counts as stuck (periodic timers go on for ever).
    """

    _scheduled: list[asyncio.TimerHandle]  # BaseEventLoop's heap of timers

    def __init__(self, *, limit: float = WEEK) -> None:
        super().__init__()
        self._selector = self  # BaseEventLoop asks its selector to wait; here `select` moves the clock
        self._now = _START
        self._deadline = _START + limit
        self._spins = 0
        self._draining = False
        self._thread = threading.get_ident()

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """Called once per turn: `timeout` is 0 while something is ready, None when there is not even a timer."""
        if timeout == 0:
            self._spins += 1
            if self._spins > _SPINS:
                raise DeadlockError(_waiting("the loop spins: time stands still", asyncio.all_tasks(self)))
            return []
        if self._draining:
            self.stop()
            return []
        if timeout is None:
            raise DeadlockError(_waiting("deadlock: nothing is ready and no timer is set", asyncio.all_tasks(self)))
        self._now += timeout
        self._spins = 0
        if self._now > self._deadline:
            raise DeadlockError(_waiting("the virtual time limit has passed", asyncio.all_tasks(self)))
        return []

    def settle(self) -> None:
        """Run all that is ready, and what that makes ready, without letting time pass."""
        self._draining = True
        try:
            self.run_forever()
        finally:
            self._draining = False

    def timers(self) -> list[asyncio.TimerHandle]:
        """The timers that would still fire."""
        return [timer for timer in self._scheduled if not timer.cancelled()]

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if threading.get_ident() != self._thread:
            raise RuntimeError("a virtual-time loop can't be called from another thread")
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002 - none is used
        func: Callable[[Unpack[Ts]], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """Call `func` in one of the next turns, on the loop's own thread."""
        future: asyncio.Future[T] = self.create_future()

        def call() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except Exception as error:  # it goes to whoever awaits the future
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_soon(call)
        return future

    def _process_events(self, event_list: list[Any]) -> None:
        """Part of BaseEventLoop's contract: there are no I/O events."""

    def _write_to_self(self) -> None:
        """Part of BaseEventLoop's contract: no other thread can wake this loop."""

    async def create_connection(self, *_: Any, **__: Any) -> NoReturn:
        _no_network()

    async def create_server(self, *_: Any, **__: Any) -> NoReturn:
        _no_network()

    async def create_datagram_endpoint(self, *_: Any, **__: Any) -> NoReturn:
        _no_network()

    async def subprocess_exec(self, *_: Any, **__: Any) -> NoReturn:
        _no_network()

    async def subprocess_shell(self, *_: Any, **__: Any) -> NoReturn:
        _no_network()


def _no_network() -> NoReturn:
    raise RuntimeError("a virtual-time loop has no sockets and no processes; use a simulated network, or a real loop")


def run(main: Coroutine[Any, Any, T], *, seed: int = 0, limit: float = WEEK) -> T:
    """Run `main` in virtual time; return its result.

    The `random` module is seeded with `seed` for the time of the run. `limit` is in virtual seconds. Raises what `main`
    raises, `DeadlockError`, and `LeftoverError` where tasks, timers or unhandled errors are left over.
    """
    state = random.getstate()
    random.seed(seed)
    loop = VirtualLoop(limit=limit)
    try:
        return _run(loop, main, loop.settle, loop.timers)
    finally:
        random.setstate(state)


def run_real(main: Coroutine[Any, Any, T], *, timeout: float = 60.0) -> T:
    """Run `main` on an ordinary event loop, for `timeout` seconds at most, and as strictly: see `run`.

    Raises what `main` raises, `DeadlockError` where it takes too long, and `LeftoverError`. Timers are not looked at.
    """
    loop = asyncio.new_event_loop()

    async def guarded() -> T:
        try:
            async with asyncio.timeout(timeout) as guard:
                return await main
        except TimeoutError as error:
            if guard.expired():
                raise DeadlockError(f"not finished within {timeout:g} s") from error
            raise

    def settle() -> None:
        for _ in range(10):  # transports report their end a turn or two behind close()
            loop.run_until_complete(asyncio.sleep(0))

    return _run(loop, guarded(), settle, list)


def _run(
    loop: asyncio.AbstractEventLoop,
    main: Coroutine[Any, Any, T],
    settle: Callable[[], None],
    timers: Callable[[], list[asyncio.TimerHandle]],
) -> T:
    unhandled: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    try:
        task = loop.create_task(main, name="main")
        try:
            result = loop.run_until_complete(task)
        except BaseException as error:
            for context in unhandled:
                error.add_note(f"unhandled meanwhile: {_described(context)}")
            raise
        del task
        settle()
        loop.run_until_complete(loop.shutdown_asyncgens())
        if tasks := asyncio.all_tasks(loop):
            raise LeftoverError(_waiting("tasks are left over", tasks))
        if left := timers():
            raise LeftoverError("timers are left over:\n" + "\n".join(f"  {timer!r}" for timer in left))
        gc.collect()  # a task that failed unseen reports it when it is collected
        if unhandled:
            errors = "\n".join(f"  {_described(context)}" for context in unhandled)
            raise LeftoverError(f"errors that nobody handled:\n{errors}") from unhandled[0].get("exception")
        return result
    finally:
        _end(loop)


def _end(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left, wait for it, and close the loop."""
    try:
        if tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.wait(tasks, timeout=_GRACE))
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.exception()  # seen: the run has failed for another reason
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def _described(context: dict[str, Any]) -> str:
    error = context.get("exception")
    trace = "".join(traceback.format_exception(error)) if error is not None else ""
    return f"{context.get('message')} {context.get('task') or context.get('handle') or ''}\n{trace}".rstrip()


def _waiting(problem: str, tasks: Iterable[asyncio.Task[Any]]) -> str:
    lines = [f"{problem}; these tasks wait:"]
    for task in sorted(tasks, key=asyncio.Task.get_name):
        lines.append(f"  {task.get_name()}")
        lines.extend(f"    {where}" for where in _await_chain(task.get_coro()))
    return "\n".join(lines)


def _await_chain(awaited: Any) -> Iterable[str]:
    """Where a suspended coroutine waits, from the outside in. `Task.get_stack` shows the outermost frame only."""
    while awaited is not None:
        for kind in ("cr", "ag", "gi"):
            frame = getattr(awaited, f"{kind}_frame", None)
            if frame is not None:
                code: CodeType = frame.f_code
                yield f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}"
                awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
                break
        else:
            yield f"for {awaited!r}"
            return
