"""What every peer store does: `PeerStoreSuite`."""

from __future__ import annotations

import pytest

from ...errors import InvalidKey, InvalidRecord, LimitExceeded
from ...identity import KeyType, PeerId, PrivateKey
from ...multiaddr import Multiaddr, Reach
from ...peerstore import (
    ADDRESS_TTL,
    CONNECTED_ADDR_TTL,
    PERMANENT_ADDR_TTL,
    RECENTLY_CONNECTED_ADDR_TTL,
    TEMP_ADDR_TTL,
    PeerStore,
    PeerStoreConfig,
)
from ...records import PeerRecord


def peer_number(number: int) -> PeerId:
    """A peer id for each number."""
    return PeerId.from_bytes(b"\x12\x20" + number.to_bytes(32, "big"))


def addr_number(number: int) -> Multiaddr:
    """An address for each number."""
    return Multiaddr(f"/ip4/192.0.2.{number % 256}/tcp/{4001 + number // 256}")


A, B, C, D = map(peer_number, range(1, 5))
EXAMPLE = Reach.EXAMPLE
X, Y, Z = map(addr_number, range(1, 4))
KEY = PrivateKey.generate()


class Clock:
    """Tells the time that it is set to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def record(seq: int, *addrs: Multiaddr, key: PrivateKey = KEY) -> bytes:
    """A signed record."""
    return PeerRecord(key.peer_id, seq, addrs).seal(key).to_bytes()


class PeerStoreSuite:
    """Tests of a `PeerStore`."""

    def make(self, config: PeerStoreConfig, clock: Clock) -> PeerStore:
        """A new, empty store, which is not open yet."""
        raise NotImplementedError

    async def test_it_can_be_opened_flushed_and_closed(self) -> None:
        store = self.make(PeerStoreConfig(), Clock())
        async with store:
            await store.load(A)
            assert store.peers() == []
            store.add_addrs(A, [X], 10)
            await store.flush()
            await store.load(A)
            assert store.addrs(A) == [X]
            await store.close()
        assert store.addrs(A) == [X]

    def test_unknown_peer_is_harmless(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(), clock)
        store.update_addrs(A, 1, 2)
        store.set_addrs(A, [X], 0)
        store.set_protocols(A, [])
        store.clear_addrs(A)
        assert not store.unprotect(A, "us")
        store.remove(A)
        assert store.addrs(A) == store.certified_addrs(A) == store.peers() == []
        assert store.protocols(A) == store.supported(A, "/x") == ()
        assert store.metadata(A) == {}
        assert store.key(A) is None
        assert store.peer_record(A) is None

    def test_addresses_expire(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(), clock)
        store.add_addrs(A, [X], TEMP_ADDR_TTL)
        store.add_addrs(A, [Y], ADDRESS_TTL)
        store.add_addrs(A, [Z], PERMANENT_ADDR_TTL)
        clock.now += TEMP_ADDR_TTL - 1
        assert store.addrs(A) == [X, Y, Z]
        clock.now += 1
        assert store.addrs(A) == [Y, Z]
        clock.now += 10**9
        assert store.addrs(A) == [Z]

    def test_clear_expired(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(), clock)
        store.add_addrs(A, [X, Y], 10)
        store.add_addrs(B, [X], 20)
        store.add_addrs(C, [X], 10)
        store.set_protocols(C, ["/p"])
        assert store.clear_expired() == 0
        clock.now += 10
        assert store.clear_expired() == 3
        assert store.peers() == [B, C]  # something else is known of C
        clock.now += 10
        assert store.peers() == [C]

    def test_add_never_shortens_and_set_does(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(), clock)
        store.add_addrs(A, [X], 100)
        store.add_addrs(A, [X], 10)
        clock.now += 50
        assert store.addrs(A) == [X]
        store.set_addrs(A, [X], 10)
        clock.now += 10
        assert store.addrs(A) == []
        store.add_addrs(A, [X], 10)
        clock.now += 9
        store.add_addrs(A, [X], 10)
        clock.now += 9
        assert store.addrs(A) == [X]
        store.set_addrs(A, [X], 0)
        assert store.peers() == []
        store.add_addrs(A, [X], 0)
        assert store.peers() == []

    def test_update_when_a_connection_ends(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(), clock)
        store.add_addrs(A, [X], CONNECTED_ADDR_TTL)
        store.add_addrs(A, [Y], PERMANENT_ADDR_TTL)
        clock.now += 10**9
        store.update_addrs(A, CONNECTED_ADDR_TTL, RECENTLY_CONNECTED_ADDR_TTL)
        assert store.addrs(A) == [X, Y]
        clock.now += RECENTLY_CONNECTED_ADDR_TTL
        assert store.addrs(A) == [Y]
        store.update_addrs(A, PERMANENT_ADDR_TTL, 0)
        assert store.peers() == []

    def test_peer_id_at_the_end(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(), clock)
        relayed = Multiaddr(f"{X}/p2p/{B}/p2p-circuit")
        store.add_addrs(A, [X.with_peer(str(A)), Y.with_peer(str(B)), relayed.with_peer(str(A)), X[:0]], 10)
        assert store.addrs(A) == [X, relayed]
        store.add_addrs(B, [X.with_peer(str(A)), Multiaddr(f"/p2p/{B}")], 10)
        assert store.peers() == [A]

    def test_addresses_of_one_peer_are_bounded(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(max_addrs_per_peer=3), clock)
        store.add_addrs(A, [X], CONNECTED_ADDR_TTL)
        store.add_addrs(A, [Y], 20)
        store.add_addrs(A, [Z], 10)
        store.add_addrs(A, [addr_number(4)], 5)  # worth less than all others
        assert store.addrs(A) == [X, Y, Z]
        store.add_addrs(A, [addr_number(5)], 15)
        assert store.addrs(A) == [X, Y, addr_number(5)]
        store.add_addrs(A, [addr_number(n) for n in range(10, 20)], PERMANENT_ADDR_TTL)
        assert X not in store.addrs(A)
        assert len(store.addrs(A)) == 3

    def test_certified_addresses_outlast_hearsay(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(max_addrs_per_peer=2), clock)
        store.consume_peer_record(record(1, X), 10, told=EXAMPLE)
        store.add_addrs(KEY.peer_id, [Y, Z], 1000)
        assert store.addrs(KEY.peer_id)[0] == X
        assert store.certified_addrs(KEY.peer_id) == [X]

    def test_peer_record_with_the_highest_seq_wins(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(), clock)
        peer = KEY.peer_id
        store.add_addrs(peer, [Z], 100)
        assert store.consume_peer_record(record(5, X, Y), 100, told=EXAMPLE)
        assert store.addrs(peer) == [X, Y, Z]
        assert store.certified_addrs(peer) == [X, Y]
        assert store.peer_record(peer) == record(5, X, Y)
        assert not store.consume_peer_record(record(4, Z), 100, told=EXAMPLE)
        assert store.certified_addrs(peer) == [X, Y]
        assert store.consume_peer_record(record(6, Y), 100, told=EXAMPLE)
        assert store.addrs(peer) == [Y, Z]  # X was only in the older record
        clock.now += 90
        assert store.consume_peer_record(record(6, Y), 100, told=EXAMPLE)  # the same again: lives longer
        clock.now += 90
        assert store.addrs(peer) == [Y]
        assert store.peer_record(peer) == record(6, Y)
        clock.now += 10
        assert store.peer_record(peer) is None

    def test_addresses_in_use_survive_a_newer_record(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(), clock)
        peer = KEY.peer_id
        store.consume_peer_record(record(1, X, Y), 100, told=EXAMPLE)
        store.set_addrs(peer, [X], CONNECTED_ADDR_TTL)
        assert store.certified_addrs(peer) == [X, Y]
        store.consume_peer_record(record(2, Z), 100, told=EXAMPLE)
        assert store.addrs(peer) == [Z, X]
        assert store.certified_addrs(peer) == [Z]

    def test_bad_records_change_nothing(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(), clock)
        with pytest.raises(InvalidRecord):
            store.consume_peer_record(record(1, X)[:-1], 100, told=EXAMPLE)
        with pytest.raises(InvalidRecord, match="expected one of"):
            store.consume_peer_record(record(1, X), 100, told=EXAMPLE, expected_peer=A)
        assert store.consume_peer_record(record(1), 100, told=EXAMPLE)
        assert store.consume_peer_record(record(1, X), 0, told=EXAMPLE)
        assert store.peers() == []

    def test_clear_addrs_forgets_the_record(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(), clock)
        store.consume_peer_record(record(1, X), 100, told=EXAMPLE)
        store.set_protocols(KEY.peer_id, ["/p"])
        store.clear_addrs(KEY.peer_id)
        assert store.peer_record(KEY.peer_id) is None
        assert store.protocols(KEY.peer_id) == ("/p",)

    def test_keys(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(), clock)
        assert store.key(KEY.peer_id) == KEY.public_key  # embedded in the id
        assert store.key(PeerId.from_bytes(b"\x00\x03abc")) is None
        ecdsa = PrivateKey.generate(KeyType.ECDSA)
        assert store.key(ecdsa.peer_id) is None
        store.add_key(ecdsa.peer_id, ecdsa.public_key)
        assert store.key(ecdsa.peer_id) == ecdsa.public_key
        with pytest.raises(InvalidKey):
            store.add_key(A, KEY.public_key)
        store.add_key(KEY.peer_id, KEY.public_key)
        assert store.peers() == [ecdsa.peer_id]  # an embedded key takes no room

    def test_protocols(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(max_protocols_per_peer=3, max_protocol_length=10), clock)
        store.set_protocols(A, ["/b", "/a", "/b"])
        assert store.protocols(A) == ("/b", "/a")
        assert store.supported(A, "/z", "/a", "/b") == ("/a", "/b")
        with pytest.raises(LimitExceeded, match="max_protocols_per_peer of 3"):
            store.set_protocols(A, (f"/{number}" for number in range(10**9)))
        with pytest.raises(LimitExceeded, match="max_protocol_length of 10"):
            store.set_protocols(A, ["/" * 11])
        assert store.protocols(A) == ("/b", "/a")
        store.set_protocols(A, [])
        assert store.peers() == []

    def test_metadata(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(max_metadata_per_peer=2, max_metadata_size=20), clock)
        store.set_metadata(A, "agent", "py/1")
        store.set_metadata(A, "score", 1.5)
        store.set_metadata(A, "score", 2)
        assert store.metadata(A) == {"agent": "py/1", "score": 2}
        with pytest.raises(TypeError):
            store.metadata(A)["agent"] = "x"  # type: ignore[index]
        with pytest.raises(LimitExceeded, match="max_metadata_per_peer"):
            store.set_metadata(A, "third", 1)
        with pytest.raises(LimitExceeded, match="max_metadata_size"):
            store.set_metadata(A, "agent", b"x" * 16)
        store.remove(A)
        assert store.metadata(A) == {}
        with pytest.raises(LimitExceeded):
            store.set_metadata(B, "k" * 21, 1)
        assert store.peers() == []

    def test_a_full_store_drops_what_is_worth_least(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(max_peers=4), clock)
        store.protect(A, "us")
        store.add_addrs(B, [X], CONNECTED_ADDR_TTL)
        store.add_addrs(C, [X], 100)
        store.add_addrs(D, [X], 100)
        store.set_protocols(C, ["/p"])  # C is written to later than D
        new = [peer_number(number) for number in range(10, 20)]
        store.add_addrs(new[0], [X], 100)
        assert set(store.peers()) == {A, B, C, new[0]}
        store.add_addrs(new[1], [X], CONNECTED_ADDR_TTL)
        store.add_addrs(new[2], [X], CONNECTED_ADDR_TTL)
        assert set(store.peers()) == {A, B, new[1], new[2]}
        store.add_addrs(new[3], [X], 100)  # no idle one is left: the oldest connected one goes
        assert set(store.peers()) == {A, new[1], new[2], new[3]}
        for peer in new[1:4]:
            store.protect(peer, "us")
        with pytest.raises(LimitExceeded, match=r"max_peers of 4 .* all protected"):
            store.protect(B, "us")
        store.unprotect(new[1], "us")
        store.add_addrs(B, [X], 100)
        assert set(store.peers()) == {A, B, new[2], new[3]}
        store.unprotect(A, "us")  # nothing else was known of it
        assert A not in store.peers()

    def test_a_record_is_kept_until_the_last_who_wants_it_lets_go(self) -> None:
        clock = Clock()
        store = self.make(PeerStoreConfig(max_peers=1, max_tags_per_peer=2), clock)
        store.protect(A, "user")
        store.protect(A, "connected")
        store.protect(A, "connected")
        with pytest.raises(LimitExceeded, match="max_tags_per_peer of 2"):
            store.protect(A, "third")
        assert store.protections(A) == {"user", "connected"}
        assert store.unprotect(A, "connected")
        assert store.unprotect(A, "connected")  # again: nobody else's is ended
        with pytest.raises(LimitExceeded, match="max_peers"):
            store.add_addrs(B, [X], 100)
        assert not store.unprotect(A, "user")
        store.add_addrs(B, [X], 100)
        assert store.peers() == [B]
        assert store.protections(A) == frozenset()
