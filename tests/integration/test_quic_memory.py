"""What a peer makes a host hold over QUIC: counted, bounded, and paid for by who holds most."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libp2p.connection import Connection, MemoryLimitReached, Stream
from libp2p.errors import StreamReset
from libp2p.identity import PrivateKey
from libp2p.io import HostMemory, MemoryConfig
from libp2p.multiaddr import Multiaddr
from libp2p.testing.conformance.connections import Side
from libp2p.testing.conformance.tools import ends
from libp2p.testing.conformance.transports import DIALER, LISTENER, Reports
from libp2p.testing.network import Link, Network, Node
from libp2p.testing.transports import context
from libp2p.transports.quic import Quic, QuicConfig
from libp2p.transports.quic.connection import QuicConnection
from libp2p.transports.quic.flow_control import ConnectionWindow

KIB = 1024
MIB = 1024 * KIB
CONFIG = QuicConfig(stream_window=64 * KIB, max_stream_window=MIB, connection_window=4 * MIB)


class Scene:
    def __init__(self, dialed: Connection, accepted: Connection) -> None:
        assert isinstance(accepted, QuicConnection)
        self.dialer, self.listener, self.account = Side(dialed), Side(accepted), accepted.memory
        self.window = accepted._engine.window
        self.writing: list[asyncio.Future[None]] = []
        self.told: list[MemoryLimitReached] = []
        accepted.serve(
            self.listener.accepted.put_nowait,
            self.listener.closed.append,
            on_memory_limit=self.told.append,
        )

    async def fill(self, count: int, size: int) -> list[tuple[Stream, Stream]]:
        """Streams on which as many bytes were sent as the listener takes, which does not read."""
        pairs = [await self.dialer.stream_to(self.listener) for _ in range(count)]
        self.writing = [asyncio.ensure_future(ours.write(bytes(size))) for ours, _ in pairs]
        await asyncio.sleep(5)
        return pairs

    @property
    def unread(self) -> int:
        return sum(stream.unread for stream in self.listener.connection.streams)  # type: ignore[attr-defined]


@asynccontextmanager
async def scene(limit: int, config: QuicConfig = CONFIG) -> AsyncIterator[Scene]:
    memory = HostMemory(MemoryConfig(max_per_connection=limit))

    def quic(key: PrivateKey, node: Node, *, counts: bool) -> Quic:
        surroundings = context(key)
        if counts:
            surroundings.memory = memory
        return Quic(config, open_socket=node.udp()).use(surroundings)

    network = Network(seed=2, link=Link(latency=0.01))
    async with network:
        far = quic(LISTENER, network.node("10.0.0.2"), counts=True)
        near, reports = quic(DIALER, network.node("10.0.0.1"), counts=False), Reports()
        listener = await far.listen(Multiaddr("/ip4/10.0.0.2/udp/1/quic-v1"), reports)
        dialed = await ends(near.dial(listener.addrs[0], LISTENER.public_key.peer_id))
        made = Scene(dialed, await ends(reports.opened.get()))
        yield made
        for writing in made.writing:
            writing.cancel()
        await asyncio.gather(*made.writing, return_exceptions=True)
        dialed.abort()
        await ends(made.listener.connection.wait_closed())
        await listener.close()


async def test_a_new_connection_may_send_little_and_one_that_is_read_more() -> None:
    async with scene(64 * MIB) as at:
        assert at.window.size == CONFIG.first_connection_window == 96 * KIB
        assert not at.account.used
        ours, theirs = await at.dialer.stream_to(at.listener)
        writing = asyncio.ensure_future(ours.write(bytes(8 * MIB)))
        await ends(theirs.readexactly(8 * MIB), within=60)
        await ends(writing)
        assert 512 * KIB < at.window.size <= CONFIG.connection_window
        assert at.account.used >= at.window.size - CONFIG.first_connection_window
        await ours.close()
        await theirs.close()


async def test_unread_streams_leave_others_room_while_there_is_memory() -> None:
    async with scene(64 * MIB) as at:
        await at.fill(20, 60 * KIB)
        assert at.unread == 20 * 60 * KIB
        assert at.account.used >= at.unread
        ours, theirs = await at.dialer.stream_to(at.listener)
        await ends(ours.write(b"room"))
        assert await ends(theirs.readexactly(4)) == b"room"
        assert not at.told


async def test_without_memory_the_window_stays_as_it_is() -> None:
    async with scene(200 * KIB) as at:  # of which growth may take the half
        await at.fill(20, 64 * KIB)
        assert at.window.size == CONFIG.first_connection_window
        assert at.unread <= 96 * KIB
        assert at.account.used <= at.account.limit
        assert not at.told


async def test_what_passes_the_limit_costs_the_fullest_stream() -> None:
    async with scene(80 * KIB) as at:
        pairs = await at.fill(3, 60 * KIB)
        assert at.account.used <= at.account.limit
        assert at.told
        assert at.told[0].scope == "connection"
        assert at.told[0].stream in [theirs for _, theirs in pairs]
        lost = next(ours for ours, theirs in pairs if theirs is at.told[0].stream)
        with pytest.raises(StreamReset) as caught:
            await ends(lost.read(1))
        assert caught.value.code == 0x1002
        ours, theirs = await at.dialer.stream_to(at.listener)  # the connection goes on
        await ends(ours.write(b"room"))
        assert await ends(theirs.readexactly(4)) == b"room"


async def test_all_is_given_back() -> None:
    async with scene(64 * MIB) as at:
        pairs = await at.fill(10, 64 * KIB)
        for ours, theirs in pairs:
            theirs.reset()
            ours.reset()
        await asyncio.sleep(1)
        assert at.account.used == at.window.size - CONFIG.first_connection_window
        del pairs, ours, theirs
    gc.collect()
    assert at.account.used == 0


def test_a_window_grows_by_what_is_granted() -> None:
    drawn: list[int] = []
    window = ConnectionWindow(100, maximum=250)
    assert not window.make_room(0)  # nobody is known yet

    def draw(n: int) -> bool:
        drawn.append(n)
        return True

    window.draw = draw
    assert not window.make_room(25)
    assert window.make_room(24)
    assert (window.size, drawn) == (200, [100])
    assert window.make_room(0)
    assert not window.make_room(0)
    assert (window.size, drawn) == (250, [100, 50])
    window.read = 10
    assert not window.is_due(200)
    window.read = 13
    assert window.is_due(200)
    assert window.update(5.0, 0.1) == 263
