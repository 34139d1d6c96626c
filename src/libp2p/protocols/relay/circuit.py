"""A connection through a relay, at either end: raw bytes in a stream to the relay, until they are upgraded."""

from __future__ import annotations

import asyncio

from ...connection import (
    Connection,
    ConnectionUpgrader,
    Direction,
    OverStream,
    RawConnection,
    Role,
    Scope,
    Stream,
    StreamErrorCode,
)
from ...errors import ConnectionClosed, StreamReset
from ...identity import PeerId
from ...multiaddr import Multiaddr
from .wire import Limit


class CircuitConnection(OverStream):
    """The raw connection. `peer` is who is said to be at the other end, `limit` what the relay allows."""

    def __init__(
        self, stream: Stream, *, local_addr: Multiaddr, remote_addr: Multiaddr, peer: PeerId, limit: Limit
    ) -> None:
        super().__init__(stream, local_addr=local_addr, remote_addr=remote_addr)
        self.peer = peer
        self.limit = limit
        self._opened_at = asyncio.get_running_loop().time()
        self._before = (stream.bytes_read, stream.bytes_written)

    def _lose(self, error: Exception | None) -> None:
        """Where the relay has cut the circuit off, its limit is the reason."""
        if isinstance(error, StreamReset) and error.by == "remote" and self._is_used_up(error.code):
            error = ConnectionClosed(f"the relay's limit of {self.limit} was reached", by="remote")
        super()._lose(error)

    def _is_used_up(self, code: int) -> bool:
        """Whether the code says so, or, as other relays give none, what has passed does."""
        if code == StreamErrorCode.RESOURCE_LIMIT_EXCEEDED:
            return True
        passed = (self._stream.bytes_read - self._before[0], self._stream.bytes_written - self._before[1])
        seconds = asyncio.get_running_loop().time() - self._opened_at
        limit = self.limit
        return bool((limit.data and max(passed) > limit.data) or (limit.duration and seconds >= 0.95 * limit.duration))


class CircuitUpgrader(ConnectionUpgrader):
    """Upgrades circuits: the peer must be the one that the relay has named, and the connection is marked limited where
    the relay limits it.
    """

    def __init__(self, upgrader: ConnectionUpgrader) -> None:
        self._upgrader = upgrader

    async def upgrade(
        self,
        raw: RawConnection,
        direction: Direction,
        *,
        role: Role | None = None,
        peer: PeerId | None = None,
        scope: Scope | None = None,
    ) -> Connection:
        """See `ConnectionUpgrader`."""
        assert isinstance(raw, CircuitConnection)
        connection = await self._upgrader.upgrade(raw, direction, role=role, peer=peer or raw.peer, scope=scope)
        connection.is_limited = bool(raw.limit)
        return connection
