"""Identify: peers tell each other who they are, where they listen and what they speak."""

from .service import ID, PUSH_ID, Identify, IdentifyConfig, IdentifyFailed, PeerIdentified, PeerUpdated
from .wire import IdentifyInfo

__all__ = [
    "ID",
    "PUSH_ID",
    "Identify",
    "IdentifyConfig",
    "IdentifyFailed",
    "IdentifyInfo",
    "PeerIdentified",
    "PeerUpdated",
]
