"""What a scenario comes to: figures, and how they compare with what is wanted; kept as JSON, so that runs on different
days stand in one report.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs"
KEPT = DOCS / "dht-results.json"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing that is wanted."""

    wanted: str
    figure: str
    met: bool


@dataclass(slots=True)
class Outcome:
    """Criteria, a table of figures, and curves: named lists of values, drawn as their distribution."""

    name: str
    title: str
    criteria: list[Criterion] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    axis: str = ""
    """What the curves' values are, with their unit."""
    timelines: dict[str, list[float]] = field(default_factory=dict)
    """Named lists of values, one for each second."""
    date: str = ""

    def want(self, wanted: str, figure: str, met: bool) -> None:
        """Note a criterion."""
        self.criteria.append(Criterion(wanted, figure, met))


def keep(outcome: Outcome, file: Path = KEPT) -> None:
    """Write down an outcome, in the place of the same scenario's last one."""
    kept = {one.name: one for one in kept_outcomes(file)}
    outcome.date = f"{datetime.now(UTC):%Y-%m-%d}"
    kept[outcome.name] = outcome
    file.write_text(json.dumps([asdict(kept[name]) for name in sorted(kept)], indent=1) + "\n")


def kept_outcomes(file: Path = KEPT) -> list[Outcome]:
    """What was written down."""
    if not file.exists():
        return []
    return [
        Outcome(**{**one, "criteria": [Criterion(**criterion) for criterion in one["criteria"]]})
        for one in json.loads(file.read_text())
    ]
