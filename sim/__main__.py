"""Run the simulations: `python -m sim [--nodes N]`. Figures go to stdout and to docs/pubsub-results.md, with a plot."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from libp2p.testing.loop import run

from .attacks import Attack, Outcome, Siege, besiege
from .plots import draw
from .spread import Figures, Scenario, spread

RESULTS = Path(__file__).parent.parent / "docs" / "pubsub-results.md"

INTRODUCTION = """# Pubsub: results of simulations

Made by `make sim`, in virtual time, on connections without cryptography. What each column is: `sim/spread.py`.

| scenario | nodes | messages | size | delivered | p50 | p99 | shortest p99 | duplicates | degree | control | MB |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


ATTACKS = """
## Attacks

Sybils that graft all honest peers, and then pass nothing on, or spam. What each column is, and how honest peers score:
`sim/attacks.py`.

| attack | honest | sybils | delivered | p99 | sybils at first | at last | honest again |
|---|---|---|---|---|---|---|---|
"""


def sieges(honest: int) -> list[Siege]:
    """Each attack, with as many sybils as honest peers, and with four times as many."""
    return [
        Siege(attack, honest, honest * factor, seconds=60, targets=min(20, honest))
        for attack in Attack
        for factor in (1, 4)
    ]


def siege_row(outcome: Outcome) -> str:
    """A line of the table of attacks."""
    siege, again = outcome.siege, outcome.honest_again
    cells = (
        siege.attack.value,
        str(siege.honest),
        str(siege.sybils),
        f"{outcome.delivered:.4%}",
        f"{outcome.p99 * 1000:.0f} ms",
        f"{outcome.at_first:.0%}",
        f"{outcome.at_last:.0%}",
        "never" if again is None else f"{again:.0f} s",
    )
    return f"| {' | '.join(cells)} |"


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
    parser.add_argument("--honest", type=int, default=100)
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
    outcomes = []
    for siege in sieges(args.honest):
        if args.only and siege.attack.value not in args.only:
            continue

        async def attacked(siege: Siege = siege) -> None:
            outcomes.append(await besiege(siege))

        run(attacked())
        print(siege_row(outcomes[-1]), flush=True)
    if not args.no_files:
        plots = draw(results, RESULTS.parent)
        table = "\n".join(map(row, results))
        pictures = "\n\n".join(f"![{title}]({file})" for title, file in plots)
        attacks = "\n".join(map(siege_row, outcomes))
        RESULTS.write_text(f"{INTRODUCTION}{table}\n\n{pictures}\n{ATTACKS}{attacks}\n")


if __name__ == "__main__":
    main()
