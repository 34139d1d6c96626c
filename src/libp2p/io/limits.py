"""Time limits that say which stage they ended."""

from __future__ import annotations

import asyncio
from types import TracebackType

from ..errors import StageTimeout


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
