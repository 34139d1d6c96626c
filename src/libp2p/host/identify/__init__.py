"""Identify: peers tell each other who they are, where they listen and what they speak."""

from .config import IdentifyConfig
from .events import IdentifyFailed, PeerIdentified, PeerProtocolsChanged, PeerUpdated
from .service import ID, PUSH_ID, Identify
from .wire import IdentifyInfo

__all__ = [
    "ID",
    "PUSH_ID",
    "Identify",
    "IdentifyConfig",
    "IdentifyFailed",
    "IdentifyInfo",
    "PeerIdentified",
    "PeerProtocolsChanged",
    "PeerUpdated",
]
