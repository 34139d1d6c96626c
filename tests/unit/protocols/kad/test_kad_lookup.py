"""A lookup, driven by hand: whom it asks, when it ends, who can hold it up."""

import random

from libp2p.identity import PeerId
from libp2p.protocols.kad.keys import common_prefix, peer_position, position
from libp2p.protocols.kad.lookup import Lookup, LookupConfig, State
from libp2p.protocols.kad.request_time import RequestTime, RequestTimeConfig

TARGET = position(b"target")


def second(_: PeerId) -> float:
    return 1.0


def peer(n: int) -> PeerId:
    return PeerId.from_bytes(b"\x12\x20" + n.to_bytes(32, "big"))


PEERS = sorted((peer(n) for n in range(3000)), key=lambda one: peer_position(one) ^ TARGET)  # the nearest first
FAR = PEERS[1000:]


class World:
    """Peers that know a part of each other, and how each behaves."""

    def __init__(self, size: int, *, dead: frozenset[PeerId] = frozenset(), seed: int = 1) -> None:
        dice = random.Random(seed)
        self.peers = PEERS[:size]
        self.dead = dead
        self.known = {}
        for one in self.peers:
            here = peer_position(one)
            buckets: dict[int, list[PeerId]] = {}
            for other in dice.sample(self.peers, len(self.peers)):
                bucket = buckets.setdefault(common_prefix(peer_position(other), here), [])
                if other != one and len(bucket) < 20:
                    bucket.append(other)
            self.known[one] = [other for bucket in buckets.values() for other in bucket]

    def answer(self, one: PeerId) -> list[PeerId]:
        return sorted(self.known[one], key=lambda other: peer_position(other) ^ TARGET)[:20]

    def run(self, lookup: Lookup) -> Lookup:
        """Answer each request at once; the dead fail."""
        while asked := lookup.ask(0.0, second):
            for one in asked:
                if one in self.dead:
                    lookup.failed(one)
                else:
                    lookup.answered(one, self.answer(one))
        assert lookup.finished
        return lookup


def test_finds_the_nearest() -> None:
    world = World(500)
    lookup = world.run(Lookup(TARGET, world.peers[-3:]))
    assert lookup.nearest() == world.peers[:20]
    assert lookup.requests < 80


def test_finds_the_nearest_that_live() -> None:
    dead = frozenset(random.Random(2).sample(PEERS[:500], 150))
    world = World(500, dead=dead)
    lookup = world.run(Lookup(TARGET, [one for one in world.peers if one not in dead][-5:]))
    alive = [one for one in world.peers if one not in dead][:20]
    assert len(set(lookup.nearest()) & set(alive)) >= 18


def test_alpha_requests_at_a_time_nearest_first() -> None:
    lookup = Lookup(TARGET, PEERS[:50], LookupConfig(alpha=4))
    assert lookup.ask(0.0, second) == PEERS[:4]
    assert lookup.ask(0.5, second) == []
    assert not lookup.finished
    lookup.answered(PEERS[1], [])
    assert lookup.ask(0.5, second) == [PEERS[4]]


def test_a_slow_peer_holds_up_nobody() -> None:
    """All of the first ones are silent: the next are asked when patience is over, and the end comes without them."""
    lookup = Lookup(TARGET, PEERS[:30], LookupConfig(k=4, alpha=3, beta=2))
    assert lookup.ask(0.0, second) == PEERS[:3]
    assert lookup.next_impatience == 1.0
    assert lookup.ask(1.0, second) == PEERS[3:6]
    lookup.answered(PEERS[3], [])
    lookup.answered(PEERS[4], [])
    assert lookup.ask(1.1, second) == [PEERS[6]]  # converged: the rest of the 4 nearest that can be
    assert not lookup.finished
    lookup.answered(PEERS[5], [])
    lookup.answered(PEERS[6], [])
    assert lookup.ask(1.2, second) == []
    assert not lookup.finished  # the first three would be part of the result: they have as long again
    assert lookup.next_impatience == 2.0
    assert lookup.ask(2.0, second) == []
    assert lookup.finished
    assert lookup.nearest() == PEERS[3:7]


def test_a_slow_peer_among_the_nearest_is_part_of_the_result() -> None:
    lookup = Lookup(TARGET, PEERS[:4], LookupConfig(k=4, beta=2))
    lookup.ask(0.0, second)
    for one in (PEERS[0], PEERS[1], PEERS[3]):
        lookup.answered(one, [])
    assert lookup.ask(1.5, second) == []
    assert not lookup.finished
    lookup.answered(PEERS[2], [])
    assert lookup.finished
    assert lookup.nearest() == PEERS[:4]


def test_a_slow_peer_behind_the_nearest_is_not_waited_for() -> None:
    lookup = Lookup(TARGET, PEERS[:5], LookupConfig(k=4, alpha=5, beta=2))
    lookup.ask(0.0, second)
    for one in PEERS[:4]:
        lookup.answered(one, [])
    assert lookup.ask(1.0, second) == []
    assert lookup.finished


def test_a_slow_peer_may_still_answer() -> None:
    lookup = Lookup(TARGET, [PEERS[5]], LookupConfig(beta=1))
    lookup.ask(0.0, second)
    assert lookup.ask(1.0, second) == []
    assert lookup.state(PEERS[5]) is State.SLOW
    assert not lookup.finished  # nobody else has answered
    lookup.answered(PEERS[5], [PEERS[0]])
    assert lookup.ask(1.5, second) == [PEERS[0]]


def test_ends_when_the_three_nearest_have_answered_then_asks_the_rest() -> None:
    lookup = Lookup(TARGET, PEERS[:40], LookupConfig(alpha=3))
    for one in lookup.ask(0.0, second):
        lookup.answered(one, [])
    assert lookup.ask(0.0, second) == PEERS[3:20]


def test_nearer_peers_postpone_the_end() -> None:
    lookup = Lookup(TARGET, PEERS[10:13], LookupConfig(alpha=3))
    for one in lookup.ask(0.0, second):
        lookup.answered(one, PEERS[:3])
    assert lookup.ask(0.0, second) == PEERS[:3]


def test_nobody_to_ask() -> None:
    lookup = Lookup(TARGET, [])
    assert lookup.ask(0.0, second) == []
    assert lookup.finished
    assert lookup.nearest() == []


def test_requests_and_candidates_are_bounded() -> None:
    """Peers that name ever more peers, all of them far away or dead: the lookup ends."""
    lookup = Lookup(TARGET, FAR[-3:], LookupConfig(max_requests=50, max_candidates=100))
    dice = random.Random(3)
    while asked := lookup.ask(0.0, second):
        for one in asked:
            lookup.answered(one, dice.sample(FAR, 40))
    assert lookup.finished
    assert lookup.requests <= 50
    assert len(lookup.nearest(10_000)) <= 50


def test_a_circle_of_answers_ends() -> None:
    lookup = Lookup(TARGET, PEERS[:2])
    while asked := lookup.ask(0.0, second):
        for one in asked:
            lookup.answered(one, PEERS[:2])
    assert lookup.finished
    assert lookup.requests == 2


def test_we_are_never_asked_and_unasked_answers_do_not_count() -> None:
    lookup = Lookup(TARGET, [PEERS[0], PEERS[9]], own=PEERS[0])
    assert lookup.ask(0.0, second) == [PEERS[9]]
    lookup.answered(PEERS[3], PEERS[:3])
    lookup.answered(PEERS[9], [PEERS[0], PEERS[4]])
    assert lookup.ask(0.0, second) == [PEERS[4]]


def test_hops_are_the_shortest_chain_of_answers() -> None:
    lookup = Lookup(TARGET, [PEERS[50]])
    lookup.ask(0.0, second)
    lookup.answered(PEERS[50], [PEERS[40], PEERS[30]])
    lookup.ask(0.0, second)
    lookup.answered(PEERS[40], [PEERS[20]])
    assert [lookup.hops(PEERS[n]) for n in (50, 40, 20)] == [0, 1, 2]
    assert lookup.hops(PEERS[7]) is None


def test_a_region_is_searched_whole() -> None:
    """Sybils sit nearest to the key and know only each other: the honest ones of the region are asked all the same."""
    sybils, honest = PEERS[:20], PEERS[20:60]
    bits = min(common_prefix(peer_position(one), TARGET) for one in honest)

    lookup = Lookup(TARGET, [*sybils[:3], *honest[:1]])

    def run() -> None:
        while asked := lookup.ask(0.0, second):
            for one in asked:
                lookup.answered(one, sybils if one in sybils else [*honest, *sybils])

    run()
    assert not set(lookup.nearest()) & set(honest)
    lookup.widen(bits, 3000.0)
    run()
    assert set(honest) <= set(lookup.answered_within(bits))
    assert lookup.requests == 60  # nobody was asked twice


def test_a_larger_crowd_costs_no_more_requests() -> None:
    """Of 200 sybils that share 8 bits with the key, where chance puts nobody of 100 peers, a few are asked."""
    dice = random.Random(4)
    honest = [peer(n) for n in range(100)]
    sybils: list[PeerId] = []
    while len(sybils) < 200:
        one = PeerId.from_bytes(b"\x12\x20" + dice.randbytes(32))
        if common_prefix(peer_position(one), TARGET) >= 8:
            sybils.append(one)
    region = {one for one in honest if common_prefix(peer_position(one), TARGET) >= 2}
    lookup = Lookup(TARGET, [*honest, *sybils])
    lookup.widen(2, 100.0)
    while asked := lookup.ask(0.0, second):
        for one in asked:
            lookup.answered(one, [])
    answered = set(lookup.answered_within(2))
    assert region <= answered
    assert 4 <= len(answered & set(sybils)) <= 40


def test_request_limits_follow_the_round_trips() -> None:
    times = RequestTime(RequestTimeConfig(first_patience=2.0, min_patience=0.2, min_limit=1.0, max_limit=10.0))
    assert (times.patience, times.limit) == (2.0, 10.0)
    for _ in range(50):
        times.answered(0.05)
    assert times.patience == 0.2
    assert times.limit == 1.0
    for _ in range(50):
        times.answered(1.5)
    assert 1.5 < times.patience < 2.0
    assert 6.0 < times.limit < 8.0
    times.answered(100.0)
    assert times.patience == times.limit == 10.0
