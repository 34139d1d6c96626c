"""The runner: builds the peers, runs all cells, two at a time, prints the table and writes JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from .build import HERE, BuildError, Command, build, need
from .cell import Result, redis_server, run_cell
from .matrix import CHECKS, IMPLEMENTATIONS, MUXERS, SECURITY, TRANSPORTS, Cell, absent, pairs, stacks

AT_ONCE = 2
RESULTS = HERE.parent / "build" / "interop.json"


def arguments() -> argparse.Namespace:
    """Each option can be given as an environment variable too, so `make interop PEER=go` works."""

    def choice(name: str, names: Iterable[str], what: str) -> None:
        default = [word for word in os.environ.get(name.upper(), "").replace(",", " ").split() if word]
        parser.add_argument(f"--{name}", nargs="+", choices=list(names), default=default, help=what)

    parser = argparse.ArgumentParser(prog="python -m interop", description=__doc__)
    choice("peer", IMPLEMENTATIONS, "only these implementations, with us")
    choice("transport", TRANSPORTS, "only these transports")
    choice("security", SECURITY, "only these secure channels")
    choice("muxer", MUXERS, "only these muxers")
    choice("check", CHECKS, "only these checks")
    parser.add_argument("--among-others", action="store_true", help="pairs without us too: who is to blame?")
    parser.add_argument("--runs", type=int, default=int(os.environ.get("RUNS") or 1), help="run it all so many times")
    parser.add_argument(
        "--json", type=Path, default=HERE.parent / "build" / "interop.json", help="where to write the results"
    )
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[Cell]:
    peers = set(options.peer or IMPLEMENTATIONS)

    def wanted(name: str | None, only: list[str]) -> bool:
        return not only or name in only

    found = [
        Cell(dialer, listener, transport, security, muxer)
        for dialer, listener in pairs(peers, among_others=options.among_others)
        for transport, security, muxer in stacks((dialer, listener))
    ]
    return [
        cell
        for cell in found
        if wanted(cell.transport, options.transport)
        and wanted(cell.security, options.security)
        and wanted(cell.muxer, options.muxer)
        and (not options.peer or {cell.dialer, cell.listener} & peers)
    ]


def build_all(cells: list[Cell]) -> dict[str, Command]:
    """The command of each peer in `cells`. Raises `BuildError` naming everything that is missing."""
    commands: dict[str, Command] = {}
    problems = []
    for implementation in IMPLEMENTATIONS:
        if not any(implementation in {cell.dialer, cell.listener} for cell in cells):
            continue
        start = time.monotonic()
        try:
            commands[implementation] = build(implementation)
        except BuildError as error:
            problems.append(f"{implementation}: {error}")
        if (took := time.monotonic() - start) > 1:
            print(f"built {implementation} in {took:.0f} s", flush=True)
    if problems:
        raise BuildError("\n".join(problems))
    return commands


async def run_all(
    cells: list[Cell], commands: Mapping[str, Command], redis: str, checks: tuple[str, ...]
) -> list[Result]:
    turns = asyncio.Semaphore(AT_ONCE)
    async with redis_server(redis) as address:

        async def one(cell: Cell) -> Result:
            async with turns:
                result = await run_cell(cell, commands, address, checks)
            print(line(result), flush=True)
            return result

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(cell)) for cell in cells]
    return [task.result() for task in tasks]


HEADER = f"{'dialer':6}  {'listener':8}  {'transport':13}  {'security':8}  {'muxer':5}  {'seconds':>7}  result"


def line(result: Result) -> str:
    cell = result.cell
    passed = sum(verdict == "ok" for verdict in result.verdicts.values())
    outcome = "FAILED" if result.failures else f"ok, {passed} checks"
    rows = [
        f"{cell.dialer:6}  {cell.listener:8}  {cell.transport:13}  {cell.security or '-':8}  {cell.muxer or '-':5}  "
        f"{result.seconds:7.1f}  {outcome}"
    ]
    rows += [f"        {check}: {reason}".replace("\n", "\n          ") for check, reason in result.failures.items()]
    if result.said:
        rows.append(f"        {result.said}".replace("\n", "\n          "))
    rows += [f"        {check}: not asked: {reason}" for check, reason in cell.lacking().items()]
    return "\n".join(rows)


def summary(results: list[Result]) -> str:
    involved = {name for result in results for name in (result.cell.dialer, result.cell.listener)}
    rows = ["", "Not there:"]
    rows += [
        f"  {who:5} {name}: {why}" for who in IMPLEMENTATIONS if who in involved for name, why in absent(who).items()
    ]
    failed = [result for result in results if result.failures]
    rows += ["", f"{len(results) - len(failed)} of {len(results)} cells passed"]
    rows += [f"  failed: {result.cell.name}: {', '.join(result.failures)}" for result in failed]
    return "\n".join(rows)


def main() -> int:
    """Returns the exit code: 0 all passed, 1 some cell failed, 2 something is missing."""
    options = arguments()
    cells = chosen(options)
    if not cells:
        print("no such cell: not both have that", file=sys.stderr)
        return 2
    try:
        redis = need("redis-server", "install Debian's package redis-server")
        commands = build_all(cells)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    results: list[Result] = []
    for turn in range(options.runs):
        print(f"\nrun {turn + 1} of {options.runs}\n{HEADER}" if options.runs > 1 else HEADER, flush=True)
        results += asyncio.run(run_all(cells, commands, redis, tuple(options.check) or CHECKS))
    print(summary(results))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps([result.as_json() for result in results], indent=1) + "\n")
    return 1 if any(result.failures for result in results) else 0
