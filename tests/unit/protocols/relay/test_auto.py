"""Hosts that find relays by themselves, in a simulated network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from libp2p.errors import InvalidMultiaddr, RoutingError
from libp2p.host import Host
from libp2p.host.addrs import AddrSource
from libp2p.host.events import Reachability, ReachabilityChanged
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.autonat import AutoNat, AutoNatConfig
from libp2p.protocols.dcutr import HolePunchEnded
from libp2p.protocols.relay import AutoRelay, AutoRelayConfig, RelayClient, RelayServer, ReservationLost
from libp2p.routing import PeerInfo
from libp2p.security.noise import Noise
from libp2p.testing.nat import Nat
from libp2p.testing.network import Link, Network, Node, SimulatedTransport

SOON = AutoRelayConfig(min_candidates=1, unknown_delay=0)


class World:
    """Relays in one network, and hosts behind NATs."""

    def __init__(self, stack: AsyncExitStack, network: Network) -> None:
        self.stack = stack
        self.network = network

    async def host(self, node: Node, key: PrivateKey | None = None) -> Host:
        """A host on `node`."""
        made = Host(key, ["/ip4/0.0.0.0/tcp/4001"], transports=[node.transport()], security=[Noise()])
        return await self.stack.enter_async_context(made)

    async def relay(self, ip: str) -> tuple[Host, RelayServer]:
        """A relay at `ip`."""
        host = await self.host(self.network.node(ip))
        return host, await self.stack.enter_async_context(RelayServer(host))

    async def behind(self, number: int = 1) -> Host:
        """A host behind a NAT of its own."""
        return await self.host(Nat(self.network, f"11.0.{number}.1").node(f"192.168.{number}.2"))

    async def auto(self, host: Host, **options: object) -> AutoRelay:
        """What finds relays for `host`."""
        client = await self.stack.enter_async_context(RelayClient(host))
        options.setdefault("config", SOON)
        return await self.stack.enter_async_context(AutoRelay(host, client, **options))  # type: ignore[arg-type]

    async def until(self, condition: Callable[[], object], within: float) -> None:
        for _ in range(int(within * 10)):
            if condition():
                return
            await asyncio.sleep(0.1)
        raise TimeoutError


class Moving(SimulatedTransport):
    """The transport of a machine that moves to another network."""

    def __init__(self, node: Node) -> None:
        super().__init__(node, 5.0, 16)

    def move(self, node: Node) -> None:
        """It is at the place of `node` now; what it had under way is lost without a word."""
        self._node.network.remove(self._node)
        self._node = node


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(stack, await stack.enter_async_context(Network(link=Link(latency=0.02))))


def relayed(host: Host) -> tuple[Multiaddr, ...]:
    return host.own_addrs.found(AddrSource.RELAYED)


async def test_relays_among_connected_peers_are_kept_at_a_number() -> None:
    async with world() as some:
        host = await some.behind()
        auto = await some.auto(host)
        relays = [await some.relay(f"20.{n}.0.1") for n in range(3)]
        for relay, _ in relays:
            await host.connect(relay.addrs[0])
        await some.until(lambda: len(relayed(host)) == 2, within=5)
        assert len(auto.relays) == 2
        used = [(relay, server) for relay, server in relays if server.book.reservations]
        (spare,) = [relay for relay, server in relays if not server.book.reservations]
        gone, _ = used[0]
        await gone.close()
        await some.until(lambda: spare.id in auto.relays and len(relayed(host)) == 2, within=120)
        assert gone.id not in auto.relays


async def test_a_relay_that_restarts_keeps_its_place() -> None:
    async with world() as some:
        host, node = await some.behind(), some.network.node("20.0.0.1")
        lost: list[object] = []
        host.events.on(ReservationLost, lost.append)
        key = PrivateKey.generate()
        for restart in range(3):
            made = Host(key, ["/ip4/0.0.0.0/tcp/4001"], transports=[node.transport()], security=[Noise()])
            async with made as relay, RelayServer(relay) as server:
                if not restart:
                    await some.auto(host)
                    await host.connect(relay.addrs[0])
                await some.until(lambda server=server: server.book.reservations == [host.id], within=30)
            await asyncio.sleep(20)
        assert lost


async def test_given_relays_and_a_source() -> None:
    async with world() as some:
        host = await some.behind()
        given, _ = await some.relay("20.0.0.1")
        other, _ = await some.relay("20.1.0.1")
        asked: list[int] = []

        async def source(number: int) -> AsyncIterator[PeerInfo]:
            asked.append(number)
            if len(asked) == 1:
                raise RoutingError("not yet")
            yield PeerInfo(host.id, (Multiaddr("/ip4/20.9.9.9/tcp/1"),))
            yield PeerInfo(other.id, tuple(other.listen_addrs))

        auto = await some.auto(host, relays=[given.addrs[0]], source=source)
        await some.until(lambda: len(relayed(host)) == 2, within=45)
        assert set(auto.relays) == {given.id, other.id}
        assert asked == [1, 1]
        with pytest.raises(InvalidMultiaddr, match="names no relay"):
            AutoRelay(host, RelayClient(host), relays=["/ip4/20.0.0.1/tcp/4001"])


async def test_a_given_relay_that_is_not_there_yet_is_used_when_it_is() -> None:
    async with world() as some:
        host, node, key = await some.behind(), some.network.node("20.0.0.1"), PrivateKey.generate()
        addr = Multiaddr("/ip4/20.0.0.1/tcp/4001").with_peer(str(key.public_key.peer_id))
        await some.auto(host, relays=[addr])
        await asyncio.sleep(600)
        server = await some.stack.enter_async_context(RelayServer(await some.host(node, key)))
        await some.until(lambda: server.book.reservations == [host.id], within=30)


async def test_private_relays_work_on_private_networks() -> None:
    async with world() as some:
        relay, _ = await some.relay("10.0.0.1")
        host = await some.host(some.network.node("10.0.0.2"))
        other = await some.host(some.network.node("10.0.0.3"))
        await some.auto(host)
        await host.connect(relay.addrs[0])
        await some.until(lambda: relayed(host), within=5)
        await host.connect(other.addrs[0])
        await some.until(lambda: set(relayed(host)) <= set(other.peerstore.addrs(host.id)), within=5)


async def test_forced_reachability() -> None:
    async with world() as some:
        host = await some.behind()
        told: list[ReachabilityChanged] = []
        host.events.on(ReachabilityChanged, told.append)
        await some.auto(host, config=AutoRelayConfig(min_candidates=1, unknown_delay=1e6))
        relay, _ = await some.relay("20.0.0.1")
        await host.connect(relay.addrs[0])
        async with AutoNat(host, AutoNatConfig(forced=Reachability.PRIVATE)):
            await some.until(lambda: relayed(host), within=5)
        async with AutoNat(host, AutoNatConfig(forced=Reachability.PUBLIC)):
            await some.until(lambda: not relayed(host), within=5)
        assert [event.reachability for event in told] == [Reachability.PRIVATE, Reachability.PUBLIC]


async def test_holes_are_punched_without_further_ado() -> None:
    async with world() as some:
        host, dialer = await some.behind(1), await some.behind(2)
        relay, _ = await some.relay("20.0.0.1")
        await some.auto(host)
        await some.stack.enter_async_context(RelayClient(dialer))
        await host.connect(relay.addrs[0])
        await some.until(lambda: relayed(host), within=5)
        await dialer.identify.identify(await dialer.connect(relay.addrs[0]))
        async with host.events.expect(HolePunchEnded) as ended:
            circuit = await dialer.connect(relayed(host)[0].with_peer(str(host.id)))
            assert (await ended).connection is not None
        assert not (await dialer.connect(host.id)).is_limited
        await asyncio.sleep(30)
        assert circuit.is_closed


async def test_a_host_whose_ip_changes_is_reachable_again_within_60_s() -> None:
    async with world() as some:
        relay, _ = await some.relay("20.0.0.1")
        dialer = await some.host(some.network.node("30.0.0.1"))
        await some.stack.enter_async_context(RelayClient(dialer, hole_punching=False))
        moving = Moving(some.network.node("192.168.1.2"))
        made = Host(None, ["/ip4/192.168.1.2/tcp/4001"], transports=[moving], security=[Noise()])
        host = await some.stack.enter_async_context(made)
        await some.auto(host, relays=[relay.addrs[0]])
        await some.until(lambda: relayed(host), within=10)
        circuit = relayed(host)[0].with_peer(str(host.id))
        (old,) = host.connections_to(relay.id)
        moving.move(some.network.node("192.168.2.2"))
        begun = asyncio.get_running_loop().time()
        await host.swarm.listen(Multiaddr("/ip4/192.168.2.2/tcp/4001"))
        await some.until(lambda: old.is_closed and relayed(host), within=30)
        assert (await dialer.connect(circuit)).remote_peer == host.id
        assert asyncio.get_running_loop().time() - begun < 60
