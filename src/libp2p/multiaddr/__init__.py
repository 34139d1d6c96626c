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
    unmapped,
)
from .protocols import PROTOCOLS, Protocol, protocol_named
from .reach import Reach, may_share, reach_of, reach_of_ip, reach_of_remote
from .resolve import NameLookup, Resolver, ResolverConfig, SystemLookup, begins_with_name

__all__ = [
    "PROTOCOLS",
    "AddressLike",
    "Component",
    "HostPort",
    "Multiaddr",
    "NameLookup",
    "Protocol",
    "Reach",
    "Resolver",
    "ResolverConfig",
    "SystemLookup",
    "begins_with_name",
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
    "may_share",
    "protocol_named",
    "reach_of",
    "reach_of_ip",
    "reach_of_remote",
    "unmapped",
]
