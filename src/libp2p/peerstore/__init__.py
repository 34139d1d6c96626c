"""The peer store: addresses with their times to live, keys, protocols and notes of peers."""

from .interface import (
    ADDRESS_TTL,
    CONNECTED_ADDR_TTL,
    OWN_OBSERVED_ADDR_TTL,
    PERMANENT_ADDR_TTL,
    PROVIDER_ADDR_TTL,
    RECENTLY_CONNECTED_ADDR_TTL,
    TEMP_ADDR_TTL,
    MetadataValue,
    PeerStore,
)
from .memory import MemoryPeerStore, PeerStoreConfig
from .sqlite import SqlitePeerStore, SqlitePeerStoreConfig

__all__ = [
    "ADDRESS_TTL",
    "CONNECTED_ADDR_TTL",
    "OWN_OBSERVED_ADDR_TTL",
    "PERMANENT_ADDR_TTL",
    "PROVIDER_ADDR_TTL",
    "RECENTLY_CONNECTED_ADDR_TTL",
    "TEMP_ADDR_TTL",
    "MemoryPeerStore",
    "MetadataValue",
    "PeerStore",
    "PeerStoreConfig",
    "SqlitePeerStore",
    "SqlitePeerStoreConfig",
]
