"""Addresses of sockets and of this machine, for the transports of the Internet."""

from __future__ import annotations

import socket
from functools import lru_cache

from ..multiaddr import (
    HostPort,
    Multiaddr,
    from_ip,
    from_socket_address,
    host_port,
    is_loopback,
    is_unspecified,
)
from .interfaces import Interfaces


def sockaddr(target: HostPort) -> tuple[str, int] | tuple[str, int, int, int]:
    """`target` as the socket module wants it."""
    host, _, zone = target.host.partition("%")
    if target.family == "ip4":
        return host, target.port
    return host, target.port, 0, (int(zone) if zone.isdigit() else socket.if_nametoindex(zone)) if zone else 0


def is_on_ip(addr: Multiaddr, *rest: str) -> bool:
    """Whether `addr`, with or without /p2p, is an IP address followed by `rest`, and nothing else."""
    names = tuple(component.name for component in addr.without_peer())
    return names in (("ip4", *rest), ("ip6", *rest), ("ip6zone", "ip6", *rest))


def may_dial_from(bound: Multiaddr, target: HostPort) -> bool:
    """Whether a socket bound to `bound` leads to `target`, and back: one on all addresses, both on the loopback, or one
    on the very address from which the system's routes lead there.
    """
    here = host_port(bound)
    if here.family != target.family:
        return False
    if is_unspecified(bound) or is_loopback(bound):
        return is_unspecified(bound) or is_loopback(from_ip(target.host))
    return _source_ip(target) == here.host


def _source_ip(target: HostPort) -> str | None:
    """The address of this machine from which `target` is reached. Sends nothing."""
    family = socket.AF_INET if target.family == "ip4" else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(sockaddr(target))
            return str(sock.getsockname()[0])
    except OSError:
        return None


def reachable_addrs(bound: Multiaddr, interfaces: Interfaces) -> tuple[Multiaddr, ...]:
    """The TCP address `bound`; for a wildcard one those of the machine's interfaces."""
    if not is_unspecified(bound):
        return (bound,)
    return _on_port(interfaces.ips("ip6" if "ip6" in bound else "ip4"), host_port(bound).port)


@lru_cache(maxsize=128)  # listeners are asked at each dial
def _on_port(ips: tuple[str, ...], port: int) -> tuple[Multiaddr, ...]:
    return tuple(from_socket_address(ip, port) for ip in ips)
