"""WriteGate: order, cancellation, failure."""

from __future__ import annotations

import asyncio

import pytest

from libp2p.io import WriteGate


class Writers:
    """Tasks that pass a gate and note when they did."""

    def __init__(self, gate: WriteGate) -> None:
        self.gate = gate
        self.order: list[int] = []

    async def write(self, number: int, *, pause: bool = False) -> None:
        await self.gate.wait()
        self.order.append(number)
        if pause:
            self.gate.pause()
        self.gate.passed()

    async def start(self, count: int, *, pause: bool = False) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self.write(number, pause=pause)) for number in range(count)]
        await asyncio.sleep(0)
        return tasks


async def test_an_open_gate_lets_all_through() -> None:
    writers = Writers(WriteGate())
    await asyncio.gather(*await writers.start(3))
    assert writers.order == [0, 1, 2]


async def test_a_shut_gate_holds_all_and_lets_them_through_in_order() -> None:
    gate = WriteGate()
    gate.pause()
    writers = Writers(gate)
    tasks = await writers.start(3)
    assert writers.order == []
    gate.resume()
    await asyncio.gather(*tasks)
    assert writers.order == [0, 1, 2]


async def test_each_opening_lets_one_pass_who_shuts_it_again() -> None:
    gate = WriteGate()
    gate.pause()
    writers = Writers(gate)
    tasks = await writers.start(3, pause=True)
    for passed in range(1, 4):
        gate.resume()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert writers.order == list(range(passed))
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("turn_given", [False, True])
async def test_a_cancelled_writer_gives_its_turn_to_the_next(turn_given: bool) -> None:
    gate = WriteGate()
    gate.pause()
    writers = Writers(gate)
    first, second, third = await writers.start(3)
    if turn_given:
        gate.resume()
        first.cancel()
    else:
        first.cancel()
        await asyncio.sleep(0)
        gate.resume()
    await asyncio.gather(second, third)
    assert first.cancelled()
    assert writers.order == [1, 2]
    await gate.wait()


async def test_failure_reaches_waiting_and_later_writers() -> None:
    gate = WriteGate()
    gate.pause()
    writers = Writers(gate)
    tasks = await writers.start(2)
    error = ConnectionResetError("gone")
    gate.fail(error)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert repr(results[0]) == repr(error)
    assert results[0] is not error, "each writer gets an error of its own"
    assert isinstance(results[1], asyncio.CancelledError)
    with pytest.raises(ConnectionResetError):
        await gate.wait()
    assert writers.order == []
