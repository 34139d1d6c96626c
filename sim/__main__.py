"""Run the simulations of pubsub: `python -m sim [NAME...]`; without names all, which takes most of an hour.

Each prints what it came to. With `--write` that is kept in docs/pubsub-results.json, and docs/pubsub-results.md is made
anew.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from libp2p.testing.loop import run

from . import report
from .attacks import Attack
from .besieging import under
from .dht.outcome import Outcome, keep, kept_outcomes
from .spreading import baseline, burst, control, idontwant

Make = Callable[[], Coroutine[Any, Any, Outcome]]

SCENARIOS: dict[str, Make] = {
    "baseline": lambda: baseline(1000),
    "burst": lambda: burst(1000),
    "control": lambda: control(1000),
    "idontwant": lambda: idontwant(100),
    **{
        f"{attack.name.lower()}-{sybils}": partial(under, attack, 100, sybils)
        for attack in Attack
        for sybils in (100, 400)
    },
}


def main() -> int:
    """Run what was asked for; 1 where a criterion is not met."""
    parser = argparse.ArgumentParser(prog="python -m sim", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--write", action="store_true", help="write docs/pubsub-results.*")
    args = parser.parse_args()
    if unknown := set(args.names) - SCENARIOS.keys():
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    missed = 0
    for name in args.names or SCENARIOS:
        started = time.process_time()
        outcome = run(SCENARIOS[name]())
        print(f"\n{outcome.title} ({time.process_time() - started:.0f} s)")
        for row in outcome.rows:
            print("   ", "  ".join(row))
        for criterion in outcome.criteria:
            missed += not criterion.met
            print(f"  {'met    ' if criterion.met else 'NOT MET'} {criterion.wanted}: {criterion.figure}", flush=True)
        if args.write:
            keep(outcome, report.KEPT)
            report.write(kept_outcomes(report.KEPT))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
