"""Groups of addresses that one operator may well hold: what bounds how many of a table's peers are one attacker.

    IPv4   the first 16 bits        IPv6   the first 32 bits, which registries give to one network operator

Without a table of the Internet's networks (ASNs) that is what an address tells by itself. Only public addresses have a
group: in a private network everybody is near, and nobody pays for addresses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address
from typing import TypeAlias, TypeVar

from ...multiaddr import Multiaddr, ip_of, is_public

Group: TypeAlias = tuple[int, int]
"""Version and leading bits of an IP address."""

T = TypeVar("T")


@lru_cache(maxsize=8192)
def group_of(addr: Multiaddr) -> Group | None:
    """The group of the address that `addr` begins with; None for one that is not public, and for names."""
    ip = ip_of(addr)
    if ip is None or not is_public(addr):
        return None
    return (4, int(ip) >> 16) if isinstance(ip, IPv4Address) else (6, int(ip) >> 96)


def groups_of(addrs: Iterable[Multiaddr]) -> frozenset[Group]:
    """The groups of all these addresses."""
    return frozenset(group for addr in addrs if (group := group_of(addr)) is not None)


def without_crowds(items: Iterable[T], addrs_of: Callable[[T], Iterable[Multiaddr]], limit: int) -> list[T]:
    """`items` without those of any group that more than `limit` of them share: an answer that names many peers of one
    group is steering us there (as go-libp2p-kad-dht judges answers). `limit` 0: all.
    """
    kept = list(items)
    if not limit:
        return kept
    groups = [groups_of(addrs_of(item)) for item in kept]
    sizes = Counter(group for some in groups for group in some)
    return [item for item, some in zip(kept, groups, strict=True) if all(sizes[group] <= limit for group in some)]
