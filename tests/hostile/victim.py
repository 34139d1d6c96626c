"""The host that is attacked: one process. Prints its address; answers each line on stdin by a line of JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from libp2p import Host, HostConfig, Libp2pError, Multiaddr, PeerId, Stream
from libp2p.connection import DialOptions
from libp2p.swarm import SwarmConfig


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


async def dials(host: Host, addr: str) -> bool:
    """Whether the host reaches another one."""
    try:
        await asyncio.wait_for(host.swarm.connect(None, [Multiaddr(addr)], DialOptions(new_connection=True)), 5)
    except (Libp2pError, OSError):
        return False
    return True


async def main(max_connections: int, descriptors: int) -> None:
    """Serve until stdin ends."""
    if descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    logging.getLogger().addHandler(lines := Lines())
    handlers: Counter[PeerId] = Counter()
    most_handlers = 0  # of one peer
    swarm = SwarmConfig(max_connections=max_connections, high_water=max_connections)
    listen = ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"]
    async with Host(listen_addrs=listen, config=HostConfig(swarm=swarm)) as host:
        own = str(host.listen_addrs[0]).split("/tcp/", 1)[-1]
        listener = await host.swarm.listen(Multiaddr("/ip4/0.0.0.0/tcp/0"))
        port = str(listener.addrs[0]).split("/tcp/", 1)[-1]
        await host.swarm.listen(Multiaddr(f"/ip4/0.0.0.0/tcp/{port}/ws"))  # one port for both

        @host.handle("/slow/1")
        async def slow(stream: Stream) -> None:
            nonlocal most_handlers
            peer = stream.connection.remote_peer
            handlers[peer] += 1
            most_handlers = max(most_handlers, handlers[peer])
            deadline = time.monotonic() + 20
            while (left := deadline - time.monotonic()) > 0:  # it is stubborn: cancelling does not end it
                try:
                    await asyncio.sleep(left)
                except asyncio.CancelledError:
                    continue
            handlers[peer] -= 1

        @host.handle("/unread/1")
        async def unread(_: Stream) -> None:
            await asyncio.sleep(3600)

        here = {str(addr) for addr in host.addrs if "/127.0.0.1/" in str(addr)}
        ways = {"ws": "/ws/", "quic": "/quic-v1/", "tcp": f"/tcp/{own}/p2p/", "shared": f"/tcp/{port}/p2p/"}
        print(json.dumps({way: next(addr for addr in here if mark in addr) for way, mark in ways.items()}), flush=True)
        gaps = Gaps()
        watching = asyncio.create_task(gaps.run())
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            if line.strip() == b"friend":
                for peer in {connection.remote_peer for connection in host.connections}:
                    host.limits.protect(peer, "friend")
            if line.startswith(b"dial "):
                print(json.dumps({"dialed": await dials(host, line[5:].decode().strip())}), flush=True)
                continue
            report = {
                "memory": resident_mib(),
                "cpu": time.process_time(),
                "gap": gaps.worst,
                "lines": lines.count,
                "handlers": most_handlers,
                "left": host.limits.streams.total,
                "held": host.limits.memory / 1024 / 1024,
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
