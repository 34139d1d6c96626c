"""Time limits that say which stage they ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from types import TracebackType, coroutine
from typing import Any, TypeVar

from ..errors import StageTimeout

T = TypeVar("T")


class time_limit:  # noqa: N801 - reads as the statement it makes, like asyncio.timeout
    """`async with time_limit(stage, seconds)` cancels its block after `seconds` and raises `StageTimeout(stage,
    seconds)` in its place.
    """

    __slots__ = ("_seconds", "_stage", "_timeout")

    def __init__(self, stage: str, seconds: float) -> None:
        self._stage = stage
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as expired:
            raise StageTimeout(self._stage, self._seconds) from expired


async def within(stage: str, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns, under a `time_limit`. Where it has no need to wait, no timer is set."""
    try:
        waits_for = work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    async with time_limit(stage, seconds):
        return await _resumed(work, waits_for)


@coroutine
def _resumed(work: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """Await `work`, which has begun and waits for something."""
    while True:
        got, error = None, None
        try:
            got = yield waits_for
        except BaseException as thrown:
            error = thrown
        try:
            waits_for = work.send(got) if error is None else work.throw(error)
        except StopIteration as done:
            result: T = done.value
            return result
