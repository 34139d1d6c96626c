"""Run the simulations of pubsub: `python -m sim [NAME...]`; without names all, which takes more than an hour.

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
from .spreading import baseline, burst, control, large, sample

Make = Callable[[], Coroutine[Any, Any, Outcome]]


def scenarios(nodes: int, honest: int) -> dict[str, Make]:
    """Each by its name: how messages spread among so many nodes, and attacks on so many honest ones."""
    attacks = {
        attack.name.lower() + suffix: partial(under, attack, honest, honest * factor)
        for attack in Attack
        for suffix, factor in (("", 1), ("-x4", 4))
    }
    return {
        "sample": partial(sample, nodes),
        "baseline": partial(baseline, nodes),
        "burst": partial(burst, nodes),
        "control": partial(control, nodes),
        "large": partial(large, min(nodes, 100)),
        **attacks,
    }


def main() -> int:
    """Run what was asked for; 1 where a criterion is not met."""
    parser = argparse.ArgumentParser(prog="python -m sim", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(scenarios(0, 0)))
    parser.add_argument("--nodes", type=int, default=1000, help="in a network that is not attacked")
    parser.add_argument("--honest", type=int, default=100, help="peers that are attacked")
    parser.add_argument("--write", action="store_true", help="write docs/pubsub-results.*")
    args = parser.parse_args()
    known = scenarios(args.nodes, args.honest)
    if unknown := set(args.names) - known.keys():
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    missed = 0
    for name in args.names or known:
        started = time.process_time()
        outcome = run(known[name]())
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
