"""What simulated hosts cost: `python -m bench.simulation`, or `make sim-cost`.

    python -m bench.simulation                   both stacks, 500 hosts of 10 connections each
    python -m bench.simulation --hosts 2000 --degree 20 --stack cheap

Each stack is measured in a process of its own. Memory is what the process's resident memory grows by, time is its CPU
time, and both ends of a connection are counted together. Identify has run on all connections. An idle minute is a
virtual one: with keepalive each connection is pinged twice in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

from libp2p.connection import Service, Stream
from libp2p.errors import IncompleteRead
from libp2p.host import Host
from libp2p.muxers.yamux import Yamux, YamuxConfig
from libp2p.testing.cheap import CheapConfig
from libp2p.testing.links import Link
from libp2p.testing.loop import run
from libp2p.testing.simulation import Simulation, Stack
from libp2p.testing.topology import regular

from .peer import resident_bytes

PROTOCOL = "/bench/message/1.0.0"
MESSAGE = 2048
MESSAGES = 20_000
WARM_UP = 20  # hosts made, connected and closed before anything is counted, for what a process makes only once
LIMITS = {
    "cheap": {"host, KiB": 14.0, "connection, KiB": 12.0, "connection, ms": 0.8, "message, us": 20.0},
    "full": {"host, KiB": 14.0, "connection, KiB": 32.0},
}
"""What each must not exceed."""


@dataclass(slots=True)
class Meter:
    """Memory and time since it was made."""

    bytes: int
    seconds: float

    @classmethod
    def start(cls) -> Meter:
        return cls(resident_bytes(), time.process_time())

    def kib(self, count: int) -> float:
        return (resident_bytes() - self.bytes) / count / 1024

    def ms(self, count: int) -> float:
        return (time.process_time() - self.seconds) / count * 1000


async def measure(stack: Stack, hosts: int, degree: int, keepalive: bool) -> dict[str, float]:
    async with network(stack, WARM_UP, keepalive) as warm:
        await warm.connect(regular(WARM_UP, 4, warm.dice))
        await messages(warm, 100)
    meter = Meter.start()
    async with network(stack, hosts, keepalive) as sim:
        found = {"host, ms": meter.ms(hosts), "host, KiB": meter.kib(hosts)}
        pairs = regular(hosts, degree, sim.dice)
        meter = Meter.start()
        await sim.connect(pairs)
        await asyncio.sleep(5)
        found |= {"connection, ms": meter.ms(len(pairs)), "connection, KiB": meter.kib(len(pairs))}
        if sum(len(host.connections) for host in sim.hosts) != 2 * len(pairs):
            raise RuntimeError("connections are missing")
        meter = Meter.start()
        await asyncio.sleep(60)
        found["idle minute, s"] = meter.ms(1) / 1000
        meter = Meter.start()
        await messages(sim, MESSAGES)
        found["message, us"] = meter.ms(MESSAGES) * 1000
        meter = Meter.start()
    found["close a connection, ms"] = meter.ms(len(pairs))
    return found


def network(stack: Stack, hosts: int, keepalive: bool) -> Simulation[Reader]:
    return Simulation(
        hosts,
        Reader,
        seed=1,
        link=Link(latency=0.05),
        stack=stack,
        muxer=Yamux() if keepalive else Yamux(YamuxConfig(keepalive_interval=None)),
        cheap=CheapConfig() if keepalive else CheapConfig(keepalive=None),
    )


class Reader(Service):
    """Reads messages to the end of each stream, and counts them."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.read = 0

    async def start(self) -> None:
        self.serve([PROTOCOL], self._read)

    async def _read(self, stream: Stream) -> None:
        with suppress(IncompleteRead):
            while True:
                await stream.readexactly(MESSAGE)
                self.read += 1


async def messages(sim: Simulation[Reader], count: int) -> None:
    """Send `count` messages on ten open streams, and have them read."""

    async def send(host: Host) -> None:
        async with await host.new_stream(host.connections[0].remote_peer, PROTOCOL) as stream:
            for _ in range(count // 10):
                await stream.write(bytes(MESSAGE))
            await stream.agreed()

    before = sum(reader.read for reader in sim.services)
    await asyncio.gather(*(send(host) for host in sim.hosts[:10]))
    await sim.until(lambda: sum(reader.read for reader in sim.services) == before + count, within=60)


def main() -> int:
    options = _options()
    if options.measure:
        print(json.dumps(run(measure(Stack(options.stack[0]), options.hosts, options.degree, options.keepalive))))
        return 0
    columns = {}
    for stack in options.stack:
        command = [sys.executable, "-m", "bench.simulation", "--measure", "--stack", stack]
        command += ["--hosts", str(options.hosts), "--degree", str(options.degree)]
        command += ["--keepalive" if options.keepalive else "--no-keepalive"]
        columns[stack] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    print(
        f"{options.hosts} hosts, {options.degree} connections each, keepalive {'on' if options.keepalive else 'off'}\n"
    )
    print("| both ends together | " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    missed = 0
    for what in next(iter(columns.values())):
        cells = []
        for stack, values in columns.items():
            limit = LIMITS[stack].get(what)
            missed += limit is not None and values[what] > limit
            cells.append(f"{values[what]:.3g}" + (f" (at most {limit:g})" if limit is not None else ""))
        print(f"| {what} | " + " | ".join(cells) + " |")
    print(f"\n{missed} limits missed." if missed else "\nAll limits kept.")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.simulation", description="What simulated hosts cost.")
    parser.add_argument("--hosts", type=int, default=500)
    parser.add_argument("--degree", type=int, default=10, help="connections of each host, an even number")
    parser.add_argument("--stack", nargs="+", choices=[stack.value for stack in Stack], default=["cheap", "full"])
    parser.add_argument("--keepalive", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
