"""How requests are measured: 1 KiB there and back, so many in flight."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

from .command import Line

Call = Callable[[bytes], Awaitable[bytes]]

MESSAGE = bytes(range(256)) * 4
IN_FLIGHT = {f"requests-{width}": width for width in (1, 64, 1000)}


async def in_flight(count: int, width: int, run: Callable[[], Awaitable[object]]) -> None:
    """Run `count` times, `width` at a time."""
    turns = itertools.repeat(None, count)

    async def work() -> None:
        for _ in turns:
            await run()

    async with asyncio.TaskGroup() as group:
        for _ in range(width):
            group.create_task(work())


async def requests(call: Call, width: int, count: int) -> Line:
    """Requests a second; a tenth of them first, to warm up."""

    async def once() -> None:
        if await call(MESSAGE) != MESSAGE:
            raise RuntimeError("the answer differs from the request")

    await in_flight(count // 10, width, once)
    start = time.perf_counter()
    await in_flight(count, width, once)
    return {"requests_per_s": count / (time.perf_counter() - start)}
