"""The simulations of the DHT, on a few servers: that they run, what they count, and what they write."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from sim.dht import report
from sim.dht.__main__ import main
from sim.dht.churn import churn
from sim.dht.lookups import dead_and_silent, healthy, unresponsive
from sim.dht.network import HOUR
from sim.dht.outcome import Outcome, keep, kept_outcomes
from sim.dht.reprovide import sweep
from sim.dht.sybils import besieged


def unmet(outcome: Outcome) -> list[str]:
    return [f"{one.wanted}: {one.figure}" for one in outcome.criteria if not one.met]


async def test_lookups(tmp_path: Path) -> None:
    outcome = await healthy(24, 8, 1)
    assert unmet(outcome) == []
    kept = tmp_path / "results.json"
    keep(outcome, kept)
    keep(outcome, kept)
    assert kept_outcomes(kept) == [outcome]
    outcome.want("more", "less", False)
    report.write([outcome], tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text()
    assert "| hops p90 at most 1 among 24 | 0 | yes |" in text
    assert "| more | less | **no** |" in text
    assert (tmp_path / "dht-lookups-24.svg").read_text().endswith("</svg>\n")


async def test_among_dead_and_silent_servers() -> None:
    outcome = await dead_and_silent(24, 4, 1)
    assert [one for one in unmet(outcome) if "an hour later" in one] == []


async def test_among_unresponsive_servers() -> None:
    assert unmet(await unresponsive(24, 4)) == []


async def test_churn() -> None:
    outcome = await churn("churn", 20, hours=1, period=HOUR, republish=HOUR / 2)
    assert unmet(outcome) == []
    assert int(outcome.rows[0][-1]) >= 9


async def test_sybils() -> None:
    outcome = await besieged(30, 2, crowds=(25,))
    assert [one for one in unmet(outcome) if "found" in one] == []
    assert {"0 sybils", "25 sybils"} == set(outcome.curves)


async def test_a_sweep_that_is_killed_in_between() -> None:
    outcome = await sweep(30, 3000)
    assert unmet(outcome) == []
    assert sum(int(row[1]) for row in outcome.rows) == 3000


def test_the_command_names_its_scenarios(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["sim.dht", "nonsense"])
    with pytest.raises(SystemExit):
        main()
    assert "no such scenario: nonsense" in capsys.readouterr().err
