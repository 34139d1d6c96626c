"""What the doctor says, and what it advises."""

from __future__ import annotations

import pytest

from libp2p.cli.diagnosis import Facts, advice, findings
from libp2p.host.events import Reachability
from libp2p.protocols.observed import NatKind


@pytest.mark.parametrize(
    ("facts", "found", "advised"),
    [
        (Facts(), "peers: 0 connected", "No peer was reached"),
        (Facts(peers=1, reachability=Reachability.PUBLIC), "hole punching: not needed", "Nothing"),
        (Facts(peers=1, nat={"tcp": NatKind.CONE}), "hole punching: possible by tcp", "Turn on UPnP"),
        (Facts(peers=1, nat={"tcp": NatKind.SYMMETRIC}), "hole punching: hardly possible", "Holes can't be punched"),
        (
            Facts(peers=1, nat={"udp": NatKind.NONE}, reachability=Reachability.PRIVATE),
            "udp: none: peers see",
            "open the port in the firewall",
        ),
        (Facts(peers=1, relays={"/x": "refused"}), "relay /x: does not work: refused", "Name a relay"),
        (Facts(peers=1, mapping="pcp", mapped=["11.0.0.1:1"]), "port mapping: pcp, 11.0.0.1:1", "Name peers"),
        (Facts(peers=1, errors={"/y": "gone"}), "peers: /y was not reached: gone", "Name peers"),
    ],
)
def test_findings_and_advice(facts: Facts, found: str, advised: str) -> None:
    assert any(line.startswith(found) for line in findings(facts))
    assert any(advised in line for line in advice(facts))


def test_a_relay_that_works_is_not_asked_for() -> None:
    facts = Facts(peers=1, relays={"/x": None, "/y": "refused"}, observed=["/a"], public=["/a"], listened=["/l"])
    assert "relay /x: works" in list(findings(facts))
    assert "/a: reached from everywhere" in list(findings(facts))
    assert not any(line.startswith("/a: seen") for line in findings(facts))
    assert not any("relay" in line for line in advice(facts))
