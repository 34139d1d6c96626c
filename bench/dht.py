"""A DHT server under load: `python -m bench.dht [--seconds N]`.

1,000 requests a second from 200 peers, each on a new stream, over TCP, Noise and yamux on loopback. The server is a
process of its own, its table holds 300 peers, and every answer names 20. How late its event loop is, is measured each
5 ms: what waits longer than that holds up everything that the process does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from contextlib import AsyncExitStack

from libp2p.connection import Connection
from libp2p.host import Host
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr, Reach
from libp2p.protocols.kad import KadConfig, KadDht, Mode
from libp2p.protocols.kad.wire import Message, MessageType, decode, encode

PROTOCOL = "/bench/kad/1.0.0"
PEERS, RATE, KNOWN = 200, 1000, 300
TICK = 0.005
MAX_LAG = 0.05
"""Seconds that p99 of the loop's lag must not exceed."""


async def serve() -> None:
    """Serve until stdin closes; then tell how late the loop was."""
    config = KadConfig(protocol=PROTOCOL, mode=Mode.SERVER)
    async with Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"]) as host, KadDht(host, config) as dht:
        for n in range(KNOWN):
            peer = PrivateKey.generate().peer_id
            addr = Multiaddr(f"/ip4/127.0.{n // 200}.{n % 200 + 1}/tcp/4001")
            host.peerstore.add_addrs(peer, [addr], 3600.0, told=Reach.LOOPBACK)
            dht.table.add(peer, None, asyncio.get_running_loop().time())
        lags: list[float] = []
        watching = asyncio.create_task(_watch(lags))
        print(json.dumps({"addr": str(host.addrs[0])}), flush=True)
        began = time.process_time()
        await asyncio.to_thread(sys.stdin.read)
        cpu = time.process_time() - began
        watching.cancel()
        answered = dht._node.server.answered[MessageType.FIND_NODE]
    cuts = statistics.quantiles(lags, n=1000)
    result = {"cpu": cpu / max(1, answered), "p50": cuts[499], "p99": cuts[989], "max": max(lags)}
    print(json.dumps(result), flush=True)


async def _watch(lags: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(TICK)
        lags.append(max(0.0, time.perf_counter() - began - TICK))


async def ask(addr: str, seconds: float) -> list[float]:
    """Ask from all peers, as often as wanted; how long each request took."""
    took: list[float] = []
    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(Host()) for _ in range(PEERS)]
        connections = [await host.connect(addr) for host in hosts]
        await asyncio.sleep(1)  # identify
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds

        async def work(number: int) -> None:
            when = loop.time() + number / RATE
            while when < end:
                await asyncio.sleep(when - loop.time())
                when += PEERS / RATE
                began = time.perf_counter()
                await _request(hosts[number], connections[number])
                took.append(time.perf_counter() - began)

        async with asyncio.TaskGroup() as group:
            for number in range(PEERS):
                group.create_task(work(number))
    return took


async def _request(host: Host, connection: Connection) -> None:
    stream = await host.new_stream(connection, PROTOCOL)
    await stream.write_message(encode(Message(MessageType.FIND_NODE, time.perf_counter_ns().to_bytes(32, "big"))))
    answer = decode(await stream.read_message(limit=1 << 20, what="answer"))
    if len(answer.closer) != 20:
        raise RuntimeError(f"the answer names {len(answer.closer)} peers")
    await stream.close()


def main() -> int:
    """Run the server, ask it, and say what came of it; 1 where the loop was too late."""
    parser = argparse.ArgumentParser(prog="python -m bench.dht", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve())
        return 0
    command = [sys.executable, "-m", "bench.dht", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin
        assert server.stdout
        addr = json.loads(server.stdout.readline())["addr"]
        took = asyncio.run(ask(addr, args.seconds))
        server.stdin.close()
        lag = json.loads(server.stdout.readline())
    cuts = statistics.quantiles(took, n=100)
    print(f"{len(took) / args.seconds:.0f} requests/s from {PEERS} peers, each on a new stream, for {args.seconds:g} s")
    print(f"answers    p50 {cuts[49] * 1000:6.1f} ms   p99 {cuts[98] * 1000:6.1f} ms")
    print(
        f"loop lag   p50 {lag['p50'] * 1000:6.1f} ms   p99 {lag['p99'] * 1000:6.1f} ms   max {lag['max'] * 1000:.1f} ms"
    )
    print(f"the server takes {lag['cpu'] * 1000:.2f} ms of CPU for a request, connecting included")
    met = lag["p99"] < MAX_LAG
    print(f"p99 of the lag under {MAX_LAG * 1000:g} ms: {'yes' if met else 'NO'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
