"""`libp2p ping`: round-trip times."""

from __future__ import annotations

import asyncio
import statistics
from contextlib import AsyncExitStack
from typing import Annotated

import typer

from .common import Address, HostOptions, Json, KeyFile, MuxerOption, Output, SecurityOption, run


def ping(
    addr: Address,
    *,
    count: Annotated[int, typer.Option("--count", "-c", min=1, help="How many.")] = 5,
    interval: Annotated[float, typer.Option(min=0, help="Seconds from an answer to the next question.")] = 1.0,
    key: KeyFile = None,
    security: SecurityOption = None,
    muxer: MuxerOption = None,
    as_json: Json = False,
) -> None:
    """Measure the round-trip time to a peer (/ipfs/ping/1.0.0)."""
    run(_ping(HostOptions(key, security, muxer), addr, count, interval, Output(as_json)))


async def _ping(options: HostOptions, addr: str, count: int, interval: float, output: Output) -> None:
    times = []
    async with options.dialer(addr) as host, AsyncExitStack() as stack:
        connection = await host.connect(addr)
        pinger = await stack.enter_async_context(host.ping.open(connection))
        for seq in range(1, count + 1):
            if seq > 1:
                await asyncio.sleep(interval)
            better = await host.connect(connection.remote_peer, dial=False)
            if connection.is_limited and not better.is_limited:
                await stack.aclose()
                connection, pinger = better, await stack.enter_async_context(host.ping.open(better))
                where = str(connection.remote_addr)
                output.line(f"relayed -> direct, {where}", direct=where)
            milliseconds = await pinger.ping() * 1000
            times.append(milliseconds)
            output.line(f"seq={seq} time={milliseconds:.3f} ms", seq=seq, rtt_ms=milliseconds)
    low, middle, high = min(times), statistics.median(times), max(times)
    output.line(
        f"{count} answered, min/median/max = {low:.3f}/{middle:.3f}/{high:.3f} ms",
        summary=True,
        count=count,
        min_ms=low,
        median_ms=middle,
        max_ms=high,
    )
