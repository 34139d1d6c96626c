"""How many handlers of peers' streams may run: counted until the handler ends, whatever became of its stream. Pure.

host -> peer -> connection     when the stream comes
protocol                       when it is agreed on

A stream that has come while its connection has as many as it may waits for one to end: handlers end a little behind
their streams, and the peer can't know.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from ...connection import Connection, Stream
from ...errors import LimitExceeded
from ...identity import PeerId
from .config import SwarmConfig
from .refusals import Refusals

K = TypeVar("K")

MAX_WAITING = 256
"""Streams of one connection that wait for one of its handlers to end; more are reset."""


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
        self._of_connection: dict[Connection, dict[StreamGrant, None]] = {}
        self._waiting: dict[Connection, deque[Callable[[], bool]]] = {}  # for a place, the oldest first

    def of_connection(self, connection: Connection) -> Sequence[StreamGrant]:
        """Those of the handlers at work for streams of `connection`."""
        return tuple(self._of_connection.get(connection, ()))

    def admit(self, stream: Stream, later: Callable[[], bool] | None = None) -> StreamGrant | None:
        """A peer has opened `stream`. Where its connection has no place `later` is called when there is one, and says
        whether it took it; None means that. Raises `LimitExceeded`.
        """
        config, connection = self._config, stream.connection
        peer = connection.remote_peer
        of_connection, per_connection = self._of_connection.get(connection), config.max_handlers_per_connection
        if of_connection is not None and len(of_connection) >= per_connection:
            if later is not None and len(self._waiting.get(connection, ())) < MAX_WAITING:
                self._waiting.setdefault(connection, deque()).append(later)
                return None
            raise self._refusal("max_handlers_per_connection", f"a connection of {peer}", per_connection)
        of_peer = self.of_peer.get(peer, 0)
        if of_peer >= (limit := config.max_handlers_per_peer):
            raise self._refusal("max_handlers_per_peer", f"peer {peer}", limit)
        if self.total >= (limit := config.max_handlers):
            raise self._refusal("max_handlers", "host", limit)
        grant = StreamGrant(self, connection)
        if of_connection is None:
            self._of_connection[connection] = {grant: None}
        else:
            of_connection[grant] = None
        self.of_peer[peer] = of_peer + 1
        self.total += 1
        return grant

    def agreed(self, protocol: str) -> None:
        """One more speaks `protocol`. Raises `LimitExceeded`."""
        count = self.of_protocol.get(protocol, 0)
        if count >= (limit := self._config.max_handlers_per_protocol):
            raise self._refusal("max_handlers_per_protocol", f"protocol {protocol}", limit)
        self.of_protocol[protocol] = count + 1

    def give_back(self, grant: StreamGrant, connection: Connection, protocol: str | None) -> None:
        """A grant is released: who waits for its place has it."""
        self.total -= 1
        of_connection = self._of_connection[connection]
        del of_connection[grant]
        if not of_connection:
            del self._of_connection[connection]
        _take(self.of_peer, connection.remote_peer)
        if protocol is not None:
            _take(self.of_protocol, protocol)
        while waiting := self._waiting.get(connection):
            later = waiting.popleft()
            if not waiting:
                del self._waiting[connection]
            if later():
                return

    def _refusal(self, limit: str, scope: str, value: int) -> LimitExceeded:
        error = LimitExceeded(limit, scope=scope, value=value)
        self._refusals.refused(error, self._clock())
        return error


class StreamGrant:
    """What one handler takes of the limits."""

    __slots__ = ("_connection", "_limits", "_protocol", "cancel")

    def __init__(self, limits: StreamLimits, connection: Connection) -> None:
        self._limits: StreamLimits | None = limits
        self._connection = connection
        self._protocol: str | None = None
        self.cancel: Callable[[], object] | None = None
        """Asks the handler to end."""

    def agreed(self, protocol: str) -> None:
        """It speaks `protocol`. Raises `LimitExceeded`."""
        assert self._limits is not None
        self._limits.agreed(protocol)
        self._protocol = protocol

    def release(self) -> None:
        """The handler has ended. Idempotent."""
        limits, self._limits = self._limits, None
        if limits is not None:
            limits.give_back(self, self._connection, self._protocol)


def _take(counts: dict[K, int], key: K) -> None:
    count = counts.pop(key)
    if count > 1:
        counts[key] = count - 1
