"""Where peers see a host: counted by networks, gone with their connections."""

from __future__ import annotations

from libp2p.multiaddr import Multiaddr
from libp2p.protocols.observed import NatKind, Observations, ObservedConfig

TCP, QUIC = Multiaddr("/ip4/10.0.0.1/tcp/1"), Multiaddr("/ip4/10.0.0.1/udp/1/quic-v1")


def seen(n: int) -> Multiaddr:
    return Multiaddr(f"/ip4/192.0.2.{n}/tcp/7")


def test_observers_count_by_network_and_a_liar_with_one_address_changes_nothing() -> None:
    some = Observations(ObservedConfig())
    for key in range(100):
        some.add(key, TCP, seen(66), Multiaddr("/ip4/198.51.100.1/tcp/1"))
        some.add(("v6", key), TCP, seen(66), Multiaddr(f"/ip6/2001:db8::{key + 1:x}/tcp/1"))
    assert some.addrs() == []
    for key in range(3):
        some.add(("honest", key), TCP, seen(1), Multiaddr(f"/ip4/198.51.100.{key + 2}/tcp/1"))
    assert some.addrs() == []
    assert set(some.addrs(min_observers=1)) == {seen(1), seen(66)}
    some.add(("honest", 3), TCP, seen(1), Multiaddr("/ip4/203.0.113.1/tcp/1"))
    assert some.addrs() == [seen(1)]
    some.remove(("honest", 0))
    assert some.addrs() == []
    some.remove("unknown")


def test_the_best_of_each_listener() -> None:
    some = Observations(ObservedConfig(min_observers=1, max_addrs_per_listener=2))
    for n, observers in ((1, 1), (2, 3), (3, 2)):
        for observer in range(observers):
            some.add((n, observer), TCP, seen(n), Multiaddr(f"/ip4/198.51.{observer}.1/tcp/1"))
    some.add("quic", QUIC, seen(9), Multiaddr("/ip4/198.51.0.1/tcp/1"))
    assert some.addrs() == [seen(2), seen(3), seen(9)]
    some.add((2, 0), TCP, seen(8), Multiaddr("/ip4/198.51.0.1/tcp/1"))  # one connection counts once
    assert set(some.addrs(min_observers=2)) == {seen(2), seen(3)}


def test_what_has_no_network_observes_nothing() -> None:
    some = Observations(ObservedConfig(min_observers=1))
    some.add(1, TCP, seen(1), Multiaddr("/memory/1"))
    assert some.addrs() == []


def test_kinds_of_nat() -> None:
    some = Observations(ObservedConfig())
    observers = [Multiaddr(f"/ip4/198.51.{n}.1/tcp/1") for n in range(4)]
    assert some.kind("tcp", [TCP]) is NatKind.UNKNOWN
    for n, observer in enumerate(observers[:2]):
        some.add(n, TCP, seen(n + 1), observer)
    assert some.kind("tcp", [TCP]) is NatKind.UNKNOWN  # one of the two may lie
    some.add(2, TCP, seen(3), observers[2])
    assert some.kind("tcp", [TCP]) is NatKind.SYMMETRIC
    assert some.kind("udp", [TCP]) is NatKind.UNKNOWN
    some.add(3, TCP, seen(1), observers[3])
    assert some.kind("tcp", [TCP]) is NatKind.CONE
    for key in range(50):  # a liar with one address
        some.add(("liar", key), TCP, seen(100 + key), observers[2])
    assert some.kind("tcp", [TCP]) is NatKind.CONE
    assert some.kind("tcp", [TCP, seen(1)]) is NatKind.NONE
