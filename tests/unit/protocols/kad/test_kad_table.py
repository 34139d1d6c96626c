"""The routing table: buckets, splits, replacement, diversity."""

import random

import pytest

from libp2p.identity import PeerId
from libp2p.protocols.kad import KadConfig
from libp2p.protocols.kad.keys import common_prefix, key_near, peer_position, position, prefix_of
from libp2p.protocols.kad.table import Admission, RoutingTable, TableConfig


def peer(n: int) -> PeerId:
    return PeerId.from_bytes(b"\x12\x20" + n.to_bytes(32, "big"))


OWN = peer(0)
PEERS = [peer(n) for n in range(1, 2000)]


def sharing(bits: int, count: int) -> list[PeerId]:
    """Peers that share exactly `bits` bits with us."""
    found = [one for one in PEERS if common_prefix(peer_position(one), peer_position(OWN)) == bits]
    assert len(found) >= count
    return found[:count]


def table(**settings: float) -> RoutingTable:
    return RoutingTable(OWN, TableConfig(**settings))  # type: ignore[arg-type]


def test_near_peers_have_room_and_far_ones_do_not() -> None:
    full = table()
    outcomes = {one: full.add(one, None, 0.0) for one in PEERS}
    sizes = full.bucket_sizes
    assert sizes[:5] == [20] * 5
    assert set(outcomes.values()) == {Admission.ADDED, Admission.FULL}
    # The nearest peers are all in it: nobody of them was refused.
    nearest = sorted(PEERS, key=lambda one: peer_position(one) ^ peer_position(OWN))[:20]
    assert all(one in full for one in nearest)
    assert len(full) == sum(sizes) == len(list(full))


def test_nearest_is_what_sorting_says() -> None:
    some = table()
    for one in PEERS:
        some.add(one, None, 0.0)
    target = position(b"somewhere")
    expected = sorted(some, key=lambda one: peer_position(one) ^ target)
    assert some.nearest(target, 20) == expected[:20]
    assert some.nearest(target, 20, without=expected[:2]) == expected[2:22]


def test_we_are_not_in_our_table() -> None:
    assert table().add(OWN, None, 0.0) is Admission.SELF


def test_a_full_bucket_replaces_only_who_has_not_answered() -> None:
    full = table(k=4, grace=100.0)
    far = sharing(0, 6)
    for one in far[:4]:
        full.add(one, None, 0.0)
    for one in sharing(3, 4):
        full.add(one, None, 0.0)
    assert full.add(far[4], None, 99.0) is Admission.FULL
    for one in far[1:4]:
        full.answered(one, 99.0)
    assert full.would_admit(far[4], None, 100.0) is Admission.ADDED
    assert full.add(far[4], None, 100.0) is Admission.ADDED
    assert far[0] not in full
    assert full.add(far[5], None, 198.0) is Admission.FULL
    assert full.add(far[5], None, 199.0) is Admission.ADDED


def test_a_bucket_of_live_peers_is_not_eclipsed() -> None:
    """A thousand newcomers an hour: peers that answer when they are asked for life stay, all of them."""
    config = KadConfig()
    honest = sharing(0, 20)
    full = RoutingTable(OWN, config.table)
    for one in honest:
        full.add(one, None, 0.0)
    newcomers = [one for one in PEERS if one not in honest]
    for hour in range(1, 49):
        now = hour * 3600.0
        assert all(full.add(one, None, now) is not Admission.ADDED for one in newcomers if _is_far(one))
        for one in full.silent(now, config.max_silence):
            full.answered(one, now)
    assert all(one in full for one in honest)


def _is_far(one: PeerId) -> bool:
    return common_prefix(peer_position(one), peer_position(OWN)) == 0


def test_the_last_bucket_replaces_among_those_alike() -> None:
    """Before a split too, a peer takes the place of one that would share its bucket behind it."""
    full = table(k=4, grace=100.0)
    near = sharing(2, 5)
    for one in near[:4]:
        full.add(one, None, 0.0)
    assert full.bucket_sizes == [4]
    assert full.add(near[4], None, 50.0) is Admission.FULL
    other = sharing(3, 1)[0]
    assert full.add(other, None, 50.0) is Admission.ADDED
    assert full.add(near[4], None, 100.0) is Admission.ADDED
    assert near[0] not in full
    assert other in full


def test_a_thousand_identities_of_one_group_hold_three_places() -> None:
    crowd = table()
    outcomes = [crowd.add(one, (4, 0x0102), 0.0) for one in PEERS[:1000]]
    assert outcomes.count(Admission.ADDED) == len(crowd) == 3
    for one in list(crowd):
        assert crowd.remove(one)
    assert crowd.add(PEERS[0], (4, 0x0102), 0.0) is Admission.ADDED


def test_two_of_a_group_share_equally_many_bits_with_us() -> None:
    crowd = table()
    outcomes = [crowd.add(one, (4, 1), 0.0) for one in [*sharing(1, 3), *sharing(2, 1)]]
    assert outcomes == [Admission.ADDED, Admission.ADDED, Admission.CROWDED, Admission.ADDED]


def test_addresses_of_no_group_are_not_counted() -> None:
    assert all(table().add(one, None, 0.0) is Admission.ADDED for one in PEERS[:10])


def test_a_crowded_group_can_replace_its_own() -> None:
    full = table(k=2, grace=10.0, max_per_group=1)
    far = sharing(0, 3)
    full.add(far[0], (4, 1), 0.0)
    full.add(far[1], None, 0.0)
    full.answered(far[1], 20.0)
    assert full.add(far[2], (4, 1), 20.0) is Admission.ADDED
    assert list(full) == [far[1], far[2]]


def test_silent_peers_and_removal() -> None:
    some = table()
    for time, one in enumerate(PEERS[:5]):
        some.add(one, None, float(time))
    some.answered(PEERS[0], 50.0)
    assert some.silent(60.0, 57.0) == PEERS[1:4]
    assert some.remove(PEERS[1])
    assert not some.remove(PEERS[1])
    assert PEERS[1] not in some


def test_buckets_go_with_their_peers() -> None:
    some = table(k=2)
    for one in PEERS[:200]:
        some.add(one, None, 0.0)
    assert len(some.to_refresh()) == len(some.bucket_sizes) > 3
    for one in list(some):
        some.remove(one)
    assert some.bucket_sizes == [0]


@pytest.mark.parametrize("bits", [0, 1, 5, 10])
def test_a_key_near_a_place(bits: int) -> None:
    here = peer_position(OWN)
    key = key_near(here, bits, random.Random(1))
    assert common_prefix(position(key), here) == bits
    assert prefix_of(position(key), bits) == prefix_of(here, bits)
