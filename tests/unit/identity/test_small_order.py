"""Ed25519 points of small order are no identities: one signature by such a key is valid for many messages."""

from __future__ import annotations

import pytest

from libp2p.errors import InvalidKey
from libp2p.identity import KeyType, PeerId, PublicKey

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2
    return (
        (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P,
    )


def decoded(y: int) -> Point | None:
    """A point with this y (RFC 8032, 5.1.3)."""
    y %= P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x, y) if x * x % P == square else None


def is_small(y: int) -> bool:
    point = decoded(y)
    for _ in range(3):
        point = None if point is None else add(point, point)
    return point == (0, 1)


ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
SMALL = [0, 1, P - 1, P, P + 1, ORDER_8, P - ORDER_8]  # those of P and above are the same in another guise


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("y", SMALL)
def test_points_of_small_order_are_refused(y: int, sign: int) -> None:
    assert is_small(y)
    raw = (y | sign << 255).to_bytes(32, "little")
    with pytest.raises(InvalidKey, match="small order"):
        PublicKey(KeyType.ED25519, raw)
    with pytest.raises(InvalidKey, match="small order"):
        PeerId.from_bytes(b"\x00\x24\x08\x01\x12\x20" + raw).extract_public_key()


def test_there_are_no_others() -> None:
    """The group of small order has eight points, with five different y."""
    assert len({y % P for y in SMALL}) == 5
    assert not any(is_small(y) for y in range(2, 200))
