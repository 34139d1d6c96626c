"""Waiting for a direct connection where there is a limited one, and a hole is being punched for another."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ..connection import Connection
from ..errors import LimitedConnection
from ..identity import PeerId
from .table import ConnectionTable


class DirectConnections:
    """The peers to whom a direct connection is on its way, and who waits for it, at most `timeout` seconds."""

    __slots__ = ("_expected", "_given_up", "_table", "_timeout", "_waiting")

    def __init__(self, table: ConnectionTable, timeout: float) -> None:
        self._table = table
        self._timeout = timeout
        self._expected: Counter[PeerId] = Counter()
        self._waiting: dict[PeerId, set[asyncio.Future[None]]] = {}
        self._given_up = False

    @contextmanager
    def expected(self, peer: PeerId) -> Iterator[None]:
        """Within the block a direct connection to `peer` is being made."""
        self._expected[peer] += 1
        try:
            yield
        finally:
            self._expected[peer] -= 1
            if not self._expected[peer]:
                del self._expected[peer]
                self.changed(peer)

    async def wait(self, peer: PeerId) -> Connection:
        """The direct connection that is expected. Raises `LimitedConnection` where none comes."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        while (best := self._table.best(peer)) is None or best.is_limited:
            left = deadline - loop.time()
            if peer not in self._expected or left <= 0 or self._given_up:
                raise LimitedConnection(peer)
            change = loop.create_future()
            waiting = self._waiting.setdefault(peer, set())
            waiting.add(change)
            try:
                await asyncio.wait({change}, timeout=left)
            finally:
                waiting.discard(change)
                if not waiting:
                    self._waiting.pop(peer, None)
        return best

    def changed(self, peer: PeerId) -> None:
        """There is another connection to `peer`, or none is expected any more."""
        for change in self._waiting.get(peer, ()):
            if not change.done():
                change.set_result(None)

    def give_up(self) -> None:
        """Nobody waits any longer."""
        self._given_up = True
        for peer in list(self._waiting):
            self.changed(peer)
