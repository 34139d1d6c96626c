"""Who uses what of a host's limits, at one moment: a value for programs, and lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Use:
    """How much of one limit is in use."""

    scope: str
    """Whose: "host", "prefix 198.51.100.7/32", "peer 12D3...", "protocol /echo/1.0.0"."""
    limit: str
    """The setting's name."""
    used: int
    value: int | None
    """The limit; None where there is none."""

    def __str__(self) -> str:
        return f"{self.scope}: {self.limit} {self.used}" + ("" if self.value is None else f" of {self.value}")


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `host.limits.explain()` says."""

    uses: tuple[Use, ...]
    """Of the host, then of those prefixes, peers and protocols that use the most."""
    refusals: Mapping[str, int]
    """How often each kind was refused since the host began."""

    def __str__(self) -> str:
        lines = [*map(str, self.uses), *(f"refused: {kind} {count}" for kind, count in self.refusals.items())]
        return "\n".join(lines)
