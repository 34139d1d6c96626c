"""Makes docs/pubsub-results.md, and its plots, of the outcomes that are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .attacks import Attack
from .besieging import HEADER
from .dht.outcome import DOCS, Criterion, Outcome
from .plots import distribution, timeline

KEPT = DOCS / "pubsub-results.json"
RESULTS = DOCS / "pubsub-results.md"

_INTRODUCTION = """# Pubsub: results of simulations

Made by `make sim`, in virtual time, on connections without cryptography. Each was made on the day that stands with it.

## How messages spread

Meshes of 8, at least 6 and fewer than 12; 20 connections a node, 25 ms one way. What a figure is: `sim/spread.py`. It
is wanted of 1,000 nodes.

| scenario | wanted | figure | met | made |
|---|---|---|---|---|
"""

_ATTACKS = """
## Attacks

10 messages a second, by honest peers. Wanted: all messages arrive, the victims' p99 is at most two heartbeats (2 s),
and within two minutes the meshes of those who are attacked are honest again: fewer than a twentieth of their links lead
to sybils. It is wanted of 100 honest peers, with 100 and with 400 sybils. Who does what, and how honest peers score:
`sim/attacks.py`, `sim/sybils.py`.

"""


def write(outcomes: Sequence[Outcome], file: Path = RESULTS) -> None:
    """Write the report, and a plot for each scenario and each attack."""
    spreading = [one for one in outcomes if not one.timelines]
    attacks = [one for one in outcomes if one.timelines]
    parts = [_INTRODUCTION]
    for one in spreading:
        parts += [
            _line([one.title, criterion.wanted, criterion.figure, _met([criterion]), one.date])
            for criterion in one.criteria
        ]
    for one in spreading:
        parts.append(f"\n### {one.title}\n\n")
        parts += [_line(one.header), f"|{'---|' * len(one.header)}\n", *map(_line, one.rows)]
        parts.append(_plot(file, one.name, f"{one.title}: {one.axis}", distribution(one.curves, one.axis)))
    if attacks:
        parts += [_ATTACKS, _line([*HEADER, "met", "made"]), f"|{'---|' * (len(HEADER) + 2)}\n"]
        parts += [_line([*row, _met(one.criteria), one.date]) for one in attacks for row in one.rows]
    for title in dict.fromkeys(one.title for one in attacks):
        curves = {name: line for one in attacks if one.title == title for name, line in one.timelines.items()}
        about = f"{title}: per cent of mesh links that lead to sybils"
        parts.append(_plot(file, f"attack {title}", about, timeline(curves, f"{about}, by seconds")))
    if missing := _missing(outcomes):
        parts.append(f"\n## Not run yet at the size that is wanted\n\n{', '.join(missing)}.\n")
    file.write_text("".join(parts))


def _missing(outcomes: Sequence[Outcome]) -> list[str]:
    """What was asked for, and has no figure yet."""
    there = {one.name for one in outcomes if one.timelines or one.title.startswith("1000 ")}
    wanted = {f"{number} {name}": name for number, name in enumerate(("baseline", "burst", "control"), 1)}
    for attack in Attack:
        for sybils in (100, 400):
            wanted[f"attack {attack.value} 100 {sybils}"] = f"{attack.value} with {sybils} sybils"
    return [what for name, what in wanted.items() if name not in there]


def _met(criteria: Sequence[Criterion]) -> str:
    return "yes" if all(criterion.met for criterion in criteria) else "**no**"


def _plot(file: Path, name: str, title: str, svg: str) -> str:
    plot = f"pubsub-{name.replace(' ', '-')}.svg"
    file.with_name(plot).write_text(svg)
    return f"\n![{title}]({plot})\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
