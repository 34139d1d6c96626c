"""The face of the stack: `Host`, with the protocols that every host speaks (identify, ping)."""

from .addrs import AddrsConfig, AddrSource
from .events import AddrsChanged, ProtocolsChanged, Reachability, ReachabilityChanged
from .host import Host, HostConfig
from .requests import Call, Request

__all__ = [
    "AddrSource",
    "AddrsChanged",
    "AddrsConfig",
    "Call",
    "Host",
    "HostConfig",
    "ProtocolsChanged",
    "Reachability",
    "ReachabilityChanged",
    "Request",
]
