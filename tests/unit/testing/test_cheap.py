"""What cheap connections do of their own: limits, links, cuts, refusals. The suites are in tests/conformance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libp2p.errors import ConnectionClosed, LimitExceeded, PeerIdMismatch, StageTimeout
from libp2p.multiaddr import Multiaddr
from libp2p.testing.cheap import PROTOCOL, CheapConfig, CheapTransport
from libp2p.testing.conformance.connections import Side
from libp2p.testing.conformance.tools import ends, is_held
from libp2p.testing.conformance.transports import DIALER, LISTENER, Reports
from libp2p.testing.links import Carrier, Link
from libp2p.testing.network import Network, Node
from libp2p.testing.transports import context

ADDR = Multiaddr("/ip4/10.0.0.2/tcp/1")


class Pair:
    """A network with a dialer and a listener."""

    def __init__(self, network: Network, config: CheapConfig) -> None:
        self.network = network
        self.nodes: tuple[Node, Node] = (network.node("10.0.0.1"), network.node("10.0.0.2"))
        self.dialer = CheapTransport(self.nodes[0], config).use(context(DIALER))
        self.listener = CheapTransport(self.nodes[1], config).use(context(LISTENER))
        self.reports = Reports()

    async def connect(self) -> tuple[Side, Side]:
        listener = await self.listener.listen(ADDR, self.reports)
        dialed = await self.dialer.dial(ADDR, None)
        await listener.close()
        return Side(dialed), Side(await self.reports.opened.get())


@asynccontextmanager
async def pair(config: CheapConfig | None = None, link: Link | None = None) -> AsyncIterator[Pair]:
    async with Network(seed=1, link=link) as network:
        yield Pair(network, config or CheapConfig())


def now() -> float:
    return asyncio.get_running_loop().time()


async def end(*sides: Side) -> None:
    for side in sides:
        side.connection.abort()


async def test_connecting_and_sending_take_their_time() -> None:
    async with pair(link=Link(latency=0.1, bandwidth=100_000)) as both:
        start = now()
        dialer, listener = await both.connect()
        assert now() - start == pytest.approx(0.4, abs=0.01), "two round trips"
        connection = dialer.connection
        assert (connection.security, connection.muxer, connection.rtt) == (PROTOCOL, PROTOCOL, 0.2)
        ours, theirs = await dialer.stream_to(listener)
        start = now()
        writing = asyncio.ensure_future(ours.write(bytes(1_000_000)))
        await asyncio.wait_for(theirs.readexactly(1_000_000), 60)
        assert now() - start == pytest.approx(10.1, rel=0.05)
        await writing
        await end(dialer, listener)


async def test_writers_of_a_narrow_link_take_turns() -> None:
    async with pair(link=Link(bandwidth=100_000)) as both:
        dialer, listener = await both.connect()
        big, read = await dialer.stream_to(listener)
        small, small_read = await dialer.stream_to(listener)
        writing = asyncio.ensure_future(big.write(bytes(250_000)))
        await asyncio.sleep(0)
        start = now()
        await small.write(b"x")
        await small_read.readexactly(1)
        assert 0.6 < now() - start < 1.4, "behind two turns of 64 KiB at most, not behind all"
        await asyncio.wait_for(read.readexactly(250_000), 10)
        await writing
        await end(dialer, listener)


async def test_too_many_streams_wait_for_room() -> None:
    async with pair(CheapConfig(max_inbound_streams=2, max_outbound_streams=3), Link(latency=0.01)) as both:
        dialer, listener = await both.connect()
        first, _ = await dialer.stream_to(listener)
        await dialer.stream_to(listener)
        third = await dialer.connection.open_stream()
        with pytest.raises(LimitExceeded, match="max_outbound_streams of 3"):
            await dialer.connection.open_stream()
        await third.write(b"third")
        await asyncio.sleep(10)
        assert listener.accepted.empty()
        first.reset()
        assert await (await asyncio.wait_for(listener.accepted.get(), 1)).readexactly(5) == b"third"
        await end(dialer, listener)


@pytest.mark.parametrize("healed", [False, True])
async def test_a_cut_road_ends_the_connection_after_a_while(healed: bool) -> None:
    async with pair(CheapConfig(keepalive=60), Link(latency=0.1)) as both:
        dialer, listener = await both.connect()
        ours, theirs = await dialer.stream_to(listener)
        both.network.cut(*both.nodes)
        await ours.write(b"late")
        reading = asyncio.ensure_future(theirs.readexactly(4))
        await asyncio.sleep(59)
        if healed:
            both.network.heal(*both.nodes)
            assert await ends(reading) == b"late"
            await asyncio.sleep(300)
            assert dialer.connection.close_reason is None
            await end(dialer, listener)
            return
        start = now()
        reasons = [await side.connection.wait_closed() for side in (dialer, listener)]
        assert now() - start == pytest.approx(1)
        assert {(reason.by, reason.reason) for reason in reasons} == {("local", "the peer has not answered for 60 s")}
        with pytest.raises(ConnectionClosed):
            await reading


async def test_without_keepalive_a_connection_outlives_any_cut() -> None:
    async with pair(CheapConfig(keepalive=None)) as both:
        dialer, listener = await both.connect()
        ours, theirs = await dialer.stream_to(listener)
        both.network.cut(*both.nodes)
        await ours.write(b"late")
        reading = asyncio.ensure_future(theirs.readexactly(4))
        await asyncio.sleep(24 * 3600)
        assert await is_held(reading)
        both.network.heal(*both.nodes)
        assert await ends(reading) == b"late"
        both.network.cut(*both.nodes, reset=True)
        for side in (dialer, listener):
            assert (await ends(side.connection.wait_closed())).reason.endswith("was cut")


async def test_dials_that_come_to_nothing() -> None:
    async with pair(link=Link(latency=0.1)) as both:
        with pytest.raises(ConnectionRefusedError, match="nobody listens"):
            await both.dialer.dial(ADDR, None)
        with pytest.raises(StageTimeout, match="connect took more than 5 s"):
            await both.dialer.dial(Multiaddr("/ip4/10.9.9.9/tcp/1"), None)
        listener = await both.listener.listen(ADDR, both.reports)
        with pytest.raises(PeerIdMismatch):
            await both.dialer.dial(ADDR, DIALER.public_key.peer_id)
        assert isinstance(both.reports.everything.get_nowait(), Exception)
        await listener.close()
        full = await both.nodes[1].transport().use(context(LISTENER)).listen(ADDR, both.reports)
        with pytest.raises(ConnectionRefusedError):  # it is none of its kind
            await both.dialer.dial(ADDR, None)
        await full.close()


async def test_who_is_refused_hears_of_a_reset_and_leaves_nothing() -> None:
    class Full(Reports):
        def admit(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> None:  # type: ignore[override]
            raise LimitExceeded("max_connections", scope="host", value=0)

    async with pair(link=Link(latency=0.1)) as both:
        reports = Full()
        listener = await both.listener.listen(ADDR, reports)
        with pytest.raises(ConnectionResetError):
            await both.dialer.dial(ADDR, None)
        assert isinstance(reports.everything.get_nowait(), LimitExceeded)
        assert reports.opened.empty()
        await listener.close()


async def test_a_large_piece_is_lost_by_its_segments() -> None:
    async def late(size: int) -> int:
        async with Network(seed=1, link=Link(latency=0.01, loss=0.02)) as network:
            a, b = network.node("10.0.0.1"), network.node("10.0.0.2")
            times: list[float] = []
            start = now()
            for _ in range(200):
                carrier: Carrier = network.carrier(a, b)
                carrier(size, lambda: times.append(now() - start))
            await asyncio.sleep(10)
            assert len(times) == 200
            return sum(time > 0.1 for time in times)

    assert 0 < await late(1) < 15
    assert 90 < await late(64 * 1024) < 150, "some 47 segments: 61 % of the pieces"
