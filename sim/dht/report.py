"""Makes docs/dht-results.md, and its plots, of the outcomes that are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sim.plots import distribution

from .outcome import DOCS, Outcome

RESULTS = DOCS / "dht-results.md"

_INTRODUCTION = """# DHT: results of simulations

Made by `make sim-dht`, in virtual time, on connections without cryptography, in networks that grew by joining. What a
figure is, and what a scenario does: `sim/dht/`. Each was made on the day that stands with it.

## What is wanted

| scenario | wanted | figure | met | made |
|---|---|---|---|---|
"""


def write(outcomes: Sequence[Outcome], file: Path = RESULTS) -> None:
    """Write the report, and a plot for each outcome that has curves."""
    parts = [_INTRODUCTION]
    for one in outcomes:
        parts += [
            _line([one.title, criterion.wanted, criterion.figure, "yes" if criterion.met else "**no**", one.date])
            for criterion in one.criteria
        ]
    for one in outcomes:
        parts.append(f"\n## {one.title}\n\n")
        parts += [_line(one.header), f"|{'---|' * len(one.header)}\n", *map(_line, one.rows)]
        if one.curves:
            plot = f"dht-{one.name}.svg"
            file.with_name(plot).write_text(distribution(one.curves, one.axis))
            parts.append(f"\n![{one.title}: {one.axis}]({plot})\n")
    file.write_text("".join(parts))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
