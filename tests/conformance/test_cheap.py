"""The cheap simulated transport: it does what every transport, connection and stream does."""

from __future__ import annotations

import pytest

from libp2p.connection import Connection, Transport
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.testing.cheap import CheapConfig, CheapTransport
from libp2p.testing.conformance import ConnectionSuite, StreamSuite, TransportSuite
from libp2p.testing.conformance.transports import DIALER, LISTENER, Reports
from libp2p.testing.network import Link, Network
from libp2p.testing.transports import context

LINKS = {
    "ideal": Link(),
    "far": Link(latency=0.01),
    "narrow": Link(latency=0.005, bandwidth=100_000_000),
    "lossy": Link(latency=0.001, loss=0.0005),
}


class TestTransport(TransportSuite):
    listen_addr = "/ip4/0.0.0.0/tcp/0"

    async def make(self, key: PrivateKey) -> Transport:
        self.network = getattr(self, "network", None) or Network(link=Link(latency=0.05, loss=0.01))
        ip = "10.0.0.1" if key is DIALER else "10.0.0.2"
        return CheapTransport(self.network.node(ip)).use(context(key))

    async def cleanup(self) -> None:
        async with self.network:
            pass


class OverCheap:
    """Makes connections over a link."""

    link = Link()

    async def join(self) -> tuple[Connection, Connection]:
        self.network = Network(link=self.link)
        left, right = (CheapTransport(self.network.node(f"10.0.0.{n}"), CheapConfig()) for n in (1, 2))
        reports = Reports()
        listener = await right.use(context(LISTENER)).listen(Multiaddr("/ip4/10.0.0.2/tcp/1"), reports)
        dialed = await left.use(context(DIALER)).dial(listener.addrs[0], LISTENER.public_key.peer_id)
        accepted = await reports.opened.get()
        await listener.close()
        return dialed, accepted


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
class TestConnection(OverCheap, ConnectionSuite):
    max_buffered = 512 * 1024  # more than the window

    @pytest.fixture(autouse=True)
    def over(self, link: Link) -> None:
        self.link = link

    async def make(self) -> tuple[Connection, Connection]:
        return await self.join()

    async def cleanup(self) -> None:
        async with self.network:
            pass


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
class TestStreams(OverCheap, StreamSuite):
    max_buffered = 512 * 1024  # more than the window

    @pytest.fixture(autouse=True)
    def over(self, link: Link) -> None:
        self.link = link

    async def connect(self) -> tuple[Connection, Connection]:
        return await self.join()

    async def cleanup(self) -> None:
        await super().cleanup()
        async with self.network:
            pass
