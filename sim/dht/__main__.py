"""Run the simulations of the DHT: `python -m sim.dht [NAME...]`; without names all but those of thousands of servers.

Each prints what it came to. With `--write` that is kept in docs/dht-results.json, and docs/dht-results.md made anew.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from libp2p.testing.loop import run

from . import report
from .churn import churn
from .lookups import dead_and_silent, healthy, unresponsive
from .network import HOUR
from .outcome import Outcome, keep, kept_outcomes
from .reprovide import sweep
from .sybils import besieged

SCENARIOS: dict[str, Callable[[], Coroutine[Any, Any, Outcome]]] = {
    "dead": lambda: dead_and_silent(1000, 150, 3),
    "unresponsive": lambda: unresponsive(200, 100),
    "churn-day": lambda: churn("churn-day", 200, hours=48, period=24 * HOUR, republish=22 * HOUR),
    "churn-2h": lambda: churn("churn-2h", 200, hours=48, period=2 * HOUR, republish=4 * HOUR),
    "sybils": lambda: besieged(500, 40),
    "reprovide": lambda: sweep(100, 100_000),
    "large": lambda: healthy(5000, 200, 4),
}
SLOW = ("large",)


def main() -> int:
    """Run what was asked for; 1 where a criterion is not met."""
    parser = argparse.ArgumentParser(prog="python -m sim.dht", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--write", action="store_true", help="write docs/dht-results.*")
    args = parser.parse_args()
    if unknown := set(args.names) - SCENARIOS.keys():
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    missed = 0
    for name in args.names or [one for one in SCENARIOS if one not in SLOW]:
        started = time.process_time()
        outcome = run(SCENARIOS[name]())
        print(f"\n{outcome.title} ({time.process_time() - started:.0f} s)")
        for row in outcome.rows:
            print("   ", "  ".join(cell for cell in row if cell))
        for criterion in outcome.criteria:
            missed += not criterion.met
            print(f"  {'met    ' if criterion.met else 'NOT MET'} {criterion.wanted}: {criterion.figure}", flush=True)
        if args.write:
            keep(outcome)
            report.write(kept_outcomes())
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
