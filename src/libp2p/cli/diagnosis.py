"""What `libp2p doctor` has found out, in words; and what to change. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..host.events import Reachability
from ..protocols.observed import NatKind

_KINDS = {
    NatKind.UNKNOWN: "unknown, for fewer than two peers have told where they see it",
    NatKind.NONE: "none: peers see the address that it listens on",
    NatKind.CONE: "a NAT that keeps its port, whoever is talked to (cone)",
    NatKind.SYMMETRIC: "a NAT that takes another port for each peer (symmetric)",
}


@dataclass(slots=True)
class Facts:
    """What there is to judge."""

    listened: list[str] = field(default_factory=list)
    observed: list[str] = field(default_factory=list)
    """Where one peer at least sees us."""
    public: list[str] = field(default_factory=list)
    """Where strangers reach us, as AutoNAT servers have proved."""
    reachability: Reachability = Reachability.UNKNOWN
    nat: dict[str, NatKind] = field(default_factory=dict)
    """By transport, tcp and udp."""
    mapped: list[str] = field(default_factory=list)
    mapping: str | None = None
    """The kind of gateway that maps ports."""
    peers: int = 0
    """Peers that we are connected to."""
    relays: dict[str, str | None] = field(default_factory=dict)
    """By relay, what went wrong there; None: we were reached through it."""
    errors: dict[str, str] = field(default_factory=dict)
    """By peer, why it was not reached."""


def findings(facts: Facts) -> Iterator[str]:
    """What is the case."""
    yield f"peers: {facts.peers} connected"
    yield from (f"peers: {addr} was not reached: {error}" for addr, error in facts.errors.items())
    for transport, kind in facts.nat.items():
        yield f"{transport}: {_KINDS[kind]}"
    yield from (f"{addr}: reached from this machine and its network" for addr in facts.listened)
    yield from (f"{addr}: reached from everywhere" for addr in facts.public)
    yield from (
        f"{addr}: seen by peers, not known to be reached" for addr in facts.observed if addr not in facts.public
    )
    yield f"reachability: {facts.reachability.value}"
    if facts.mapping is None:
        yield "port mapping: no gateway answered to PCP, NAT-PMP or UPnP"
    else:
        yield f"port mapping: {facts.mapping}, {', '.join(facts.mapped) or 'nothing mapped'}"
    for relay, error in facts.relays.items():
        yield f"relay {relay}: " + ("works" if error is None else f"does not work: {error}")
    if not facts.relays:
        yield "relays: none was named"
    yield f"hole punching: {_punching(facts)}"


def advice(facts: Facts) -> Iterator[str]:
    """What to change."""
    if not facts.peers:
        yield "No peer was reached: check that this machine may open connections, or name peers that are up."
        return
    if facts.reachability is Reachability.PUBLIC:
        yield "Nothing: strangers reach this host."
        return
    if facts.reachability is Reachability.UNKNOWN:
        yield "Name peers that speak AutoNAT, in two networks at least, to know whether strangers reach this host."
    if facts.mapping is None and any(kind in (NatKind.CONE, NatKind.SYMMETRIC) for kind in facts.nat.values()):
        yield "Turn on UPnP, NAT-PMP or PCP at the router, or forward the port by hand and announce it."
    if NatKind.NONE in facts.nat.values() and facts.reachability is Reachability.PRIVATE:
        yield "There is no NAT, yet strangers do not get in: open the port in the firewall."
    if all(error is not None for error in facts.relays.values()):
        yield "Name a relay (--relay ADDR), or run AutoRelay, so that others reach this host through it."
    if set(facts.nat.values()) == {NatKind.SYMMETRIC}:
        yield "Holes can't be punched to most peers behind NATs: a relay without limits, or IPv6, helps."


def _punching(facts: Facts) -> str:
    kinds = set(facts.nat.values())
    if facts.reachability is Reachability.PUBLIC or NatKind.NONE in kinds:
        return "not needed" if facts.reachability is Reachability.PUBLIC else "possible"
    if NatKind.CONE in kinds:
        return "possible by " + " and ".join(one for one, kind in facts.nat.items() if kind is NatKind.CONE)
    return "hardly possible" if NatKind.SYMMETRIC in kinds else "unknown"
