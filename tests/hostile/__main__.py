"""Attack a host, and say how those fare who mean well.

    python -m tests.hostile [--tenth] [--only KIND] [--write FILE]

The victim has one core, if the machine has two, the attackers and the honest peers the other. Honest peers come from
127.0.0.1, attackers from others: from another /32. With `--tenth` the amounts are a tenth, and only counts and memory
are judged. The exit code says whether all that must hold has held.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from libp2p import Host, HostConfig, Libp2pError
from libp2p.host.identify import IdentifyConfig
from libp2p.host.ping import ping

from .attacks import ATTACKS, Attack

QUIET = HostConfig(identify=IdentifyConfig(automatic=False))
DIAL_TIMEOUT = 5.0
BACK = 10.0
"""Seconds after which memory is given back."""

MOST = 40.0
"""Seconds for which an attack goes on."""


class Victim:
    """The process that is attacked."""

    def __init__(self, process: asyncio.subprocess.Process, addrs: dict[str, str]) -> None:
        self._process = process
        self._asking = asyncio.Lock()
        self.addrs = addrs

    @classmethod
    async def start(cls, attack: Attack) -> Victim:
        """One for an attack."""
        process = await run("victim", str(attack.max_connections), str(attack.descriptors), core=0)
        assert process.stdout is not None
        return cls(process, json.loads(await process.stdout.readline()))

    async def report(self, ask: str = "report") -> dict[str, Any]:
        """Its figures."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._asking:
            self._process.stdin.write(ask.encode() + b"\n")
            found: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return found

    async def end(self) -> None:
        """Let it go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 3)
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


async def dial(addr: str) -> float:
    """How many ms it takes a newcomer to get in; for ever, where it does not."""
    async with Host(config=QUIET) as newcomer:
        began = time.monotonic()
        try:
            await asyncio.wait_for(newcomer.connect(addr), DIAL_TIMEOUT)
        except (Libp2pError, OSError):
            return float("inf")
        return (time.monotonic() - began) * 1000


async def honest(friend: Host, addr: str, until: asyncio.Event) -> tuple[list[float], list[float]]:
    """Newcomers' dials and a friend's pings, in ms, until the attack is over."""
    dials, pings = [], []
    while not until.is_set() or len(dials) < 5:
        dials.append(await dial(addr))
        try:
            pings += [seconds * 1000 for seconds in await ping(friend, friend.connections[0], count=5, interval=0.01)]
        except (Libp2pError, OSError, IndexError):  # the connection is gone
            pings.append(float("inf"))
        await asyncio.sleep(0.02)
    return dials, pings


class Course:
    """The most of each figure of the victim's, while it is watched."""

    def __init__(self, victim: Victim, first: dict[str, Any]) -> None:
        self._victim = victim
        self.most = dict(first)
        self.last = first

    async def look(self) -> None:
        """Once."""
        self.last = await self._victim.report()
        self.most = {key: max(value, self.most[key]) for key, value in self.last.items()}


async def suffer(attack: Attack, amount: int) -> dict[str, float]:
    """Run one attack; the figures."""
    victim = await Victim.start(attack)
    addr = victim.addrs[attack.via]
    async with Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"], config=QUIET) as friend:
        await friend.connect(addr)
        for _ in range(3):
            await dial(addr)  # what is loaded once
        await victim.report("friend")
        over, first = asyncio.Event(), await victim.report()
        course, began = Course(victim, first), time.monotonic()
        process = await run("attacker", attack.kind, victim.addrs[attack.attacked or attack.via], str(amount), core=1)
        assert process.stdin is not None
        assert process.stdout is not None
        if attack.is_held:
            await asyncio.wait_for(process.stdout.readline(), 180)
            await course.look()
            over.set()
        trying = asyncio.create_task(honest(friend, addr, over))
        ending = asyncio.create_task(process.wait())
        while not trying.done():
            await asyncio.wait({ending, trying}, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            await course.look()
            if ending.done() or time.monotonic() - began > MOST:
                over.set()
        dials, pings = await trying
        dialed = await victim.report(f"dial {friend.addrs[0]}") if attack.is_held else {"dialed": True}
        await course.look()
        seconds = time.monotonic() - began
        most = course.most
        cpu = (course.last["cpu"] - first["cpu"]) / seconds * 100
        if not ending.done():
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(ending), 1)
            if not ending.done():
                process.kill()
            await ending
        if "still held" in attack.within:
            await asyncio.sleep(BACK)
        lost = float(not friend.connections)
        shut_out = sum([await dial(addr) == float("inf") for _ in range(5)])
        await course.look()
    await victim.end()
    grown = most["memory"] - first["memory"]
    return {
        "shut out": shut_out,
        "lost": lost,
        "not dialed": float(not dialed["dialed"]),
        "dials": len(dials) - dials.count(float("inf")),
        "failed": dials.count(float("inf")),
        "slowest ms": max(dials),
        "p50 ms": statistics.median(pings),
        "p99 ms": sorted(pings)[int(len(pings) * 0.99)],
        "gap ms": most["gap"] * 1000,
        "grown": grown,
        "held": most["held"],
        "still held": course.last["held"],
        "handlers left": course.last["left"],
        "KiB each": grown * 1024 / max(1, most["connections"]),
        "cpu %": cpu,
        **{key: most[key] for key in ("handlers", "pending", "connections", "refused", "lines")},
    }


def faults(attack: Attack, found: dict[str, float], *, tenth: bool) -> list[str]:
    """What must hold, and has not."""
    limits = {**attack.within, **({} if tenth else {**attack.in_time, "failed": found["dials"] * 0.01})}
    if tenth:
        limits["shut out"] = 0
    return [f"{name} {found[name]:.0f} > {limit:.0f}" for name, limit in limits.items() if found[name] > limit]


FIGURES = ("slowest ms", "p50 ms", "p99 ms", "gap ms", "grown", "cpu %", "handlers", "pending", "connections")
"""Beside the dials."""

HEAD = """\
| attack | dials | slowest ms | p50 ms | p99 ms | loop away ms | MiB more | CPU % | handlers | pending | connections |\
 refused | lines | |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def row(attack: Attack, amount: int, found: dict[str, float], wrong: list[str]) -> str:
    """A line of the table."""
    figures = [f"{found['dials']:.0f}:{found['failed']:.0f}"]
    figures += [f"{found[name]:.0f}" for name in (*FIGURES, "refused", "lines")]
    what = f"{amount:,} {attack.what}"
    for name in ("KiB each", "held"):
        if name in attack.within:
            what += f" ({name} {found[name]:.1f})"
    return " | ".join(["", what, *figures, ", ".join(wrong) or "held", ""]).strip()


async def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description="Attack a host.")
    parser.add_argument("--tenth", action="store_true", help="a tenth of the amounts; judge counts and memory only")
    parser.add_argument("--only", action="append", help="one kind of attack; again for more")
    parser.add_argument("--write", type=Path, help="put the table between the marks of this file")
    options = parser.parse_args()
    wanted = [attack for attack in ATTACKS if not options.only or attack.kind in options.only]
    print(HEAD)
    side_by_side = asyncio.Semaphore(4 if options.tenth else 1)  # where times are not judged

    async def one(attack: Attack) -> tuple[str, bool]:
        amount = attack.tenth or attack.amount // 10 if options.tenth else attack.amount
        async with side_by_side:
            began = time.monotonic()
            found = await suffer(attack, amount)
        wrong = faults(attack, found, tenth=options.tenth)
        line = row(attack, amount, found, wrong)
        print(line, flush=True)
        print(f"  {attack.kind}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        return line, bool(wrong)

    results = await asyncio.gather(*map(one, wanted))
    lines, bad = [HEAD, *(line for line, _ in results)], sum(wrong for _, wrong in results)
    if options.write:
        marks = r"(<!-- table -->\n).*?(<!-- end -->)"
        table, page = "\n".join(lines) + "\n", options.write.read_text()
        options.write.write_text(re.sub(marks, lambda found: found[1] + table + found[2], page, flags=re.DOTALL))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
