"""Who is connected with whom in a simulated network: lists of pairs, by index, the smaller first, each pair once."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

Pairs = Sequence[tuple[int, int]]


def ring(count: int) -> Pairs:
    """Each with the next one, the last with the first."""
    return _pairs((place, (place + 1) % count) for place in range(count))


def star(count: int) -> Pairs:
    """The first with all others."""
    return _pairs((0, place) for place in range(1, count))


def complete(count: int) -> Pairs:
    """Each with all others."""
    return _pairs((a, b) for a in range(count) for b in range(a))


def regular(count: int, degree: int, dice: random.Random) -> Pairs:
    """Each with `degree` others at random, or one or two fewer here and there; all are connected, by some way.

    It is made of `degree` / 2 rings through all, so `degree` must be even.
    """
    if degree % 2 or not 0 < degree < count:
        raise ValueError(f"no such network of {count}: the degree {degree} must be even, and less")
    places = list(range(count))
    pairs: list[tuple[int, int]] = []
    for _ in range(degree // 2):
        dice.shuffle(places)
        pairs.extend((places[one], places[(one + 1) % count]) for one in range(count))
    return _pairs(pairs)


def _pairs(pairs: Iterable[tuple[int, int]]) -> Pairs:
    return list(dict.fromkeys((min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]))
