"""TaskSupervisor, and time limits."""

from __future__ import annotations

import asyncio
import logging

import pytest

from libp2p.errors import StageTimeout
from libp2p.io import TaskSupervisor, time_limit, within


async def test_one_failure_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = TaskSupervisor("host")
    done = asyncio.Event()

    async def fail() -> None:
        raise ValueError("broken")

    async def work() -> None:
        await asyncio.sleep(1)
        done.set()

    with caplog.at_level(logging.ERROR):
        supervisor.spawn(fail(), name="bad")
        supervisor.spawn(work(), name="good")
        await done.wait()
    (record,) = caplog.records
    assert record.getMessage() == "host: bad failed"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "broken"
    await asyncio.sleep(0)
    assert len(supervisor) == 0
    await supervisor.close()


async def test_close_cancels_all_and_waits_for_them() -> None:
    supervisor = TaskSupervisor("host")
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            ended.append(name)
            supervisor.spawn(asyncio.sleep(1000), name="late")

    for name in ("a", "b"):
        supervisor.spawn(work(name), name=name)
    await asyncio.sleep(0)
    assert len(supervisor) == 2
    await supervisor.close()
    assert sorted(ended) == ["a", "b"]
    assert len(supervisor) == 0


async def test_nothing_starts_behind_close() -> None:
    supervisor = TaskSupervisor("host")
    await supervisor.close()
    started = asyncio.sleep(0)
    assert supervisor.spawn(started, name="late") is None
    with pytest.raises(RuntimeError):
        await started


async def test_a_supervised_task_may_close_its_supervisor() -> None:
    supervisor = TaskSupervisor("host")
    finished: list[bool] = []

    async def closer() -> None:
        await supervisor.close()
        finished.append(True)

    other = supervisor.spawn(asyncio.sleep(1000), name="other")
    task = supervisor.spawn(closer(), name="closer")
    assert task is not None
    assert other is not None
    await task
    assert finished == [True]
    assert other.cancelled()


async def test_a_time_limit_names_its_stage() -> None:
    with pytest.raises(StageTimeout, match=r"the handshake took more than 2\.5 s") as caught:
        async with time_limit("the handshake", 2.5):
            await asyncio.sleep(3)
    assert (caught.value.stage, caught.value.seconds) == ("the handshake", 2.5)
    with pytest.raises(TimeoutError) as other:
        async with time_limit("the handshake", 2.5):
            raise TimeoutError("of somebody else")
    assert other.type is TimeoutError
    async with time_limit("the handshake", 2.5):
        await asyncio.sleep(2)


async def test_who_started_a_task_hears_of_its_end_also_where_it_never_began() -> None:
    supervisor = TaskSupervisor("host")
    ended: list[str] = []

    async def work() -> None:
        ended.append("work")

    supervisor.spawn(work(), name="one", at_end=lambda: ended.append("one"))
    await asyncio.sleep(0.1)
    supervisor.spawn(work(), name="two", at_end=lambda: ended.append("two"))
    await supervisor.close()  # before its first step
    assert ended == ["work", "one", "two"]


async def test_work_that_need_not_wait_takes_no_timer_and_other_work_has_its_limit() -> None:
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    call_at = loop.call_at

    def counting(when: float, *args: object, **options: object) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *args, **options)  # type: ignore[arg-type]

    async def work(seconds: float) -> str:
        if seconds:
            try:
                await asyncio.sleep(seconds / 2)
            finally:
                await asyncio.sleep(seconds / 2)
        return "done"

    loop.call_at = counting  # type: ignore[method-assign, assignment]
    assert await within("the work", 2.5, work(0)) == "done"
    assert not timers
    assert await within("the work", 2.5, work(2)) == "done"
    with pytest.raises(StageTimeout, match=r"the work.*2\.5 s"):
        await within("the work", 2.5, work(6))

    async def fail() -> None:
        await asyncio.sleep(1)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await within("the work", 2.5, fail())

    task = asyncio.create_task(within("the work", 2.5, work(2)))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
