"""How many handlers of peers' streams may run: counted until the handler ends, whatever became of its stream. Pure.

host -> peer -> connection     when the stream comes
protocol                       when it is agreed on
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from ...connection import Connection, Stream
from ...errors import LimitExceeded
from ...identity import PeerId
from .config import SwarmConfig
from .refusals import Refusals

K = TypeVar("K")


class StreamLimits:
    """Counts handlers. `clock` tells the time in seconds."""

    def __init__(self, config: SwarmConfig, refusals: Refusals, clock: Callable[[], float]) -> None:
        self._config = config
        self._refusals = refusals
        self._clock = clock
        self.total = 0
        """Handlers at work."""
        self.of_peer: Counter[PeerId] = Counter()
        self.of_protocol: Counter[str] = Counter()
        self._of_connection: dict[Connection, int] = {}

    def of_connection(self, connection: Connection) -> int:
        """Handlers at work for streams of `connection`."""
        return self._of_connection.get(connection, 0)

    def admit(self, stream: Stream) -> StreamGrant:
        """A peer has opened `stream`. Raises `LimitExceeded`."""
        config, connection = self._config, stream.connection
        peer = connection.remote_peer
        of_connection, per_connection = self._of_connection.get(connection, 0), config.max_handlers_per_connection
        if of_connection >= per_connection:
            raise self._refusal("max_handlers_per_connection", f"a connection of {peer}", per_connection)
        if self.of_peer[peer] >= (limit := config.max_handlers_per_peer):
            raise self._refusal("max_handlers_per_peer", f"peer {peer}", limit)
        if self.total >= (limit := config.max_handlers):
            raise self._refusal("max_handlers", "host", limit)
        self._of_connection[connection] = of_connection + 1
        self.of_peer[peer] += 1
        self.total += 1
        return StreamGrant(self, connection)

    def agreed(self, protocol: str) -> None:
        """One more speaks `protocol`. Raises `LimitExceeded`."""
        if self.of_protocol[protocol] >= (limit := self._config.max_handlers_per_protocol):
            raise self._refusal("max_handlers_per_protocol", f"protocol {protocol}", limit)
        self.of_protocol[protocol] += 1

    def give_back(self, connection: Connection, protocol: str | None) -> None:
        """A grant is released."""
        self.total -= 1
        _take(self._of_connection, connection)
        _take(self.of_peer, connection.remote_peer)
        if protocol is not None:
            _take(self.of_protocol, protocol)

    def _refusal(self, limit: str, scope: str, value: int) -> LimitExceeded:
        error = LimitExceeded(limit, scope=scope, value=value)
        self._refusals.refused(error, self._clock())
        return error


class StreamGrant:
    """What one handler takes of the limits."""

    __slots__ = ("_connection", "_limits", "_protocol")

    def __init__(self, limits: StreamLimits, connection: Connection) -> None:
        self._limits: StreamLimits | None = limits
        self._connection = connection
        self._protocol: str | None = None

    def agreed(self, protocol: str) -> None:
        """It speaks `protocol`. Raises `LimitExceeded`."""
        assert self._limits is not None
        self._limits.agreed(protocol)
        self._protocol = protocol

    def release(self) -> None:
        """The handler has ended. Idempotent."""
        limits, self._limits = self._limits, None
        if limits is not None:
            limits.give_back(self._connection, self._protocol)


def _take(counts: dict[K, int], key: K) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
