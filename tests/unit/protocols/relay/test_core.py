"""What a relay promises and carries, by itself; and rates."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from libp2p.identity import PeerId
from libp2p.io.rates import Rates
from libp2p.protocols.relay import RelayConfig, RelayRefused
from libp2p.protocols.relay.core import RelayBook

HERE = ip_address("192.0.2.1")


def peer(n: int) -> PeerId:
    return PeerId.from_bytes(b"\x12\x20" + n.to_bytes(32, "big"))


def test_reservations_hold_their_time_and_are_renewed() -> None:
    book = RelayBook(RelayConfig())
    assert book.reserve(peer(1), HERE, 0) == 3600
    assert book.has_reserved(peer(1), 3599)
    assert not book.has_reserved(peer(1), 3600)
    for turn in range(100):
        book.reserve(peer(1), HERE, 1800.0 * turn)
    assert book.reservations == [peer(1)]
    book.leave(peer(1))
    book.leave(peer(1))
    assert not book.has_reserved(peer(1), 0)


def test_ten_thousand_keys_of_one_network_get_what_it_is_due() -> None:
    for ips in (["192.0.2.1"], [f"2001:db8:0:{n:x}::1" for n in range(256)]):
        book = RelayBook(RelayConfig())
        for n in range(10_000):
            with pytest.raises(RelayRefused) if n >= 8 else _nothing():
                book.reserve(peer(n), ip_address(ips[n % len(ips)]), n * 0.001)
        assert book.reservations == [peer(n) for n in range(8)]
        book.reserve(peer(20_000), ip_address("198.51.100.1"), 10)
        for by_peer, by_ip in book._rates.values():
            assert len(by_peer) <= 61
            assert len(by_ip) <= 2


def test_a_prefix_has_its_limit_and_the_whole_has_one() -> None:
    book = RelayBook(RelayConfig(max_reservations=40))
    for n in range(32):
        book.reserve(peer(n), ip_address(f"192.0.2.{n}"), 0)
    with pytest.raises(RelayRefused, match="max_reservations_per_prefix of 32"):
        book.reserve(peer(100), ip_address("192.0.2.200"), 0)
    for n in range(8):
        book.reserve(peer(200 + n), ip_address(f"198.51.{n}.1"), 0)
    with pytest.raises(RelayRefused, match="max_reservations of 40"):
        book.reserve(peer(300), ip_address("203.0.113.1"), 0)
    book.reserve(peer(0), ip_address("192.0.2.0"), 1)  # a renewal takes no second place
    assert len(book.reservations) == 40
    book.reserve(peer(300), ip_address("203.0.113.1"), 3600.5)  # those that were not renewed are over
    assert book.reservations == [peer(0), peer(300)]


def test_a_renewal_from_a_network_that_is_full_leaves_the_old_one() -> None:
    book = RelayBook(RelayConfig(max_reservations_per_ip=1))
    book.reserve(peer(1), HERE, 0)
    book.reserve(peer(2), ip_address("192.0.2.2"), 0)
    with pytest.raises(RelayRefused, match="max_reservations_per_ip of 1"):
        book.reserve(peer(2), HERE, 1)
    assert book.has_reserved(peer(2), 1)


def test_circuits_are_counted_at_both_ends() -> None:
    book = RelayBook(RelayConfig(max_circuits=3, max_circuits_per_peer=2))
    for n in range(4):
        book.reserve(peer(n), HERE, 0)
    circuits = [book.open_circuit(peer(9), HERE, peer(0), 0) for _ in range(2)]
    with pytest.raises(RelayRefused, match="max_circuits_per_peer of 2 reached"):
        book.open_circuit(peer(8), HERE, peer(0), 0)
    with pytest.raises(RelayRefused, match="max_circuits_per_peer of 2 reached"):
        book.open_circuit(peer(9), HERE, peer(1), 0)
    circuits.append(book.open_circuit(peer(7), HERE, peer(1), 0))
    with pytest.raises(RelayRefused, match="max_circuits of 3 reached"):
        book.open_circuit(peer(6), HERE, peer(2), 0)
    for circuit in circuits:
        circuit.release()
        circuit.release()
    assert book.circuits == 0
    assert not book._circuits_of


def test_rates() -> None:
    rates = Rates(3, 10.0, max_keys=5)
    assert [rates.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert [rates.take("a", 10.0) for _ in range(2)] == [True, False]
    assert rates.take("b", 10.0)
    assert [rates.take("a", 1000.0) for _ in range(4)] == [True, True, True, False]
    for n in range(100):
        rates.take(n, 1000.0)
    assert len(rates) == 5
    rates.take("a", 5000.0)
    assert len(rates) == 1


class _nothing:  # noqa: N801 - reads as what it expects
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
