"""Time limits that say which stage they ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..errors import StageTimeout


@asynccontextmanager
async def time_limit(stage: str, seconds: float) -> AsyncIterator[None]:
    """Cancel the block after `seconds` and raise `StageTimeout(stage, seconds)` in its place."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError as error:
        if limit.expired():
            raise StageTimeout(stage, seconds) from error
        raise
