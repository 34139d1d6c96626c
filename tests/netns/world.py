"""The topology: a relay on the Internet, and two peers, each behind a router of its own.

                 relay 11.0.0.10
                        |
    ---- switch: 11.0.0.0/8, delay and loss ----
        |                                |
    NAT 11.1.0.1                     NAT 11.2.0.1
        |                                |
    dialer 192.168.1.2               listener 192.168.2.2

The addresses look public, since nobody punches holes to others. With IPv6 the peers have public addresses behind
stateful firewalls (2a00:1:1::/48, 2a00:1:2::/48), unless these translate too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .kit import WAN, Lab, Namespace, cable
from .nat import Nat, install, install_firewall

RELAY = "11.0.0.10"
RELAY6 = "2a00:1::10"
SIDES = {"dialer": 1, "listener": 2}


@dataclass(frozen=True, slots=True)
class World:
    """Where the parts run."""

    lab: Lab
    relay: Namespace
    dialer: Namespace
    listener: Namespace

    def set_link(self, rtt: float, loss: float = 0.0) -> None:
        """Make a round trip between any two places take `rtt` seconds, and lose a part of the frames on the way."""
        self.lab.set_link(delay=rtt / 2, loss=loss)


def wan(side: str) -> str:
    """The public IPv4 address of a side's NAT."""
    return f"11.{SIDES[side]}.0.1"


def _prefix(side: str) -> str:
    return f"2a00:1:{SIDES[side]}"


@contextmanager
def behind_nats(dialer: Nat | None, listener: Nat | None, *, refuses: bool = False) -> Iterator[World]:
    """A relay, and two peers behind NATs (None: the peer is on the Internet itself)."""
    with Lab() as lab:
        relay = lab.add("relay")
        members = {relay: [f"{RELAY}/8"]}
        hosts: dict[str, Namespace] = {}
        routers: dict[str, tuple[Namespace, Nat]] = {}
        for side, nat in (("dialer", dialer), ("listener", listener)):
            hosts[side] = lab.add(side)
            edge = hosts[side]
            if nat is not None:
                edge = lab.add(f"{side}-nat")
                routers[side] = edge, nat
            members[edge] = [f"{wan(side)}/8"]
        lab.join(members)
        for side, (router, nat) in routers.items():
            cable(router, hosts[side], f"192.168.{SIDES[side]}")
            install(router, nat, refuses=refuses)
        yield World(lab, relay, hosts["dialer"], hosts["listener"])


@contextmanager
def behind_firewalls(*, translates: bool, refuses: bool = False) -> Iterator[World]:
    """The same by IPv6: stateful firewalls, which with `translates` are NAT66 too."""
    with Lab() as lab:
        relay = lab.add("relay")
        hosts = {side: lab.add(side) for side in SIDES}
        routers = {side: lab.add(f"{side}-wall") for side in SIDES}
        edge = {side: f"2a00:1::{number}" for side, number in SIDES.items()}
        lab.join({relay: [f"{RELAY6}/64"], **{router: [f"{edge[side]}/64"] for side, router in routers.items()}})
        for side, router in routers.items():
            inner = f"fd00:{SIDES[side]}" if translates else _prefix(side)
            cable(router, hosts[side], f"192.168.{SIDES[side]}", f"{inner}:0:0" if translates else inner)
            install_firewall(router, refuses=refuses, translates=translates)
            if not translates:
                for other in (relay, *(namespace for name, namespace in routers.items() if name != side)):
                    other.ip("-6", "route", "add", f"{_prefix(side)}::/48", "via", edge[side], "dev", WAN)
        yield World(lab, relay, hosts["dialer"], hosts["listener"])
