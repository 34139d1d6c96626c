"""Who stays in a mesh, who joins it, who gets gossip: decisions as plain functions.

Spec: pubsub/gossipsub/gossipsub-v1.1.md, "Maintaining the Mesh"... What is random comes from `dice`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

from ...identity import PeerId

Score: TypeAlias = Callable[[PeerId], float]
IsOutbound: TypeAlias = Callable[[PeerId], bool]


def choose(peers: Sequence[PeerId], count: int, dice: Random) -> list[PeerId]:
    """`count` of the peers at random, or all of them."""
    if count <= 0:
        return []
    if count >= len(peers):
        return list(peers)
    return dice.sample(peers, count)


def to_keep(
    mesh: Sequence[PeerId], *, d: int, d_score: int, d_out: int, score: Score, is_outbound: IsOutbound, dice: Random
) -> list[PeerId]:
    """Which `d` peers of a mesh that is too large stay: the `d_score` best, the rest at random; of all of them `d_out`
    outbound ones, if there are so many.
    """
    peers = list(mesh)
    dice.shuffle(peers)  # so that equal scores are in no order
    peers.sort(key=score, reverse=True)
    rest = peers[d_score:]
    dice.shuffle(rest)
    kept, spare = [*peers[:d_score], *rest][:d], [*peers[:d_score], *rest][d:]
    lacking = d_out - sum(map(is_outbound, kept))
    for joins in [peer for peer in spare if is_outbound(peer)][: max(0, lacking)]:
        # It takes the place of the last one that is not outbound: one of the random ones, while there are any.
        leaves = next((n for n in reversed(range(len(kept))) if not is_outbound(kept[n])), None)
        if leaves is not None:
            kept[leaves] = joins
    return kept


def median(mesh: Sequence[PeerId], score: Score) -> float:
    """The score that half of the mesh does not reach; the upper one of the two in the middle."""
    return sorted(map(score, mesh))[len(mesh) // 2]


def gossip_target(candidates: int, *, d_lazy: int, factor: float) -> int:
    """How many of the peers outside of the mesh get gossip."""
    return min(candidates, max(d_lazy, int(factor * candidates)))
