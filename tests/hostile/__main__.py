"""Attack a host, and say how those fare who mean well.

    python -m tests.hostile [--tenth] [--only KIND] [--write FILE]

The victim has one core, if the machine has two, the attackers and the honest peer the other. Honest peers come from
127.0.0.1, attackers from 127.0.0.66: from another /32. With `--tenth` the amounts are a tenth, and only counts and
memory are judged. The exit code says whether all that must hold has held.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libp2p import Host, HostConfig, Libp2pError
from libp2p.host.identify import IdentifyConfig
from libp2p.host.ping import ping
from libp2p.transports.tcp import Tcp

QUIET = HostConfig(identify=IdentifyConfig(automatic=False))
DIAL_TIMEOUT = 5.0


@dataclass(frozen=True)
class Attack:
    """One kind, and what must hold while it goes on."""

    kind: str
    what: str
    amount: int
    max_connections: int = 4096
    descriptors: int = 0
    within: dict[str, float] = field(default_factory=dict)
    """The most that each figure may be: counts and memory."""
    in_time: dict[str, float] = field(default_factory=dict)
    """The same, of times: not judged with `--tenth`."""


ATTACKS = [
    Attack("silent", "silent connections of one address", 10_000, within={"pending": 257, "memory": 150}),
    Attack("resets", "SYN and RST, one connection", 100_000, within={"memory": 150}, in_time={"gap ms": 50}),
    Attack("slow", "streams of a slow handler, reset", 100_000, within={"handlers": 2048, "memory": 150}),
    Attack("pings", "pings of each of 50 connections", 100_000, within={"memory": 200}, in_time={"p99 ms": 100}),
    Attack("strangers", "idle strangers of one address", 1000, max_connections=400, within={"connections": 400}),
    Attack(
        "silent",
        "the same, `ulimit -n 256`",
        10_000,
        descriptors=256,
        within={"lines": 99, "memory": 150, "shut out": 0},
        in_time={"cpu %": 10},
    ),
]


class Victim:
    """The process that is attacked."""

    def __init__(self, process: asyncio.subprocess.Process, addr: str) -> None:
        self._process = process
        self.addr = addr

    @classmethod
    async def start(cls, attack: Attack) -> Victim:
        process = await run("victim", str(attack.max_connections), str(attack.descriptors), core=0)
        assert process.stdout is not None
        return cls(process, (await process.stdout.readline()).decode().strip())

    async def report(self, ask: str = "report") -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(ask.encode() + b"\n")
        found: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return found

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 20)
        except TimeoutError:
            self._process.kill()


async def run(module: str, *arguments: str, core: int) -> asyncio.subprocess.Process:
    """Start a process of this package, on one core where there are several."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.hostile.{module}", *arguments, stdin=pipe, stdout=pipe
    )
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(process.pid, {cores[core % len(cores)]})
    return process


async def dial(addr: str) -> bool:
    """Whether a newcomer gets in."""
    async with Host(transports=[Tcp()], config=QUIET) as newcomer:
        try:
            await asyncio.wait_for(newcomer.connect(addr), DIAL_TIMEOUT)
        except (Libp2pError, OSError):
            return False
    return True


async def honest(friend: Host, addr: str, until: asyncio.Event) -> tuple[list[bool], list[float]]:
    """Newcomers' dials, and a friend's pings in ms (one that fails takes for ever), until the attack is over."""
    dials, pings = [], []
    while not until.is_set() or len(dials) < 5:
        dials.append(await dial(addr))
        try:
            pings += [seconds * 1000 for seconds in await ping(friend, friend.connections[0], count=5, interval=0.01)]
        except (Libp2pError, OSError, IndexError):  # the connection is gone
            pings.append(float("inf"))
        await asyncio.sleep(0.02)
    return dials, pings


async def suffer(attack: Attack, amount: int) -> dict[str, float]:
    """Run one attack; the figures."""
    victim = await Victim.start(attack)
    async with Host(transports=[Tcp()], config=QUIET) as friend:
        await friend.connect(victim.addr)
        await victim.report("friend")
        over, most = asyncio.Event(), await victim.report()
        began = time.monotonic(), most["cpu"]
        process = await run("attacker", attack.kind, victim.addr, str(amount), core=1)
        assert process.stdin is not None
        assert process.stdout is not None
        if attack.kind == "strangers":
            await process.stdout.readline()
            over.set()
        trying = asyncio.create_task(honest(friend, victim.addr, over))
        ending = asyncio.create_task(process.wait())
        while not ending.done() and not trying.done():
            await asyncio.wait({ending, trying}, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            now = await victim.report()
            most = {key: max(value, most[key]) for key, value in now.items()}
            if ending.done():
                over.set()
        dials, pings = await trying
        now = await victim.report()
        most = {key: max(value, most[key]) for key, value in now.items()}
        seconds = time.monotonic() - began[0]
        process.stdin.close()
        await ending
        shut_out = sum([not await dial(victim.addr) for _ in range(5)])
    await victim.end()
    return {
        "shut out": shut_out,
        "dials": sum(dials),
        "failed": len(dials) - sum(dials),
        "p50 ms": statistics.median(pings),
        "p99 ms": sorted(pings)[int(len(pings) * 0.99)],
        "gap ms": most["gap"] * 1000,
        "memory": most["memory"],
        "cpu %": (most["cpu"] - began[1]) / seconds * 100,
        **{key: most[key] for key in ("handlers", "pending", "connections", "refused", "lines")},
    }


def faults(attack: Attack, found: dict[str, float], *, tenth: bool) -> list[str]:
    """What must hold, and has not."""
    limits = {**attack.within, **({} if tenth else attack.in_time)}
    if not attack.descriptors:  # without them nobody gets in; but afterwards all do
        limits["failed"] = found["dials"] * 0.01
    return [f"{name} {found[name]:.0f} > {limit:g}" for name, limit in limits.items() if found[name] > limit]


def row(attack: Attack, amount: int, found: dict[str, float], wrong: list[str]) -> str:
    """A line of the table."""
    figures = [f"{found['dials']:.0f}:{found['failed']:.0f}"]
    figures += [f"{found[name]:.0f}" for name in ("p50 ms", "p99 ms", "gap ms", "memory", "cpu %")]
    figures += [f"{found[name]:.0f}" for name in ("handlers", "pending", "connections", "refused", "lines")]
    return " | ".join(["", f"{amount:,} {attack.what}", *figures, ", ".join(wrong) or "held", ""]).strip()


HEAD = """\
| attack | dials | p50 ms | p99 ms | loop away ms | MiB | CPU % | handlers | pending | connections | refused | lines | |
|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


async def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description="Attack a host.")
    parser.add_argument("--tenth", action="store_true", help="a tenth of the amounts; judge counts and memory only")
    parser.add_argument("--only", help="one kind of attack")
    parser.add_argument("--write", type=Path, help="put the table between the marks of this file")
    options = parser.parse_args()
    lines, bad = [HEAD], 0
    print(HEAD)
    for attack in ATTACKS:
        if options.only in (None, attack.kind):
            amount = attack.amount // 10 if options.tenth and attack.kind != "strangers" else attack.amount
            found = await suffer(attack, amount)
            wrong = faults(attack, found, tenth=options.tenth)
            bad += bool(wrong)
            lines.append(row(attack, amount, found, wrong))
            print(lines[-1], flush=True)
    if options.write:
        marks = r"(<!-- table -->\n).*?(<!-- end -->)"
        table, page = "\n".join(lines) + "\n", options.write.read_text()
        options.write.write_text(re.sub(marks, lambda found: found[1] + table + found[2], page, flags=re.DOTALL))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
