"""Groups of addresses."""

import pytest

from libp2p.multiaddr import Multiaddr
from libp2p.protocols.kad.diversity import group_of, without_crowds


@pytest.mark.parametrize(
    ("addr", "group"),
    [
        ("/ip4/1.2.3.4/tcp/1", (4, 0x0102)),
        ("/ip4/1.2.200.4/udp/1/quic-v1", (4, 0x0102)),
        ("/ip6/2001:4860:1::1/tcp/1", (6, 0x20014860)),
        ("/ip4/10.0.0.1/tcp/1", None),
        ("/ip4/127.0.0.1/tcp/1", None),
        ("/dns4/example.com/tcp/1", None),
        ("/memory/1", None),
    ],
)
def test_group(addr: str, group: tuple[int, int] | None) -> None:
    assert group_of(Multiaddr(addr)) == group


def test_an_answer_loses_the_group_that_crowds_it() -> None:
    answer = [*["/ip4/1.2.3.4/tcp/1"] * 4, *["/ip4/1.3.3.4/tcp/1"] * 3, "/ip4/10.0.0.1/tcp/1"]
    kept = without_crowds(answer, lambda one: [Multiaddr(one)], 3)
    assert kept == answer[4:]
    assert without_crowds(answer, lambda one: [Multiaddr(one)], 0) == answer
