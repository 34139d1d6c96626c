"""The simulations of `make sim`, on small networks: what they measure, and what must hold."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from sim import report
from sim.attacks import Attack, Siege, besiege
from sim.besieging import under
from sim.dht.outcome import Outcome
from sim.spread import Scenario, spread
from sim.spreading import quick

from libp2p.host import Host
from libp2p.testing.simulation import Simulation


async def test_everything_arrives_soon_with_few_copies_and_little_control(tmp_path: Path) -> None:
    figures = await spread(Scenario("small", 50, 10, rate=10, seconds=2, size=1024))
    outcome = quick(Outcome("0 small", "50 nodes"), figures)
    assert [criterion.wanted for criterion in outcome.criteria if not criterion.met] == []
    assert len(outcome.criteria) == 3
    assert figures.control <= 0.25
    file = tmp_path / "results.md"
    report.write([outcome], file)
    assert "pubsub-0-small.svg" in file.read_text()
    assert file.with_name("pubsub-0-small.svg").read_text().startswith("<svg ")


@pytest.mark.parametrize("attack", [Attack.ECLIPSE_ONE, Attack.INVALID], ids=["eclipse", "invalid"])
async def test_as_many_sybils_delay_little_and_are_shut_out(attack: Attack) -> None:
    outcome = await besiege(Siege(attack, 25, 25, targets=5, warm_up=5, seconds=6, at_most=30))
    assert max(outcome.shares) > 0.2
    assert outcome.honest_again is not None
    assert outcome.arrived == outcome.expected
    assert outcome.victims[99] <= 2


async def test_the_report_has_a_plot_for_each_attack(tmp_path: Path) -> None:
    outcome = await under(Attack.ONE_IP, 8, 6)
    file = tmp_path / "results.md"
    report.write([outcome], file)
    assert "| one IP | 8 | 6 |" in file.read_text()
    assert file.with_name("pubsub-attack-one-IP.svg").read_text().startswith("<svg ")


async def test_hosts_that_share_a_machine_have_its_address_and_ports_of_their_own() -> None:
    async with Simulation[Host](4, machine_of=lambda number: min(number, 2)) as sim:
        addrs = [str(host.addrs[0]).rpartition("/p2p/")[0] for host in sim.hosts]
        assert addrs[2:] == ["/ip4/10.0.0.3/tcp/4001", "/ip4/10.0.0.3/tcp/4002"]
        await sim.connect([(0, 2), (0, 3)])
        assert len(sim.hosts[0].connections) == 2
        await sim.remove(2)
        await sim.remove(3)
