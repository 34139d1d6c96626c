"""The key space: where keys and peers lie, and how far they are from each other. Spec: kad-dht/README.md, "Distance".

position   SHA-256 of the key's bytes, or of the peer id's, as a number of 256 bits
distance   XOR of two positions, as a number: the smaller the nearer
common     bits that two positions share at their beginning ("common prefix length", 256 for the same)
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from random import Random
from typing import TypeAlias

from ...identity import PeerId

Position: TypeAlias = int
"""A point in the key space, 0 to 2**256 - 1."""

BITS = 256

MAX_RANDOM_PREFIX = 14
"""Bits that `key_near` aims at: a hash can be aimed by trial only, and this many take some 16,000 of them."""


def position(key: bytes) -> Position:
    """Where a key lies."""
    return int.from_bytes(sha256(key).digest(), "big")


@lru_cache(maxsize=16_384)
def peer_position(peer: PeerId) -> Position:
    """Where a peer lies."""
    return position(peer.to_bytes())


def common_prefix(a: Position, b: Position) -> int:
    """How many bits `a` and `b` share at their beginning."""
    return BITS - (a ^ b).bit_length()


def prefix_of(point: Position, bits: int) -> int:
    """The first `bits` bits of `point`, as a number."""
    return point >> (BITS - bits)


def key_near(point: Position, common: int, dice: Random) -> bytes:
    """A key whose position shares exactly `common` bits with `point`: what a bucket is refreshed with. It aims at
    `MAX_RANDOM_PREFIX` bits at most.
    """
    common = min(common, MAX_RANDOM_PREFIX)
    wanted = prefix_of(point, common + 1) ^ 1
    while True:
        key = dice.randbytes(32)
        if prefix_of(position(key), common + 1) == wanted:
            return key
