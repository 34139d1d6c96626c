"""Which relays are chosen, without a network."""

from __future__ import annotations

from libp2p.host.events import Reachability
from libp2p.identity import PeerId, PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.relay.choice import Origin, RelayChoice
from libp2p.protocols.relay.config import AutoRelayConfig

PEERS = [PrivateKey.generate().public_key.peer_id for _ in range(8)]
ADDR = Multiaddr("/ip4/11.0.0.1/tcp/4001")


def choice(config: AutoRelayConfig | None = None, *, private: bool = True) -> RelayChoice:
    """That of a host that knows to be private, unless told otherwise, with dice that always show the same."""
    made = RelayChoice(config or AutoRelayConfig(), lambda: 1.0, 0)
    if private:
        made.reachability_changed(Reachability.PRIVATE, 0)
    return made


def find(some: RelayChoice, *peers: PeerId, origin: Origin = Origin.CONNECTED, now: float = 0) -> None:
    for peer in peers:
        some.found(peer, ADDR.with_peer(str(peer)), origin, now)


def listens(some: RelayChoice, now: float) -> list[PeerId]:
    """At which relays it begins to listen."""
    return [candidate.peer for candidate in some.decide(now).listen]


def test_few_candidates_are_waited_for_and_asked_for() -> None:
    some = choice()
    find(some, *PEERS[:1])
    decision = some.decide(0)
    assert (decision.listen, decision.find, decision.wake) == ((), 3, 15)
    assert listens(some, 15) == PEERS[:1]
    find(some, PEERS[1], now=20)
    assert listens(some, 20) == [PEERS[1]]
    assert some.decide(20).find == 0


def test_connected_ones_come_before_those_of_a_source() -> None:
    some = choice()
    find(some, *PEERS[:3], origin=Origin.SOURCE)
    find(some, *PEERS[3:5])
    assert listens(some, 0) == PEERS[3:5]
    assert listens(some, 100) == []


def test_given_ones_are_all_used_and_never_left_for_others() -> None:
    some = choice(private=False)
    find(some, *PEERS[:3], origin=Origin.GIVEN)
    find(some, *PEERS[3:])
    assert listens(some, 0) == PEERS[:3]
    for peer in PEERS[:3]:
        some.lost(peer, 10)
    assert some.decide(1000).leave == ()
    some.failed(PEERS[0], 1000)
    assert listens(some, 1000) == []
    assert listens(some, 1001) == [PEERS[0]]
    for now in range(2000, 2100, 20):  # its pauses end at 10 s
        some.failed(PEERS[0], now)
        assert listens(some, now + 10) == [PEERS[0]]


def test_who_fails_backs_off_longer_each_time_and_others_are_asked() -> None:
    some = choice(AutoRelayConfig(relays=1, min_candidates=1))
    find(some, *PEERS[:2])
    (first,) = listens(some, 0)
    some.failed(first, 0)
    (second,) = listens(some, 0)
    some.failed(second, 0)
    decision = some.decide(1)
    assert (decision.listen, decision.find) == ((), 1)
    assert decision.wake == 15
    assert listens(some, 60) == [first]
    some.failed(first, 60)
    some.reserved(first)  # too late
    assert listens(some, 60) == [second]
    some.failed(second, 60)
    assert listens(some, 179) == []
    assert listens(some, 180) == [first]
    some.reserved(first)
    some.lost(first, 200)
    some.failed(first, 300)
    find(some, first, now=300)
    assert listens(some, 359) == [second]  # its own back-off has ended, that of the other begins anew


def test_a_relay_may_restart_before_another_one_takes_its_place() -> None:
    some = choice(AutoRelayConfig(relays=1, min_candidates=1))
    find(some, *PEERS[:2])
    (first,) = listens(some, 0)
    some.reserved(first)
    some.lost(first, 100)
    some.lost(first, 130)
    assert some.decide(159).leave == ()
    some.reserved(first)
    assert some.decide(500).leave == ()
    some.lost(first, 1000)
    decision = some.decide(1060)
    assert decision.leave == (first,)
    assert [one.peer for one in decision.listen] == [PEERS[1]]


def test_who_is_public_has_none() -> None:
    some = choice()
    find(some, PEERS[0], origin=Origin.GIVEN)
    find(some, PEERS[1])
    assert listens(some, 20) == PEERS[:2]
    some.reachability_changed(Reachability.PUBLIC, 30)
    assert some.decide(30).leave == tuple(PEERS[:2])
    assert listens(some, 40) == []
    some.reachability_changed(Reachability.PRIVATE, 50)
    assert listens(some, 50) == PEERS[:2]


def test_who_does_not_know_waits_a_little() -> None:
    some = choice(private=False)
    find(some, *PEERS)
    decision = some.decide(19)
    assert (decision.listen, decision.wake) == ((), 20)
    assert len(listens(some, 20)) == 2


def test_candidates_are_bounded_and_old_ones_forgotten() -> None:
    some = choice(AutoRelayConfig(max_candidates=2, relays=8))
    find(some, *PEERS[:5], origin=Origin.SOURCE)
    find(some, PEERS[1], origin=Origin.SOURCE, now=1000)
    find(some, PEERS[5], origin=Origin.GIVEN)
    assert listens(some, 1800) == [PEERS[5], PEERS[1]]
    some.no_relay(PEERS[5])
    some.failed(PEERS[5], 1800)
    some.no_relay(PEERS[5])  # it was given
    assert listens(some, 1801) == [PEERS[5]]
