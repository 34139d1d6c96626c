"""Run the simulations: `python -m sim [--nodes N]`. Figures go to stdout and docs/pubsub-results.md, plots beside it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from libp2p.testing.loop import run

from .plots import draw
from .spread import Figures, Scenario, spread

RESULTS = Path(__file__).parent.parent / "docs" / "pubsub-results.md"

INTRODUCTION = """# Pubsub: results of simulations

Made by `make sim`, in virtual time, on connections without cryptography. What each column is: `sim/spread.py`.

| scenario | nodes | messages | size | delivered | p50 | p99 | shortest p99 | duplicates | degree | control | MB sent |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def scenarios(nodes: int) -> list[Scenario]:
    """The baseline of gossipsub-hardening, on so many nodes; then how IDONTWANT does with large messages."""
    return [
        Scenario("baseline", nodes, 20, rate=12, seconds=60, size=2048),
        Scenario("burst", nodes, 20, rate=120, seconds=10, size=2048),
        Scenario("1 KiB", nodes, 20, rate=12, seconds=20, size=1024),
        Scenario("500 KB", min(nodes, 100), 20, rate=1, seconds=10, size=500_000),
        Scenario("500 KB, no IDONTWANT", min(nodes, 100), 20, rate=1, seconds=10, size=500_000, idontwant=False),
    ]


def row(figures: Figures) -> str:
    """A line of the table."""
    scenario = figures.scenario
    cells = (
        scenario.name,
        str(scenario.nodes),
        f"{scenario.rate * scenario.seconds:.0f}",
        f"{scenario.size} B",
        f"{figures.delivered:.4%}",
        f"{figures.percentile(figures.delays, 50) * 1000:.0f} ms",
        f"{figures.percentile(figures.delays, 99) * 1000:.0f} ms",
        f"{figures.percentile(figures.shortest, 99) * 1000:.0f} ms",
        f"{figures.duplicates:.2f}",
        f"{figures.degree:.2f}",
        f"{figures.control:.1%}",
        f"{(figures.message_bytes + figures.control_bytes) / 1e6:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run all, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--only", nargs="*", help="names of scenarios")
    parser.add_argument("--no-files", action="store_true", help="print only")
    args = parser.parse_args()
    results = []
    for scenario in scenarios(args.nodes):
        if args.only and scenario.name not in args.only:
            continue
        started = time.monotonic()

        async def one(scenario: Scenario = scenario) -> None:
            results.append(await spread(scenario))

        run(one())
        print(row(results[-1]), f"({time.monotonic() - started:.0f} s)", flush=True)
    if not args.no_files:
        plots = draw(results, RESULTS.parent)
        table = "\n".join(map(row, results))
        pictures = "\n\n".join(f"![{title}]({file})" for title, file in plots)
        RESULTS.write_text(f"{INTRODUCTION}{table}\n\n{pictures}\n")


if __name__ == "__main__":
    main()
