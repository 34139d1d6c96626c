"""A map of all servers of a network, in the order of their positions. Pure.

The peers that share a prefix with a target stand side by side, and all of them are nearer to it than all others. So the
nearest `n` are among those of the longest prefix that `n` peers share: a few bisections, and one short list to sort.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from ...identity import PeerId
from .keys import BITS, Position, peer_position
from .messenger import Told


class PeerMap:
    """Servers, and where each is."""

    def __init__(self, servers: Mapping[PeerId, Told]) -> None:
        self._told = dict(servers)
        ordered = sorted((peer_position(peer), peer) for peer in servers)
        self._points = [point for point, _ in ordered]
        self._peers = [peer for _, peer in ordered]

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, peer: object) -> bool:
        return peer in self._told

    def told(self, peer: PeerId) -> Told | None:
        """Where `peer` is; None for one that is not on the map."""
        return self._told.get(peer)

    def nearest(self, target: Position, n: int) -> list[PeerId]:
        """The `n` servers nearest to `target`, the nearest first."""
        short, long = 0, BITS  # n peers share `short` bits with the target, fewer share `long`
        start, end = 0, len(self._peers)
        while long - short > 1:
            bits = (short + long) // 2
            first, last = self._sharing(target, bits)
            if last - first >= n:
                short, start, end = bits, first, last
            else:
                long = bits
        return [self._peers[i] for i in sorted(range(start, end), key=lambda i: self._points[i] ^ target)[:n]]

    def _sharing(self, target: Position, bits: int) -> tuple[int, int]:
        """Where those begin and end that share `bits` bits with `target`."""
        low = target >> (BITS - bits) << (BITS - bits)
        return bisect_left(self._points, low), bisect_left(self._points, low + (1 << (BITS - bits)))
