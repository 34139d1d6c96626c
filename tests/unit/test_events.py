"""The event bus: routing by type, isolation of subscribers, bounded subscriptions."""

import asyncio
import logging
from dataclasses import dataclass

import pytest

from libp2p.errors import BusyResource, InvalidInput, LocalProtocolError
from libp2p.events import EventBus


@dataclass(frozen=True)
class Base:
    n: int = 0


class Child(Base):
    pass


class Other:
    pass


@pytest.mark.parametrize(
    ("subscribed", "received"),
    [((Base,), [0, 1]), ((Child,), [1]), ((Child, Other), [1, "other"]), ((object,), [0, 1, "other"])],
)
async def test_subscribers_get_their_types_and_subclasses(subscribed: tuple[type, ...], received: list[object]) -> None:
    bus = EventBus()
    with bus.subscribe(*subscribed) as events:
        for event in (Base(0), Child(1), Other()):
            bus.emit(event)
    assert [getattr(event, "n", "other") async for event in events] == received


def test_callbacks_run_in_order_until_removed() -> None:
    bus = EventBus()
    calls: list[str] = []
    bus.emit(Child())  # nobody listens: the empty route must not be kept
    bus.on(Base, lambda _: calls.append("first"))
    remove = bus.on(Child, lambda _: calls.append("second"))
    bus.emit(Child())
    remove()
    remove()
    bus.emit(Child())
    assert calls == ["first", "second", "first"]


def test_a_callback_may_end_a_later_subscription_and_add_one() -> None:
    bus = EventBus()
    calls: list[str] = []

    def first(_: Base) -> None:
        remove()
        bus.on(Base, lambda _: calls.append("new"))

    bus.on(Base, first)
    remove = bus.on(Base, lambda _: calls.append("removed"))
    bus.emit(Base())
    assert calls == []
    bus.emit(Base())
    assert calls == ["new"]


def test_a_failing_callback_harms_nobody_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus()
    got: list[Base] = []

    def fail(_: Base) -> None:
        raise RuntimeError("boom")

    bus.on(Base, fail)
    bus.on(Base, got.append)
    with caplog.at_level(logging.ERROR, "libp2p.events"):
        bus.emit(Base(7))
    assert got == [Base(7)]
    assert "Base(n=7)" in caplog.text
    assert "boom" in caplog.text


async def test_a_full_subscription_drops_counts_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus()
    events = bus.subscribe(Base, capacity=3)
    for n in range(10):
        bus.emit(Base(n))
    assert events.dropped == 7
    assert [record.message for record in caplog.records] == [
        "a subscription lost events, since nobody reads it: the first was Base(n=0)"
    ]
    events.close()
    bus.emit(Base(99))
    assert [event.n async for event in events] == [7, 8, 9]


async def test_a_waiting_reader_wakes_for_an_event_and_for_the_end() -> None:
    bus = EventBus()
    events = bus.subscribe(Base)

    async def read_all() -> list[int]:
        return [event.n async for event in events]

    task = asyncio.ensure_future(read_all())
    await asyncio.sleep(1)
    with pytest.raises(BusyResource):
        await anext(events)
    bus.emit(Base(1))
    await asyncio.sleep(1)
    bus.emit(Base(2))
    bus.close()
    bus.close()
    assert await task == [1, 2]


async def test_a_cancelled_reader_loses_no_event() -> None:
    bus = EventBus()
    events = bus.subscribe(Base)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await anext(events)
    bus.emit(Base(5))
    assert await anext(events) == Base(5)


async def test_a_closed_bus_is_silent() -> None:
    bus = EventBus()
    calls: list[object] = []
    bus.on(object, calls.append)
    bus.close()
    remove = bus.on(object, calls.append)
    bus.emit(Base())
    remove()
    assert calls == []
    assert [event async for event in bus.subscribe(Base)] == []


async def test_nothing_is_left_of_ended_subscriptions() -> None:
    bus = EventBus()
    for _ in range(100):
        with bus.subscribe(Base):
            bus.emit(Base())
        bus.on(Base, print)()
    assert not bus._listeners
    assert not bus._subscriptions


async def test_an_expected_event_is_not_missed() -> None:
    bus = EventBus()
    async with bus.expect(Base, lambda event: event.n > 1) as expected:
        for n in range(4):
            bus.emit(Child(n))
        assert (await expected).n == 2
    async with bus.expect(Base) as expected:
        asyncio.get_running_loop().call_later(5, bus.emit, Base(7))
        assert (await expected).n == 7


async def test_what_is_not_expected_any_more() -> None:
    bus = EventBus()
    async with bus.expect(Base) as late:
        pass
    bus.emit(Base())
    with pytest.raises(LocalProtocolError, match="has not come"):
        await late
    async with bus.expect(Base) as expected:
        asyncio.get_running_loop().call_later(5, bus.close)
        with pytest.raises(LocalProtocolError):
            await expected
    async with bus.expect(Base) as expected:
        with pytest.raises(LocalProtocolError):
            await expected
    assert not bus._listeners
    assert not bus._expected


def test_bad_arguments() -> None:
    with pytest.raises(InvalidInput):
        EventBus().subscribe()
    with pytest.raises(InvalidInput):
        EventBus().subscribe(Base, capacity=0)
