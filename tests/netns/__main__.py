"""`python -m tests.netns [--quick] [--tries N] [NAME...]`: hole punches on this machine's kernel, in namespaces.

Prints a line for each row, and writes docs/nat-results.md where all was run, or `--write` says so. Exit code 0: all is
met, or the machine can't do it, which is said; 1: something is not met.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import platform
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from . import relaying, runs, scripted
from .kit import REPOSITORY, missing
from .runs import Table

RESULTS = REPOSITORY / "docs" / "nat-results.md"
_MARK = "<!-- {} -->"


def steps(tries: int | None, peers: Sequence[str]) -> dict[str, tuple[str, Callable[[Table], Awaitable[None]]]]:
    """By name, the title of each table, and what fills it."""
    return {
        "kinds": ("Which NATs can be passed", runs.kinds),
        "first": (
            "The first attempt, through NATs that answer a reset",
            partial(runs.first_attempts, tries=tries or runs.TRIES, peers=peers),
        ),
        "lossy": ("Loss", partial(runs.lossy, tries=tries or runs.TIMED, peers=peers)),
        "times": ("From relayed to direct", partial(runs.times, tries=tries or runs.TIMED, peers=peers)),
        "scripted": ("A peer that dials by QUIC from both sides", scripted.both_dial),
        "relay": ("Relaying", relaying.throughput),
    }


def render(table: Table) -> str:
    """A table as Markdown, with the day it was made."""
    day = datetime.datetime.now(datetime.UTC)
    where = f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    lines = [f"## {table.title}", "", f"{day:%Y-%m-%d}, {where}.", ""]
    lines += ["| what | criterion | figure | met |", "|---|---|---|---|"]
    lines += [f"| {row.what} | {row.criterion} | {row.figure} | {'yes' if row.met else 'no'} |" for row in table.rows]
    return "\n".join(lines)


def write(name: str, table: Table) -> None:
    """Put a table into the results, in the place of its last one."""
    mark = _MARK.format(name)
    parts = RESULTS.read_text().split("\n<!-- ")
    parts = [parts[0].rstrip(), *(f"<!-- {part}".rstrip() for part in parts[1:])]
    fresh = f"{mark}\n{render(table)}"
    at = [index for index, part in enumerate(parts) if part.startswith(mark)]
    if at:
        parts[at[0]] = fresh
    else:
        parts.append(fresh)
    RESULTS.write_text("\n\n".join(parts) + "\n")


async def main(arguments: argparse.Namespace) -> int:
    """The exit code."""
    if (lacking := missing()) is not None:
        print(f"-- no namespaces, nothing was tried: {lacking}")
        return 0
    loop, running = asyncio.get_running_loop(), asyncio.current_task()
    assert running is not None
    for number in (signal.SIGINT, signal.SIGTERM):  # so that namespaces go then, too
        loop.add_signal_handler(number, running.cancel)
    met = True
    if arguments.quick:
        table = Table("Two punches", print)
        await runs.quick(table)
        return 0 if all(row.met for row in table.rows) else 1
    known = steps(arguments.tries, arguments.peer)
    for name in arguments.names or known:
        title, fill = known[name]
        table = Table(title, partial(print, flush=True))
        print(f"== {title}", flush=True)
        await fill(table)
        met &= all(row.met for row in table.rows)
        if arguments.write or not arguments.names:
            write(name, table)
    return 0 if met else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.netns", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(steps(None, ()))}; default: all")
    parser.add_argument("--quick", action="store_true", help="two punches only")
    parser.add_argument("--tries", type=int, help="how often each pair is tried")
    parser.add_argument(
        "--peer", nargs="+", choices=runs.PEERS, default=runs.PEERS, help="whom we meet, beside ourselves"
    )
    parser.add_argument("--write", action="store_true", help="put the tables into docs/nat-results.md")
    sys.exit(asyncio.run(main(parser.parse_args())))
