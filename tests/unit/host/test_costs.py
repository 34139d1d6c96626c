"""What a new stream costs: turns of the event loop, tasks, writes and timers, counted, so that it stays so."""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import Counter
from typing import Any

import pytest

from libp2p.connection import Stream
from libp2p.transports.memory.pipe import MemoryConnection

STREAMS = 50


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the loop runs a callback, and a raw connection sends."""
    found: Counter[str] = Counter()
    run, send = events.Handle._run, MemoryConnection.send

    def running(handle: events.Handle) -> None:
        found["callbacks"] += 1
        run(handle)

    def sending(self: MemoryConnection, buffers: Any) -> None:
        found["writes"] += 1
        send(self, buffers)

    monkeypatch.setattr(events.Handle, "_run", running)
    monkeypatch.setattr(MemoryConnection, "send", sending)
    return found


async def test_what_a_new_stream_costs(pair: Any, counts: Counter[str]) -> None:
    async with pair() as (listener, dialer, connection):

        @listener.handle("/echo")
        async def echo(stream: Stream) -> None:
            async for data in stream:
                await stream.write(data)

        async def once() -> None:
            async with await dialer.new_stream(connection, "/echo") as stream:
                await stream.write(b"x")
                assert await stream.readexactly(1) == b"x"

        await asyncio.sleep(5)  # identify and the like
        await once()
        loop = asyncio.get_running_loop()
        create_task, call_at = loop.create_task, loop.call_at

        def creating(*args: Any, **options: Any) -> asyncio.Task[Any]:
            counts["tasks"] += 1
            return create_task(*args, **options)

        def timing(*args: Any, **options: Any) -> asyncio.TimerHandle:
            counts["timers"] += 1
            return call_at(*args, **options)

        loop.create_task, loop.call_at = creating, timing  # type: ignore[method-assign]
        counts.clear()
        for _ in range(STREAMS):
            await once()
        each = {what: count / STREAMS for what, count in counts.items()}
    assert each["tasks"] == 1, "the handler's"
    assert each["writes"] == pytest.approx(2, abs=0.1), "open, offer and data with the end of the last; the answer"
    assert each.get("timers", 0) == 0
    assert each["callbacks"] <= 10, each
