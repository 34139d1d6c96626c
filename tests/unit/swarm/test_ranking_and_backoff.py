"""The pure parts of dialing: in which order and how far apart, and what rests after failures."""

import pytest

from libp2p.multiaddr import Multiaddr
from libp2p.swarm.backoff import BASE, MAXIMUM, STEP, Backoff
from libp2p.swarm.ranking import PRIVATE_LONG_STEP, PRIVATE_STEP, PUBLIC_LONG_STEP, PUBLIC_STEP, RELAY_DELAY, rank

PUBLIC4, PUBLIC4B = "/ip4/8.8.8.8/tcp/1", "/ip4/9.9.9.9/tcp/1"
PUBLIC6, PUBLIC6B = "/ip6/2606:4700::1/tcp/1", "/ip6/2606:4700::2/tcp/1"
PRIVATE4, PRIVATE4B = "/ip4/192.168.1.1/tcp/1", "/ip4/10.0.0.1/tcp/1"
PRIVATE6, LOOPBACK = "/ip6/fd00::1/tcp/1", "/ip4/127.0.0.1/tcp/1"
RELAYED = "/ip4/8.8.4.4/tcp/1/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC/p2p-circuit"
QUIC4, QUIC4B = "/ip4/8.8.8.8/udp/1/quic-v1", "/ip4/8.8.8.8/udp/2/quic-v1"
QUIC6, WEBTRANSPORT4 = "/ip6/2606:4700::1/udp/9/quic-v1", "/ip4/8.8.8.8/udp/1/quic-v1/webtransport"
LAN_QUIC, WS, WEBRTC = "/ip4/10.0.0.1/udp/1/quic-v1", "/ip4/8.8.8.8/tcp/2/ws", "/ip4/8.8.8.8/udp/5/webrtc-direct"
LAN_WEBRTC, MEMORY = "/ip4/10.0.0.1/udp/5/webrtc-direct", "/memory/7"
LAN, WAN = PRIVATE_STEP, PUBLIC_STEP


@pytest.mark.parametrize(
    ("addrs", "expected"),
    [
        ([], []),
        ([PUBLIC4], [(0, PUBLIC4)]),
        ([PUBLIC4, PUBLIC4], [(0, PUBLIC4)]),
        ([PUBLIC4, PUBLIC6], [(0, PUBLIC6), (WAN, PUBLIC4)]),
        (
            [PUBLIC4, PUBLIC4B, PUBLIC6, PUBLIC6B],
            [(0, PUBLIC6), (WAN, PUBLIC4), (2 * WAN, PUBLIC4B), (2 * WAN, PUBLIC6B)],
        ),
        ([PUBLIC4, PUBLIC4B], [(0, PUBLIC4), (WAN, PUBLIC4B)]),
        ([PRIVATE4, PRIVATE6, LOOPBACK], [(0, PRIVATE6), (LAN, PRIVATE4), (2 * LAN, LOOPBACK)]),
        ([PUBLIC4, PRIVATE4], [(0, PRIVATE4), (0, PUBLIC4)]),
        ([PUBLIC4, PUBLIC4B, PRIVATE4, PRIVATE4B], [(0, PRIVATE4), (0, PUBLIC4), (LAN, PRIVATE4B), (WAN, PUBLIC4B)]),
        ([PUBLIC4, QUIC4], [(0, QUIC4), (WAN, PUBLIC4)]),
        ([QUIC4B, QUIC4], [(0, QUIC4), (WAN, QUIC4B)]),
        (
            [PUBLIC4, PUBLIC6, WS, WEBTRANSPORT4, QUIC4B, QUIC4, QUIC6],
            [
                *[(0, QUIC6), (WAN, QUIC4), (2 * WAN, QUIC4B), (2 * WAN, WEBTRANSPORT4)],
                *[(3 * WAN, PUBLIC6), (4 * WAN, PUBLIC4), (5 * WAN, WS)],
            ],
        ),
        ([PRIVATE4, LAN_QUIC, PUBLIC4], [(0, LAN_QUIC), (0, PUBLIC4), (LAN, PRIVATE4)]),
        ([WEBRTC], [(0, WEBRTC)]),
        ([WEBRTC, PUBLIC4], [(0, PUBLIC4), (PUBLIC_LONG_STEP, WEBRTC)]),
        ([LAN_WEBRTC, LAN_QUIC], [(0, LAN_QUIC), (PRIVATE_LONG_STEP, LAN_WEBRTC)]),
        ([MEMORY], [(0, MEMORY)]),
        ([RELAYED, PRIVATE4], [(0, PRIVATE4), (0, RELAYED)]),
        ([RELAYED], [(0, RELAYED)]),
        ([RELAYED, PUBLIC4], [(0, PUBLIC4), (RELAY_DELAY, RELAYED)]),
    ],
)
def test_order_and_delays(addrs: list[str], expected: list[tuple[float, str]]) -> None:
    ranked = rank(Multiaddr(addr) for addr in addrs)
    assert [(one.delay, str(one.addr)) for one in ranked] == [(pytest.approx(delay), addr) for delay, addr in expected]


def test_rest_grows_with_the_square_of_the_failures_up_to_the_maximum() -> None:
    backoff, now = Backoff(), 100.0
    assert backoff.rests_until("a", now) is None
    for failures in range(1, 30):
        backoff.failed("a", now)
        rest = min(MAXIMUM, BASE + STEP * failures**2)
        assert backoff.rests_until("a", now) == now + rest
        assert backoff.rests_until("a", now + rest - 0.001) == now + rest
        assert backoff.rests_until("a", now + rest) is None
        assert backoff.rests_until("b", now) is None
        now += rest
    assert rest == MAXIMUM == 300


def test_success_forgets_the_failures() -> None:
    backoff = Backoff()
    backoff.failed("a", 0.0)
    backoff.failed("a", 0.0)
    backoff.succeeded("a")
    backoff.succeeded("never failed")
    assert backoff.rests_until("a", 0.0) is None
    backoff.failed("a", 0.0)
    assert backoff.rests_until("a", 0.0) == BASE + STEP


def test_the_oldest_failures_are_forgotten_above_the_capacity() -> None:
    backoff = Backoff(capacity=3)
    for key in "abcad":  # the second "a" makes it younger than "b"
        backoff.failed(key, 0.0)
    assert [key for key in "abcd" if backoff.rests_until(key, 0.0) is not None] == ["a", "c", "d"]


def test_who_is_asked_for_rests_as_after_a_first_failure_only():
    backoff = Backoff()
    for now in range(20):
        backoff.failed("a", 1000.0 * now)
    assert backoff.rests_until("a", 19_000.0) == 19_300.0
    assert backoff.rests_until("a", 19_000.0, first=True) == 19_006.0
    assert backoff.rests_until("a", 19_006.0, first=True) is None
    assert backoff.rests_until("b", 0.0, first=True) is None
