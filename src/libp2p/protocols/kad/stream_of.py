"""From work that reports what it finds to an async iterator that yields it as it comes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def stream_of(work: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> AsyncGenerator[T, None]:
    """Yield what `work(found)` calls `found` with, until it ends. The work is cancelled when the iterator is closed;
    what it raises is raised behind what it found.
    """
    waiting: deque[T] = deque()
    arrived = asyncio.Event()

    def found(item: T) -> None:
        waiting.append(item)
        arrived.set()

    task = asyncio.get_running_loop().create_task(work(found), name="DHT: finding")
    task.add_done_callback(lambda _: arrived.set())
    try:
        while True:
            while waiting:
                yield waiting.popleft()
            if task.done():
                break
            arrived.clear()
            await arrived.wait()
        await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
