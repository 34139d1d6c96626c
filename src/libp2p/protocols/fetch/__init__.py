"""Fetch, `/libp2p/fetch/0.0.1`: ask one peer for the value of one key."""

from .service import PROTOCOL_ID, Fetch, FetchConfig, Lookup

__all__ = ["PROTOCOL_ID", "Fetch", "FetchConfig", "Lookup"]
