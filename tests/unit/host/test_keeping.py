"""Kept connections: the pauses, and that a peer is dialed again until nobody wants it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libp2p.connection import Connection
from libp2p.errors import ConnectionClosed, DialError, InvalidInput
from libp2p.host import Host, Kept, RedialBackoff
from libp2p.identity import PrivateKey
from libp2p.swarm import PeerConnected, PeerDisconnected


def test_pauses_grow_to_a_maximum_and_are_spread() -> None:
    backoff = RedialBackoff(first=1, factor=2, maximum=10, jitter=0.5)
    assert [backoff.wait(n, 0.0) for n in (1, 2, 3, 4, 5, 10**6)] == [1, 2, 4, 8, 10, 10]
    assert backoff.wait(2, 1.0) == 1.0
    assert RedialBackoff(jitter=0).wait(1, 1.0) == RedialBackoff().first
    assert RedialBackoff(first=1, factor=1.0, maximum=10).wait(10**4, 0.0) == 1


class Scene:
    """A host that can die and come back, with the same key at the same address."""

    def __init__(self) -> None:
        self.key = PrivateKey.generate()
        self.addr = "/memory/777"

    async def up(self) -> Host:
        return await self.host().start()

    def host(self) -> Host:
        return Host(self.key, [self.addr])


async def told(kept: Kept, connections: list[Connection]) -> None:
    async for connection in kept:
        connections += [connection]


async def test_a_lost_peer_is_dialed_again_for_ever() -> None:
    scene, backoff = Scene(), RedialBackoff(first=1, maximum=8)
    async with Host() as host:
        kept = host.keep(f"{scene.addr}/p2p/{scene.key.peer_id}", backoff=backoff)
        connections: list[Connection] = []
        reading = asyncio.ensure_future(told(kept, connections))
        await asyncio.sleep(3600)  # a night in which it is not there
        assert isinstance(kept.error, DialError)
        assert kept.connection is None
        for n in range(1, 4):
            peer = await scene.up()
            await asyncio.sleep(9)
            assert len(connections) == n
            assert kept.connection is connections[-1] is host.connections_to(peer.id)[0]
            assert kept.error is None
            await peer.close()
            await asyncio.sleep(100)
            assert isinstance(kept.error, DialError)
        assert host.peerstore.protections(kept.peer) == host.limits.protections(kept.peer) != frozenset()
        kept.close()
        await reading
        assert not host.peerstore.protections(kept.peer) | host.limits.protections(kept.peer)
        async with scene.host() as peer:
            await asyncio.sleep(100)
            assert not peer.connections


async def test_who_throws_out_at_once_is_not_dialed_without_a_pause() -> None:
    scene = Scene()
    async with scene.host() as peer, Host() as host:
        dials: list[PeerConnected] = []
        peer.events.on(PeerConnected, dials.append)
        peer.events.on(PeerConnected, lambda event: peer.spawn(peer.disconnect(event.peer, "no"), name="no"))
        kept = host.keep(peer.addrs[0], backoff=RedialBackoff(first=1, maximum=60, jitter=0))
        await asyncio.sleep(600)
        assert 8 <= len(dials) <= 16
        kept.close()


async def test_the_connection_that_there_is_is_told_and_stays(pair: Any) -> None:
    async with pair() as (listener, dialer, connection):
        kept = dialer.keep(listener.id)
        assert await anext(aiter(kept)) is connection
        kept.close()
        kept.close()
        assert [one async for one in kept] == []
        await asyncio.sleep(1)
        assert not connection.is_closed


async def test_keeping_ends_with_the_host_and_takes_a_peer() -> None:
    host = await Host().start()
    with pytest.raises(InvalidInput, match="takes a peer"):
        host.keep("/memory/1")
    kept = host.keep(f"/memory/1/p2p/{PrivateKey.generate().peer_id}")
    reading = asyncio.ensure_future(told(kept, []))
    await asyncio.sleep(0)
    await host.close()
    await reading
    assert [one async for one in host.keep(kept.peer)] == []


async def test_peers_and_disconnecting(pair: Any) -> None:
    async with pair() as (listener, dialer, connection):
        assert dialer.peers == {listener.id: [connection]}
        assert list(listener.peers) == [dialer.id]
        async with listener.events.expect(PeerDisconnected, lambda event: event.peer == dialer.id) as gone:
            await dialer.disconnect(listener.id, "enough")
            await gone
        assert dialer.peers == listener.peers == {}
        with pytest.raises(ConnectionClosed, match="enough"):
            await connection.open_stream()
        await dialer.disconnect(listener.id)
