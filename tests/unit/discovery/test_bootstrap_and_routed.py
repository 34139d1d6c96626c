"""Bootstrap keeps connections; routing discovery finds peers of a namespace."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from libp2p.cid import Cid
from libp2p.discovery import AMINO_BOOTSTRAP, Bootstrap, BootstrapConfig, RoutingDiscovery
from libp2p.errors import InvalidInput
from libp2p.host import Host
from libp2p.identity import PeerId
from libp2p.multiaddr import Multiaddr
from libp2p.routing import Discovery, PeerDiscovered, PeerInfo
from libp2p.swarm.events import DialFailed


def peer(n: int) -> PeerId:
    return PeerId.from_bytes(b"\x12\x20" + n.to_bytes(32, "big"))


async def test_bootstrap_keeps_connections() -> None:
    async with Host(listen_addrs=["/memory/0"]) as one, Host(listen_addrs=["/memory/0"]) as two, Host() as host:
        found: list[PeerDiscovered] = []
        host.events.on(PeerDiscovered, found.append)
        async with Bootstrap(host, [*one.addrs, *two.addrs]):
            await asyncio.sleep(1)
            assert len(host.connections) == 2
            assert {event.info.peer for event in found} == {one.id, two.id}
            await host.connections_to(one.id)[0].close()
            await asyncio.sleep(1)
            assert len(host.connections) == 2


async def test_bootstrap_stops_at_the_minimum() -> None:
    few = BootstrapConfig(min_connections=1, max_parallel=1)
    async with (
        Host(listen_addrs=["/memory/0"]) as one,
        Host(listen_addrs=["/memory/0"]) as two,
        Host() as host,
        Bootstrap(host, [*one.addrs, *two.addrs], few),
    ):
        await asyncio.sleep(100)
        assert len(host.connections) == 1


async def test_bootstrap_backs_off() -> None:
    async with Host() as host:
        tries: list[DialFailed] = []
        host.events.on(DialFailed, tries.append)
        async with Bootstrap(host, [f"/memory/99999/p2p/{peer(1)}"]):
            await asyncio.sleep(3600)
            assert 10 < len(tries) < 40  # every 30 s it would be 120 times


async def test_bootstrap_peers_have_ids() -> None:
    async with Host() as host:
        with pytest.raises(InvalidInput, match="needs its id"):
            Bootstrap(host, ["/memory/1"])


def test_known_lists_are_addresses_of_peers() -> None:
    assert all(Multiaddr(addr).peer_id_text for addr in AMINO_BOOTSTRAP)


class Router:
    """Knows providers of everything."""

    def __init__(self, providers: list[PeerInfo]) -> None:
        self.providers = providers
        self.provided: list[Cid] = []
        self.limits: list[int] = []

    async def provide(self, cid: Cid) -> None:
        self.provided.append(cid)

    async def find_providers(self, cid: Cid, *, limit: int = 20) -> AsyncGenerator[PeerInfo, None]:
        self.limits.append(limit)
        for one in self.providers:
            yield one


async def test_routing_discovery() -> None:
    async with Host() as host:
        others = [PeerInfo(peer(n)) for n in range(5)]
        router = Router([PeerInfo(host.id), *others])
        discovery = RoutingDiscovery(host, router)
        assert isinstance(discovery, Discovery)
        assert await discovery.advertise("app") == 3 * 3600
        # What go-libp2p makes of the namespace.
        assert [str(cid) for cid in router.provided] == ["bafkreifbolhnzlshi5fwcxcu2uiklwckrxvdamxjlbmhimfucnjyxy7tgm"]
        assert [info async for info in discovery.find_peers("app")] == others
        assert [info async for info in discovery.find_peers("app", limit=2)] == others[:2]
        assert [info async for info in discovery.find_peers("app", limit=0)] == others
        assert router.limits == [21, 3, 0]
