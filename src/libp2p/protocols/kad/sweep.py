"""Announcing many keys with few lookups: a sweep over the key space. Pure.

    key space   |--- region ---|--- region ---|--- ...      2**bits regions, each of some 2k servers
    time        |----- slot ---|----- slot ---|--- ...      one round in `interval`

Rules:
- Each key is announced in its region's slot, once in each round: it is due when its slot has come since it was
  announced last. What a restart missed is due at once.
- Whoever looks up a key learns all servers nearer to it than the farthest found: those of a whole prefix. `Coverage`
  keeps that. So a region is explored first, by lookups for keys in what is not covered yet; then for most of its keys
  the nearest servers are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import floor, log2

from ...identity import PeerId
from .keys import BITS, Position, common_prefix, peer_position, position, prefix_of

MAX_REGION_BITS = 16


def region_bits(servers: float | None, k: int) -> int:
    """How many bits name a region, in a network of so many servers: it should hold 2k of them at least."""
    return 0 if not servers else min(MAX_REGION_BITS, max(0, int(log2(max(1.0, servers / (2 * k))))))


def due(announced: Mapping[bytes, float], now: float, interval: float, bits: int) -> list[list[bytes]]:
    """The keys whose slot has come since they were announced, by region, in the order of the key space."""
    found = []
    for key, last in announced.items():
        point = position(key)
        phase = prefix_of(point, bits) / 2**bits * interval
        slot = floor((now - phase) / interval) * interval + phase
        if last < slot:
            found.append((point, key))
    regions: dict[int, list[bytes]] = {}
    for point, key in sorted(found):
        regions.setdefault(prefix_of(point, bits), []).append(key)
    return list(regions.values())


class Coverage:
    """Which servers are known, and of which prefixes all of them."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._servers: dict[Position, PeerId] = {}
        self._covered: set[tuple[int, int]] = set()  # bits, prefix

    def found(self, target: Position, nearest: Sequence[PeerId]) -> None:
        """A lookup for `target` has found these: the nearest that there are."""
        if not nearest:
            return
        points = {peer_position(peer): peer for peer in nearest}
        self._servers.update(points)
        if len(nearest) < self._k:
            self._cover(0, target)  # there are no more in the whole network
            return
        farthest = max(points, key=lambda point: point ^ target)
        # All that share more bits with the target than the farthest does are nearer, so they were found.
        self._cover(min(BITS, common_prefix(farthest, target) + 1), target)

    def covers(self, target: Position) -> bool:
        """Whether all servers around `target` are known, though they may be fewer than `k`."""
        return any((bits, prefix_of(target, bits)) in self._covered for bits in self._lengths())

    def shortest(self, target: Position) -> int | None:
        """How long the shortest covered prefix of `target` is; None where none is covered."""
        return min((bits for bits, prefix in self._covered if prefix_of(target, bits) == prefix), default=None)

    def nearest(self, target: Position) -> list[PeerId] | None:
        """The `k` servers nearest to `target`, if it is known for sure which they are."""
        for bits in self._lengths():
            if (bits, prefix_of(target, bits)) not in self._covered:
                continue
            inside = [point for point in self._servers if prefix_of(point, bits) == prefix_of(target, bits)]
            if len(inside) >= self._k or bits == 0:
                inside.sort(key=lambda point: point ^ target)
                return [self._servers[point] for point in inside[: self._k]]
        return None

    def _lengths(self) -> list[int]:
        """The lengths of the prefixes covered, the longest first."""
        return sorted({bits for bits, _ in self._covered}, reverse=True)

    def _cover(self, bits: int, point: Position) -> None:
        self._covered.add((bits, prefix_of(point, bits)))
        while bits and (bits, prefix_of(point, bits) ^ 1) in self._covered:
            bits -= 1
            self._covered.add((bits, prefix_of(point, bits)))


def chunks(keys: Iterable[bytes], size: int) -> Iterable[list[bytes]]:
    """`keys` in lists of `size` at most."""
    chunk: list[bytes] = []
    for key in keys:
        chunk.append(key)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
