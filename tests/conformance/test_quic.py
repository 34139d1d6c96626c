"""The QUIC transport, its connections and its streams: over a simulated network, a bad one too, and real sockets."""

from __future__ import annotations

import asyncio

import pytest

from libp2p.connection import Connection, Transport
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr, host_port
from libp2p.testing.conformance import ConnectionSuite, StreamSuite, TransportSuite
from libp2p.testing.conformance.tools import ends, is_held
from libp2p.testing.conformance.transports import DIALER, LISTENER, Reports
from libp2p.testing.network import Link, Network, Node
from libp2p.testing.transports import context
from libp2p.transports.quic import Quic, QuicConfig

BAD = Link(latency=0.002, jitter=0.001, loss=0.01, duplicate=0.01)


SMALL = QuicConfig(stream_window=64 * 1024, max_stream_window=128 * 1024)


def quic(key: PrivateKey, node: Node | None = None, config: QuicConfig | None = None) -> Quic:
    transport = Quic(config, open_socket=node.udp() if node is not None else None)
    return transport.use(context(key))


async def connect(dialer: Quic, listener: Quic, listen_addr: str) -> tuple[Connection, Connection]:
    reports = Reports()
    listening = await listener.listen(Multiaddr(listen_addr), reports)
    dialed = await dialer.dial(listening.addrs[0], LISTENER.public_key.peer_id)
    accepted = await reports.opened.get()
    await listening.close()
    return dialed, accepted


class TestSimulated(TransportSuite):
    listen_addr = "/ip6/::/udp/0/quic-v1"
    link = Link(latency=0.05)

    def bound(self, addr: Multiaddr) -> Multiaddr:
        return Multiaddr(self.listen_addr.replace("/udp/0", f"/udp/{host_port(addr).port}"))

    async def make(self, key: PrivateKey) -> Transport:
        self.network = getattr(self, "network", None) or Network(link=self.link)
        return quic(key, self.network.node("fd00::1" if key is DIALER else "fd00::2"))

    async def cleanup(self) -> None:
        async with self.network:
            pass


class TestBadNetwork(TestSimulated):
    listen_addr = "/ip4/0.0.0.0/udp/0/quic-v1"
    link = BAD

    async def make(self, key: PrivateKey) -> Transport:
        self.network = getattr(self, "network", None) or Network(link=self.link)
        return quic(key, self.network.node("10.0.0.1" if key is DIALER else "10.0.0.2"))


@pytest.mark.real
class TestReal(TransportSuite):
    listen_addr = "/ip4/127.0.0.1/udp/0/quic-v1"

    async def make(self, key: PrivateKey) -> Transport:
        return quic(key)


@pytest.mark.real
class TestRealIp6(TestReal):
    listen_addr = "/ip6/::1/udp/0/quic-v1"


class SimulatedPair:
    """A connection over a simulated network."""

    link = Link(latency=0.005)
    config = QuicConfig()

    async def connect(self) -> tuple[Connection, Connection]:
        self.network = Network(seed=7, link=self.link)
        dialer, listener = self.network.node("10.0.0.1"), self.network.node("10.0.0.2")
        ours, theirs = quic(DIALER, dialer, self.config), quic(LISTENER, listener, self.config)
        self.both = await connect(ours, theirs, "/ip4/10.0.0.2/udp/0/quic-v1")
        return self.both

    async def cleanup(self) -> None:
        for connection in self.both:
            connection.abort()
        async with self.network:
            pass


class QuicConnectionSuite(ConnectionSuite):
    """What QUIC does in its own way."""

    async def test_streams_wait_to_be_opened_rather_than_flood_the_peer(self) -> None:
        """The peer grants a stream for each one that ends, whether it has accepted them or not."""
        async with self.sides() as (dialer, listener):
            opened = [await ends(dialer.connection.open_stream()) for _ in range(1024)]
            for stream in opened:
                await stream.write(b"!")
            opening = asyncio.ensure_future(dialer.connection.open_stream())
            assert await is_held(opening)
            for stream in opened[:600]:
                stream.reset()
            await ends(opening)
            assert not listener.accepted.empty()


class TestConnections(SimulatedPair, QuicConnectionSuite):
    async def make(self) -> tuple[Connection, Connection]:
        return await self.connect()


class TestBadConnections(TestConnections):
    link = BAD
    many = 200
    max_buffered = 1_500_000


class TestStreams(SimulatedPair, StreamSuite):
    pass


class TestBadStreams(TestStreams):
    link = BAD
    config = SMALL
    max_buffered = 1_500_000


@pytest.mark.real
class TestRealConnections(QuicConnectionSuite):
    patience = 0.5
    many = 300

    async def make(self) -> tuple[Connection, Connection]:
        return await connect(quic(DIALER), quic(LISTENER), "/ip4/127.0.0.1/udp/0/quic-v1")


@pytest.mark.real
class TestRealStreams(StreamSuite):
    async def connect(self) -> tuple[Connection, Connection]:
        return await connect(quic(DIALER), quic(LISTENER), "/ip4/0.0.0.0/udp/0/quic-v1")
