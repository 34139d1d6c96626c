"""How a swarm, and a host, end: cancelled at any step, or where something fails, nothing is left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libp2p.connection import Accept, Listener
from libp2p.errors import ListenError
from libp2p.events import EventBus
from libp2p.host import Host
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.peerstore import MemoryPeerStore
from libp2p.security.noise import Noise
from libp2p.swarm import ListenAddrAdded, ListenAddrRemoved, ListenerLost, Swarm
from libp2p.testing.conformance.tools import cancelled_at_each_step, started
from libp2p.testing.transports import context
from libp2p.transports.memory import MemoryRegistry, MemoryTransport

OWN = PrivateKey.generate()
A, B = Multiaddr("/ip4/8.8.8.1/tcp/1"), Multiaddr("/ip4/8.8.8.2/tcp/1")


class SlowToListen(MemoryTransport):
    """As a relay's reservation will be. One that is deaf listens although it was cancelled."""

    deaf = False

    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            if not self.deaf:
                raise
        return await super().listen(addr, accept)


def swarm(transport: Any, told: list[Any] | None = None) -> Swarm:
    bus = EventBus()
    if told is not None:
        bus.on(object, told.append)
    return Swarm(
        OWN.peer_id,
        context=context(OWN),
        transports=[transport],
        peerstore=MemoryPeerStore(),
        events=bus,
        on_stream=lambda _: None,
    )


async def test_a_swarm_whose_close_is_cancelled_at_any_step_has_ended(fake: Any) -> None:
    class Scene:
        def __init__(self) -> None:
            self.transport = fake.transport()
            self.transport.plans = {str(B): fake.plan(1000)}
            self.swarm = swarm(self.transport)

    async def prepare() -> Scene:
        scene = Scene()
        for addr in (A, Multiaddr("/ip4/8.8.8.3/tcp/1")):
            await scene.swarm.listen(addr)
        await scene.swarm.connect(fake.key.public_key.peer_id, [Multiaddr("/ip4/8.8.8.9/tcp/1")])
        scene.dialing = asyncio.ensure_future(scene.swarm.connect(None, [B]))  # type: ignore[attr-defined]
        await asyncio.sleep(0.1)
        return scene

    async def check(scene: Scene) -> None:
        assert not scene.swarm.listen_addrs
        assert not any(listener.addrs for listener in scene.transport.listeners)
        assert not scene.swarm.connections
        assert all(connection.is_closed for connection in scene.transport.made)
        assert not scene.transport.running
        assert scene.transport.ended, "the transport itself"
        await asyncio.wait({scene.dialing})  # type: ignore[attr-defined]
        assert scene.dialing.exception() is not None  # type: ignore[attr-defined]

    assert await cancelled_at_each_step(prepare, lambda scene: scene.swarm.close(), check) > 2


async def test_a_host_whose_close_is_cancelled_at_any_step_has_ended() -> None:
    registry = MemoryRegistry()

    def host(**settings: Any) -> Host:
        return Host(transports=[MemoryTransport(registry=registry)], security=[Noise()], **settings)

    async def cleans_up() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(5)  # flushes a file

    class Scene:
        def __init__(self) -> None:
            self.host, self.peer = host(listen_addrs=["/memory/7"]), host()

    async def prepare() -> Scene:
        scene = Scene()
        await scene.host.__aenter__()
        await scene.peer.connect(scene.host.addrs[0])
        scene.host.spawn(cleans_up(), name="cleans up")
        await asyncio.sleep(0.1)
        return scene

    async def check(scene: Scene) -> None:
        assert registry.find(7) is None
        assert not scene.host.connections
        await asyncio.sleep(10)
        assert not scene.peer.connections
        await scene.peer.close()

    assert await cancelled_at_each_step(prepare, lambda scene: scene.host.close(), check) > 2


async def test_a_listener_that_fails_to_close_keeps_nothing_else_open(fake: Any) -> None:
    transport = fake.transport()
    subject = swarm(transport)
    broken = await subject.listen(A)
    await subject.listen(B)
    connection = await subject.connect(None, [Multiaddr("/ip4/8.8.8.9/tcp/1")])

    async def fail() -> None:
        raise OSError("the disk is full")

    broken.close = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="disk"):
        await subject.close()
    assert not any(listener.addrs for listener in transport.listeners)
    assert connection.is_closed
    assert transport.ended


@pytest.mark.parametrize("deaf", [False, True])
@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_listen_under_way_does_not_outlive_the_host(cancelled: bool, deaf: bool) -> None:
    registry = MemoryRegistry()
    transport = SlowToListen(registry=registry)
    transport.deaf = deaf
    async with Host(transports=[transport], security=[Noise()]) as host:
        listening = await started(host.swarm.listen(Multiaddr("/memory/5")))
        if cancelled:
            listening.cancel()
    await asyncio.wait({listening})
    if not cancelled:
        assert isinstance(listening.exception(), ListenError)
    assert registry.find(5) is None
    await asyncio.sleep(5)
    assert registry.find(5) is None


async def test_a_cancelled_listen_leaves_no_listener_at_any_step() -> None:
    for steps in range(12):
        registry, told = MemoryRegistry(), []  # type: ignore[var-annotated]
        subject = swarm(MemoryTransport(registry=registry), told)
        listening = asyncio.ensure_future(subject.listen(Multiaddr("/memory/5")))
        for _ in range(steps):
            await asyncio.sleep(0)
        listening.cancel()
        await asyncio.wait({listening})
        await asyncio.sleep(0)
        assert (registry.find(5) is None) is listening.cancelled()
        assert bool(subject.listen_addrs) is not listening.cancelled()
        await subject.close()
    assert not listening.cancelled()


async def test_addresses_of_a_listener_change_and_it_may_die(fake: Any) -> None:
    told: list[Any] = []
    subject = swarm(fake.transport(), told)
    listener: Any = await subject.listen(A)
    listener.bound = (B,)
    subject.addrs_changed(listener)
    subject.addrs_changed(listener)
    assert told == [ListenAddrAdded(A), ListenAddrRemoved(A), ListenAddrAdded(B)]
    error = OSError("the interface is gone")
    subject.listener_died(listener, error)
    assert told[3:] == [ListenAddrRemoved(B), ListenerLost((B,), error)]
    assert not subject.listen_addrs
    assert not listener.bound
    subject.addrs_changed(listener)
    assert len(told) == 5
    await subject.close()


async def test_a_transport_may_come_later() -> None:
    subject = swarm(MemoryTransport(registry=MemoryRegistry()))
    registry = MemoryRegistry()
    late = SlowToListen(registry=registry)
    with pytest.raises(ListenError, match="no transport"):
        await subject.listen(A)
    subject.add_transport(late)
    assert late.context is subject._context
    await subject.close()
