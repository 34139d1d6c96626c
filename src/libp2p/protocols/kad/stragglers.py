"""Requests that outlive their lookup. A lookup does not wait for slow peers; but a peer that never answers must leave
the table, and only the end of a request tells that it does not answer.

Rules: one request for each peer, `limit` in all. Each has a time limit, so each ends; behind `close` none is left.
"""

from __future__ import annotations

import asyncio
import logging

from ...errors import Libp2pError
from ...identity import PeerId
from .messenger import Answer
from .query import OnPeer

logger = logging.getLogger(__name__)


class Stragglers:
    """The requests whose lookup has ended; `heard` is told of what came of each."""

    def __init__(self, limit: int, heard: OnPeer) -> None:
        self._limit = limit
        self._heard = heard
        self._tasks: dict[PeerId, asyncio.Task[Answer]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def take(self, peer: PeerId, task: asyncio.Task[Answer]) -> bool:
        """Let a request to `peer` go on; False where it is to be cancelled instead."""
        if self._closed or peer in self._tasks or len(self._tasks) >= self._limit:
            return False
        self._tasks[peer] = task
        task.add_done_callback(lambda _: self._done(peer, task))
        return True

    async def close(self) -> None:
        """End them all."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _done(self, peer: PeerId, task: asyncio.Task[Answer]) -> None:
        del self._tasks[peer]
        if task.cancelled():
            return
        try:
            answer = task.result()
        except (Libp2pError, OSError) as error:
            logger.debug("%s did not answer a DHT request: %s", peer, error)
            if not self._closed:
                self._heard(peer, None)
            return
        self._heard(peer, answer.connection)
