"""In which order, and how far apart, the addresses of a peer are dialed. A pure function.

Policy, after RFC 8305 (happy eyeballs) and go-libp2p's dial ranker:
- addresses of private networks and public ones are two groups, dialed side by side;
- within a group the first IPv6 address goes first, the first IPv4 address one step later, all others two steps later
  (one, if only one family is there);
- a step is 30 ms in the private group, 250 ms in the public one;
- addresses through a relay start 500 ms after the others, where there are others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..multiaddr import Multiaddr, is_public, is_relayed

PRIVATE_STEP = 0.03
PUBLIC_STEP = 0.25
RELAY_DELAY = 0.5


class Ranked(NamedTuple):
    """An address, and how many seconds after the first one its dial starts."""

    delay: float
    addr: Multiaddr


def rank(addrs: Iterable[Multiaddr]) -> list[Ranked]:
    """The addresses in the order of their dials; duplicates are dropped."""
    unique = list(dict.fromkeys(addrs))
    relayed = [addr for addr in unique if is_relayed(addr)]
    public = [addr for addr in unique if addr not in relayed and is_public(addr)]
    private = [addr for addr in unique if addr not in relayed and addr not in public]
    start = RELAY_DELAY if public or private else 0.0
    ranked = [
        *_staggered(private, PRIVATE_STEP, 0.0),
        *_staggered(public, PUBLIC_STEP, 0.0),
        *_staggered(relayed, PUBLIC_STEP, start),
    ]
    return sorted(ranked, key=lambda one: one.delay)


def _staggered(addrs: list[Multiaddr], step: float, start: float) -> list[Ranked]:
    first6 = next((addr for addr in addrs if "ip6" in addr), None)
    first4 = next((addr for addr in addrs if "ip6" not in addr), None)
    leaders = [addr for addr in (first6, first4) if addr is not None]
    rest = [addr for addr in addrs if addr not in leaders]
    ranked = [Ranked(start + step * place, addr) for place, addr in enumerate(leaders)]
    return ranked + [Ranked(start + step * len(leaders), addr) for addr in rest]
