"""Which addresses a DHT deals in, and which peers its table takes: the whole Internet's, a local network's, or both.

    WAN    public addresses only: what is private means nothing to strangers
    LAN    all others only
    ANY    both

Whatever the scope, an address is told, and taken, only where it means the same at both ends (`multiaddr.reach`).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from functools import lru_cache

from ...multiaddr import Multiaddr, Reach, may_share, reach_of, reach_of_remote


class Scope(Enum):
    """The network that a DHT spans."""

    WAN = "wan"
    LAN = "lan"
    ANY = "any"

    def admits(self, remote: Multiaddr) -> bool:
        """Whether a peer that answered from `remote` can be in the table."""
        return self is Scope.ANY or (reach_of_remote(remote) is Reach.PUBLIC) is (self is Scope.WAN)

    def contains(self, addr: Multiaddr) -> bool:
        """Whether the network deals in `addr`."""
        return self is Scope.ANY or (reach_of(addr) is Reach.PUBLIC) is (self is Scope.WAN)

    def filter(self, addrs: Iterable[Multiaddr], reach: Reach) -> tuple[Multiaddr, ...]:
        """Those of `addrs` that can be told to, or taken from, a peer that is as far away as `reach`."""
        return tuple(addr for addr in addrs if _passes(self, addr, reach))


@lru_cache(maxsize=8192)  # servers name the same addresses again and again
def _passes(scope: Scope, addr: Multiaddr, reach: Reach) -> bool:
    return scope.contains(addr) and may_share(addr, reach)
