"""Figures of a running host: what its parts count, said in one form to whoever asks (`Host.figures`).

Rules:
- Nothing is counted for this: a figure is read where a part has it anyway, when somebody asks.
- Names are those of Prometheus without the prefix, base units: bytes, seconds. A counter never goes down.
- Labels have few values: what peers choose is bounded by `Names`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable


class FigureKind(Enum):
    """What becomes of a figure with time."""

    COUNTER = "counter"
    """It only grows, as long as the host lives."""
    GAUGE = "gauge"
    """It is what is so now."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number."""

    name: str
    """Such as `streams`, or `bytes_read` for a counter."""
    help: str
    """What it counts; the same for all figures of a name."""
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    """The same keys for all figures of a name."""
    kind: FigureKind = FigureKind.GAUGE


@runtime_checkable
class Measured(Protocol):
    """A part that has figures."""

    def figures(self) -> Iterable[Figure]:
        """What it counts, now."""
        ...


class Names:
    """The first `limit` names that are asked for, which stay what they are; all others are one."""

    OTHER = "other"

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def of(self, name: str) -> str:
        """`name`, or `other`."""
        if name not in self._known:
            if len(self._known) >= self._limit:
                return self.OTHER
            self._known.add(name)
        return name
