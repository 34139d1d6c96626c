"""The network of a host: transports, listeners, dialing, and the table of connections."""

from .events import (
    ConnectionLost,
    ConnectionOpened,
    DialFailed,
    InboundFailed,
    ListenAddrAdded,
    ListenAddrRemoved,
    ListenerLost,
    PeerConnected,
    PeerDisconnected,
    StreamEnded,
    StreamStarted,
)
from .limits import Gater, HostLimits, RuleGater, SwarmConfig
from .swarm import Swarm

__all__ = [
    "ConnectionLost",
    "ConnectionOpened",
    "DialFailed",
    "Gater",
    "HostLimits",
    "InboundFailed",
    "ListenAddrAdded",
    "ListenAddrRemoved",
    "ListenerLost",
    "PeerConnected",
    "PeerDisconnected",
    "RuleGater",
    "StreamEnded",
    "StreamStarted",
    "Swarm",
    "SwarmConfig",
]
