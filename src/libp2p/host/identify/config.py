"""Settings of identify."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdentifyConfig:
    """Settings of identify."""

    automatic: bool = True
    """Whether each new connection is identified."""
    agent_version: str | None = None
    """What we say we are; None: `py-libp2p/<version>`."""
    protocol_version: str = "ipfs/0.1.0"
    """The family of protocols we say we speak; what go-libp2p says by default."""
    timeout: float = 10.0
    """Seconds that one exchange may take, in either role."""
    exchanges_per_second: int = 5
    """Times that one peer may ask who we are, or tell us who it is, each second in the long run; more are reset."""
    exchange_burst: int = 64
    """Those that it may at once."""
    exchanges_per_second_and_prefix: int = 400
    """The same, for all peers of one IPv4 address or IPv6 /56: keys cost nothing."""
    exchange_burst_of_prefix: int = 4096
    """Those that these may at once."""
    max_addrs: int = 128
    """Addresses that are taken of one peer; more are dropped."""
    max_protocols: int = 128
    """Protocols that are taken of one peer; more are dropped."""
    max_inbound_streams: int = 8
    """Streams of identify, and as many of identify push, that one peer may have open; one more is reset."""
    max_pushes: int = 32
    """Peers that are told of a change at a time; the others follow."""
    push_delay: float = 0.2
    """Seconds from a change of ours until peers are told of it, and of all that has changed meanwhile."""
