"""From how far away an address can be used, and so: which addresses of others we follow, and which of ours we tell.

A peer may name any address. Would we dial it, we might knock, for the peer, at doors that are open to this machine
only: services on its loopback interface or in its files, neighbours in its network, a cloud's metadata service. So an
address is taken only where who named it can mean by it the same place as we do:

    heard from a peer at ...      may be taken, and is told there
    /memory                       /memory, loopback, link, private, examples, public
    /unix                         /unix,   loopback, link, private, examples, public
    loopback, this machine        loopback, link, private, examples, public
    link (169.254/16, fe80::/10)  link, private, public
    private networks, CGNAT       private, public
    examples (RFC 5737, 2544 ...) examples, public
    anywhere else, and relayed    public

Rules:
- Deny by default: what is not known to be one of these reaches nowhere, and every component must be one that an address
  of a peer has use for. `/http-path` is not: nobody makes us request a path.
- An IPv4 address embedded in IPv6 (mapped, 6to4, NAT64, ISATAP) is that IPv4 address. Forms that hide it are refused.
- What clouds answer with credentials at reaches nowhere, whatever network it is in.
- A name is judged by what it says, and what it resolves to once more when it is dialed.
- An IPv6 zone means something on one machine only.
- An address of this machine (`own`) is as near as its loopback interface: services trust it as much.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from .multiaddr import Multiaddr

IpAddress: TypeAlias = IPv4Address | IPv6Address


class Reach(IntEnum):
    """How far away an address can be used, the nearest first."""

    MEMORY = 0
    """Within this process."""
    UNIX = 1
    """By a path in the file system."""
    LOOPBACK = 2
    """On this machine."""
    LINK = 3
    """On one link."""
    PRIVATE = 4
    """In a private network, or behind a provider's NAT."""
    EXAMPLE = 5
    """In documentation, benchmarks and tests."""
    PUBLIC = 6
    """From the whole Internet."""


_WIDE: Final = frozenset({Reach.LOOPBACK, Reach.LINK, Reach.PRIVATE, Reach.EXAMPLE, Reach.PUBLIC})
_SHARED: Final[Mapping[Reach, frozenset[Reach]]] = {
    Reach.MEMORY: _WIDE | {Reach.MEMORY},
    Reach.UNIX: _WIDE | {Reach.UNIX},
    Reach.LOOPBACK: _WIDE,
    Reach.LINK: frozenset({Reach.LINK, Reach.PRIVATE, Reach.PUBLIC}),
    Reach.PRIVATE: frozenset({Reach.PRIVATE, Reach.PUBLIC}),
    Reach.EXAMPLE: frozenset({Reach.EXAMPLE, Reach.PUBLIC}),
    Reach.PUBLIC: frozenset({Reach.PUBLIC}),
}

_COMPONENTS: Final = frozenset(
    (
        *("ip4", "ip6", "ip6zone", "dns", "dns4", "dns6", "dnsaddr", "tcp", "udp", "unix", "memory"),
        *("quic", "quic-v1", "webtransport", "certhash", "webrtc-direct", "webrtc", "ws", "wss", "tls", "sni", "noise"),
        *("http", "https", "p2p", "p2p-circuit"),
    )
)
"""What an address of a peer may be made of."""

_HEADS: Final = frozenset({"ip4", "ip6", "ip6zone", "dns", "dns4", "dns6", "dnsaddr", "unix", "memory"})
"""What stands at the beginning of an address only."""

_METADATA: Final = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google, and most others
        "169.254.169.253",  # AWS: DNS
        "169.254.170.2",  # AWS: credentials of containers
        "169.254.170.23",  # AWS: identities of pods
        "168.63.129.16",  # Azure: the machine's agent
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS
        "fd00:ec2::253",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
    )
)


def _networks(reach: Reach | None, *texts: str) -> list[tuple[IPv4Network | IPv6Network, Reach | None]]:
    return [(ip_network(text), reach) for text in texts]


# The IANA special-purpose registries; the first network that an address is in counts.
_IP4: Final = [
    *_networks(Reach.LOOPBACK, "127.0.0.0/8"),
    *_networks(Reach.LINK, "169.254.0.0/16"),
    *_networks(Reach.PRIVATE, "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"),
    *_networks(Reach.EXAMPLE, "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    # this network; protocol assignments; 6to4 relays; multicast; reserved, broadcast
    *_networks(None, "0.0.0.0/8", "192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    *_networks(Reach.PUBLIC, "0.0.0.0/0"),
]
_IP6: Final = [
    *_networks(Reach.LOOPBACK, "::1/128"),
    *_networks(Reach.LINK, "fe80::/10"),
    *_networks(Reach.PRIVATE, "fc00::/7"),
    *_networks(Reach.EXAMPLE, "2001:db8::/32", "3fff::/20"),
    *_networks(None, "2001::/23"),  # protocol assignments: Teredo, ORCHID, ...
    *_networks(Reach.PUBLIC, "2000::/3"),
]
_NAT64, _6TO4 = ip_network("64:ff9b::/96"), ip_network("2002::/16")
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)

# RFC 2606, 6761, 6762, 8375, 9476 and ICANN's .internal: names for special use. None: they lead nowhere.
_NAMES: Final[Mapping[str, Reach | None]] = {
    "localhost": Reach.LOOPBACK,
    "localdomain": Reach.LOOPBACK,
    "local": Reach.PRIVATE,
    "home.arpa": Reach.PRIVATE,
    "internal": Reach.PRIVATE,
    "intranet": Reach.PRIVATE,
    "corp": Reach.PRIVATE,
    "home": Reach.PRIVATE,
    "lan": Reach.PRIVATE,
    "private": Reach.PRIVATE,
    "metadata.google.internal": None,
    "arpa": None,
    "invalid": None,
    "test": None,
    "onion": None,
    "alt": None,
}


def may_share(address: Multiaddr, reach: Reach, *, own: Collection[IpAddress] = ()) -> bool:
    """Whether an address may be taken from a peer that is as far away as `reach` says, or be told to it.

    `own` are this machine's IP addresses, where an address of others is judged.
    """
    found = reach_of(address, own=own)
    if found is None or found not in _SHARED[reach]:
        return False
    return "ip6zone" not in address or reach <= Reach.LOOPBACK


def reach_of_remote(address: Multiaddr, *, own: Collection[IpAddress] = ()) -> Reach:
    """How far away the peer at the other end of a connection is, by its address. Behind a relay, or where nothing
    tells: as far as can be.
    """
    if "p2p-circuit" in address:
        return Reach.PUBLIC
    head = _head_reach(address, own)
    return Reach.PUBLIC if head is None else head


def reach_of(address: Multiaddr, *, own: Collection[IpAddress] = ()) -> Reach | None:
    """From how far away `address` can be used; None where it leads nowhere that a peer could mean.

    Of a relayed address this speaks of the relay: what is behind it, the relay dials.
    """
    names = [component.name for component in address]
    if not _COMPONENTS.issuperset(names):
        return None
    if names[:1] == ["p2p"]:
        return Reach.PUBLIC if "p2p-circuit" in names[1:] else None  # a relay by its id alone
    start = 2 if names[:1] == ["ip6zone"] else 1
    if not _HEADS.isdisjoint(names[start:]):
        return None
    if names[:1] in (["unix"], ["memory"]):
        return _head_reach(address, own) if {"p2p", "p2p-circuit"}.issuperset(names[1:]) else None
    has_port = names[start : start + 1] in (["tcp"], ["udp"]) and any(address[start].raw)
    return _head_reach(address, own) if has_port or names[:1] == ["dnsaddr"] else None


def _head_reach(address: Multiaddr, own: Collection[IpAddress]) -> Reach | None:
    """What the first component says, an IPv6 zone aside."""
    components = address.components
    if len(components) > 1 and components[0].name == "ip6zone":
        components = components[1:]
    if not components:
        return None
    head = components[0]
    match head.name:
        case "ip4" | "ip6":
            return reach_of_ip(ip_address(head.raw), own=own)
        case "dns" | "dns4" | "dns6" | "dnsaddr":
            return _reach_of_name(head.value or "")
        case "unix":
            return Reach.UNIX
        case "memory":
            return Reach.MEMORY
        case _:
            return None


def reach_of_ip(ip: IpAddress, *, own: Collection[IpAddress] = ()) -> Reach | None:
    """From how far away an IP address can be used; None where it leads nowhere that a peer could mean."""
    if ip in _METADATA:
        return None
    if ip in own:
        return Reach.LOOPBACK
    if isinstance(ip, IPv6Address):
        embedded = _embedded(ip)
        if embedded is not None:
            return reach_of_ip(embedded, own=own)
    return _registered(ip)


@lru_cache(maxsize=1024)
def _registered(ip: IpAddress) -> Reach | None:
    return next((reach for network, reach in (_IP4 if ip.version == 4 else _IP6) if ip in network), None)


def _embedded(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    number = int(ip)
    if ip in _NAT64 or (number >> 32 & 0xFFFF_FFFF) in _ISATAP:
        return IPv4Address(number & 0xFFFF_FFFF)
    return IPv4Address(number >> 80 & 0xFFFF_FFFF) if ip in _6TO4 else None


def _reach_of_name(name: str) -> Reach | None:
    labels = name.lower().rstrip(".").split(".")
    for start in range(len(labels)):
        suffix = ".".join(labels[start:])
        if suffix in _NAMES:
            return _NAMES[suffix]
    # A name without a dot is one of the local network, or a number that is read as an IPv4 address.
    return Reach.PUBLIC if len(labels) > 1 and not labels[-1].isdigit() else Reach.PRIVATE
