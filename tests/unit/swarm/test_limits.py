"""Limits of connections and handlers, the gater, and who goes when there are too many."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from libp2p.connection import Direction
from libp2p.errors import DialError, Gated, LimitExceeded
from libp2p.identity import PeerId, PrivateKey
from libp2p.io import MemoryAccount
from libp2p.multiaddr import Multiaddr
from libp2p.swarm import Gater, HostLimits, RuleGater, SwarmConfig
from libp2p.swarm.limits.sources import Sources
from libp2p.swarm.limits.trim import Candidate, PeerTags, least_worth

LOCAL = Multiaddr("/ip4/192.0.2.1/tcp/1")
PEERS = [PrivateKey.generate().public_key.peer_id for _ in range(12)]
RELAY, TARGET = PEERS[0], PEERS[1]


def ip4(n: int) -> Multiaddr:
    return Multiaddr(f"/ip4/198.51.100.{n}/tcp/7")


class Held:
    """A `Holder`."""

    def __init__(self, *, idle: bool = True, kept: bool = False) -> None:
        self.is_idle, self.is_kept = idle and not kept, kept
        self.evicted: Exception | None = None

    def evict(self, error: Exception) -> None:
        assert self.evicted is None
        self.evicted = error


def fits(subject: Subject, addr: Multiaddr) -> bool:
    try:
        subject.pending(addr)
    except LimitExceeded:
        return False
    return True


class Subject:
    """Limits with a clock that stands still."""

    def __init__(self, gater: Gater | None = None, **config: Any) -> None:
        self.now = 0.0
        self.calls: list[tuple[float, Callable[[], None]]] = []
        self.all = HostLimits(
            SwarmConfig(**config), gater or Gater(), lambda: self.now, MemoryAccount("host", 100), self._later
        )

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.calls.append((self.now + seconds, callback))

    def turn(self) -> None:
        """One of the loop."""
        due = [one for one in self.calls if one[0] <= self.now]
        self.calls = [one for one in self.calls if one[0] > self.now]
        for _, callback in due:
            callback()

    def pending(self, addr: Multiaddr) -> tuple[Any, Held]:
        grant, held = self.all.connections.admit(LOCAL, addr), Held()
        grant.held_by(held)
        return grant, held

    def finished(self, addr: Multiaddr, peer: PeerId, **kind: bool) -> tuple[Any, Held]:
        grant, held = self.all.connections.admit(LOCAL, addr), Held(**kind)
        grant.held_by(held)
        grant.identified(peer)
        return grant, held


# Prefixes


def test_one_prefix_cannot_hold_all_pending_slots() -> None:
    subject = Subject(max_pending_inbound=100, max_pending_per_prefix=10)
    grants = [subject.pending(ip4(1))[0] for _ in range(10)]
    for _ in range(10_000):
        with pytest.raises(LimitExceeded, match=r"max_pending_per_prefix of 10 reached for 198.51.100.1/32"):
            subject.pending(ip4(1))
    assert subject.all.connections.pending == 10
    assert subject.all.refusals.counts["max_pending_per_prefix"] == 10_000
    subject.pending(ip4(2))
    grants[0].release()
    grants[0].release()
    subject.pending(ip4(1))


def test_ipv6_prefixes_count_as_56_and_48() -> None:
    subject = Subject(max_pending_per_prefix=4)
    near = [Multiaddr(f"/ip6/2001:db8:1:1{n:02x}::{n}/tcp/1") for n in range(5)]  # one /56
    for addr in near[:4]:
        subject.pending(addr)
    with pytest.raises(LimitExceeded, match=r"2001:db8:1:100::/56"):
        subject.pending(near[4])
    for n in range(4):  # another /56 of the same /48
        subject.pending(Multiaddr(f"/ip6/2001:db8:1:2{n:02x}::/tcp/1"))
    with pytest.raises(LimitExceeded, match=r"max_pending_per_prefix of 8 reached for 2001:db8:1::/48"):
        subject.pending(Multiaddr("/ip6/2001:db8:1:300::/tcp/1"))
    subject.pending(Multiaddr("/ip6/2001:db8:2::/tcp/1"))


def test_a_mapped_address_is_the_ipv4_address_that_it_is() -> None:
    sources = Sources(SwarmConfig())
    mapped = Multiaddr("/ip6/::ffff:198.51.100.1/tcp/1")
    assert sources.of(mapped, 0) is sources.of(ip4(1), 0)


def test_relayed_connections_count_for_their_relay() -> None:
    subject = Subject(max_pending_per_prefix=1)
    relayed = Multiaddr(f"/ip4/198.51.100.1/tcp/1/p2p/{RELAY}/p2p-circuit/p2p/{TARGET}")
    subject.pending(relayed)
    with pytest.raises(LimitExceeded, match=f"relay {RELAY}"):
        subject.pending(relayed)
    subject.pending(ip4(1))


def test_handshakes_have_a_rate() -> None:
    subject = Subject(handshakes_per_second=2, handshake_burst=5)
    for _ in range(5):
        subject.pending(ip4(1))[0].release()
    with pytest.raises(LimitExceeded, match="handshakes_per_second of 2"):
        subject.pending(ip4(1))
    subject.pending(ip4(2))
    subject.now = 1.0
    for _ in range(2):
        subject.pending(ip4(1))[0].release()
    with pytest.raises(LimitExceeded, match="handshakes_per_second"):
        subject.pending(ip4(1))


def test_unlimited_prefixes_and_this_machine_have_no_such_limits() -> None:
    subject = Subject(max_pending_per_prefix=1, handshake_burst=1, unlimited_prefixes=("198.51.100.0/24",))
    for addr in (ip4(1), Multiaddr("/unix/x"), Multiaddr("/memory/1")):
        for _ in range(3):
            subject.pending(addr)
    with pytest.raises(ValueError, match="nonsense"):
        SwarmConfig(unlimited_prefixes=("nonsense",))


def test_prefixes_without_connections_are_forgotten() -> None:
    subject = Subject()
    for n in range(50_000):
        subject.pending(Multiaddr(f"/ip6/2001:{n:x}::/tcp/1"))[0].release()
    assert len(subject.all.connections.sources) < 40_000


# All is full


def test_when_all_handshakes_are_taken_the_largest_prefix_loses_its_oldest() -> None:
    subject = Subject(max_pending_inbound=16, max_pending_per_prefix=8)
    one = [subject.pending(ip4(1)) for _ in range(8)]
    other = [subject.pending(ip4(2)) for _ in range(7)]
    subject.pending(ip4(3))
    grant, _ = subject.pending(ip4(4))
    assert [held.evicted is not None for _, held in one] == [True] + [False] * 7
    assert not any(held.evicted for _, held in other)
    assert subject.all.connections.pending == 16
    with pytest.raises(LimitExceeded, match="max_pending_inbound of 16"):
        one[0][0].identified(PEERS[0])  # its handshake was over at this very moment
    one[0][0].release()
    grant.identified(PEERS[1])
    assert subject.all.connections.pending == 15
    for _ in range(1000):  # whoever floods ends its own kind only
        while fits(subject, ip4(2)):
            pass
    assert subject.all.connections.pending == 16


def test_when_full_the_largest_prefix_loses_its_youngest_idle_one() -> None:
    subject = Subject(max_connections=8, max_inbound_connections=6, max_connections_per_peer=100)
    kinds = [{}, {}, {"idle": False}, {"kept": True}]
    strangers = [subject.finished(ip4(1), PEERS[0], **kind)[1] for kind in kinds]
    others = [subject.finished(ip4(n), PEERS[n])[1] for n in (2, 3)]
    subject.finished(ip4(4), PEERS[4])
    assert [held.evicted is not None for held in strangers] == [False, True, False, False]
    subject.finished(ip4(5), PEERS[5])
    assert [held.evicted is not None for held in strangers] == [True, True, False, False]
    subject.finished(ip4(6), PEERS[6])  # a quarter of all: being busy is no excuse
    assert [held.evicted is not None for held in strangers] == [True, True, True, False]
    assert not any(held.evicted for held in others)
    with pytest.raises(LimitExceeded, match="max_inbound_connections of 6"):
        subject.pending(ip4(2))  # as many as the others, which are new-comers like itself
    assert subject.all.connections.inbound == 6
    for n in (7, 8):
        subject.all.connections.establish(PEERS[n], ip4(n))  # what inbound ones can't take
    with pytest.raises(LimitExceeded, match="max_connections of 8"):
        subject.all.connections.establish(PEERS[9], ip4(9))


def test_who_is_allowed_comes_in_when_all_is_full() -> None:
    subject = Subject(max_connections=2, allowed_prefixes=("198.51.100.9/32",), max_connections_per_peer=100)
    for _ in range(2):
        subject.finished(ip4(1), PEERS[0], kept=True)
    with pytest.raises(LimitExceeded):
        subject.finished(ip4(2), PEERS[2])
    kept = [subject.finished(ip4(9), PEERS[9]) for _ in range(5)]
    assert not any(held.evicted for _, held in kept)
    subject = Subject(max_connections=2, allowed_peers=(PEERS[5],))
    for n in range(2):
        subject.finished(ip4(1), PEERS[n], kept=True)
    with pytest.raises(LimitExceeded):
        subject.finished(ip4(2), PEERS[2])
    subject.finished(ip4(2), PEERS[5])


def test_all_counts_return_to_nothing() -> None:
    subject = Subject(max_connections=50, max_pending_inbound=20)
    grants = []
    for n in range(200):
        try:
            grants.append(subject.pending(ip4(n % 7))[0])
            if n % 3:
                grants[-1].identified(PEERS[n % 12])
        except LimitExceeded:
            pass
    grants += [subject.all.connections.establish(PEERS[n % 12], ip4(n)) for n in range(3)]
    for grant in grants:
        grant.release()
    limits = subject.all.connections
    assert (limits.pending, limits.established, limits.inbound, dict(limits.of_peer)) == (0, 0, 0, {})
    assert not limits.sources.busiest(10)


def test_refusals_are_counted_and_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    subject = Subject(max_pending_per_prefix=1, max_handlers_per_connection=0)
    subject.pending(ip4(1))
    with caplog.at_level(logging.WARNING, "libp2p"):
        for n in range(1000):
            subject.now = n / 400
            with pytest.raises(LimitExceeded):
                subject.pending(ip4(1))
    assert len(caplog.messages) == 3
    assert "max_pending_per_prefix of 1 reached for 198.51.100.1/32, 1 in use" in caplog.messages[0]


# Handlers


class Link:
    """A connection, as far as it is looked at."""

    def __init__(self, peer: PeerId) -> None:
        self.remote_peer = peer


def stream_of(peer: PeerId, connection: Any = None) -> Any:
    return SimpleNamespace(connection=connection or Link(peer))


def test_handlers_count_until_they_end() -> None:
    subject = Subject(
        max_handlers=4, max_handlers_per_peer=3, max_handlers_per_connection=2, max_handlers_per_protocol=1
    )
    limits = subject.all.streams
    one, two = Link(PEERS[0]), Link(PEERS[0])
    grants = [limits.admit(stream_of(PEERS[0], one)) for _ in range(2)]
    with pytest.raises(LimitExceeded, match="max_handlers_per_connection of 2"):
        limits.admit(stream_of(PEERS[0], one))
    grants.append(limits.admit(stream_of(PEERS[0], two)))
    with pytest.raises(LimitExceeded, match="max_handlers_per_peer of 3"):
        limits.admit(stream_of(PEERS[0], two))
    grants.append(limits.admit(stream_of(PEERS[1])))
    with pytest.raises(LimitExceeded, match="max_handlers of 4"):
        limits.admit(stream_of(PEERS[2]))
    grants[0].agreed("/a")
    with pytest.raises(LimitExceeded, match="max_handlers_per_protocol of 1 reached for protocol /a"):
        grants[1].agreed("/a")
    assert "protocol /a: max_handlers_per_protocol 1 of 1" in str(subject.all.explain())
    for grant in (*grants, *grants):
        grant.release()
    assert (limits.total, dict(limits.of_peer), dict(limits.of_protocol), limits.of_connection(one)) == (0, {}, {}, ())  # type: ignore[arg-type]


def test_explain_says_who_uses_what() -> None:
    subject = Subject(max_pending_per_prefix=2)
    subject.pending(ip4(1))
    subject.finished(ip4(1), PEERS[0])
    subject.pending(ip4(1))
    with pytest.raises(LimitExceeded):
        subject.pending(ip4(1))
    told = subject.all.explain()
    assert dict(told.refusals) == {"max_pending_per_prefix": 1}
    lines = str(told).splitlines()
    assert "host: max_pending_inbound 2 of 1024" in lines
    assert "host: memory 0 of 100" in lines
    assert "prefix 198.51.100.1/32: max_pending_per_prefix 2 of 2" in lines
    assert "prefix 198.51.100.1/32: inbound connections 1" in lines
    assert f"peer {PEERS[0]}: max_connections_per_peer 1 of 8" in lines
    assert "refused: max_pending_per_prefix 1" in lines


# The gater


def test_rules_hold_for_networks_of_both_families_peers_and_a_function() -> None:
    gater = RuleGater()
    subject = Subject(gater)
    six = Multiaddr("/ip6/2001:db8::5/tcp/1")
    gater.block_network("198.51.100.0/24")
    gater.block_network("2001:db8::/32")
    for addr in (ip4(1), six, Multiaddr("/ip6/::ffff:198.51.100.4/tcp/1")):
        with pytest.raises(Gated, match="is blocked"):
            subject.pending(addr)
        with pytest.raises(Gated):
            gater.check_dial(None, addr)
        with pytest.raises(Gated):
            gater.check_peer(PEERS[0], Direction.INBOUND, addr)
    gater.unblock_network("198.51.100.0/24")
    subject.pending(ip4(1))
    gater.block_peer(PEERS[3])
    with pytest.raises(Gated):
        gater.check_peer_dial(PEERS[3])
    with pytest.raises(Gated):
        subject.finished(ip4(1), PEERS[3])
    assert subject.all.connections.established == 0
    gater.unblock_peer(PEERS[3])
    subject.finished(ip4(1), PEERS[3])
    gater.allow = lambda _, addr: addr != ip4(2)
    with pytest.raises(Gated, match="not allowed"):
        subject.pending(ip4(2))


def test_a_relayed_address_is_refused_by_relay_and_by_target() -> None:
    relayed = Multiaddr(f"/ip4/198.51.100.1/tcp/1/p2p/{RELAY}/p2p-circuit/p2p/{TARGET}")
    for peer in (RELAY, TARGET):
        gater = RuleGater()
        gater.block_peer(peer)
        with pytest.raises(Gated, match=str(peer)):
            gater.check_dial(None, relayed)


def test_a_gater_that_fails_refuses(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_peer: PeerId | None, _addr: Multiaddr) -> bool:
        raise ZeroDivisionError("oh")

    subject = Subject(RuleGater(fails))
    with pytest.raises(Gated, match="the gater failed: ZeroDivisionError"):
        subject.pending(ip4(1))
    assert subject.all.connections.pending == 0
    assert "fails" in caplog.text or "gater failed" in caplog.text


# Worth


def candidate(key: str, **changes: Any) -> Candidate[str]:
    known: dict[str, Any] = {
        "value": 0.0,
        "has_streams": True,
        "has_spoken": True,
        "is_outbound": False,
        "age": 100.0,
    }
    return Candidate(key, **{**known, **changes})


def test_silent_and_new_strangers_go_first() -> None:
    candidates = [
        candidate("valuable", value=3.0, has_streams=False, has_spoken=False),
        candidate("old"),
        candidate("new", age=30.0),
        candidate("dialed", is_outbound=True, age=25.0),
        candidate("silent", has_streams=False, has_spoken=False),
        candidate("young and silent", has_streams=False, has_spoken=False, age=21.0),
        candidate("in its grace", has_streams=False, has_spoken=False, age=5.0),
        candidate("quiet", has_streams=False),
        candidate("annoying", value=-1.0),
    ]
    order = ["annoying", "young and silent", "silent", "quiet", "new", "old", "dialed", "valuable"]
    assert least_worth(candidates, 100, grace=20.0) == order
    assert least_worth(candidates, 2, grace=20.0) == order[:2]
    assert least_worth(candidates, -1, grace=20.0) == []


def test_tags_decay_and_protection_is_counted_by_owner() -> None:
    tags, peer = PeerTags(), PEERS[0]
    tags.tag(peer, "dht", 8.0, 0.0, half_life=10.0)
    tags.tag(peer, "friend", 1.0, 0.0)
    assert [tags.value(peer, now) for now in (0.0, 10.0, 20.0)] == [9.0, 5.0, 3.0]
    assert tags.value(peer, 1000.0) == pytest.approx(1.0, abs=0.01)
    assert list(tags._tags[peer]) == ["friend"]
    tags.untag(peer, "friend")
    assert not tags._tags
    for n in range(32):
        tags.tag(peer, str(n), 1.0, 0.0)
    with pytest.raises(LimitExceeded):
        tags.tag(peer, "one more", 1.0, 0.0)
    tags.protect(peer, "a")
    tags.protect(peer, "b")
    assert tags.unprotect(peer, "a")
    assert tags.protections(peer) == {"b"}
    assert not tags.unprotect(peer, "b")
    assert not tags.unprotect(peer, "b")
    assert not tags._protected


async def test_peer_dial_and_upgraded_are_asked_by_the_swarm(fake: Any) -> None:
    from .test_table import Subject as OfSwarm

    class Doors(RuleGater):
        def check_upgraded(self, connection: Any) -> None:
            if connection.muxer == "/fake":
                raise RuntimeError("not this one")

    gater = Doors()
    subject = OfSwarm(fake, gater=gater)
    with pytest.raises(Gated, match="not this one"):
        await subject.swarm.connect(subject.peer, [ip4(1)])
    assert subject.transport.made[-1].is_closed
    assert subject.swarm.limits.connections.established == 0
    gater.block_peer(subject.peer)
    with pytest.raises(DialError, match="is blocked"):
        await subject.swarm.connect(subject.peer, [ip4(1)])
    assert len(subject.transport.made) == 1
    await subject.swarm.close()


# How fast handshakes go


def step_of(order: list[str], name: str, *, wanted: bool = True) -> Callable[[], bool]:
    def step() -> bool:
        if wanted:
            order.append(name)
        return wanted

    return step


def test_one_step_of_a_handshake_in_a_turn_and_prefix_by_prefix() -> None:
    subject, order = Subject(), list[str]()
    grants = [subject.pending(ip4(1))[0] for _ in range(4)] + [subject.pending(ip4(n))[0] for n in (2, 3)]
    for name, grant in zip("abcdef", grants, strict=True):
        grant.when_due(step_of(order, name))
    assert order == ["a"], "the first at once"
    subject.turn()
    grants[0].when_due(step_of(order, "A"))  # its second step goes first
    assert order == ["a", "b"]
    grants[2].release()
    for _ in range(10):
        subject.turn()
    assert order == ["a", "b", "A", "e", "f", "d"]
    assert subject.all.connections.pace.waiting == 0
    grants[0].when_due(step_of(order, "!"))
    assert order[-1] == "!"


def test_so_many_handshakes_begin_in_a_second() -> None:
    subject, order = Subject(max_handshakes_per_second=100, max_handshake_burst=10), list[str]()
    for _ in range(200):
        subject.pending(ip4(1))[0].when_due(step_of(order, "begun"))
    for _ in range(100):
        subject.turn()
    assert len(order) == 10
    for _ in range(1000):
        subject.now += 0.001
        subject.turn()
    assert 100 <= len(order) <= 112
    assert "handshakes that wait for their turn" in str(subject.all.explain())


def test_a_handshake_that_nobody_wants_any_more_takes_no_turn() -> None:
    subject, order = Subject(max_handshakes_per_second=1, max_handshake_burst=2), list[str]()
    grants = [subject.pending(ip4(1))[0] for _ in range(50)]
    for grant in grants:
        grant.when_due(step_of(order, "begun", wanted=grant in (grants[0], grants[-1])))
    subject.turn()
    assert order == ["begun", "begun"]


# Descriptors


def has_chance(limits: Any, addr: Multiaddr) -> bool:
    try:
        limits.check_chance(addr)
    except LimitExceeded:
        return False
    return True


def test_the_prefix_with_the_most_gives_descriptors_to_others() -> None:
    subject = Subject(max_inbound_descriptors=10)
    limits = subject.all.connections
    idle = [subject.finished(ip4(1), peer, idle=True) for peer in PEERS[:2]]
    pending = [subject.pending(ip4(1)) for _ in range(8)]
    assert limits.descriptors == 10
    assert not has_chance(limits, ip4(1))
    with pytest.raises(LimitExceeded, match="max_inbound_descriptors of 10"):
        subject.pending(ip4(1))
    subject.now += 1
    assert has_chance(limits, ip4(2))
    subject.pending(ip4(2))
    assert [held.evicted is not None for _, held in pending] == [True] + [False] * 7, "its oldest handshake"
    assert limits.descriptors == 10
    for grant, _ in pending:
        grant.release()
    for _ in range(7):
        subject.pending(ip4(3))
    subject.now += 1
    subject.pending(ip4(2))
    assert limits.descriptors == 10
    assert not any(held.evicted for _, held in idle), "another prefix has more"
    subject.pending(Multiaddr("/ip4/198.51.100.9/udp/1/quic-v1"))
    assert limits.descriptors == 10, "QUIC takes none"
    assert "max_inbound_descriptors 10 of 10" in str(subject.all.explain())


def test_idle_connections_go_where_no_handshake_is_left_the_youngest_first() -> None:
    subject = Subject(max_inbound_descriptors=3)
    busy = subject.finished(ip4(1), PEERS[0], idle=False)
    idle = [subject.finished(ip4(1), peer, idle=True) for peer in PEERS[1:3]]
    subject.pending(ip4(2))
    assert [held.evicted is not None for _, held in (busy, *idle)] == [False, False, True]


def test_who_has_no_chance_is_told_early_and_counted() -> None:
    subject = Subject(max_pending_per_prefix=2, handshakes_per_second=1, handshake_burst=3)
    limits = subject.all.connections
    grants = [subject.pending(ip4(1))[0] for _ in range(2)]
    assert not has_chance(limits, ip4(1))
    grants[0].release()
    assert all(has_chance(limits, ip4(1)) for _ in range(10)), "asking takes nothing"
    subject.pending(ip4(1))[0].release()
    assert not has_chance(limits, ip4(1))
    subject.now += 1
    assert has_chance(limits, ip4(1))
    assert subject.all.refusals.counts == {"max_pending_per_prefix": 1, "handshakes_per_second": 1}
