"""Our own peer, measured by `python -m bench`: TCP, Noise and nothing else (as the others are set up too), yamux,
default settings. With TRANSPORT=quic-v1 in the environment it is QUIC in place of all that; with TRANSPORT=wildcard
both sides listen on all interfaces, by TCP, QUIC and WebSocket, and the dialer takes TCP.

    python -m bench.peer listen [MULTIADDR]          prints {"ready": true, "addrs": [...]}, serves until stdin closes
    python -m bench.peer dial ADDR bench WHAT N ...  any of: connect N, rtt N, upload BYTES, download BYTES, streams N,
                                                     idle N, idle-dialer N, requests-1 N, requests-64 N,
                                                     requests-1000 N; prints a JSON object for each

What is done, timed and printed is what `interop/js/peer.mjs` and `interop/py/peer.py` do, time and print;
`idle-dialer` is ours only. The listener serves perf, `/echo/1.0.0`, `/bench/rss/1.0.0` (collects garbage, then answers
its resident bytes as a decimal number) and `/bench/dial/1.0.0` (connects to the address that is written to it).
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from libp2p.connection import Stream
from libp2p.errors import Libp2pError
from libp2p.host import Host
from libp2p.identity import PeerId
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.perf import Perf, measure
from libp2p.security.noise import Noise

from .command import Line, Wanted, report, run, serve_until_stdin_closes
from .requests import IN_FLIGHT, in_flight, requests

if TYPE_CHECKING:
    from libp2p.host import Request

TRANSPORT = os.environ.get("TRANSPORT", "tcp")
LISTEN_ADDRS = {
    "tcp": ("/ip4/127.0.0.1/tcp/0",),
    "quic-v1": ("/ip4/127.0.0.1/udp/0/quic-v1",),
    "wildcard": tuple(
        ip + rest for rest in ("/tcp/0", "/udp/0/quic-v1", "/tcp/0/ws") for ip in ("/ip4/0.0.0.0", "/ip6/::")
    ),
}[TRANSPORT]
ECHO = "/echo/1.0.0"
RSS = "/bench/rss/1.0.0"
DIAL = "/bench/dial/1.0.0"
REQUESTS = "/bench/requests/1.0.0"
AT_ONCE = 64  # streams at once in `streams`
SETTLE = 0.01  # seconds between two connects: lets identify and the hang-up end, so they are not timed
IDLE_WARM_UP = 50  # connections made before memory is measured for the first time
IDLE_AT_ONCE = 16  # dials side by side while idle connections are made
IDLE_SETTLE = 1.0  # seconds for identify to end on all of them


@dataclass(frozen=True, slots=True)
class Remote:
    """The listener: the address to dial, and the peer id that finds the connection once there is one."""

    addr: Multiaddr
    peer: PeerId


def new_host(*listen_addrs: str) -> Host:
    """One that uses the transport of the environment."""
    if TRANSPORT != "quic-v1":
        return Host(listen_addrs=listen_addrs, security=[Noise()])
    from libp2p.transports.quic import Quic  # noqa: PLC0415 - loaded only where it is used

    return Host(listen_addrs=listen_addrs, transports=[Quic()])


def resident_bytes() -> int:
    """What this process occupies in memory (Linux), garbage collected."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def serve_echo(stream: Stream) -> None:
    async for chunk in stream:
        await stream.write(chunk)


async def serve_rss(stream: Stream) -> None:
    await stream.write(str(resident_bytes()).encode())


async def echo_byte(host: Host, remote: Remote) -> None:
    """Open a stream (agreeing on its protocol), a byte there, a byte back, close."""
    async with await host.new_stream(remote.peer, ECHO) as stream:
        await stream.write(b"\0")
        if await stream.readexactly(1) != b"\0":
            raise RuntimeError("the echo differs from what was sent")


async def connect(host: Host, remote: Remote, count: int) -> Line:
    """The same host, hanging up between; the time until `connect` returns, ready for streams."""
    await (await host.connect(remote.addr)).close()
    times = []
    for turn in range(-(count // 10) - 1, count):
        await asyncio.sleep(SETTLE)
        start = time.perf_counter()
        connection = await host.connect(remote.addr)
        if turn >= 0:
            times.append(time.perf_counter() - start)
        await asyncio.sleep(SETTLE)
        await connection.close()
    return {"connect_ms": statistics.median(times) * 1000}


async def rtt(host: Host, remote: Remote, count: int) -> Line:
    times = []
    for turn in range(-(count // 10) - 1, count):
        start = time.perf_counter()
        await echo_byte(host, remote)
        if turn >= 0:
            times.append(time.perf_counter() - start)
    return {"rtt_ms": statistics.median(times) * 1000}


async def bulk(host: Host, remote: Remote, upload: int, download: int) -> float:
    """MB/s, from before the stream is opened until all bytes have arrived; a tenth of them first, to warm up."""
    await measure(host, remote.peer, upload=upload // 10, download=download // 10)
    start = time.perf_counter()
    await measure(host, remote.peer, upload=upload, download=download)
    return (upload + download) / 1e6 / (time.perf_counter() - start)


async def upload(host: Host, remote: Remote, size: int) -> Line:
    return {"upload_mb_per_s": await bulk(host, remote, size, 0)}


async def download(host: Host, remote: Remote, size: int) -> Line:
    return {"download_mb_per_s": await bulk(host, remote, 0, size)}


async def streams(host: Host, remote: Remote, count: int) -> Line:
    await in_flight(count // 10, AT_ONCE, lambda: echo_byte(host, remote))
    start = time.perf_counter()
    await in_flight(count, AT_ONCE, lambda: echo_byte(host, remote))
    return {"streams_per_s": count / (time.perf_counter() - start), "in_flight": AT_ONCE}


async def remote_memory(host: Host, remote: Remote) -> int:
    async with await host.new_stream(remote.peer, RSS) as stream:
        return int(await stream.read())


async def growth(host: Host, remote: Remote, count: int, connect_one: Callable[[], Awaitable[object]]) -> Line:
    """How the memory of the remote process grows with `count` connections."""

    async def grow(more: int) -> int:
        await in_flight(more, IDLE_AT_ONCE, connect_one)
        await asyncio.sleep(IDLE_SETTLE)
        return await remote_memory(host, remote)

    before, after = await grow(IDLE_WARM_UP), await grow(count)
    return {"rss_before": before, "rss_after": after, "bytes_per_connection": (after - before) / count}


async def idle(host: Host, remote: Remote, count: int) -> Line:
    """Each connection from a host and an identity of its own, all in this process; best given a fresh listener."""
    async with AsyncExitStack() as stack:
        others: list[Host] = []

        async def connect_one() -> None:
            other = await stack.enter_async_context(new_host())
            others.append(other)
            await other.connect(remote.addr)

        result = await growth(host, remote, count, connect_one)
        return {"open": sum(len(other.connections) == 1 for other in others), **result}


async def idle_dialer(host: Host, remote: Remote, count: int) -> Line:
    """The same for the side that dials: the remote peer connects to hosts in this process."""
    async with AsyncExitStack() as stack:
        others: list[Host] = []

        async def connect_one() -> None:
            other = await stack.enter_async_context(new_host(*LISTEN_ADDRS))
            others.append(other)
            async with await host.new_stream(remote.peer, DIAL) as stream:
                await stream.write(str(other.addrs[0]).encode())
                await stream.close_write()
                await stream.read()

        result = await growth(host, remote, count, connect_one)
        return {"open": sum(len(other.connections) == 1 for other in others), **result}


def requests_in_flight(width: int) -> Callable[[Host, Remote, int], Awaitable[Line]]:
    return lambda host, remote, count: requests(lambda data: host.request(remote.peer, REQUESTS, data), width, count)


BENCHES: dict[str, Callable[[Host, Remote, int], Awaitable[Line]]] = {
    bench.__name__.replace("_", "-"): bench for bench in (connect, rtt, upload, download, streams, idle, idle_dialer)
} | {what: requests_in_flight(width) for what, width in IN_FLIGHT.items()}


async def listen(*address: str) -> None:
    async with new_host(*(address or LISTEN_ADDRS)) as host, Perf(host):
        host.handle(ECHO)(serve_echo)
        host.handle(RSS)(serve_rss)

        if hasattr(host, "respond"):  # which older revisions of ours lack

            @host.respond(REQUESTS)
            async def echo_request(request: Request) -> bytes:
                return request.data

        @host.handle(DIAL)
        async def serve_dial(stream: Stream) -> None:
            await host.connect((await stream.read()).decode())

        await serve_until_stdin_closes(*(str(addr) for addr in host.addrs))


async def dial(address: str, wanted: Wanted) -> None:
    target = Multiaddr(address)
    async with new_host(*(LISTEN_ADDRS if TRANSPORT == "wildcard" else ())) as host:
        for what, count in wanted:
            connection = await host.connect(target)
            report(what, count, await BENCHES[what](host, Remote(target, connection.remote_peer), count))


if __name__ == "__main__":
    errors = (Libp2pError, OSError, ExceptionGroup)
    sys.exit(run("bench.peer", listen=listen, dial=dial, benches=BENCHES, errors=errors))
