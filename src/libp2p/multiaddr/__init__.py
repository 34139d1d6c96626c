"""Multiaddrs: network addresses that describe themselves, and the way from names to addresses that can be dialed."""

from .multiaddr import AddressLike, Component, Multiaddr
from .net import (
    HostPort,
    from_ip,
    from_socket_address,
    host_port,
    ip_of,
    is_link_local,
    is_loopback,
    is_private,
    is_public,
    is_relayed,
    is_unspecified,
)
from .protocols import PROTOCOLS, Protocol, protocol_named
from .resolve import NameLookup, Resolver, ResolverConfig, SystemLookup

__all__ = [
    "PROTOCOLS",
    "AddressLike",
    "Component",
    "HostPort",
    "Multiaddr",
    "NameLookup",
    "Protocol",
    "Resolver",
    "ResolverConfig",
    "SystemLookup",
    "from_ip",
    "from_socket_address",
    "host_port",
    "ip_of",
    "is_link_local",
    "is_loopback",
    "is_private",
    "is_public",
    "is_relayed",
    "is_unspecified",
    "protocol_named",
]
