"""Addresses of the Internet in multiaddrs: host and port, and what kind of address it is.

All functions look at the head of the address: an IP address, with or without its zone in front, or a name.

    /ip4/198.51.100.7/tcp/4001   /ip6zone/eth0/ip6/fe80::1/udp/4001/quic-v1   /dns4/example.com/tcp/443/wss

The ranges follow the IANA special-purpose registries as go-multiaddr reads them. An IPv4 address mapped into IPv6
(::ffff:10.0.0.1) counts as the IPv4 address that it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, NamedTuple, TypeAlias

from ..ground_errors import InvalidMultiaddr
from .multiaddr import Component, Multiaddr

Family: TypeAlias = Literal["ip4", "ip6", "dns", "dns4", "dns6"]
Transport: TypeAlias = Literal["tcp", "udp"]
_Networks: TypeAlias = tuple[IPv4Network | IPv6Network, ...]


def _networks(*texts: str) -> _Networks:
    return tuple(ip_network(text) for text in texts)


_PRIVATE = _networks(
    "127.0.0.0/8",  # loopback
    "10.0.0.0/8",
    "100.64.0.0/10",  # carrier-grade NAT
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",  # link-local
    "::1/128",
    "fc00::/7",  # unique local
    "fe80::/10",  # link-local
)
_UNROUTABLE = _networks(
    "0.0.0.0/8",
    "192.0.0.0/26",
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # 6to4 relays, gone
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",
    "2001:db8::/32",  # documentation
)
_PUBLIC6 = _networks(
    "2000::/3",  # global unicast
    "64:ff9b::/96",  # NAT64 (RFC 6052): stands for a public IPv4 address
    "64:ff9b:1::/48",  # NAT64 (RFC 8215): may do so
)

_FAMILIES: Mapping[str, Family] = {"ip4": "ip4", "ip6": "ip6", "dns": "dns", "dns4": "dns4", "dns6": "dns6"}
_TRANSPORTS: Mapping[str, Transport] = {"tcp": "tcp", "udp": "udp"}
_NAMES = ("dns", "dns4", "dns6", "dnsaddr")

# RFC 6761, RFC 6762, RFC 8375: names for special use, which lead nowhere, or to the local network.
_SPECIAL_NAMES = ("localhost", "invalid", "test", "local", "home.arpa", "in-addr.arpa", "ip6.arpa")


class HostPort(NamedTuple):
    """What a socket needs. `host` is an IP address (IPv6 with its `%zone`) or, for a `dns` family, a name."""

    host: str
    port: int
    family: Family
    transport: Transport


def host_port(address: Multiaddr) -> HostPort:
    """The host and the TCP or UDP port that the address begins with. Raises `InvalidMultiaddr` if it has none."""
    components = address.components
    zone = ""
    if components and components[0].name == "ip6zone":
        zone, components = f"%{components[0].value}", components[1:]
    if len(components) >= 2:
        host, port = components[:2]
        family, transport = _FAMILIES.get(host.name), _TRANSPORTS.get(port.name)
        if family is not None and transport is not None and (family == "ip6" or not zone):
            return HostPort(f"{host.value}{zone}", int.from_bytes(port.raw, "big"), family, transport)
    raise InvalidMultiaddr(f"{address} begins with no host and TCP or UDP port")


def ip_of(address: Multiaddr) -> IPv4Address | IPv6Address | None:
    """The IP address, without zone, that the address begins with; None if it begins with none."""
    components = address.components
    if len(components) >= 2 and components[0].name == "ip6zone" and components[1].name == "ip6":
        components = components[1:]
    if not components or components[0].name not in ("ip4", "ip6"):
        return None
    ip = ip_address(components[0].raw)
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def _special_name(address: Multiaddr) -> str | None:
    """The special domain that the name at the head belongs to; "" for any other name, None if there is no name."""
    head = address.head
    if head is None or head.name not in _NAMES or head.value is None:
        return None
    name = "." + head.value.lower().rstrip(".")
    return next((special for special in _SPECIAL_NAMES if name.endswith(f".{special}")), "")


def _is_in(ip: IPv4Address | IPv6Address | None, networks: _Networks) -> bool:
    return ip is not None and any(ip in network for network in networks)


def is_loopback(address: Multiaddr) -> bool:
    """Whether it begins with 127.0.0.0/8 or ::1. A name, localhost too, is none before it is resolved."""
    ip = ip_of(address)
    return ip is not None and ip.is_loopback


def is_unspecified(address: Multiaddr) -> bool:
    """Whether it begins with 0.0.0.0 or `::`, the wildcards of listen addresses."""
    ip = ip_of(address)
    return ip is not None and ip.is_unspecified


def is_link_local(address: Multiaddr) -> bool:
    """Whether it begins with an address that means something on one link only: 169.254.0.0/16 or fe80::/10."""
    ip = ip_of(address)
    return ip is not None and ip.is_link_local


def is_private(address: Multiaddr) -> bool:
    """Whether it begins with an address of the machine or of a private network, or with a name in .localhost."""
    return _is_in(ip_of(address), _PRIVATE) or _special_name(address) == "localhost"


def is_public(address: Multiaddr) -> bool:
    """Whether it begins with an address that the whole Internet can reach, or with a name for no special use.

    Of a relayed address this speaks of the relay. Some addresses (documentation, multicast) are neither public nor
    private.
    """
    ip = ip_of(address)
    if ip is None:
        return _special_name(address) == ""
    if _is_in(ip, _UNROUTABLE):
        return False
    return _is_in(ip, _PUBLIC6) if ip.version == 6 else not _is_in(ip, _PRIVATE)


def unmapped(address: Multiaddr) -> Multiaddr:
    """`address`, with the IPv4 address in the place of one that is mapped into IPv6 (`/ip6/::ffff:192.0.2.1`): what
    dual-stack sockets report as the one is dialed as the other.
    """
    head = address.head
    if head is None or head.name != "ip6" or head.value is None:
        return address
    mapped = IPv6Address(head.value).ipv4_mapped
    return address if mapped is None else from_ip(str(mapped)) / address[1:]


def is_relayed(address: Multiaddr) -> bool:
    """Whether it leads through a relay (/p2p-circuit)."""
    return "p2p-circuit" in address


@lru_cache(maxsize=1024)
def from_ip(host: str, *, scope_id: int = 0) -> Multiaddr:
    """`/ip4/...` or `/ip6/...` of an IP address in text, with /ip6zone before it if there is a zone.

    The zone is what stands behind a `%` in `host`, else `scope_id` (the fourth item of an IPv6 socket address) unless
    that is 0. Raises `InvalidMultiaddr` if `host` is no IP address.
    """
    host, _, zone = host.partition("%")
    if ":" not in host:
        return Multiaddr.from_components((Component.from_text("ip4", host),))
    zone = zone or (str(scope_id) if scope_id else "")
    prefix = (Component.from_text("ip6zone", zone),) if zone else ()
    return Multiaddr.from_components((*prefix, Component.from_text("ip6", host)))


def from_socket_address(host: str, port: int, proto: Transport = "tcp", *, scope_id: int = 0) -> Multiaddr:
    """The address of a socket as `getsockname` and `getpeername` tell it; `host` and `scope_id` as in `from_ip`.

    Raises `InvalidMultiaddr` if `host` is no IP address or `port` is out of range.
    """
    return from_ip(host, scope_id=scope_id).encapsulate(Component.from_text(proto, str(port)))
