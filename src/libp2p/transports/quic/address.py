"""The addresses of QUIC, `/ip4/<address>/udp/<port>/quic-v1` and `/ip6/...` (specs: quic/README.md).

`/quic` without a version meant draft-29, which nobody should speak any more: it is left alone.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address

from ...multiaddr import Multiaddr, from_socket_address, host_port
from ..addresses import is_on_ip, sockaddr
from .datagrams import SocketAddress


def is_quic(addr: Multiaddr) -> bool:
    """Whether `addr`, with or without /p2p, is one that QUIC dials and listens on."""
    return is_on_ip(addr, "udp", "quic-v1")


def to_socket(addr: Multiaddr) -> SocketAddress:
    """The socket address that `addr` begins with."""
    return sockaddr(host_port(addr))


def network(addr: SocketAddress) -> bytes:
    """Whose address it is, as far as one can tell: an IPv4 address, or the network of an IPv6 one."""
    return ip_address(addr[0]).packed[:8]


@lru_cache(maxsize=1024)
def from_socket(addr: SocketAddress) -> Multiaddr:
    """The multiaddr of a socket address."""
    return from_socket_address(addr[0], addr[1], "udp", scope_id=addr[3] if len(addr) == 4 else 0) / "quic-v1"
