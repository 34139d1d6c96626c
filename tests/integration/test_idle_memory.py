"""What a connection costs while nothing happens on it."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import pytest

from libp2p.connection import DialOptions
from libp2p.host import Host, HostConfig
from libp2p.host.identify import IdentifyConfig
from libp2p.swarm import SwarmConfig

COUNT = 200
LIMIT = 40 * 1024


@pytest.mark.real
@pytest.mark.parametrize("addr", ["/ip4/127.0.0.1/tcp/0", "/memory/0"])
@pytest.mark.parametrize("identified", [False, True])
async def test_an_idle_connection_takes_at_most_40_kib_a_side(addr: str, identified: bool) -> None:
    config = HostConfig(
        swarm=SwarmConfig(max_connections_per_peer=2 * COUNT), identify=IdentifyConfig(automatic=identified)
    )
    async with Host(listen_addrs=[addr], config=config) as a, Host(config=config) as b:
        to_whoever = a.listen_addrs[0]

        async def connect(count: int) -> None:
            for _ in range(count):
                await b.swarm.connect(None, [to_whoever], DialOptions(new_connection=True))
            async with asyncio.timeout(20):
                while len(a.connections) < len(b.connections) or any(  # noqa: ASYNC110 - until all is idle
                    connection.streams for connection in a.connections + b.connections
                ):
                    await asyncio.sleep(0.01)

        await connect(8)  # what is loaded and cached once
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await connect(COUNT)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(a.connections) == COUNT + 8
        per_side = (after - before) / COUNT / 2
        assert per_side <= LIMIT, f"{per_side / 1024:.1f} KiB"
        print(f"{addr} identified={identified}: {per_side / 1024:.1f} KiB a side")
