"""Values in the network: put, get, search, correct. Spec: kad-dht/README.md, "Value storage and retrieval".

Rules:
- Nothing is stored, served or returned that its namespace's rules forbid; what a liar answers counts as no answer.
- A search yields a value, then better ones as they come. It asks until the nearest peers have answered, or until
  `quorum` have answered with a valid value.
- Where peers crowd around the key (sybils), its whole region is given the value, and asked for it.
- What we put is remembered in the record store, and put again while it is valid and nothing better is known.
- Behind a search, nearest peers that answered with a worse value, or none, are given the best ("entry correction").
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

from ...errors import InvalidRecord, Libp2pError, RoutingError
from ...identity import PeerId
from .messenger import Answer, Told
from .node import Node
from .query import Progress, Query
from .store import StoredValue
from .stream_of import stream_of
from .wire import Message, MessageType, Record

logger = logging.getLogger(__name__)

_RETRY = 600.0
"""Seconds after which a value that nobody took is put again."""


class Values:
    """What a user does with values. `spawn` runs a coroutine in the background."""

    def __init__(self, node: Node, spawn: Callable[[Coroutine[Any, Any, Any], str], object]) -> None:
        self._node = node
        self._spawn = spawn

    async def put(self, key: bytes, value: bytes, *, progress: Progress | None = None) -> list[PeerId]:
        """Store a value at the nearest peers; who has taken it. Raises `InvalidRecord` for one that the rules forbid
        or that is worse than one we know, and `RoutingError` where nobody took it.
        """
        node = self._node
        await node.server.keep(key, value)
        query = await node.lookup(key, progress=progress)
        holders = await node.holders(query)
        taken = await self._give(query, holders, key, value)
        if not taken:
            raise RoutingError(f"none of the {len(holders)} nearest peers took the value")
        await node.store.set_published(StoredValue(key, value, node.wall_clock()))
        return taken

    async def run(self) -> None:
        """Put our values again when it is time, for ever; those whose time has passed while we were not there, now."""
        while True:
            pause = await self.republish()
            await asyncio.sleep(pause)

    async def republish(self) -> float:
        """Put our values again that are due, as far as they are valid and nothing better is known; how many seconds
        there are until the next is due.
        """
        node, interval = self._node, self._node.config.republish_interval
        pause = interval
        for ours in await node.store.published():
            left = ours.received + interval - node.wall_clock()
            if left <= 0:
                left = interval
                try:
                    await self.put(ours.key, ours.value)
                except InvalidRecord as error:
                    logger.debug("a value of ours is put no more: %s", error)
                    await node.store.remove_published(ours.key)
                except RoutingError as error:
                    logger.debug("a value was not put again: %s", error)
                    left = min(_RETRY, interval)
            pause = min(pause, left)
        return pause

    async def get(self, key: bytes, *, quorum: int = 0, progress: Progress | None = None) -> bytes:
        """The best value that is found. Raises `RoutingError` where there is none, `InvalidRecord` for a key without
        known rules.
        """
        best = None
        async with aclosing(self.search(key, quorum=quorum, progress=progress)) as values:
            async for value in values:
                best = value
        if best is None:
            raise RoutingError(f"no value was found for {key[:64]!r}")
        return best

    def search(self, key: bytes, *, quorum: int = 0, progress: Progress | None = None) -> AsyncGenerator[bytes, None]:
        """A valid value as soon as one is found, then each that is better. `quorum`: end when so many peers have
        answered with a valid value; 0: when the nearest have answered.
        """
        return stream_of(lambda found: self._search(key, quorum, found, progress))

    async def _search(self, key: bytes, quorum: int, found: Callable[[bytes], None], progress: Progress | None) -> None:
        node, now = self._node, self._node.wall_clock()
        node.validators.check_key(key)
        held: dict[PeerId, bytes] = {}
        best: bytes | None = None

        def consider(value: bytes) -> bool:
            nonlocal best
            try:
                node.validators.validate(key, value, now)
                if best is not None and not node.validators.is_better(key, value, best):
                    return True
            except InvalidRecord as error:
                logger.debug("a value of %r was not taken: %s", key[:64], error)
                return False
            best = value
            found(value)
            return True

        async def on_answer(peer: PeerId, answer: Answer) -> bool:
            record = answer.message.record
            if record is not None and record.key == key and consider(record.value):
                held[peer] = record.value
            return bool(quorum) and len(held) + (stored is not None) >= quorum

        stored = await node.store.value(key, now)
        if stored is not None and not consider(stored.value):
            stored = None
        if quorum == 1 and stored is not None:
            return
        query = await node.lookup(key, MessageType.GET_VALUE, on_answer=on_answer, progress=progress)
        holders = await node.holders(query)
        if best is not None:
            # A search that a quorum has ended does not know yet who is nearest: then only the worse is corrected.
            candidates = [*held] if query.stopped else holders
            wrong = [peer for peer in candidates if held.get(peer) != best]
            self._spawn(self._correct(query, wrong, key, best), "correcting a value")

    async def _correct(self, query: Query, peers: list[PeerId], key: bytes, value: bytes) -> None:
        node = self._node
        if await node.store.value(key, node.wall_clock()) is not None:
            with suppress(InvalidRecord):  # it has expired, or a better one has come meanwhile
                await node.server.keep(key, value)
        await self._give(query, peers, key, value)

    async def _give(self, query: Query, peers: list[PeerId], key: bytes, value: bytes) -> list[PeerId]:
        """Put a value at `peers`, side by side; who has taken it."""
        message = Message(MessageType.PUT_VALUE, key, Record(key, value))

        async def give(peer: PeerId, told: tuple[Told, ...]) -> bool:
            try:
                answer = await self._node.messenger.request(peer, message, told)
            except (Libp2pError, OSError) as error:
                logger.debug("%s did not take a value: %s", peer, error)
                return False
            record = answer.message.record
            return record is not None and record.value == value

        taken = await asyncio.gather(*(give(peer, query.told(peer)) for peer in peers))
        return [peer for peer, ok in zip(peers, taken, strict=True) if ok]
