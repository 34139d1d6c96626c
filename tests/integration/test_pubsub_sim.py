"""The simulations of `make sim`, on a small network: what they measure, and what must hold."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from sim.attacks import Attack, Siege, besiege
from sim.plots import draw
from sim.spread import Scenario, spread


async def test_everything_arrives_soon_with_few_copies_and_little_control(tmp_path: Path) -> None:
    scenario = Scenario("small", 30, 10, rate=10, seconds=3, size=1024)
    figures = await spread(scenario)
    assert figures.delivered == 1
    assert figures.percentile(figures.delays, 99) <= 1.1 * figures.percentile(figures.shortest, 99)
    assert figures.duplicates <= figures.degree - 1.5
    assert figures.control <= 0.25
    [(_, name)] = draw([figures], tmp_path)
    assert (tmp_path / name).read_text().startswith("<svg ")


@pytest.mark.parametrize("attack", list(Attack))
async def test_twice_as_many_sybils_delay_little_and_are_shut_out(attack: Attack) -> None:
    outcome = await besiege(Siege(attack, 11, 16, seconds=10, targets=10))
    assert outcome.at_first > 0.5
    assert outcome.at_last == 0
    assert outcome.honest_again is not None
    assert outcome.delivered == 1
    assert outcome.p99 <= 2
