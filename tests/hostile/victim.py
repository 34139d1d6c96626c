"""The host that is attacked: one process. Prints its address; answers each line on stdin by a line of JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
import time
from pathlib import Path

from libp2p import Host, HostConfig, Stream
from libp2p.swarm import SwarmConfig
from libp2p.transports.tcp import Tcp


class Lines(logging.Handler):
    """Counts what is logged."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """One more."""
        self.count += 1


class Gaps:
    """How long the loop was away at most."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def run(self) -> None:
        """Look every 5 ms."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            self.worst = max(self.worst, time.monotonic() - before - 0.005)


def resident_mib() -> float:
    """What the process holds, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


async def main(max_connections: int, descriptors: int) -> None:
    """Serve until stdin ends."""
    if descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    logging.getLogger().addHandler(lines := Lines())
    handlers = most_handlers = 0
    swarm = SwarmConfig(max_connections=max_connections, high_water=max_connections)
    async with Host(listen_addrs=["/ip4/0.0.0.0/tcp/0"], transports=[Tcp()], config=HostConfig(swarm=swarm)) as host:

        @host.handle("/slow/1")
        async def slow(_: Stream) -> None:
            nonlocal handlers, most_handlers
            handlers += 1
            most_handlers = max(most_handlers, handlers)
            deadline = time.monotonic() + 20
            while (left := deadline - time.monotonic()) > 0:  # it is stubborn: cancelling does not end it
                try:
                    await asyncio.sleep(left)
                except asyncio.CancelledError:
                    continue
            handlers -= 1

        port = str(host.listen_addrs[0]).rsplit("/", 1)[-1]
        print(f"/ip4/127.0.0.1/tcp/{port}/p2p/{host.id}", flush=True)
        gaps = Gaps()
        watching = asyncio.create_task(gaps.run())
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            if line.strip() == b"friend":
                for peer in {connection.remote_peer for connection in host.connections}:
                    host.limits.protect(peer, "friend")
            report = {
                "memory": resident_mib(),
                "cpu": time.process_time(),
                "gap": gaps.worst,
                "lines": lines.count,
                "handlers": most_handlers,
                "pending": host.limits.connections.pending,
                "connections": len(host.connections),
                "refused": sum(host.limits.refusals.counts.values()),
            }
            gaps.worst = 0.0
            print(json.dumps(report), flush=True)
        watching.cancel()
    os._exit(0)  # the stubborn handlers would hold the end


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
