"""In which order, and how far apart, the addresses of a peer are dialed. A pure function.

Policy: happy eyeballs (RFC 8305) with a preference for QUIC, as go-libp2p's default ranker has it.
- Addresses of private networks and of the machine are one group, public ones another; both are dialed side by side.
- Within a group QUIC goes first (WebTransport behind plain QUIC), then TCP and what runs on it, then all others.
- Of the QUIC addresses the first of IPv6 goes at once, the first of IPv4 one step later, the rest two steps later (one,
  where only one family is there). The first is the one with the lowest port: low ports are rather the ones listened on.
- TCP follows by the same rule, beginning one step behind the last QUIC address.
- The others wait until a longer step behind all these, or go at once where they are alone.
- A step is 30 ms in the private group, 250 ms in the public one; the longer one is 100 ms, or 1 s.
- Addresses through a relay are a group of their own, 500 ms behind the public ones, where there are any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..multiaddr import Multiaddr, is_public, is_relayed

PRIVATE_STEP, PRIVATE_LONG_STEP = 0.03, 0.1
PUBLIC_STEP, PUBLIC_LONG_STEP = 0.25, 1.0
RELAY_DELAY = 0.5

_QUIC = ("quic-v1", "quic")


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
    ranked = [
        *_ranked_group(private, PRIVATE_STEP, PRIVATE_LONG_STEP, 0.0),
        *_ranked_group(public, PUBLIC_STEP, PUBLIC_LONG_STEP, 0.0),
        *_ranked_group(relayed, PUBLIC_STEP, PUBLIC_LONG_STEP, RELAY_DELAY if public else 0.0),
    ]
    return sorted(ranked, key=lambda one: one.delay)


def _ranked_group(addrs: Sequence[Multiaddr], step: float, long_step: float, start: float) -> list[Ranked]:
    quic = [addr for addr in addrs if any(name in addr for name in _QUIC)]
    tcp = [addr for addr in addrs if addr not in quic and "tcp" in addr]
    others = [addr for addr in addrs if addr not in quic and addr not in tcp]
    ranked = _staggered(quic, "udp", step, start)
    ranked += _staggered(tcp, "tcp", step, ranked[-1].delay + step if ranked else start)
    behind = ranked[-1].delay + long_step if ranked else start
    return ranked + [Ranked(behind, addr) for addr in others]


def _staggered(addrs: Sequence[Multiaddr], port: str, step: float, start: float) -> list[Ranked]:
    """Addresses of one kind: one of each family, then the rest."""
    ordered = sorted(addrs, key=lambda addr: ("webtransport" in addr, "quic-v1" not in addr, int(addr.get(port) or 0)))
    leaders = [next((a for a in ordered if "ip6" in a), None), next((a for a in ordered if "ip6" not in a), None)]
    first = [addr for addr in leaders if addr is not None]
    rest = [addr for addr in ordered if addr not in first]
    ranked = [Ranked(start + step * place, addr) for place, addr in enumerate(first)]
    return ranked + [Ranked(start + step * len(first), addr) for addr in rest]
