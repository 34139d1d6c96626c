"""CoarseTimer: one timer for many deadlines."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libp2p.io.timers import GRANULARITY, CoarseTimer
from libp2p.testing.loop import LeftoverError, run


async def test_deadlines_are_met_in_time_and_by_one_timer() -> None:
    loop: Any = asyncio.get_running_loop()
    timer = CoarseTimer.of(loop)
    assert CoarseTimer.of(loop) is timer
    start, met = loop.time(), {}
    for after in (5.25, 0.5, 3.0, 3.0, 100.0):
        timer.call_at(start + after, lambda after=after: met.setdefault(after, loop.time() - start))
        assert len(loop.timers()) == 1
    await asyncio.sleep(200)
    assert set(met) == {5.25, 0.5, 3.0, 100.0}
    assert all(after <= when <= after + GRANULARITY for after, when in met.items())
    assert met[3.0] == 3.0
    assert loop.timers() == []


async def test_a_cancelled_deadline_is_not_met_and_leaves_no_timer() -> None:
    loop: Any = asyncio.get_running_loop()
    timer, met = CoarseTimer.of(loop), []
    now = loop.time()
    first, second, third = [timer.call_at(now + n, lambda n=n: met.append(n)) for n in (1, 1, 2)]
    first.cancel()
    first.cancel()
    await asyncio.sleep(1.5)
    assert met == [1]
    second.cancel()
    third.cancel()
    assert loop.timers() == []
    timer.call_at(now + 2, lambda: met.append(2)).cancel()
    timer.call_at(now + 2, lambda: met.append(3))
    await asyncio.sleep(5)
    assert met == [1, 3]


async def test_many_that_are_due_together_let_others_run_in_between() -> None:
    loop = asyncio.get_running_loop()
    met: list[float] = []
    for _ in range(1000):
        CoarseTimer.of(loop).call_at(loop.time() + 1, lambda: met.append(loop.time()))
    await asyncio.sleep(1)
    at_once = len(met)
    await asyncio.sleep(0)
    assert 0 < at_once <= len(met) < 1000
    await asyncio.sleep(1)
    assert len(met) == 1000


async def test_a_callback_may_set_and_cancel_deadlines() -> None:
    loop = asyncio.get_running_loop()
    timer, met = CoarseTimer.of(loop), []
    now = loop.time()

    def again() -> None:
        met.append("again")
        other.cancel()
        timer.call_at(now + 1, lambda: met.append("late"))

    timer.call_at(now + 1, again)
    other = timer.call_at(now + 1, lambda: met.append("other"))
    await asyncio.sleep(3)
    assert met == ["again", "late"]


def test_a_failing_callback_is_reported_and_harms_no_other() -> None:
    met = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        CoarseTimer.of(loop).call_at(loop.time() + 1, lambda: 1 / 0)
        CoarseTimer.of(loop).call_at(loop.time() + 1, lambda: met.append(1))
        await asyncio.sleep(2)

    with pytest.raises(LeftoverError, match="a deadline's callback failed"):
        run(main())
    assert met == [1]


async def test_a_deadline_is_never_early_though_loops_are() -> None:
    loop: Any = asyncio.get_running_loop()
    when = loop.time() + 5
    asked: list[float] = []

    def due() -> None:
        asked.append(loop.time())
        if loop.time() < when:
            assert len(asked) < 10, "asked again and again within one moment"
            CoarseTimer.of(loop).call_at(when, due)

    CoarseTimer.of(loop).call_at(when, due)
    early = loop.create_future()
    loop.call_at(when - 1e-10, early.set_result, None)  # within the tick that loops are early by
    await early
    await asyncio.sleep(10)
    assert len(asked) == 1
    assert asked[0] >= when
