"""`/p2p-circuit` as a transport, and the connections that are made through a relay."""

from __future__ import annotations

from contextlib import AsyncExitStack

from libp2p.connection import Connection, Stream, Transport
from libp2p.host import Host
from libp2p.identity import PeerId, PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.relay import RelayClient, RelayConfig, RelayServer
from libp2p.security.noise import Noise
from libp2p.testing.conformance import StreamSuite, TransportSuite
from libp2p.testing.conformance.transports import DIALER, LISTENER, Reports
from libp2p.testing.network import Link, Network

RELAYS = PrivateKey.generate(), PrivateKey.generate()
LISTEN_ADDRS = [f"/ip4/10.0.1.{n}/tcp/4001/p2p/{key.peer_id}/p2p-circuit" for n, key in enumerate(RELAYS)]
UNLIMITED = RelayConfig(
    peer_burst=10_000,
    ip_burst=10_000,
    max_requests=1000,
    max_requests_per_peer=1000,
    max_circuits_per_peer=1000,
    circuit_bytes=None,
)


class Relayed:
    """Two relays, and hosts that use them."""

    def __init__(self) -> None:
        self.network = Network(link=Link(latency=0.01))
        self.exits = AsyncExitStack()
        self._count = 0

    async def host(self, key: PrivateKey, ip: str) -> Host:
        """A host on a machine of its own."""
        host = Host(key, [f"/ip4/{ip}/tcp/4001"], transports=[self.network.node(ip).transport()], security=[Noise()])
        return await self.exits.enter_async_context(host)

    async def open(self, kind: type[RelayServer] = RelayServer) -> None:
        """Start the relays."""
        await self.exits.enter_async_context(self.network)
        for n, key in enumerate(RELAYS):
            await self.exits.enter_async_context(kind(await self.host(key, f"10.0.1.{n}"), UNLIMITED))

    async def transport(self, key: PrivateKey) -> Transport:
        """The transport of a host that uses relays."""
        self._count += 1
        host = await self.host(key, f"10.0.2.{self._count}")
        return (await self.exits.enter_async_context(RelayClient(host))).transport


class LyingRelay(RelayServer):
    """Connects everybody to the listener."""

    async def _connect(self, stream: Stream, target: PeerId) -> None:
        await super()._connect(stream, LISTENER.peer_id)


class TestRelay(TransportSuite):
    listen_addr, second_listen_addr = LISTEN_ADDRS
    peer_is_needed = True
    foreign_addrs = (
        *TransportSuite.foreign_addrs,
        "/ip4/10.0.1.1/tcp/4001",
        "/ip4/10.0.1.1/tcp/4001/p2p-circuit",
        LISTEN_ADDRS[0] + LISTEN_ADDRS[1],
        LISTEN_ADDRS[0] + "/tcp/1",
    )
    relayed: Relayed | None = None

    async def make(self, key: PrivateKey) -> Transport:
        if self.relayed is None:
            self.relayed = Relayed()
            await self.relayed.open()
        return await self.relayed.transport(key)

    async def cleanup(self) -> None:
        if self.relayed is not None:
            await self.relayed.exits.aclose()
            self.relayed = None

    async def test_the_wrong_peer_is_refused(self) -> None:
        """A relay that connects us to another than it was asked for is found out."""
        self.relayed = Relayed()
        await self.relayed.open(LyingRelay)
        await super().test_the_wrong_peer_is_refused()


class TestRelayedStreams(StreamSuite):
    async def connect(self) -> tuple[Connection, Connection]:
        self.relayed = Relayed()
        await self.relayed.open()
        reports = Reports()
        transport, dialer = await self.relayed.transport(LISTENER), await self.relayed.transport(DIALER)
        listener = await transport.listen(Multiaddr(LISTEN_ADDRS[0]), reports)
        dialed = await dialer.dial(listener.addrs[0], LISTENER.peer_id)
        accepted = await reports.opened.get()
        await listener.close()
        return dialed, accepted

    async def cleanup(self) -> None:
        await super().cleanup()
        await self.relayed.exits.aclose()
