"""How many bytes the streams of each protocol have carried.

Rules:
- Nothing is counted while bytes move: a stream's own figures are added when it has ended, or is asked about.
- Match functions may leave the names to peers, so their number is bounded; the streams of those beyond it count as "".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..connection import Connection, Stream

MAX_PROTOCOLS = 1000
"""Protocol ids that are told apart."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of streams, with what the negotiation of the protocol took."""

    bytes_read: int = 0
    bytes_written: int = 0

    def with_stream(self, stream: Stream) -> Traffic:
        """And those of `stream`."""
        return Traffic(self.bytes_read + stream.bytes_read, self.bytes_written + stream.bytes_written)


class TrafficTable:
    """What the streams that have ended have carried."""

    def __init__(self) -> None:
        self._ended: dict[str, Traffic] = {}

    def stream_ended(self, stream: Stream) -> None:
        """Add the figures of a stream that is over."""
        _add(self._ended, stream)

    def with_open(self, connections: Iterable[Connection]) -> Mapping[str, Traffic]:
        """The sums, with the streams that are open now."""
        sums = dict(self._ended)
        for connection in connections:
            for stream in connection.streams:
                _add(sums, stream)
        return sums


def _add(sums: dict[str, Traffic], stream: Stream) -> None:
    name = stream.protocol
    if name not in sums and len(sums) >= MAX_PROTOCOLS:
        name = ""
    sums[name] = sums.get(name, Traffic()).with_stream(stream)
