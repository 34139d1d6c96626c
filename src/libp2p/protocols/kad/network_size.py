"""How many servers a network has, as far as our lookups tell. Pure.

The i-th nearest of N peers to a key lies, on average, at i/(N + 1) of the key space away from it. So the distances of
the nearest peers that lookups found give N: the slope of the least-squares line through them (as in go-libp2p-kad-dht).
The median of many lookups is taken, because sybils around one key make the network look large from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import exp, factorial, log2
from statistics import median

from .keys import BITS, Position, common_prefix

_KEPT = 50
"""Lookups that are remembered."""
_ENOUGH = 5
"""Lookups before there is an estimate."""


class NetworkSize:
    """Estimates the number of servers. `k` is how many nearest peers a lookup finds."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._samples: deque[float] = deque(maxlen=_KEPT)

    def found(self, target: Position, positions: Sequence[Position]) -> None:
        """A lookup for `target` has found these, the nearest first. Fewer than `k` say nothing."""
        if len(positions) < self._k:
            return
        distances = [(point ^ target) / 2**BITS for point in positions[: self._k]]
        ranks = range(1, len(distances) + 1)
        slope = sum(rank * distance for rank, distance in zip(ranks, distances, strict=True))
        self._samples.append(sum(rank * rank for rank in ranks) / slope - 1 if slope else float("inf"))

    @property
    def servers(self) -> float | None:
        """The estimate; None before there is one."""
        return median(self._samples) if len(self._samples) >= _ENOUGH else None

    def region_bits(self, peers: int) -> int | None:
        """The longest prefix whose region should hold `peers` of them at least; None before there is an estimate."""
        servers = self.servers
        return None if servers is None else max(0, int(log2(max(1.0, servers / peers))))

    def sure_distance(self, certainty: float) -> int | None:
        """A server that is nearer to a key than this is among its `k` nearest, as certain as that; None before there is
        an estimate.

        How many of N servers are nearer than a part d of the key space is Poisson distributed, with the mean N * d.
        """
        servers = self.servers
        if servers is None:
            return None
        low, high = 0.0, float(self._k)
        for _ in range(40):
            mean = (low + high) / 2
            if sum(exp(-mean) * mean**n / factorial(n) for n in range(self._k)) >= certainty:
                low = mean
            else:
                high = mean
        return min((1 << BITS) - 1, int(low / servers * 2**BITS))

    def is_crowded(self, target: Position, positions: Sequence[Position]) -> bool:
        """Whether so many peers as the first `k` of `positions` (or three quarters of it, if there are no more) are
        nearer to `target` than chance puts them there.

        The n-th nearest of honest peers shares log2(N/n) bits with the key, give or take one: three more are no chance
        (less than one in a million, for n = 15).
        """
        servers, count = self.servers, min(self._k, len(positions))
        if servers is None or count < self._k * 3 // 4:
            return False
        return common_prefix(positions[count - 1], target) >= log2(max(1.0, servers / count)) + 3
