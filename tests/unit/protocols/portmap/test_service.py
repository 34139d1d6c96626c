"""Mapped ports over time, with a gateway that is a stand-in."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address

from libp2p.host import Host
from libp2p.host.addrs import AddrSource
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.portmap import (
    Gateway,
    Mapped,
    MappingError,
    Port,
    PortMapConfig,
    PortMapped,
    PortMapping,
    PortUnmapped,
    State,
)
from libp2p.protocols.portmap.core import Epoch
from libp2p.security.noise import Noise
from libp2p.testing.network import Network

OURS = "192.168.0.2"


class Router(Gateway):
    """Maps what it is asked for, as long as it is on."""

    kind = "stand-in"
    local_ip = IPv4Address(OURS)

    def __init__(self) -> None:
        self.ip = IPv4Address("11.0.0.1")
        self.is_on = True
        self.refuses = False
        self.lifetime = 600.0
        self.started = _now()
        self.mapped: dict[Port, tuple[int, float]] = {}
        self.asked = 0

    async def check(self) -> State:
        if not self.is_on:
            raise MappingError("off")
        return State(_now() - self.started, self.ip)

    async def map(self, port: Port, external_port: int, lifetime: float) -> Mapped:
        await self.check()
        if self.refuses:
            raise MappingError("no", refused=True)
        self.asked += 1
        self.mapped[port] = external_port, _now() + self.lifetime
        return Mapped(self.ip, external_port, self.lifetime)

    async def unmap(self, port: Port, mapped: Mapped) -> None:
        await self.check()
        assert self.mapped.pop(port)[0] == mapped.external_port

    async def find(self, config: PortMapConfig) -> list[Gateway]:
        return [self] if self.is_on else []

    def restart(self) -> None:
        self.mapped.clear()
        self.started = _now()


def _now() -> float:
    return asyncio.get_running_loop().time()


def host(network: Network) -> Host:
    """A host behind the router."""
    node = network.node(OURS)
    return Host(listen_addrs=["/ip4/0.0.0.0/tcp/4001"], transports=[node.transport()], security=[Noise()])


def mapped(some: Host) -> list[str]:
    return [str(addr) for addr in some.own_addrs.found(AddrSource.MAPPED)]


async def test_a_mapping_lives_as_long_as_the_service() -> None:
    async with Network() as network, host(network) as some:
        router, told = Router(), list[object]()
        some.events.on(PortMapped, told.append)
        some.events.on(PortUnmapped, told.append)
        async with PortMapping(some, find=router.find) as mapping:
            await mapping.searched()
            assert mapped(some) == ["/ip4/11.0.0.1/tcp/4001"]
            for _ in range(1000):
                await asyncio.sleep(60)
                assert router.mapped[Port("tcp", 4001)][1] > _now()
            assert 150 <= router.asked <= 250
            assert told == [PortMapped("stand-in", "tcp", 4001, IPv4Address("11.0.0.1"), 4001)]
        assert not router.mapped
        assert not mapped(some)
        assert isinstance(told[1], PortUnmapped)


async def test_a_restart_and_another_address_of_the_gateway_are_noticed() -> None:
    async with Network() as network, host(network) as some:
        router = Router()
        async with PortMapping(some, find=router.find) as mapping:
            await mapping.searched()
            await asyncio.sleep(1000)
            router.restart()
            await asyncio.sleep(31)
            assert Port("tcp", 4001) in router.mapped
            router.ip = IPv4Address("11.0.0.9")
            await asyncio.sleep(31)
            assert mapped(some) == ["/ip4/11.0.0.9/tcp/4001"]


async def test_a_gateway_that_is_gone_and_comes_back() -> None:
    async with Network() as network, host(network) as some:
        router, told = Router(), list[object]()
        some.events.on(PortUnmapped, told.append)
        async with PortMapping(some, find=router.find) as mapping:
            await mapping.searched()
            router.is_on = False
            await asyncio.sleep(120)
            assert not mapped(some)
            assert len(told) == 1
            router.restart()
            router.is_on = True
            await asyncio.sleep(300)
            assert mapped(some)
            router.is_on = False
            begun = _now()
        assert _now() - begun < 1.5


async def test_no_gateway_costs_no_time_and_a_refusal_is_no_mapping() -> None:
    async with Network() as network, host(network) as some:

        async def never(config: PortMapConfig) -> list[Gateway]:
            await asyncio.sleep(1e6)
            return []

        begun = _now()
        async with PortMapping(some, find=never):
            assert not mapped(some)
        assert _now() == begun
        router = Router()
        router.refuses = True
        async with PortMapping(some, find=router.find) as mapping:
            await mapping.searched()
            assert (mapping.gateway, mapped(some)) == (None, [])


async def test_an_address_that_is_not_public_is_not_announced() -> None:
    async with Network() as network, host(network) as some:
        router, told = Router(), list[PortMapped]()
        router.ip = IPv4Address("100.64.0.7")
        some.events.on(PortMapped, told.append)
        async with PortMapping(some, find=router.find) as mapping:
            await mapping.searched()
            assert [event.external_ip for event in told] == [router.ip]
            assert not mapped(some)


async def test_what_is_listened_on_is_followed() -> None:
    async with Network() as network, host(network) as some:
        router = Router()
        async with PortMapping(some, find=router.find) as mapping:
            await mapping.searched()
            listener = await some.swarm.listen(Multiaddr("/ip4/0.0.0.0/tcp/4002"))
            await asyncio.sleep(0.1)
            assert {port.number for port in router.mapped} == {4001, 4002}
            await some.swarm.stop_listening(listener)
            await asyncio.sleep(0.1)
            assert {port.number for port in router.mapped} == {4001}


def test_epochs() -> None:
    epoch = Epoch()
    assert not epoch.is_restarted(1000, 0)
    assert not epoch.is_restarted(1090, 100)  # a slow clock
    assert epoch.is_restarted(3, 110)
    assert not epoch.is_restarted(13, 120)


async def test_who_listens_on_no_private_address_asks_nobody() -> None:
    async with Network() as network:
        node, asked = network.node("11.0.0.5"), list[int]()

        async def find(config: PortMapConfig) -> list[Gateway]:
            asked.append(1)
            return []

        made = Host(listen_addrs=["/ip4/0.0.0.0/tcp/4001"], transports=[node.transport()], security=[Noise()])
        async with made as some, PortMapping(some, find=find):
            await asyncio.sleep(10_000)
        assert not asked
