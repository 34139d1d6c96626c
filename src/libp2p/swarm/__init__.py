"""The network of a host: transports, listeners, dialing, and the table of connections."""

from .events import (
    ConnectionLost,
    ConnectionOpened,
    DialFailed,
    InboundFailed,
    ListenAddrAdded,
    ListenAddrRemoved,
    StreamClosed,
    StreamOpened,
)
from .swarm import Swarm, SwarmConfig

__all__ = [
    "ConnectionLost",
    "ConnectionOpened",
    "DialFailed",
    "InboundFailed",
    "ListenAddrAdded",
    "ListenAddrRemoved",
    "StreamClosed",
    "StreamOpened",
    "Swarm",
    "SwarmConfig",
]
