"""Which connections a host ends by itself: duplicates, and above the high water those least worth keeping.

Rules:
- Duplicates have a grace, in which who opened a stream on them ends it; those that carry one are looked at again.
- One timer at a time for each peer with duplicates, and one for the high water.
- Whatever is ended gets a goodbye, in the background.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..connection import Connection, Direction, StreamErrorCode
from ..identity import PeerId
from .limits import HostLimits, SwarmConfig
from .limits.trim import Candidate, least_worth
from .table import ConnectionTable, Entry


class Thinning:
    """Ends connections of `table`, a while after it was asked to look."""

    __slots__ = ("_config", "_limits", "_now", "_pruning", "_stopped", "_table", "_trimming", "farewells")

    def __init__(
        self, table: ConnectionTable, limits: HostLimits, config: SwarmConfig, now: Callable[[], float]
    ) -> None:
        self._table = table
        self._limits = limits
        self._config = config
        self._now = now
        self._pruning: dict[PeerId, asyncio.TimerHandle] = {}
        self._trimming: asyncio.TimerHandle | None = None
        self._stopped = False
        self.farewells: dict[asyncio.Task[None], None] = {}
        """Goodbyes that are being said."""

    def stop(self) -> None:
        """Look no more. Goodbyes go on. Idempotent."""
        self._stopped = True
        for timer in self._pruning.values():
            timer.cancel()
        self._pruning.clear()
        if self._trimming is not None:
            self._trimming.cancel()
            self._trimming = None

    def let_go(self, connection: Connection, reason: str) -> None:
        """End a connection for which there is no room."""
        self._close_soon(connection, reason, StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)

    # Duplicates

    def duplicates_later(self, peer: PeerId) -> None:
        """Look a little later whether there are duplicates to `peer`."""
        if peer not in self._pruning and not self._stopped:
            grace = self._config.duplicate_grace
            self._pruning[peer] = asyncio.get_running_loop().call_later(grace, self._prune, peer)

    def _prune(self, peer: PeerId) -> None:
        """Close the duplicates to `peer` that carry no stream; look again later where there are others."""
        del self._pruning[peer]
        for duplicate in self._table.duplicates(peer):
            if not duplicate.streams:
                self._close_soon(duplicate, "there is another connection", 0)
        if self._table.duplicates(peer) or self._table.doubtful(peer):
            self.duplicates_later(peer)

    # Too many

    def trim_later(self) -> None:
        """Above the high water: look a little later which connections to close."""
        if self._trimming is None and not self._stopped and self._limits.connections.established > self._config.high:
            self._trimming = asyncio.get_running_loop().call_later(self._config.trim_grace, self._trim)

    def _trim(self) -> None:
        """Close those least worth keeping, down to the low water."""
        self._trimming = None
        now, excess = self._now(), self._limits.connections.established - self._config.low
        if self._limits.connections.established > self._config.high:
            candidates = (self._candidate(entry, now) for entry in self._table.entries if not entry.is_kept)
            for entry in least_worth(candidates, excess, grace=self._config.trim_grace):
                self.let_go(entry.connection, "too many connections")
        self.trim_later()

    def _candidate(self, entry: Entry, now: float) -> Candidate[Entry]:
        connection = entry.connection
        return Candidate(
            entry,
            value=self._limits.value(connection.remote_peer),
            has_streams=bool(connection.streams),
            has_spoken=connection.bytes_read > 0,
            is_outbound=connection.direction is Direction.OUTBOUND,
            age=now - entry.since,
        )

    def _close_soon(self, connection: Connection, reason: str, code: int) -> None:
        """Close it with a goodbye, in the background."""
        farewell = asyncio.get_running_loop().create_task(connection.close(reason, code), name=f"close {connection!r}")
        self.farewells[farewell] = None
        farewell.add_done_callback(self.farewells.pop)
