"""What peers make a host hold is bounded. (Over QUIC the window holds the peer before: see test_quic_memory.)"""

from __future__ import annotations

import asyncio

import pytest

from libp2p import Stream
from libp2p.connection import MemoryLimitReached
from libp2p.errors import StreamReset
from libp2p.host import Host, HostConfig
from libp2p.io import MemoryConfig
from libp2p.security.noise import Noise
from libp2p.transports.memory import MemoryTransport

LIMIT = 1024 * 1024


async def test_a_connection_over_its_limit_pays_with_its_fullest_stream() -> None:
    config = HostConfig(memory=MemoryConfig(max_per_connection=LIMIT))
    async with (
        Host(transports=[MemoryTransport()], security=[Noise()], listen_addrs=["/memory/0"], config=config) as a,
        Host(transports=[MemoryTransport()], security=[Noise()]) as b,
    ):
        told: list[MemoryLimitReached] = []
        a.events.on(MemoryLimitReached, told.append)
        served: list[Stream] = []

        @a.handle("/busy/1")
        async def busy(stream: Stream) -> None:
            served.append(stream)
            await asyncio.sleep(3600)

        connection = await b.connect(a.addrs[0])
        for size in (200_000, 210_000, 220_000, 230_000, 180_000, 180_000):
            stream = await b.new_stream(connection, "/busy/1")
            await stream.write(bytes(size))
            await asyncio.sleep(1)
        assert [(event.scope, event.limit, event.stream) for event in told] == [("connection", LIMIT, served[3])]
        assert told[0].connection is a.connections[0]
        with pytest.raises(StreamReset, match="memory limit of the connection"):
            await served[3].read(1)
        assert len(await served[0].readexactly(200_000)) == 200_000
