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
from .limits import Gater, SwarmConfig
from .swarm import Swarm

__all__ = [
    "ConnectionLost",
    "ConnectionOpened",
    "DialFailed",
    "Gater",
    "InboundFailed",
    "ListenAddrAdded",
    "ListenAddrRemoved",
    "ListenerLost",
    "PeerConnected",
    "PeerDisconnected",
    "StreamEnded",
    "StreamStarted",
    "Swarm",
    "SwarmConfig",
]
