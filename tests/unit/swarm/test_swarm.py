"""The swarm: the table of connections, its limits, its events, and its end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libp2p.connection import Direction
from libp2p.errors import DialError, Libp2pError, LimitExceeded, ListenError
from libp2p.events import EventBus
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.peerstore import MemoryPeerStore
from libp2p.peerstore.memory import PeerStoreConfig
from libp2p.swarm import (
    ConnectionLost,
    ConnectionOpened,
    DialFailed,
    InboundFailed,
    ListenAddrAdded,
    ListenAddrRemoved,
    PeerConnected,
    PeerDisconnected,
    Swarm,
    SwarmConfig,
)
from libp2p.testing.transports import context

OWN = PrivateKey.generate()
PEERS = [PrivateKey.generate() for _ in range(3)]
A, B, C = (Multiaddr(f"/ip4/8.8.8.{n}/tcp/1") for n in (1, 2, 3))


class Subject:
    """A swarm over a fake transport, with all its events."""

    def __init__(self, fake: Any, *, peerstore: MemoryPeerStore | None = None, **config: Any) -> None:
        self.fake = fake
        self.transport = fake.transport()
        self.peer = fake.key.public_key.peer_id
        self.peerstore = peerstore or MemoryPeerStore()
        self.events: list[Any] = []
        bus = EventBus()
        bus.on(object, self.events.append)
        self.swarm = Swarm(
            OWN.public_key.peer_id,
            context=context(OWN),
            transports=[self.transport],
            peerstore=self.peerstore,
            events=bus,
            on_stream=lambda _: None,
            config=SwarmConfig(**config),
        )

    def inbound(self, key: PrivateKey) -> Any:
        connection = self.fake.connection(A, key, Direction.INBOUND)
        addrs = connection.local_addr, connection.remote_addr
        try:  # as a listener does it
            scope = self.swarm.admit(*addrs)
            scope.identified(connection.remote_peer)
        except Libp2pError as error:
            connection.abort(str(error))
            self.swarm.connection_failed(*addrs, error)
        else:
            self.swarm.connection_opened(connection, scope)
        return connection

    def kinds(self) -> list[type]:
        return [type(event) for event in self.events]


async def test_a_connection_is_reused_until_it_ends(fake: Any) -> None:
    subject = Subject(fake)
    first = await subject.swarm.connect(subject.peer, [A])
    assert await subject.swarm.connect(subject.peer, [B]) is first
    assert await subject.swarm.connect(subject.peer) is first
    assert subject.peerstore.addrs(subject.peer) == [A]
    first.abort("gone")
    assert subject.swarm.connections == []
    again = await subject.swarm.connect(subject.peer)
    assert again is not first
    opened, ended = [ConnectionOpened, PeerConnected], [ConnectionLost, PeerDisconnected]
    assert subject.kinds() == [*opened, *ended, *opened]
    assert subject.events[2].reason.reason == "gone"
    await subject.swarm.close()
    assert subject.swarm.connections == []
    assert subject.kinds()[6:] == ended


async def test_whoever_is_there_may_be_dialed(fake: Any) -> None:
    subject = Subject(fake)
    connection = await subject.swarm.connect(None, [A])
    assert connection.remote_peer == subject.peer
    assert subject.swarm.connections_to(subject.peer) == [connection]
    await subject.swarm.close()


async def test_dialing_oneself_is_refused(fake: Any) -> None:
    subject = Subject(fake)
    with pytest.raises(DialError, match="this host itself"):
        await subject.swarm.connect(OWN.public_key.peer_id, [A])
    assert not subject.transport.log
    subject.transport.key = OWN
    with pytest.raises(DialError, match="this host itself"):
        await subject.swarm.connect(None, [A])
    await subject.swarm.listen(B)
    with pytest.raises(DialError, match="listens there"):
        await subject.swarm.connect(None, [B])
    assert all(connection.is_closed for connection in subject.transport.made)
    assert not subject.swarm.connections
    await subject.swarm.close()


async def test_limits_name_themselves(fake: Any) -> None:
    subject = Subject(fake, max_connections=3, max_connections_per_peer=2)
    accepted = [subject.inbound(PEERS[0]) for _ in range(3)]
    assert [connection.is_closed for connection in accepted] == [False, False, True]
    accepted.append(subject.inbound(PEERS[1]))
    accepted.append(subject.inbound(PEERS[2]))
    assert len(subject.swarm.connections) == 3
    failures = [event.error for event in subject.events if type(event) is InboundFailed]
    assert [(error.limit, error.value) for error in failures] == [
        ("max_connections_per_peer", 2),
        ("max_connections", 3),
    ]
    with pytest.raises(LimitExceeded, match="max_connections of 3"):
        await subject.swarm.connect(subject.peer, [A])
    accepted[0].abort()
    await subject.swarm.connect(subject.peer, [A])
    await subject.swarm.close()
    assert not subject.swarm.connections


async def test_dials_side_by_side_stay_within_the_limit(fake: Any) -> None:
    subject = Subject(fake, max_connections=2)
    addrs = [Multiaddr(f"/ip4/8.8.8.{n}/tcp/1") for n in range(10)]
    subject.transport.plans = {str(addr): fake.plan(1) for addr in addrs}
    outcomes = await asyncio.gather(*(subject.swarm.connect(None, [addr]) for addr in addrs), return_exceptions=True)
    assert sum(isinstance(outcome, LimitExceeded) for outcome in outcomes) == 8
    assert len(subject.swarm.connections) == sum(not connection.is_closed for connection in subject.transport.made) == 2
    await subject.swarm.close()


async def test_a_connection_that_the_peer_store_has_no_room_for_is_refused(fake: Any) -> None:
    subject = Subject(fake, peerstore=MemoryPeerStore(PeerStoreConfig(max_peers=1)))
    first, second = subject.inbound(PEERS[0]), subject.inbound(PEERS[1])
    assert (first.is_closed, second.is_closed) == (False, True)
    assert subject.swarm.connections == [first]
    assert subject.kinds() == [ConnectionOpened, PeerConnected, InboundFailed]
    with pytest.raises(LimitExceeded):
        await subject.swarm.connect(subject.peer, [A])
    assert subject.transport.made[-1].is_closed
    first.abort()
    await subject.swarm.connect(subject.peer, [A])
    await subject.swarm.close()


async def test_a_subscriber_may_end_the_connection_it_is_told_of(fake: Any) -> None:
    subject = Subject(fake)
    subject.swarm._events.on(ConnectionOpened, lambda event: event.connection.abort("unwanted"))
    subject.inbound(PEERS[0])
    assert subject.kinds() == [ConnectionOpened, PeerConnected, ConnectionLost, PeerDisconnected]
    assert not subject.swarm.connections
    await subject.swarm.close()


async def test_listeners_come_and_go(fake: Any) -> None:
    subject = Subject(fake)
    with pytest.raises(ListenError, match="no transport"):
        await subject.swarm.listen(Multiaddr("/memory/1"))
    listener = await subject.swarm.listen(A)
    for addr in (B, C):
        await subject.swarm.listen(addr)
    assert subject.swarm.listen_addrs == [A, B, C]
    await subject.swarm.stop_listening(listener)
    assert subject.swarm.listen_addrs == [B, C]
    await asyncio.gather(subject.swarm.close(), subject.swarm.close())
    added, removed = subject.events[:3], subject.events[3:]
    assert added == [ListenAddrAdded(A), ListenAddrAdded(B), ListenAddrAdded(C)]
    assert sorted(removed, key=lambda event: str(event.addr)) == [ListenAddrRemoved(addr) for addr in (A, B, C)]


async def test_failed_dials_are_told(fake: Any) -> None:
    subject = Subject(fake)
    subject.transport.plans = {str(A): fake.plan(1, OSError("no"))}
    tasks = [subject.swarm.connect(subject.peer, [A]) for _ in range(3)]
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(error, DialError) for error in errors)
    assert set(subject.kinds()) == {DialFailed}
    assert subject.events[0].peer == subject.peer
    await subject.swarm.close()


async def test_a_closed_swarm_says_so(fake: Any) -> None:
    subject = Subject(fake)
    subject.transport.plans = {str(A): fake.plan(1000)}
    dialing = asyncio.ensure_future(subject.swarm.connect(subject.peer, [A]))
    await asyncio.sleep(1)
    await subject.swarm.close()
    with pytest.raises(DialError, match="clos"):
        await dialing
    assert not subject.transport.running
    with pytest.raises(DialError, match="clos"):
        await subject.swarm.connect(subject.peer, [B])
    late = subject.inbound(PEERS[0])
    assert late.is_closed
    assert not subject.swarm.connections
    with pytest.raises(ListenError, match="clos"):
        await subject.swarm.listen(A)


async def test_what_the_user_protects_stays_so_when_the_connection_ends(fake: Any) -> None:
    subject = Subject(fake)
    subject.peerstore.protect(subject.peer, "bootstrap")
    connection = await subject.swarm.connect(subject.peer, [A])
    assert subject.peerstore.protections(subject.peer) == {"bootstrap", "connected"}
    await connection.close()
    assert subject.peerstore.protections(subject.peer) == {"bootstrap"}
    await subject.swarm.close()
