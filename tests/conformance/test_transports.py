"""The transports, and the connections and streams that the whole stack makes."""

from __future__ import annotations

import pytest

from libp2p.connection import Connection, Transport
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.testing.conformance import ConnectionSuite, StreamSuite, TransportSuite
from libp2p.testing.conformance.transports import DIALER, LISTENER, Reports
from libp2p.testing.network import Link, Network
from libp2p.testing.transports import context
from libp2p.transports.memory import MemoryRegistry, MemoryTransport
from libp2p.transports.tcp import Tcp


class TestMemory(TransportSuite):
    listen_addr = "/memory/0"

    async def make(self, key: PrivateKey) -> Transport:
        self.registry = getattr(self, "registry", None) or MemoryRegistry()
        return MemoryTransport(registry=self.registry).use(context(key))


class TestSimulatedNetwork(TransportSuite):
    listen_addr = "/ip6/::/tcp/0"

    async def make(self, key: PrivateKey) -> Transport:
        self.network = getattr(self, "network", None) or Network(link=Link(latency=0.05, loss=0.01))
        ip = "fd00::1" if key is DIALER else "fd00::2"
        return self.network.node(ip).transport().use(context(key))

    async def cleanup(self) -> None:
        async with self.network:
            pass


@pytest.mark.real
class TestTcp(TransportSuite):
    listen_addr = "/ip4/127.0.0.1/tcp/0"

    async def make(self, key: PrivateKey) -> Transport:
        return Tcp().use(context(key))


@pytest.mark.real
class TestTcpIp6(TestTcp):
    listen_addr = "/ip6/::1/tcp/0"


async def connect_by_tcp() -> tuple[Connection, Connection]:
    reports = Reports()
    listener = await Tcp().use(context(LISTENER)).listen(Multiaddr("/ip4/127.0.0.1/tcp/0"), reports)
    dialed = await Tcp().use(context(DIALER)).dial(listener.addrs[0], LISTENER.public_key.peer_id)
    accepted = await reports.opened.get()
    await listener.close()
    return dialed, accepted


@pytest.mark.real
class TestTcpConnections(ConnectionSuite):
    patience = 0.5
    many = 300

    async def make(self) -> tuple[Connection, Connection]:
        return await connect_by_tcp()


@pytest.mark.real
class TestTcpStreams(StreamSuite):
    async def connect(self) -> tuple[Connection, Connection]:
        return await connect_by_tcp()
