"""The virtual-time loop, tested from outside: these tests run loops of their own."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import AsyncIterator

import pytest

from libp2p.testing.loop import DeadlockError, LeftoverError, run, run_real


def test_time_jumps_to_the_next_timer() -> None:
    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        start, order = loop.time(), []

        async def sleeper(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            order.append((name, loop.time() - start))

        await asyncio.gather(sleeper("day", 86_400), sleeper("second", 1), sleeper("now", 0))
        return order

    assert run(main()) == [("now", 0), ("second", 1), ("day", 86_400)]


def test_a_deadlock_names_the_tasks_and_where_they_wait() -> None:
    async def inner() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(inner(), name="the stuck one")

    with pytest.raises(DeadlockError, match=r"(?s)no timer is set.*main.*in test_a.*the stuck one.*in .*inner.*Future"):
        run(main())


def test_periodic_timers_do_not_hide_a_stuck_main() -> None:
    async def main() -> None:
        def tick() -> None:
            asyncio.get_running_loop().call_later(10, tick)

        tick()
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match="time limit"):
        run(main(), limit=3600)


async def _left_task() -> None:
    asyncio.get_running_loop().left = asyncio.create_task(asyncio.Event().wait(), name="left")  # type: ignore[attr-defined]


async def _left_timer() -> None:
    asyncio.get_running_loop().call_later(5, print)


async def _failed_task() -> None:
    async def fail() -> None:
        raise ValueError("unseen")

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    del task


async def _failed_callback() -> None:
    asyncio.get_running_loop().call_soon(int, "unseen")


@pytest.mark.parametrize(
    ("main", "message"),
    [
        (_left_task, r"(?s)tasks are left over.*left"),
        (_left_timer, "timers are left over"),
        (_failed_task, r"(?s)nobody handled.*unseen"),
        (_failed_callback, r"(?s)nobody handled.*unseen"),
    ],
)
def test_nothing_may_be_left_over(main, message: str) -> None:
    with pytest.raises(LeftoverError, match=message):
        run(main())


def test_what_is_ready_at_the_end_still_runs_and_cancelled_timers_do_not_count() -> None:
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(5, print).cancel()
        loop.call_soon(loop.call_soon, seen.append, "last")

    run(main())
    assert seen == ["last"]


def test_async_generators_are_shut_down() -> None:
    seen: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            seen.append("closed")

    kept = numbers()

    async def main() -> None:
        await anext(kept)

    run(main())
    assert seen == ["closed"]


def test_an_error_of_main_is_raised_with_those_of_the_background() -> None:
    async def main() -> None:
        await _failed_callback()
        await asyncio.sleep(0)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        run(main())
    assert "unseen" in caught.value.__notes__[0]


def test_executors_run_in_the_loop_and_threads_are_refused() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, threading.get_ident) == threading.get_ident()
        assert await asyncio.to_thread(int, "7") == 7
        with pytest.raises(ValueError, match="seven"):
            await asyncio.to_thread(int, "seven")
        errors: list[BaseException] = []

        def outside() -> None:
            try:
                loop.call_soon_threadsafe(print)
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=outside)
        thread.start()
        thread.join()
        assert "another thread" in str(errors[0])

    run(main())


def test_sockets_are_refused() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="no sockets"):
            await asyncio.open_connection("127.0.0.1", 1)

    run(main())


def test_random_is_seeded_and_restored() -> None:
    async def main() -> float:
        return random.random()

    before = random.getstate()
    assert run(main(), seed=1) == run(main(), seed=1) != run(main(), seed=2)
    assert random.getstate() == before


def test_the_real_loop_is_as_strict() -> None:
    async def slow() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match=r"0\.01 s"):
        run_real(slow(), timeout=0.01)
    with pytest.raises(LeftoverError, match="left"):
        run_real(_left_task())
    with pytest.raises(LeftoverError, match="unseen"):
        run_real(_failed_task())


async def test_async_tests_run_in_virtual_time() -> None:
    await asyncio.sleep(3600)


@pytest.mark.real
async def test_marked_tests_run_on_a_real_loop() -> None:
    left, right = socket.socketpair()
    with right:
        reader, writer = await asyncio.open_connection(sock=left)
        right.send(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()
        await writer.wait_closed()
