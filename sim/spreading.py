"""The scenarios of `spread`, and what is wanted of each."""

from __future__ import annotations

from dataclasses import replace

from .dht.outcome import Outcome
from .spread import Figures, Scenario, spread

_DEGREE = 20
"""Connections of each node."""

_HEADER = [
    "nodes",
    "messages",
    "size",
    "delivered",
    "p50",
    "p99",
    "shortest p99",
    "duplicates",
    "degree",
    "control",
    "MB",
]


async def baseline(nodes: int) -> Outcome:
    """The baseline of gossipsub-hardening."""
    figures = await spread(Scenario("baseline", nodes, _DEGREE, rate=12, seconds=60, size=2048))
    return quick(Outcome("1 baseline", f"{nodes} nodes, 12 messages of 2 KiB a second for 60 s"), figures)


async def sample(nodes: int) -> Outcome:
    """Three seconds of the baseline, for who has no hour."""
    figures = await spread(Scenario("sample", nodes, _DEGREE, rate=12, seconds=3, size=2048))
    return quick(Outcome("0 sample", f"{nodes} nodes, 12 messages of 2 KiB a second for 3 s"), figures)


async def burst(nodes: int) -> Outcome:
    """Ten times as many messages."""
    figures = await spread(Scenario("burst", nodes, _DEGREE, rate=120, seconds=10, size=2048))
    return quick(Outcome("2 burst", f"{nodes} nodes, 120 messages of 2 KiB a second for 10 s"), figures)


async def control(nodes: int) -> Outcome:
    """How much is said beside messages of 1 KiB."""
    figures = await spread(Scenario("1 KiB", nodes, _DEGREE, rate=12, seconds=20, size=1024))
    outcome = quick(Outcome("3 control", f"{nodes} nodes, 12 messages of 1 KiB a second for 20 s"), figures)
    outcome.want("control bytes at most 25 % of all", f"{figures.control:.1%}", figures.control <= 0.25)
    return outcome


async def large(nodes: int) -> Outcome:
    """What IDONTWANT saves when messages are large."""
    scenario = Scenario("500 KB", nodes, _DEGREE, rate=1, seconds=10, size=500_000)
    with_it = await spread(scenario)
    without = await spread(replace(scenario, name="500 KB, no IDONTWANT", idontwant=False))
    outcome = Outcome(
        "4 idontwant", f"{nodes} nodes, a message of 500 KB a second for 10 s, with IDONTWANT and without"
    )
    for figures in (with_it, without):
        _report(outcome, figures)
    saved = 1 - with_it.total / without.total
    outcome.want("IDONTWANT saves at least 15 % of the bytes", f"{saved:.1%}", saved >= 0.15)
    return outcome


def quick(outcome: Outcome, figures: Figures) -> Outcome:
    """Note what is wanted of small messages; the outcome."""
    _report(outcome, figures)
    p99, shortest = figures.delays[99], figures.shortest[99]
    wanted = f"p99 at most 1.1 times the shortest paths' {shortest * 1000:.0f} ms"
    outcome.want(wanted, f"{p99 * 1000:.0f} ms", p99 <= 1.1 * shortest + 1e-9)
    most = figures.degree - 1.5
    wanted = f"duplicates at most the degree, {figures.degree:.2f}, minus 1.5"
    outcome.want(wanted, f"{figures.duplicates:.2f}", figures.duplicates <= most)
    return outcome


def _report(outcome: Outcome, figures: Figures) -> None:
    """A line of the table, a curve, and what is wanted always."""
    scenario = figures.scenario
    outcome.header, outcome.axis = _HEADER, "ms from publication to arrival"
    outcome.rows.append(
        [
            str(scenario.nodes),
            f"{scenario.rate * scenario.seconds:.0f}",
            f"{scenario.size} B",
            f"{figures.delivered:.4%}",
            f"{figures.delays[50] * 1000:.0f} ms",
            f"{figures.delays[99] * 1000:.0f} ms",
            f"{figures.shortest[99] * 1000:.0f} ms",
            f"{figures.duplicates:.2f}",
            f"{figures.degree:.2f}",
            f"{figures.control:.1%}",
            f"{figures.total / 1e6:.1f}",
        ]
    )
    outcome.curves[scenario.name] = [round(delay * 1000, 3) for delay in figures.delays]
    outcome.want(
        f"{scenario.name}: all arrive", f"{figures.arrived} of {figures.expected}", figures.arrived == figures.expected
    )
