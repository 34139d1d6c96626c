"""Where the time of a new stream and of a connect goes, by layer: `python -m bench.layers`.

    python -m bench.layers                        new streams and connects, over TCP and QUIC
    python -m bench.layers --only stream --transport tcp --count 3000
    python -m bench.layers --functions 20         and the functions that take most

Both hosts are in this process, over the loopback interface, so that one profile has all of it. Each is run four
times: plain, for its time; with the event loop's callbacks counted; with the interpreter's instructions counted; and
under cProfile, whose times by layer are then scaled to the plain time (a profiler makes calls dearer than what they
do, so a layer of many small calls shows a little too large). A built-in function counts for the layer that calls it.
The floor is one byte there and back between two bare protocols of asyncio in the same process.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import statistics
import sys
import time
from asyncio import events
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath
from types import FrameType
from typing import Any

from libp2p.connection import Connection, Stream
from libp2p.host import Host
from libp2p.security.noise import Noise
from libp2p.transports.quic import Quic

ECHO = "/echo/1.0.0"
PAUSE = 0.005  # seconds between two connects: what follows the one must not be timed with the next
WARM_UP = 0.1  # of what is measured
OUTSIDE = {
    "asyncio": "the event loop",
    "selectors.py": "the event loop",
    "aioquic": "aioquic",
    "cryptography": "ciphers",
}
"""Names in the paths of others' code, and the layer that they count for."""

Function = tuple[str, int, str]  # as pstats names one: file, line, name
Work = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Layer:
    """What one layer took."""

    calls: float = 0
    seconds: float = 0
    functions: dict[str, float] = field(default_factory=lambda: defaultdict(float))


@dataclass(slots=True)
class Finding:
    """What one operation took, both ends together."""

    seconds: float
    callbacks: float
    instructions: float
    """Of Python's interpreter: the one figure that is the same on each machine, however busy it is."""
    layers: dict[str, Layer]


async def measure(what: str, transport: str, count: int) -> Finding:
    """`what` is `stream` or `connect`."""
    addr = "/ip4/127.0.0.1/tcp/0" if transport == "tcp" else "/ip4/127.0.0.1/udp/0/quic-v1"
    async with new_host(transport, addr) as listener, new_host(transport) as dialer:
        listener.handle(ECHO)(echo)
        if what == "stream":
            connection = await dialer.connect(listener.addrs[0])
            return await _measured(lambda: new_stream(dialer, connection), count, between=None)
        opened: list[Connection] = []

        async def connect() -> None:
            opened.append(await dialer.connect(listener.addrs[0]))

        async def hang_up() -> None:
            await asyncio.sleep(PAUSE)
            await opened.pop().close()
            await asyncio.sleep(PAUSE)

        return await _measured(connect, count, between=hang_up)


async def floor(count: int) -> float:
    """Seconds that a byte takes there and back between bare protocols of asyncio: the median."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Echo, "127.0.0.1", 0)
    _, asker = await loop.create_connection(_Asker, *server.sockets[0].getsockname())
    times = []
    for _ in range(count):
        start = time.perf_counter()
        await asker.ask()
        times.append(time.perf_counter() - start)
    asker.transport.close()
    server.close()
    return statistics.median(times)


class _Echo(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class _Asker(_Echo):
    answered: asyncio.Future[None]

    async def ask(self) -> None:
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(b"\0")
        await self.answered

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        self.answered.set_result(None)


def new_host(transport: str, *listen_addrs: str) -> Host:
    if transport == "tcp":
        return Host(listen_addrs=listen_addrs, security=[Noise()])
    return Host(listen_addrs=listen_addrs, transports=[Quic()])


async def echo(stream: Stream) -> None:
    async for chunk in stream:
        await stream.write(chunk)


async def new_stream(host: Host, connection: Connection) -> None:
    """Open a stream, offer its protocol, a byte there, a byte back, close."""
    async with await host.new_stream(connection, ECHO) as stream:
        await stream.write(b"\0")
        await stream.readexactly(1)


async def _measured(work: Work, count: int, *, between: Work | None) -> Finding:
    async def many(n: int, profile: cProfile.Profile | None = None) -> list[float]:
        times = []
        for _ in range(n):
            if profile is not None:
                profile.enable()
            start = time.perf_counter()
            await work()
            times.append(time.perf_counter() - start)
            if profile is not None:
                profile.disable()
            if between is not None:
                await between()
        return times

    await many(int(count * WARM_UP) + 1)
    plain = statistics.median(await many(count))
    profile = cProfile.Profile()
    await many(count, profile)
    with counted_callbacks() as callbacks:
        await many(count)
    few = max(1, count // 20)  # it takes its time
    with counted_instructions() as instructions:
        await many(few)
    return Finding(plain, len(callbacks) / count, instructions["all"] / few, _by_layer(profile, count, plain))


@contextmanager
def counted_instructions() -> Iterator[Counter[str]]:
    """Every instruction that Python's interpreter runs in a function called within the block is counted as "all"."""
    ran: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any]:
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            ran["all"] += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield ran
    finally:
        sys.settrace(before)


@contextmanager
def counted_callbacks() -> Iterator[list[None]]:
    """Every callback that an event loop runs within the block is in the list."""
    ran: list[None] = []
    run = events.Handle._run

    def counting(handle: events.Handle) -> None:
        ran.append(None)
        run(handle)

    events.Handle._run = counting  # type: ignore[method-assign]
    try:
        yield ran
    finally:
        events.Handle._run = run  # type: ignore[method-assign]


def _by_layer(profile: cProfile.Profile, count: int, plain: float) -> dict[str, Layer]:
    stats: dict[Function, tuple[int, int, float, float, dict[Function, tuple[int, int, float, float]]]]
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    total = sum(row[2] for row in stats.values())
    layers: dict[str, Layer] = defaultdict(Layer)
    for function, (_, calls, seconds, _, callers) in stats.items():
        if function[0] != "~":
            _add(layers, function, calls, seconds, count, plain / total)
            continue
        for caller, (_, its_calls, its_seconds, _) in callers.items():
            _add(layers, caller, its_calls, its_seconds, count, plain / total)
    return layers


def _add(layers: dict[str, Layer], function: Function, calls: int, seconds: float, count: int, scale: float) -> None:
    layer = layers[layer_of(function[0])]
    layer.calls += calls / count
    layer.seconds += seconds * scale
    layer.functions[f"{PurePath(function[0]).name} {function[2]}"] += seconds * scale


def layer_of(file: str) -> str:
    """The layer that a function of `file` belongs to."""
    parts = PurePath(file).parts
    for name, layer in OUTSIDE.items():
        if name in parts:
            return layer
    if "libp2p" in parts:
        inner = parts[len(parts) - parts[::-1].index("libp2p") :]
        if inner[0] in {"security", "muxers", "transports", "protocols"} and len(inner) > 2:
            return f"{inner[0]}/{inner[1]}"
        return inner[0].removesuffix(".py")
    return "this program" if "bench" in parts else "Python's library"


def show(what: str, transport: str, found: Finding, functions: int) -> None:
    """Print one table."""
    counts = f"{found.callbacks:.1f} callbacks of the loop, {found.instructions:.0f} instructions"
    print(f"\n{what}, {transport}: {found.seconds * 1e6:.0f} us, {counts}\n")
    print("| layer | us | calls |\n| --- | ---: | ---: |")
    for name, layer in sorted(found.layers.items(), key=lambda item: -item[1].seconds):
        if layer.seconds * 1e6 >= 0.05:
            print(f"| {name} | {layer.seconds * 1e6:.1f} | {layer.calls:.0f} |")
    if functions:
        print("\n| function | us |\n| --- | ---: |")
        each = [
            (us, f"{name}: {function}")
            for name, layer in found.layers.items()
            for function, us in layer.functions.items()
        ]
        for seconds, name in sorted(each, reverse=True)[:functions]:
            print(f"| {name} | {seconds * 1e6:.2f} |")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.layers", description="Where the time goes, by layer.")
    parser.add_argument("--only", nargs="+", choices=["stream", "connect"], default=["stream", "connect"])
    parser.add_argument("--transport", nargs="+", choices=["tcp", "quic"], default=["tcp", "quic"])
    parser.add_argument("--count", type=int, help="operations of each run; 2000 streams, 100 connects")
    parser.add_argument("--functions", type=int, default=0, help="how many functions to show")
    options = parser.parse_args()
    print(f"floor: {asyncio.run(floor(options.count or 2000)) * 1e6:.0f} us")
    for what in options.only:
        for transport in options.transport:
            count = options.count or (2000 if what == "stream" else 100)
            show(what, transport, asyncio.run(measure(what, transport, count)), options.functions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
