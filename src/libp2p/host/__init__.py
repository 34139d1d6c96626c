"""The face of the stack: `Host`, with the protocols that every host speaks (identify, ping)."""

from .addrs import AddrsConfig, AddrSource
from .config import HostConfig
from .events import AddrsChanged, ProtocolsChanged, Reachability, ReachabilityChanged
from .host import Host
from .identify import PeerIdentified
from .keeping import Kept, RedialBackoff
from .requests import Call, Request

__all__ = [
    "AddrSource",
    "AddrsChanged",
    "AddrsConfig",
    "Call",
    "Host",
    "HostConfig",
    "Kept",
    "PeerIdentified",
    "ProtocolsChanged",
    "Reachability",
    "ReachabilityChanged",
    "RedialBackoff",
    "Request",
]
