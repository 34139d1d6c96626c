"""How many bytes the streams of each protocol have carried.

Rules:
- Nothing is counted while bytes move: a stream's own figures are added when it has ended, or is asked about.
- Match functions may leave the names to peers, so their number is bounded; the streams of those beyond it count as "".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..connection import Connection, Stream
from ..swarm.events import StreamEnded

MAX_PROTOCOLS = 1000
"""Protocol ids that are told apart."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of streams, with what the negotiation of the protocol took."""

    bytes_read: int = 0
    bytes_written: int = 0


class TrafficTable:
    """What the streams that have ended have carried."""

    def __init__(self) -> None:
        self._ended: dict[str, _Sum] = {}

    def stream_ended(self, event: StreamEnded) -> None:
        """Add the figures of a stream that is over."""
        _add(self._ended, event.stream)

    def with_open(self, connections: Iterable[Connection]) -> Mapping[str, Traffic]:
        """The sums, with the streams that are open now."""
        sums = {name: list(sum_) for name, sum_ in self._ended.items()}
        for connection in connections:
            for stream in connection.streams:
                _add(sums, stream)
        return {name: Traffic(*sum_) for name, sum_ in sums.items()}


_Sum = list[int]  # bytes read, bytes written


def _add(sums: dict[str, _Sum], stream: Stream) -> None:
    name = stream.protocol
    sum_ = sums.get(name)
    if sum_ is None:
        if len(sums) >= MAX_PROTOCOLS:
            name = ""
        sum_ = sums.setdefault(name, [0, 0])
    sum_[0] += stream.bytes_read
    sum_[1] += stream.bytes_written
