"""Whom a message of ours would reach now, and waiting until these are enough."""

from __future__ import annotations

import asyncio

from ...errors import LocalProtocolError
from ...identity import PeerId
from .state import RouterState


class Audience:
    """Looks at the router's tables; whoever changes them calls `wake`."""

    def __init__(self, state: RouterState) -> None:
        self._state = state
        self._waiters: set[asyncio.Future[None]] = set()
        self._ended = False

    def peers(self, topic: str | None = None) -> list[PeerId]:
        """The peers that we can send to; with a topic, those of them that are in it."""
        state = self._state
        return [
            peer for peer in (state.peers if topic is None else state.topics.get(topic, ())) if state.peers[peer].ready
        ]

    def of(self, topic: str | None) -> list[PeerId]:
        """The peers that would get what we publish in the topic; None: those that we can send to at all."""
        state = self._state
        if topic is None or state.config.flood_publish or topic not in state.mesh:
            return self.peers(topic)
        return [
            peer
            for peer in self.peers(topic)
            if peer in state.mesh[topic] or state.is_direct(peer) or not state.can_mesh(peer)
        ]

    async def wait(self, topic: str | None, n: int) -> list[PeerId]:
        """Wait until `of` gives `n` peers. Raises `LocalProtocolError` behind the end."""
        while len(peers := self.of(topic)) < n:
            await self._change()
        return peers

    async def wait_fewer(self, topic: str, n: int) -> None:
        """Wait until `peers` of the topic are fewer than `n`. Raises `LocalProtocolError` behind the end."""
        while len(self.peers(topic)) >= n:
            await self._change()

    async def _change(self) -> None:
        if self._ended:
            raise LocalProtocolError("pubsub has ended")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def wake(self) -> None:
        """Something has changed."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def end(self) -> None:
        """Nothing will change any more."""
        self._ended = True
        self.wake()
