"""Which of several connections is used, and which are too many."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from libp2p.connection import Connection, DialOptions, Direction
from libp2p.errors import DialError, LimitedConnection, LimitExceeded
from libp2p.events import EventBus
from libp2p.host import Host
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.peerstore import MemoryPeerStore
from libp2p.security.noise import Noise
from libp2p.swarm import Gater, PeerConnected, PeerDisconnected, Swarm, SwarmConfig
from libp2p.swarm.table import Entry
from libp2p.testing.conformance.tools import is_held, started
from libp2p.testing.network import Link, Network
from libp2p.testing.transports import context

SMALL, LARGE = sorted((PrivateKey.generate() for _ in range(2)), key=lambda key: key.peer_id.to_bytes())
A, B, C = (Multiaddr(f"/ip4/8.8.8.{n}/tcp/1") for n in (1, 2, 3))


class Subject:
    """A swarm, a peer of it, and connections of any kind between them."""

    def __init__(self, fake: Any, own: PrivateKey = SMALL, peer: PrivateKey = LARGE, **settings: Any) -> None:
        self.fake, self.key, self.peer = fake, peer, peer.peer_id
        self.transport = fake.transport(key=peer)
        self.told: list[Any] = []
        bus = EventBus()
        bus.on(object, self.told.append)
        self.swarm = Swarm(
            own.peer_id,
            context=context(own),
            transports=[self.transport],
            peerstore=MemoryPeerStore(),
            events=bus,
            on_stream=lambda _: None,
            **settings,
        )

    def inbound(self, **traits: Any) -> Any:
        connection = self.fake.connection(A, self.key, Direction.INBOUND)
        for name, value in traits.items():
            setattr(connection, name, value)
        scope = self.swarm.admit(connection.local_addr, connection.remote_addr)
        self.swarm.connection_opened(connection, scope)
        return connection

    async def outbound(self, addr: Multiaddr = B) -> Any:
        return await self.swarm.connect(self.peer, [addr], DialOptions(new_connection=True))

    @property
    def best(self) -> Connection | None:
        return self.swarm.usable_connection(self.peer)


async def test_direct_connections_are_used_before_limited_ones(fake: Any) -> None:
    subject = Subject(fake)
    limited = subject.inbound(is_limited=True)
    assert await subject.swarm.connect(subject.peer) is limited
    direct = subject.inbound()
    assert await subject.swarm.connect(subject.peer) is direct
    direct.abort()
    assert subject.best is limited
    await subject.swarm.close()


async def test_where_a_limited_one_is_not_allowed_a_punch_is_waited_for(fake: Any) -> None:
    subject, direct_only = Subject(fake), DialOptions(allow_limited=False)
    subject.inbound(is_limited=True)
    with pytest.raises(LimitedConnection, match=str(subject.peer)):
        await subject.swarm.connect(subject.peer, (), direct_only)
    with subject.swarm.punching(subject.peer):
        waiting = await started(subject.swarm.connect(subject.peer, (), direct_only))
        assert await is_held(waiting)
        direct = subject.inbound()
        assert await waiting is direct
        direct.abort()
        waiting = await started(subject.swarm.connect(subject.peer, (), direct_only))
        assert await is_held(waiting)
    with pytest.raises(LimitedConnection):
        await waiting
    assert (await subject.swarm.connect(subject.peer, [B], direct_only)).remote_addr == B, "a direct way was named"
    await subject.swarm.close()


async def test_a_punch_is_not_waited_for_longer_than_a_dial(fake: Any) -> None:
    subject = Subject(fake)
    subject.inbound(is_limited=True)
    start = asyncio.get_running_loop().time()
    with subject.swarm.punching(subject.peer), pytest.raises(LimitedConnection):
        await subject.swarm.connect(subject.peer, (), DialOptions(allow_limited=False))
    assert asyncio.get_running_loop().time() - start == 60
    assert not subject.swarm._direct._waiting
    await subject.swarm.close()


async def test_peers_are_told_of_once(fake: Any) -> None:
    subject = Subject(fake)
    first, second = subject.inbound(), subject.inbound()
    first.abort()
    second.abort()
    kinds = (PeerConnected, PeerDisconnected)
    assert [event for event in subject.told if isinstance(event, kinds)] == [
        PeerConnected(subject.peer),
        PeerDisconnected(subject.peer),
    ]
    await subject.swarm.close()


async def test_the_one_heard_from_since_is_used(fake: Any) -> None:
    """A peer that was killed, and has dialed back in: the older connection leads to nobody."""
    subject = Subject(fake)
    old = subject.inbound(heard_at=asyncio.get_running_loop().time())
    await asyncio.sleep(1)
    new = subject.inbound(heard_at=asyncio.get_running_loop().time())
    assert old.probes == 1
    assert new.probes == 0
    assert subject.best is new
    old.heard_at = asyncio.get_running_loop().time() + 0.1
    assert subject.best is old, "it answered: the oldest of one dialer"
    await subject.swarm.close()


@pytest.mark.parametrize("own", [SMALL, LARGE])
async def test_both_sides_agree_on_which_of_two_is_too_many(fake: Any, own: PrivateKey) -> None:
    """What the peer with the smaller id dialed stays; the other one is closed by whom has dialed it."""
    subject = Subject(fake, own, LARGE if own is SMALL else SMALL)
    inbound = subject.inbound()
    outbound = await subject.swarm.connect(None, [B])
    assert subject.best is (outbound if own is SMALL else inbound)
    await asyncio.sleep(60)
    assert not inbound.is_closed, "that is for the peer to close"
    assert outbound.is_closed is (own is LARGE)
    await subject.swarm.close()


async def test_a_duplicate_that_carries_streams_stays_while_it_does(fake: Any) -> None:
    subject = Subject(fake, LARGE, SMALL)
    subject.inbound()
    outbound: Any = await subject.swarm.connect(None, [B])
    outbound.open_streams = (object(),)
    await asyncio.sleep(60)
    assert not outbound.is_closed
    outbound.open_streams = ()
    await asyncio.sleep(60)
    assert outbound.is_closed
    await subject.swarm.close()


async def test_what_was_made_on_purpose_stays(fake: Any) -> None:
    subject = Subject(fake, LARGE, SMALL)
    kept = [subject.inbound(), await subject.outbound(B), await subject.outbound(C)]
    await asyncio.sleep(60)
    assert not any(connection.is_closed for connection in kept)
    assert not subject.swarm._thinning._pruning, "nothing to look at again"
    await subject.swarm.close()


async def test_an_address_without_a_peer_leads_to_the_connection_that_was_made_there(fake: Any) -> None:
    subject = Subject(fake)
    subject.transport.plans = {str(B): fake.plan(1)}
    dials = [subject.swarm.connect(None, [B]) for _ in range(5)]
    (first, *others) = await asyncio.gather(*dials)
    assert all(other is first for other in others)
    assert await subject.swarm.connect(None, [B]) is first
    first.abort()
    assert await subject.swarm.connect(None, [B]) is not first
    assert len(subject.transport.log) == 2
    await subject.swarm.close()
    assert not subject.swarm._table._by_addr


async def test_pending_and_established_connections_count(fake: Any) -> None:
    subject = Subject(fake, config=SwarmConfig(max_pending_inbound=2, max_connections_per_peer=1))
    waiting = [subject.swarm.admit(A, B) for _ in range(2)]
    with pytest.raises(LimitExceeded, match="max_pending_inbound of 2"):
        subject.swarm.admit(A, B)
    waiting[0].release()
    waiting[0].release()
    subject.swarm.admit(A, B).release()
    waiting[1].identified(subject.peer)
    other = subject.swarm.admit(A, B)
    with pytest.raises(LimitExceeded, match="max_connections_per_peer of 1"):
        other.identified(subject.peer)
    with pytest.raises(LimitExceeded, match="max_connections_per_peer of 1"):
        await subject.swarm.connect(subject.peer, [B])
    assert subject.transport.made[-1].is_closed
    waiting[1].release()
    other.release()
    connection = await subject.swarm.connect(subject.peer, [B])
    connection.abort()
    limits = subject.swarm.limits.connections
    assert (limits.pending, limits.established, dict(limits.of_peer)) == (0, 0, {})
    await subject.swarm.close()


async def test_the_gater_is_asked_at_each_door(fake: Any) -> None:
    class Closed(Exception):
        pass

    class Doors(Gater):
        shut = ""

        def check_dial(self, peer: Any, addr: Multiaddr) -> None:
            self.pass_by("dial")

        def check_accept(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> None:
            self.pass_by("accept")

        def check_peer(self, peer: Any, direction: Direction, remote_addr: Multiaddr) -> None:
            self.pass_by(direction.value)

        def pass_by(self, door: str) -> None:
            if door == self.shut:
                raise LimitExceeded(door, scope="a door", value=0)

    gater = Doors()
    subject = Subject(fake, gater=gater)
    for gater.shut in ("accept", "inbound"):
        with pytest.raises(LimitExceeded, match=gater.shut):
            subject.swarm.admit(A, B).identified(subject.peer)
    gater.shut = "dial"
    with pytest.raises(DialError, match="a door"):
        await subject.swarm.connect(subject.peer, [B])
    gater.shut = "outbound"
    with pytest.raises(LimitExceeded, match="a door"):
        await subject.swarm.connect(subject.peer, [B])
    gater.shut = ""
    await subject.swarm.connect(subject.peer, [B])
    await subject.swarm.close()


async def test_hosts_that_start_together_end_with_one_connection_to_each_other() -> None:
    async with Network(link=Link(latency=0.02)) as network:
        hosts = [
            Host(
                listen_addrs=["/ip4/0.0.0.0/tcp/1"],
                transports=[network.node(f"10.0.0.{n}").transport()],
                security=[Noise()],
            )
            for n in range(1, 6)
        ]
        for host in hosts:
            await host.__aenter__()
        pairs = [(one, other) for one in hosts for other in hosts if one is not other]
        await asyncio.gather(*(one.connect(other.addrs[0]) for one, other in pairs))
        await asyncio.sleep(1)
        assert max(len(one.connections_to(other.id)) for one, other in pairs) > 1
        await asyncio.sleep(30)
        assert {len(one.connections_to(other.id)) for one, other in pairs} == {1}
        for host in hosts:
            await host.close()


def test_a_connection_whose_peer_answers_nothing_is_idle() -> None:
    """Identify's question, which a stranger leaves open, is no work of its own."""
    asked, talking = (SimpleNamespace(bytes_read=count) for count in (0, 5))
    for streams, is_idle in (([], True), ([asked], True), ([asked, talking], False)):
        connection: Any = SimpleNamespace(streams=streams, remote_peer=SMALL.peer_id)
        scope: Any = None
        entry = Entry(
            connection,
            scope,
            since=0.0,
            on_purpose=False,
            dialed=(),
            protected=lambda _: False,
            let_go=lambda *_: None,
            lost=lambda *_: None,
        )
        assert entry.is_idle is is_idle
