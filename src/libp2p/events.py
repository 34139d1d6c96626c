"""Typed publish/subscribe within one host: layers announce what happens, whoever cares listens.

Rules:
- An event is any object; its class is its topic. Who subscribes to a base class gets all of its subclasses.
- `emit` never waits and never raises: callbacks run at once, one after the other, and what one raises is logged;
  a `Subscription` holds a bounded number of events, and the oldest make way for new ones.
- One event loop: `emit` is called on the thread of the loop that the subscribers run on.
- Emitting what nobody listens to costs one dictionary lookup.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from .callbacks import plain
from .errors import BusyResource, InvalidInput, LocalProtocolError

logger = logging.getLogger(__name__)

E = TypeVar("E")


class _Listener:
    """A callback and the types of events it is called with. To call the listener ends it."""

    __slots__ = ("_bus", "active", "callback", "types")

    def __init__(self, bus: EventBus, types: type | tuple[type, ...], callback: Callable[[Any], object]) -> None:
        self._bus = bus
        self.types = types
        self.callback = callback
        self.active = True

    def __call__(self) -> None:
        self.active = False
        self._bus.remove(self)


class EventBus:
    """Brings each event to those who subscribed to its type, in the order in which they subscribed."""

    def __init__(self) -> None:
        self._listeners: dict[_Listener, None] = {}
        self._routes: dict[type, tuple[_Listener, ...]] = {}  # by type emitted; forgotten when a subscription changes
        self._subscriptions: dict[Subscription[Any], None] = {}
        self._expected: dict[asyncio.Future[Any], None] = {}
        self._closed = False

    def emit(self, event: object) -> None:
        """Tell every subscriber of the event's type. Does nothing on a closed bus."""
        kind = type(event)
        route = self._routes.get(kind)
        if route is None:
            route = tuple(listener for listener in self._listeners if issubclass(kind, listener.types))
            self._routes[kind] = route
        for listener in route:
            if listener.active:  # an earlier callback may have ended this subscription
                try:
                    listener.callback(event)
                except Exception:
                    logger.exception("a subscriber failed on %r", event)

    def on(self, event_type: type[E], callback: Callable[[E], object]) -> Callable[[], None]:
        """Call `callback` with every event of `event_type`, within `emit`. Returns the function that ends this
        (idempotent; no call comes after it). On a closed bus nothing is ever called. Raises `TypeError` for an
        `async def`: who has to wait reads a subscription, or starts a task.
        """
        return self._add(event_type, plain(callback, "a subscriber"))

    def subscribe(self, *event_types: type[E], capacity: int = 256) -> Subscription[E]:
        """The events of these types from now on, read by a task: `with bus.subscribe(X) as events: async for ...`.

        `capacity` is how many unread events are kept. Subscriptions hold memory until they are closed. On a closed bus
        the subscription has ended already. Raises `InvalidInput` without a type or with a capacity below 1.
        """
        if not event_types or capacity < 1:
            raise InvalidInput("a subscription needs at least one event type and room for at least one event")
        subscription: Subscription[E] = Subscription(capacity, self._forget)
        if self._closed:
            subscription.close()
            return subscription
        subscription.unsubscribe = self._add(event_types, subscription.push)
        self._subscriptions[subscription] = None
        return subscription

    @asynccontextmanager
    async def expect(
        self, event_type: type[E], where: Callable[[E], bool] = lambda _: True
    ) -> AsyncIterator[asyncio.Future[E]]:
        """The next event of `event_type` for which `where` holds, as a future: it listens from the beginning of the
        block, so that what the block causes is not missed.

            async with bus.expect(PeerIdentified, lambda event: event.connection.remote_peer == peer) as identified:
                await host.connect(peer)
                event = await identified

        At the end of the block, and where the bus closes, it listens no more: a future that has not come raises
        `LocalProtocolError` then.
        """
        expected: asyncio.Future[E] = asyncio.get_running_loop().create_future()

        def came(event: E) -> None:
            if not expected.done() and where(event):
                expected.set_result(event)

        remove = self.on(event_type, came)
        self._expected[expected] = None
        if self._closed:
            _give_up(expected)
        try:
            yield expected
        finally:
            remove()
            self._expected.pop(expected, None)
            _give_up(expected)

    def close(self) -> None:
        """End all subscriptions; what they hold can still be read. Idempotent."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.close()
        for expected in self._expected:
            _give_up(expected)
        for listener in self._listeners:
            listener.active = False
        self._listeners.clear()
        self._routes.clear()

    def _add(self, types: type | tuple[type, ...], callback: Callable[[Any], object]) -> Callable[[], None]:
        listener = _Listener(self, types, callback)
        if not self._closed:
            self._listeners[listener] = None
            self._routes.clear()
        return listener

    def remove(self, listener: _Listener) -> None:
        """End a subscription: what the listener calls."""
        if self._listeners.pop(listener, self) is not self:
            self._routes.clear()

    def _forget(self, subscription: Subscription[Any]) -> None:
        self._subscriptions.pop(subscription, None)


def _give_up(expected: asyncio.Future[Any]) -> None:
    if not expected.done():
        expected.set_exception(LocalProtocolError("the event has not come, and nobody listens for it any more"))
        expected.exception()  # seen: nobody may be waiting


class Subscription(Generic[E]):
    """Events as an async iterator; also a context manager that closes it. One task may wait in it at a time."""

    __slots__ = ("_capacity", "_closed", "_forget", "_queue", "_waiter", "dropped", "unsubscribe")

    def __init__(self, capacity: int, forget: Callable[[Subscription[Any]], None]) -> None:
        self.dropped = 0
        """Events that were lost because nobody read them in time; the oldest go first."""
        self.unsubscribe: Callable[[], None] | None = None
        self._capacity = capacity
        self._forget = forget
        self._queue: deque[E] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        """Events that wait to be read."""
        return len(self._queue)

    def push(self, event: E) -> None:
        """Append an event: what the bus calls."""
        if len(self._queue) >= self._capacity:
            lost = self._queue.popleft()
            if not self.dropped:
                logger.warning("a subscription lost events, since nobody reads it: the first was %r", lost)
            self.dropped += 1
        self._queue.append(event)
        self._wake()

    def close(self) -> None:
        """Take no more events; the iteration ends behind those that wait. Idempotent."""
        self._closed = True
        if self.unsubscribe is not None:
            self.unsubscribe()
        self._forget(self)
        self._wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        """The next event. Cancelling loses none. Raises `BusyResource` where another task waits already."""
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise BusyResource("another task is waiting for this subscription's events")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._queue.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
