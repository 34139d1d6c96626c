"""A host in use for a long time, and what becomes of it: `python -m tests.soak [--minutes N] [--peers N] [--write]`.

Two runs of so many minutes. In the first the host is never killed: what it holds must not grow, and what it has
confirmed must be there. In the second it is killed (kill -9) each minute: its peer store must be whole, its port and
the peers that it keeps back within 5 s. The exit code says whether all of that held; `--write` puts the table into
docs/robustness.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

CROWDS = 2  # processes
KEPT = 3
DOCUMENT = Path(__file__).parents[2] / "docs" / "robustness.md"
MARKS = ("<!-- soak -->", "<!-- end of soak -->")


@dataclass
class Victim:
    process: asyncio.subprocess.Process
    addr: str
    reports: list[dict[str, float]] = field(default_factory=list)
    has_kept: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.reports.append(json.loads(line))
            if self.reports[-1]["kept"] == KEPT:
                self.has_kept.set()

    async def until_kept(self, seconds: float) -> None:
        """Wait until it is connected to all peers that it keeps."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.has_kept.wait(), seconds)


@asynccontextmanager
async def started(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of this package; it is gone afterwards."""
    words = [sys.executable, "-m", *command]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def victim(place: Path, *kept: str) -> AsyncIterator[Victim]:
    async with started("tests.soak.victim", str(place), *kept) as process:
        assert process.stdout is not None
        one = Victim(process, (await process.stdout.readline()).decode().strip())
        following = asyncio.create_task(one.follow())
        try:
            yield one
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following


def lost(place: Path) -> tuple[int, int]:
    """Messages that were confirmed, and those among them that were not written down."""
    messages = [set(pieces((place / name).read_bytes())) for name in (f"confirmed-{n}" for n in range(CROWDS))]
    confirmed = set().union(*messages)
    return len(confirmed), len(confirmed - set(pieces((place / "notes").read_bytes())))


def pieces(data: bytes) -> list[bytes]:
    return [data[at : at + 8] for at in range(0, len(data) - 7, 8)]


async def steady(minutes: float, peers: int, place: Path) -> list[tuple[str, str, bool]]:
    """Never killed."""
    async with victim(place) as one, contextlib.AsyncExitStack() as stack:
        for n in range(CROWDS):
            words = ("tests.soak.crowd", one.addr, str(peers // CROWDS), str(place / f"confirmed-{n}"))
            await stack.enter_async_context(started(*words))
        await asyncio.sleep(minutes * 60)
        alive = one.process.returncode is None
        reports = one.reports
    begin = reports[0]["at"]
    # From minute 2 on, or a fifth of a short run: by then all peers are there.
    settled = [one for one in reports if one["at"] - begin >= min(120, minutes * 12)]
    window = max(1, len(settled) // 5)
    before = max(one["memory"] for one in settled[:window])
    after = max(one["memory"] for one in settled[-window:])
    count, missing = lost(place)
    lags = sorted(one["lag"] for one in settled)
    return [
        ("connections at the end", f"{settled[-1]['connections']:.0f} of {peers}", True),
        (
            "memory from the second minute to the end",
            f"{before:.1f} to {after:.1f} MiB",
            after <= max(1.05 * before, before + 4),
        ),
        ("messages confirmed, and lost", f"{count}, {missing}", count > 0 and not missing),
        (
            "the loop late, at worst in a quarter of a second: median, worst",
            f"{lags[len(lags) // 2]:.0f} and {lags[-1]:.0f} ms",
            True,
        ),
        ("still alive", "yes" if alive else "no", alive),
    ]


async def killed(minutes: float, peers: int, place: Path) -> list[tuple[str, str, bool]]:
    """Killed each minute."""
    ports, stores, backs = 0, 0, []
    kills = max(1, round(minutes))
    async with contextlib.AsyncExitStack() as stack:
        kept = []
        for number in range(KEPT):
            (folder := place / f"kept-{number}").mkdir()
            kept.append(await stack.enter_async_context(victim(folder)))
        addr = ""
        for number in range(kills + 1):
            began = time.monotonic()
            async with victim(place, *(one.addr for one in kept)) as one:
                ports += one.addr == addr
                if number == 0:
                    for n in range(CROWDS):
                        words = ("tests.soak.crowd", one.addr, str(peers // CROWDS), str(place / f"confirmed-{n}"))
                        await stack.enter_async_context(started(*words))
                addr = one.addr
                await one.until_kept(30)
                if number:
                    backs.append(time.monotonic() - began)
                stores += not one.reports[-1]["damaged"]
                await asyncio.sleep(minutes * 60 / (kills + 1) if number < kills else 1)
    count, missing = lost(place)
    return [
        ("kills", f"{kills}", True),
        ("same port again", f"{ports} of {kills}", ports == kills),
        ("peer store whole", f"{stores} of {kills + 1}", stores == kills + 1),
        (f"the {KEPT} kept peers back, the slowest time", f"{max(backs):.1f} s", max(backs) <= 5),
        ("messages confirmed, and lost", f"{count}, {missing}", count > 0 and not missing),
    ]


async def main(arguments: argparse.Namespace) -> int:
    lines = [
        f"Run on {datetime.now(UTC):%Y-%m-%d}: {arguments.minutes:g} minutes each, {arguments.peers} peers in {CROWDS} "
        "processes on the same machine, which open and close streams, stop reading, flood, vanish and come back.",
        "",
        "| run | what | | held |",
        "|---|---|---|---|",
    ]
    held = True
    for name, run in (("never killed", steady), ("killed each minute", killed)):
        with tempfile.TemporaryDirectory(prefix="soak-") as place:
            for what, figure, good in await run(arguments.minutes, arguments.peers, Path(place)):
                held &= good
                lines.append(f"| {name} | {what} | {figure} | {'yes' if good else 'no'} |")
                print(lines[-1], flush=True)
    if arguments.write:
        text = DOCUMENT.read_text()
        head, rest = text.split(MARKS[0])
        DOCUMENT.write_text(f"{head}{MARKS[0]}\n" + "\n".join(lines) + f"\n{MARKS[1]}{rest.split(MARKS[1])[1]}")
    return 0 if held else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--peers", type=int, default=1000)
    parser.add_argument("--write", action="store_true")
    sys.exit(asyncio.run(main(parser.parse_args())))
