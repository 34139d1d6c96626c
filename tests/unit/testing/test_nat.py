"""The NATs of the simulated network: what they map, whom they let in, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from libp2p.errors import DialError
from libp2p.host import Host
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.security.noise import Noise
from libp2p.testing.nat import Depends, Mappings, Nat
from libp2p.testing.network import Link, Network

INNER, HERE, SAME_HOST, THERE = ("192.168.0.2", 1), ("11.0.0.1", 1), ("11.0.0.1", 2), ("12.0.0.1", 1)


@pytest.mark.parametrize(
    ("mapping", "ports"), [(Depends.NOTHING, 1), (Depends.ADDRESS, 2), (Depends.ADDRESS_AND_PORT, 3)]
)
def test_what_a_mapping_depends_on(mapping: Depends, ports: int) -> None:
    nat = Mappings(mapping, Depends.NOTHING, 60.0)
    assert len({nat.outbound(INNER, remote, 0.0) for remote in (HERE, SAME_HOST, THERE)}) == ports
    assert nat.outbound(INNER, HERE, 1.0) == nat.outbound(INNER, HERE, 2.0)
    assert nat.outbound(("192.168.0.3", 1), HERE, 2.0) != nat.outbound(INNER, HERE, 2.0)


@pytest.mark.parametrize(
    ("filtering", "let_in"),
    [
        (Depends.NOTHING, [True, True, True]),
        (Depends.ADDRESS, [True, True, False]),
        (Depends.ADDRESS_AND_PORT, [True, False, False]),
    ],
)
def test_whom_it_lets_in_and_for_how_long(filtering: Depends, let_in: list[bool]) -> None:
    nat = Mappings(Depends.NOTHING, filtering, 60.0)
    port = nat.outbound(INNER, HERE, 0.0)
    assert [nat.inbound(port, remote, 59.0) == INNER for remote in (HERE, SAME_HOST, THERE)] == let_in
    assert nat.inbound(port, HERE, 60.0) is None
    assert nat.inbound(port + 1, HERE, 0.0) is None
    assert nat.outbound(INNER, HERE, 59.0) == port  # what is used is kept
    assert nat.inbound(port, HERE, 100.0) == INNER
    assert nat.outbound(INNER, HERE, 200.0) != port


async def test_dials_through_it() -> None:
    async with Network(link=Link(latency=0.02)) as network:
        nat, refusing = Nat(network, "11.0.0.1"), Nat(network, "12.0.0.1", refuses=True)
        inner = nat.node("192.168.0.2")
        with pytest.raises(ConnectionRefusedError, match="lets nobody in"):
            await network.connect(inner, Multiaddr("/ip4/12.0.0.1/tcp/1"))
        outer = refusing.node("192.168.1.2")
        for target in ("/ip4/11.0.0.1/tcp/1", "/ip4/192.168.0.2/tcp/1"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(10):
                    await network.connect(outer, Multiaddr(target))
        nat.node("192.168.0.3")
        with pytest.raises(ConnectionRefusedError, match="nobody listens"):
            await network.connect(inner, Multiaddr("/ip4/192.168.0.3/tcp/1"))
        with pytest.raises(ValueError, match="addresses of its own"):
            nat.node("192.168.0.2")


async def test_a_dial_through_a_nat_to_a_port_where_nobody_listens_is_refused_and_leaves_nothing() -> None:
    async with Network(link=Link(latency=0.02)) as network:
        node = Nat(network, "11.0.0.1").node("192.168.0.2")
        network.node("20.0.0.1")
        async with Host(PrivateKey.generate(), transports=[node.transport()], security=[Noise()]) as host:
            for _ in range(3):
                with pytest.raises(DialError, match="nobody listens"):
                    await host.connect("/ip4/20.0.0.1/tcp/4001")
