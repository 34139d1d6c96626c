"""What happens to mapped ports."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address


@dataclass(frozen=True, slots=True)
class PortMapped:
    """The gateway leads a port to this host, or leads another one than before."""

    kind: str
    """How it was asked: pcp, nat-pmp or upnp."""
    transport: str
    """tcp or udp."""
    port: int
    """The port here."""
    external_ip: IPv4Address
    external_port: int


@dataclass(frozen=True, slots=True)
class PortUnmapped:
    """It does so no more."""

    transport: str
    port: int
    reason: str
