"""`python -m bench`: measure all implementations in turn, round by round, and print one table. See README.md.

With `--against REVISION` it is ours beside ours as it was then.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from . import table
from .forwarding import forwarded_per_second
from .measure import MeasurementError, between_peers, floor_speed, import_seconds
from .rivals import IMPLEMENTATIONS, Implementation, Prepare, SetupError, ours, revision
from .table import AMONG_OTHERS, PAIRS, ROWS, Plan, Row

QUICK = 10  # how much less `--quick` measures
OPEN_FILES = 8192  # that a process with 1,000 connections may want, in plenty


def main() -> int:
    options = _options()
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = OPEN_FILES if hard_limit == resource.RLIM_INFINITY else min(OPEN_FILES, hard_limit)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard_limit))
    failures: list[str] = []
    if options.against:
        plan = table.against(options.against)
        implementations = _prepare({"ours": ours, options.against: partial(revision, options.against)}, failures)
        if failures:
            sys.exit("\n".join(failures))
    else:
        plan, implementations = AMONG_OTHERS, _prepare(IMPLEMENTATIONS, failures)
    machine = _machine(implementations)
    results: dict[str, list[dict[str, float]]] = {what: [] for what in options.only}
    rounds = 1 if options.quick else options.rounds
    for number in range(rounds):
        for row in plan.rows:
            if row.what in results and (row.rounds is None or number < row.rounds):
                results[row.what].append(_round(plan, row, number, implementations, options.quick, failures))
    print("\n".join(f"{name}: {value}" for name, value in machine.items()))
    print(f"rounds: {rounds}{', a tenth of the amounts (--quick)' if options.quick else ''}\n")
    print(table.render(plan, results))
    print("\nThe values are the best of all rounds. The ratios say how many times better ours is: for each round the")
    print("values of that same round are compared, and the median of these ratios is printed.\n")
    misses = table.missed(plan, results)
    print("\n".join(f"Target missed: {miss}" for miss in misses) or "All targets met.")
    for failure in failures:
        print(f"Failed: {failure}", file=sys.stderr)
    if options.json:
        data = {"machine": machine, "quick": options.quick, "rounds": results, "missed": misses, "failed": failures}
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    names = [row.what for row in ROWS]
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, beside other implementations.")
    parser.add_argument("--rounds", type=int, default=5, help="how often all is measured (default: 5)")
    parser.add_argument("--against", metavar="REVISION", help="measure ours, and ours as it was at that git revision")
    parser.add_argument("--quick", action="store_true", help="one round, of a tenth of the amounts")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="ROW", help=", ".join(names))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single value there")
    return parser.parse_args()


def _prepare(wanted: Mapping[str, Prepare], failures: list[str]) -> dict[str, Implementation]:
    ready = {}
    for name, prepare in wanted.items():
        try:
            ready[name] = prepare()
        except SetupError as error:
            failures.append(f"{name}: {error}")
    return ready


def _round(
    plan: Plan,
    row: Row,
    number: int,
    implementations: Mapping[str, Implementation],
    quick: bool,
    failures: list[str],
) -> dict[str, float]:
    """The value of each column, measured one right after the other; every other round backwards."""
    values = {}
    order = [column for column in plan.columns if column in row.counts]
    for column in order if number % 2 == 0 else reversed(order):
        count = max(1, row.counts[column] // (QUICK if quick else 1))
        try:
            if column.startswith("floor"):
                value = floor_speed(column.removeprefix("floor "), count)
            elif not implementations.keys() >= set(pair := PAIRS.get(column, (column, column))):
                continue
            elif row.what == "import":
                value = import_seconds(implementations[column])
            elif row.what == "pubsub":
                value = forwarded_per_second(implementations[column], count)
            else:
                dialer, listener = (implementations[name] for name in pair)
                value = between_peers(dialer, listener, row.transport, row.bench, count)[row.key]
        except MeasurementError as error:
            failures.append(f"{row.what} of {column}, round {number + 1}: {error}")
            continue
        values[column] = value * row.scale
        print(f"round {number + 1}: {row.title}: {column}: {values[column]:.{row.digits}f}", file=sys.stderr)
    return values


def _machine(implementations: Mapping[str, Implementation]) -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    models = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
    )
    model = models[0].partition(": ")[2] if models else platform.machine()
    return {
        "machine": f"{os.cpu_count()} cores of {model}, {platform.system()} {platform.release()}",
        "load": f"{os.getloadavg()[0]:.2f} before",
        "python": platform.python_version(),
        "measured": ", ".join(one.version for one in implementations.values()),
    }


if __name__ == "__main__":
    sys.exit(main())
