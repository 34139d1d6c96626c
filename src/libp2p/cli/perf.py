"""`libp2p perf`: how fast bytes go to a peer, and come back."""

from __future__ import annotations

import statistics
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from ..connection import Connection
from ..host import Host
from ..protocols.perf import Direction, measure
from .common import Address, HostOptions, Json, KeyFile, MuxerOption, Output, SecurityOption, run
from .sizes import format_size, parse_size

_PROGRESS_STEP = 16 * 1024 * 1024
"""Bytes between two looks at the progress bar, so that drawing it does not slow down what it shows."""


Size = Annotated[str, typer.Option(metavar="SIZE", help="Bytes: 500, 10MB, 1GiB. 0 leaves it out.")]


def perf(
    addr: Address,
    *,
    upload: Size = "256MiB",
    download: Size = "256MiB",
    runs: Annotated[int, typer.Option(min=1, help="How often; the median counts.")] = 3,
    key: KeyFile = None,
    security: SecurityOption = None,
    muxer: MuxerOption = None,
    as_json: Json = False,
) -> None:
    """Measure throughput on one stream to a peer that serves /perf/1.0.0. MB are 10^6 bytes."""
    try:
        sizes: dict[Direction, int] = {"upload": parse_size(upload), "download": parse_size(download)}
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if not any(sizes.values()):
        raise typer.BadParameter("nothing to upload and nothing to download")
    run(_perf(HostOptions(key, security, muxer), addr, sizes, runs, Output(as_json)))


async def _perf(options: HostOptions, addr: str, sizes: dict[Direction, int], runs: int, output: Output) -> None:
    speeds: dict[Direction, list[float]] = {direction: [] for direction, size in sizes.items() if size}
    async with options.host() as host:
        connection = await host.connect(addr)
        for _ in range(runs):
            for direction, measured in speeds.items():
                size = sizes[direction]
                seconds = await _measure(host, connection, direction, size)
                speed = size / seconds / 1e6
                measured.append(speed)
                output.line(
                    f"{direction:<8} {format_size(size)} in {seconds:.3f} s: {speed:.1f} MB/s",
                    direction=direction,
                    bytes=size,
                    seconds=seconds,
                    mb_per_s=speed,
                )
    medians = {direction: statistics.median(measured) for direction, measured in speeds.items()}
    text = ", ".join(f"{direction} {speed:.1f} MB/s" for direction, speed in medians.items())
    fields = {f"{direction}_mb_per_s": speed for direction, speed in medians.items()}
    output.line(f"median of {runs}: {text}", summary=True, runs=runs, **fields)


async def _measure(host: Host, connection: Connection, direction: Direction, size: int) -> float:
    """Seconds that `size` bytes take in one direction, with a progress bar where somebody watches."""
    columns = (TextColumn(direction), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    shown = 0

    def progress(_: Direction, done: int) -> None:
        nonlocal shown
        if done - shown >= _PROGRESS_STEP:
            shown = done
            bar.update(task, completed=done)

    with bar:
        task = bar.add_task(direction, total=size)
        if direction == "upload":
            return (await measure(host, connection, upload=size, download=0, progress=progress)).upload_seconds
        return (await measure(host, connection, upload=0, download=size, progress=progress)).download_seconds
