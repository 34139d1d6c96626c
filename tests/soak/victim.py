"""The host in use, one process: `python -m tests.soak.victim DIR [ADDR...]`; its data is in DIR, it keeps ADDRs.

    /note/1   a message of 8 bytes is written down in DIR/notes, then sent back
    /echo/1   what comes is sent back

Prints its address, then a line of JSON four times a second.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import BinaryIO

from tests.hostile.victim import Gaps, resident_mib

from libp2p import Host, HostConfig, Stream
from libp2p.peerstore import SqlitePeerStore
from libp2p.swarm import SwarmConfig


async def main(place: Path, kept: list[str], notes: BinaryIO) -> None:
    """Serve until killed."""
    # All peers come from this machine: of one prefix.
    config = HostConfig(swarm=SwarmConfig(unlimited_prefixes=("127.0.0.0/8",)))
    async with Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"], data_dir=place / "data", config=config) as host:

        @host.handle("/note/1")
        async def note(stream: Stream) -> None:
            while message := await stream.readexactly(8):
                notes.write(message)
                await stream.write(message)

        @host.handle("/echo/1")
        async def echo(stream: Stream) -> None:
            async for chunk in stream:
                await stream.write(chunk)

        keeping = [host.keep(addr) for addr in kept]
        print(host.addrs[0], flush=True)
        gaps = Gaps()
        host.spawn(gaps.run(), name="watching the loop")
        assert isinstance(host.peerstore, SqlitePeerStore)
        while True:
            await asyncio.sleep(0.25)
            report = {
                "at": time.monotonic(),
                "memory": resident_mib(),
                "lag": gaps.worst * 1000,
                "connections": len(host.connections),
                "kept": sum(bool(host.connections_to(one.peer)) for one in keeping),
                "damaged": host.peerstore.set_aside is not None,
            }
            gaps.worst = 0.0
            print(json.dumps(report), flush=True)


if __name__ == "__main__":
    with open(Path(sys.argv[1]) / "notes", "ab", buffering=0) as file:
        asyncio.run(main(Path(sys.argv[1]), sys.argv[2:], file))
