"""What the suites share: expecting errors, waiting for what must not happen, a sink that writes down all it is told."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Generic, TypeVar

from ...connection import RawConnection
from ...errors import Libp2pError

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

ENDED = (Libp2pError, OSError)
"""What calls on something that has ended may raise."""

HELD = 0.2
"""Seconds (virtual ones, on a virtual loop) after which a call that has not returned counts as held."""


_TURNS = 20
"""Turns of the loop within which all that needs no time has happened."""


class Caught(Generic[E]):
    """What `raises` yields: the error, once the block has ended."""

    value: E


@contextmanager
def raises(*kinds: type[E]) -> Iterator[Caught[E]]:
    """The block must raise one of `kinds`. The suites run without pytest too."""
    caught = Caught[E]()
    try:
        yield caught
    except kinds as error:
        caught.value = error
    else:
        raise AssertionError(f"expected {' or '.join(kind.__name__ for kind in kinds)}, nothing was raised")


def pattern(size: int, start: int = 0) -> bytes:
    """`size` bytes in which every place can be told from its neighbours: `start` is the place in the whole stream."""
    first = start // 4
    numbers = array("I", range(first, (start + size) // 4 + 1))
    return numbers.tobytes()[start - 4 * first :][:size]


async def is_held(task: asyncio.Task[Any]) -> bool:
    """Whether `task` still waits after a while."""
    done, _ = await asyncio.wait({task}, timeout=HELD)
    return not done


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel `task`, which must end by that."""
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done, f"{task!r} goes on although it was cancelled"
    assert task.cancelled(), f"{task!r} was cancelled but ended otherwise"


async def started(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task for `work` that has had the time to get to where it waits."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(HELD)
    return task


async def cancelled_at_each_step(
    prepare: Callable[[], Awaitable[T]],
    close: Callable[[T], Awaitable[Any]],
    check: Callable[[T], Awaitable[None]],
) -> int:
    """Cancel `close` of what `prepare` makes after its first step, after its second, and so on until it is over before
    that; `check` looks at each, once everything has had a few turns of the loop. Returns how many were cancelled.

    A close that is cancelled has ended what it owns: `check` must not close it again to hide that it has not.
    """
    for steps in count(1):
        subject = await prepare()
        closing = asyncio.ensure_future(close(subject))
        for _ in range(min(steps, _TURNS)):
            await asyncio.sleep(0)
        if steps > _TURNS:  # it waits for time to pass
            await asyncio.sleep(0.01 * 2 ** (steps - _TURNS))
        if is_over := closing.done():
            closing.result()
        else:
            await cancel(closing)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        await check(subject)
        if is_over:
            return steps - 1
    raise AssertionError("unreachable")


async def ends(work: Awaitable[T], *, within: float = 5.0) -> T:
    """The result of `work`, which must come within as many seconds."""
    try:
        async with asyncio.timeout(within) as limit:
            return await work
    except TimeoutError as error:  # one of `ENDED`: a test that expects an end would take it for one
        if limit.expired():
            raise AssertionError(f"not finished within {within:g} s") from error
        raise


class Recorder:
    """A `Sink` that writes down what it is told, and checks that nothing comes behind `connection_lost`."""

    def __init__(self, connection: RawConnection | None = None, *, pause_at: int | None = None) -> None:
        self.data = bytearray()
        self.eof = False
        self.lost: list[Exception | None] = []
        self.paused = False
        self.pauses = 0
        self.fail_with: Exception | None = None
        self._connection = connection
        self._pause_at = pause_at
        self._pausing = False
        self.pushed_while_pausing = 0
        self._changed = asyncio.Event()

    async def until(self, *, size: int = 0, eof: bool = False, lost: bool = False, writable: bool = False) -> None:
        """Wait until `size` bytes, the end, the loss, or that it takes data again, has been reported."""

        async def reported() -> None:
            while (
                len(self.data) < size
                or (eof and not self.eof)
                or (lost and not self.lost)
                or (writable and self.paused)
            ):
                self._changed.clear()
                await self._changed.wait()

        await ends(reported(), within=30)

    def stop_pausing(self) -> None:
        """Take everything from now on."""
        self._pause_at = None
        self._pausing = False
        assert self._connection is not None
        self._connection.resume_reading()

    def data_received(self, data: memoryview) -> None:
        assert not self.lost, "data behind connection_lost"
        assert not self.eof, "data behind the end of the stream"
        if self._pausing:
            self.pushed_while_pausing += len(data)
        assert len(data), "an empty piece of data"
        self.data += data
        self._changed.set()
        if self.fail_with is not None:
            raise self.fail_with
        if self._pause_at is not None and len(self.data) >= self._pause_at:
            assert self._connection is not None
            self._pausing = True
            self._connection.pause_reading()

    def useless(self, what: str, cost: float = 1.0) -> None:  # noqa: ARG002
        assert not self.lost, "something of no use behind connection_lost"

    def eof_received(self) -> None:
        assert not self.lost, "the end of the stream behind connection_lost"
        assert not self.eof, "the end of the stream came twice"
        self.eof = True
        self._changed.set()

    def connection_lost(self, error: Exception | None) -> None:
        assert not self.lost, "connection_lost came twice"
        self.lost.append(error)
        self._changed.set()

    def pause_writing(self) -> None:
        assert not self.paused, "pause_writing came twice"
        self.paused = True
        self.pauses += 1

    def resume_writing(self) -> None:
        assert self.paused, "resume_writing without pause_writing"
        self.paused = False
        self._changed.set()
