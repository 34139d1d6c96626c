"""A raw connection in a stream of another connection: of yamux, of QUIC, and two deep; and what runs over it."""

from __future__ import annotations

import asyncio

import pytest

from libp2p.connection import Connection, Direction, OverStream, RawConnection
from libp2p.errors import ConnectionClosed
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.muxers.yamux import Yamux, YamuxConfig
from libp2p.security.noise import Noise
from libp2p.testing.conformance import ConnectionSuite, RawConnectionSuite, StreamSuite
from libp2p.testing.conformance.connections import Side
from libp2p.testing.conformance.tools import Recorder, ends, is_held
from libp2p.testing.conformance.transports import DIALER, LISTENER, Reports
from libp2p.testing.network import Link, Network
from libp2p.testing.transports import context
from libp2p.transports.memory import pipe
from libp2p.transports.quic import Quic, QuicConfig
from libp2p.upgrader import Upgrader

HERE, THERE = Multiaddr("/memory/1"), Multiaddr("/memory/2")
WINDOW = 256 * 1024


async def upgraded(raw: tuple[RawConnection, RawConnection]) -> tuple[Connection, Connection]:
    """The two ends of a connection by Noise and yamux over `raw`."""
    dialer, listener = (
        Upgrader(key, security=[Noise()], muxers=[Yamux(YamuxConfig(max_stream_window=WINDOW))])
        for key in (DIALER, LISTENER)
    )
    async with asyncio.TaskGroup() as group:
        left = group.create_task(dialer.upgrade(raw[0], Direction.OUTBOUND, peer=LISTENER.public_key.peer_id))
        right = group.create_task(listener.upgrade(raw[1], Direction.INBOUND))
    return left.result(), right.result()


class Carrier:
    """Makes raw connections in streams, and ends what they run over."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.below: list[Connection] = []
        self.network: Network | None = None

    async def raw(self) -> tuple[RawConnection, RawConnection]:
        """Both ends of a raw connection in a stream."""
        if self.kind == "quic":
            return await self.over(await self.quic())
        raw = await self.over(await upgraded(pipe()))
        return raw if self.kind == "yamux" else await self.over(await upgraded(raw))

    async def over(self, below: tuple[Connection, Connection]) -> tuple[RawConnection, RawConnection]:
        self.below = [*below, *self.below]
        left, right = await Side(below[0]).stream_to(Side(below[1]))
        return (
            OverStream(left, local_addr=HERE, remote_addr=THERE),
            OverStream(right, local_addr=THERE, remote_addr=HERE),
        )

    async def quic(self) -> tuple[Connection, Connection]:
        self.network = Network(link=Link(latency=0.01))

        def transport(key: PrivateKey, ip: str) -> Quic:
            assert self.network is not None
            config = QuicConfig(stream_window=WINDOW, max_stream_window=WINDOW)
            return Quic(config, open_socket=self.network.node(ip).udp()).use(context(key))

        reports = Reports()
        listening = await transport(LISTENER, "10.0.0.2").listen(Multiaddr("/ip4/10.0.0.2/udp/1/quic-v1"), reports)
        dialed = await transport(DIALER, "10.0.0.1").dial(listening.addrs[0], LISTENER.public_key.peer_id)
        accepted = await reports.opened.get()
        await listening.close()
        return dialed, accepted

    async def cleanup(self) -> None:
        for connection in self.below:
            connection.abort()
        for connection in self.below:
            await ends(connection.wait_closed())
            await ends(connection.close())
        if self.network is not None:
            async with self.network:
                pass


class Carried:
    """A test's carrier."""

    max_buffered = 4 * 1024 * 1024

    @pytest.fixture(autouse=True, params=["yamux", "quic", "two deep"])
    def carried_by(self, request: pytest.FixtureRequest) -> None:
        self.kind = request.param
        self.carriers: list[Carrier] = []

    async def raw(self) -> tuple[RawConnection, RawConnection]:
        self.carriers.append(Carrier(self.kind))
        return await self.carriers[-1].raw()

    async def cleanup(self) -> None:
        while self.carriers:
            await self.carriers.pop().cleanup()


class TestRaw(Carried, RawConnectionSuite):
    async def make(self) -> tuple[RawConnection, RawConnection]:
        return await self.raw()


class TestConnection(Carried, ConnectionSuite):
    many = 60

    async def make(self) -> tuple[Connection, Connection]:
        return await upgraded(await self.raw())


class TestStreams(Carried, StreamSuite):
    async def connect(self) -> tuple[Connection, Connection]:
        return await upgraded(await self.raw())

    async def cleanup(self) -> None:
        await StreamSuite.cleanup(self)
        await Carried.cleanup(self)


async def test_no_task_runs_while_the_stream_takes_all() -> None:
    carrier = Carrier("yamux")
    left, right = await carrier.raw()
    near, far = Recorder(left), Recorder(right)
    left.attach(near)
    right.attach(far)
    tasks = len(asyncio.all_tasks())
    for _ in range(50):
        left.send((bytes(1000), b"x"))
        assert len(asyncio.all_tasks()) == tasks
        await asyncio.sleep(0.001)
    assert len(far.data) == 50 * 1001
    right.pause_reading()
    left.send((bytes(2 * 1024 * 1024),))
    assert len(asyncio.all_tasks()) == tasks + 1, "one waits for the window"
    assert near.paused
    await asyncio.sleep(1)
    right.resume_reading()
    await near.until(writable=True)
    await far.until(size=50 * 1001 + 2 * 1024 * 1024)
    assert len(asyncio.all_tasks()) == tasks
    for raw in (left, right):
        raw.abort()
        await raw.close()
    await carrier.cleanup()


async def test_the_end_of_the_connection_below_is_the_loss_of_the_one_above() -> None:
    carrier = Carrier("yamux")
    left, right = await carrier.raw()
    sink = Recorder(left)
    left.attach(sink)
    reading = asyncio.ensure_future(right.read(1))
    assert await is_held(reading)
    carrier.below[0].abort("enough")
    await sink.until(lost=True)
    assert isinstance(sink.lost[0], ConnectionClosed)
    with pytest.raises(ConnectionClosed):
        await reading
    await carrier.cleanup()
