"""A topic that the program is in: its messages, and its peers."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Protocol, Self

from ...errors import BusyResource
from ...identity import PeerId
from .message import Message


class TopicUser(Protocol):
    """What a topic asks of the service that it belongs to. `PubSub` says what each does."""

    def peers(self, topic: str | None = None) -> list[PeerId]: ...

    def mesh(self, topic: str) -> list[PeerId]: ...

    async def publish(self, topic: str, data: bytes) -> int: ...

    async def wait_for_peers(self, topic: str, n: int = 1) -> list[PeerId]: ...

    def unsubscribed(self, subscription: Topic) -> None: ...


class Topic:
    """A subscription: `topic = await pubsub.subscribe("news")`, then `async for message in topic: ...`.

    Its messages wait for the program, up to a number; then the oldest make way, which `dropped` counts and a
    `SlowSubscriber` event tells. A context manager that unsubscribes; one task may wait for messages at a time.
    """

    def __init__(self, pubsub: TopicUser, name: str, capacity: int) -> None:
        self.name = name
        self.dropped = 0
        """Messages that were lost because nobody read them in time."""
        self.untold = 0
        """Those of them that no event has told of yet."""
        self._pubsub = pubsub
        self._capacity = capacity
        self._messages: deque[Message] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def peers(self) -> list[PeerId]:
        """Who else is in the topic, of the peers that we are connected to."""
        return self._pubsub.peers(self.name)

    @property
    def mesh(self) -> list[PeerId]:
        """Our mesh of the topic."""
        return self._pubsub.mesh(self.name)

    async def publish(self, data: bytes) -> int:
        """As `PubSub.publish`."""
        return await self._pubsub.publish(self.name, data)

    async def wait_for_peers(self, n: int = 1) -> list[PeerId]:
        """As `PubSub.wait_for_peers`."""
        return await self._pubsub.wait_for_peers(self.name, n)

    async def next(self) -> Message:
        """The next message. Raises `StopAsyncIteration` behind `close`, and `BusyResource` where another task waits."""
        return await self.__anext__()

    async def close(self) -> None:
        """Take no more messages; leave the topic, if this is the last subscription to it. Idempotent."""
        if not self._closed:
            self.end()
            self._pubsub.unsubscribed(self)

    def end(self) -> None:
        """End the iteration, behind what waits."""
        self._closed = True
        self._wake()

    def push(self, message: Message) -> None:
        """One more message: what the service calls."""
        if len(self._messages) >= self._capacity:
            self._messages.popleft()
            self.dropped += 1
            self.untold += 1
        self._messages.append(message)
        self._wake()

    def __len__(self) -> int:
        """Messages that wait to be read."""
        return len(self._messages)

    def __bool__(self) -> bool:
        return True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        while not self._messages:
            if self._closed:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise BusyResource(f"another task is waiting for messages of {self.name!r}")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._messages.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Topic {self.name!r}: {len(self.peers)} peers, {len(self._messages)} messages wait>"
