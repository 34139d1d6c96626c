"""How far away an address can be used. The table is run against all places where addresses enter in
tests/integration/test_steering.py.
"""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from libp2p.multiaddr import Multiaddr, Reach, may_share, reach_of, reach_of_ip, reach_of_remote

OWN = [ip_address("10.0.0.1"), ip_address("8.8.4.4"), ip_address("2a00::7")]


@pytest.mark.parametrize(
    ("remote", "reach"),
    [
        ("/memory/3", Reach.MEMORY),
        ("/unix/run/p2p.sock", Reach.UNIX),
        ("/ip4/127.0.0.1/tcp/50000", Reach.LOOPBACK),
        ("/ip6/::1/udp/50000/quic-v1", Reach.LOOPBACK),
        ("/ip6/::ffff:127.0.0.1/tcp/50000", Reach.LOOPBACK),
        ("/ip6zone/2/ip6/fe80::1/tcp/50000", Reach.LINK),
        ("/ip4/192.168.1.7/tcp/50000", Reach.PRIVATE),
        ("/ip4/100.64.0.1/tcp/50000", Reach.PRIVATE),
        ("/ip4/192.0.2.1/tcp/50000", Reach.EXAMPLE),
        ("/ip4/8.8.8.8/tcp/50000", Reach.PUBLIC),
        ("/ip4/8.8.8.8/tcp/50000/ws", Reach.PUBLIC),
        # "own": connected over an address of this machine, from this machine
        ("/ip4/10.0.0.1/tcp/50000", Reach.LOOPBACK),
        ("/ip4/8.8.4.4/tcp/50000", Reach.LOOPBACK),
        # what tells nothing is as far away as can be
        ("/ip4/0.0.0.0/tcp/1", Reach.PUBLIC),
        ("/ip4/169.254.169.254/tcp/1", Reach.PUBLIC),
        ("/onion3/vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd:1234", Reach.PUBLIC),
        ("/ip4/127.0.0.1/tcp/1/p2p/12D3KooWM6CgA9iBFZmcYAHA6A2qvbAxqfkmrYiRQuz3XEsk4Ksv/p2p-circuit", Reach.PUBLIC),
    ],
)
def test_how_far_away_a_peer_is(remote: str, reach: Reach) -> None:
    assert reach_of_remote(Multiaddr(remote), own=OWN) is reach


def test_an_empty_address_tells_nothing() -> None:
    empty = Multiaddr("/tcp/1")[:0]
    assert reach_of(empty) is None
    assert reach_of_remote(empty) is Reach.PUBLIC


@pytest.mark.parametrize("ip", ["10.0.0.1", "8.8.4.4", "::ffff:8.8.4.4", "64:ff9b::808:404", "2a00::7"])
def test_this_machine_is_loopback_to_those_elsewhere(ip: str) -> None:
    """Services that a firewall hides from others answer this machine."""
    address = Multiaddr(f"/ip{ip_address(ip).version}/{ip}/tcp/6379")
    assert reach_of_ip(ip_address(ip), own=OWN) is Reach.LOOPBACK
    assert not may_share(address, Reach.PUBLIC, own=OWN)
    assert not may_share(address, Reach.PRIVATE, own=OWN)
    assert may_share(address, Reach.LOOPBACK, own=OWN)


def test_every_reach_shares_with_itself_and_public_with_all() -> None:
    public = Multiaddr("/ip4/8.8.8.8/tcp/1")
    assert all(may_share(public, reach) for reach in Reach)
