"""The transports, and the connections and streams that the whole stack makes."""

from __future__ import annotations

from typing import Any

import pytest

from libp2p.connection import Connection, DialOptions, Direction, RawConnection, Role, Transport
from libp2p.errors import PeerIdMismatch
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.muxers.yamux import Yamux
from libp2p.security.noise import Noise
from libp2p.security.plaintext import InsecurePlaintext
from libp2p.security.tls import Tls
from libp2p.testing.conformance import ConnectionSuite, StreamSuite, TransportSuite
from libp2p.testing.conformance.transports import DIALER, LISTENER, Reports
from libp2p.testing.network import Link, Network
from libp2p.testing.transports import context
from libp2p.transports.memory import MemoryRegistry, MemoryTransport
from libp2p.transports.tcp import Tcp
from libp2p.upgrader import Upgrader


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


class Begins(Upgrader):
    """Begins the handshakes with who has dialed it, as where both sides have dialed."""

    async def upgrade(self, raw: RawConnection, direction: Direction, **settings: Any) -> Connection:
        return await super().upgrade(raw, direction, **{**settings, "role": Role.INITIATOR, "peer": DIALER.peer_id})


async def connect_by_tcp(dialers_role: Role = Role.INITIATOR) -> tuple[Connection, Connection]:
    reports, options = Reports(), DialOptions(role=dialers_role)
    upgrader = Begins(LISTENER, security=[Noise()], muxers=[Yamux()]) if dialers_role is Role.RESPONDER else None
    listener = await Tcp().use(context(LISTENER, upgrader)).listen(Multiaddr("/ip4/127.0.0.1/tcp/0"), reports)
    dialed = await Tcp().use(context(DIALER)).dial(listener.addrs[0], LISTENER.public_key.peer_id, options)
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
class TestTcpConnectionsWhoseDialerResponds(ConnectionSuite):
    patience = 0.5
    many = 300

    async def make(self) -> tuple[Connection, Connection]:
        dialed, accepted = await connect_by_tcp(Role.RESPONDER)
        assert (dialed.direction, dialed.role) == (Direction.OUTBOUND, Role.RESPONDER)
        assert (accepted.direction, accepted.role) == (Direction.INBOUND, Role.INITIATOR)
        return dialed, accepted


@pytest.mark.real
async def test_a_responder_that_dialed_proves_whom_it_expects() -> None:
    """The expected peer is known in the responder's handshake too."""
    stranger = PrivateKey.generate().peer_id
    for security in (Noise(), Tls(), InsecurePlaintext()):
        upgrader = Begins(LISTENER, security=[security], muxers=[Yamux()])
        dialer = context(DIALER, Upgrader(DIALER, security=[security], muxers=[Yamux()]))
        reports = Reports()
        listener = await Tcp().use(context(LISTENER, upgrader)).listen(Multiaddr("/ip4/127.0.0.1/tcp/0"), reports)
        with pytest.raises(PeerIdMismatch):
            await Tcp().use(dialer).dial(listener.addrs[0], stranger, DialOptions(role=Role.RESPONDER))
        outcome = await reports.everything.get()
        if isinstance(outcome, Connection):
            await outcome.wait_closed()
        await listener.close()


@pytest.mark.real
class TestTcpStreams(StreamSuite):
    async def connect(self) -> tuple[Connection, Connection]:
        return await connect_by_tcp()
