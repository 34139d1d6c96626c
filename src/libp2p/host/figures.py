"""What a host counts: see `figures.py` of the package, and docs/watching.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from ..connection import Connection
from ..figures import Figure, FigureKind
from ..peerstore import PeerStore
from ..swarm.limits import HostLimits
from .traffic import Traffic


def figures_of(
    connections: Iterable[Connection], traffic: Mapping[str, Traffic], limits: HostLimits, peerstore: PeerStore
) -> Iterator[Figure]:
    """All figures of a host itself."""
    connections = list(connections)
    yield from _of_connections(connections)
    yield from _of_streams(connections)
    for protocol, carried in traffic.items():
        labels = {"protocol": protocol}
        counter = FigureKind.COUNTER
        yield Figure("bytes_read", "Bytes received on streams.", carried.bytes_read, labels, counter)
        yield Figure("bytes_written", "Bytes sent on streams.", carried.bytes_written, labels, counter)
    yield from _of_limits(limits)
    yield Figure("peerstore_peers", "Peers of which something is known.", len(peerstore.peers()))


def _of_connections(connections: list[Connection]) -> Iterator[Figure]:
    counts = Counter((one.direction.value, "yes" if one.is_limited else "no") for one in connections)
    for (direction, limited), count in counts.items():
        labels = {"direction": direction, "limited": limited}
        yield Figure("connections", "Open connections; limited ones go through a relay.", count, labels)
    yield Figure("peers", "Connected peers.", len({one.remote_peer for one in connections}))


def _of_streams(connections: list[Connection]) -> Iterator[Figure]:
    counts = Counter((stream.protocol, stream.direction.value) for one in connections for stream in one.streams)
    for (protocol, direction), count in counts.items():
        yield Figure("streams", "Open streams.", count, {"protocol": protocol, "direction": direction})


def _of_limits(limits: HostLimits) -> Iterator[Figure]:
    explained = limits.explain(most=0)
    for use in explained.uses:
        labels = {"limit": use.limit}
        yield Figure("limit_used", "How much of a limit of the host is in use; memory in bytes.", use.used, labels)
        if use.value is not None:
            yield Figure("limit", "A limit of the host.", use.value, labels)
    for kind, count in explained.refusals.items():
        text = "What was refused to peers, by the limit's name or the error's."
        yield Figure("refusals", text, count, {"kind": kind}, FigureKind.COUNTER)
