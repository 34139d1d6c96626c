"""What peers make a host hold is bounded, over every kind of connection."""

from __future__ import annotations

import asyncio

import pytest

from libp2p import Stream
from libp2p.connection import MemoryLimitReached, Transport
from libp2p.errors import StreamReset
from libp2p.host import Host, HostConfig
from libp2p.io import MemoryConfig
from libp2p.security.noise import Noise
from libp2p.testing.network import Network
from libp2p.transports.memory import MemoryTransport
from libp2p.transports.quic import Quic

LIMIT = 1024 * 1024


@pytest.mark.parametrize("kind", ["yamux", "quic"])
async def test_a_connection_over_its_limit_pays_with_its_fullest_stream(kind: str) -> None:
    async with Network() as network:
        near, far = network.node("10.0.0.1"), network.node("10.0.0.2")

        def transports(udp: object) -> list[Transport]:
            return [MemoryTransport()] if kind == "yamux" else [Quic(open_socket=udp)]  # type: ignore[arg-type]

        config = HostConfig(memory=MemoryConfig(max_per_connection=LIMIT))
        addr = "/memory/1" if kind == "yamux" else "/ip4/10.0.0.1/udp/1/quic-v1"
        async with (
            Host(transports=transports(near.udp()), security=[Noise()], listen_addrs=[addr], config=config) as a,
            Host(transports=transports(far.udp()), security=[Noise()]) as b,
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
