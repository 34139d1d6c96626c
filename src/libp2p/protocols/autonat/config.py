"""Settings of AutoNAT."""

from __future__ import annotations

from dataclasses import dataclass

from ...host.events import Reachability


@dataclass(frozen=True, slots=True)
class AutoNatConfig:
    """How a host finds out which of its addresses strangers reach."""

    forced: Reachability | None = None
    """What the host is, whatever others would say: public or private. Nobody is asked then. None: others are asked."""
    delay: float = 1.0
    """Seconds from a change of the host's addresses to the first question."""
    interval: float = 5.0
    """Seconds between two questions while something is not known."""
    recheck: float = 3600.0
    """Seconds after which what is known is asked again."""
    server_pause: float = 120.0
    """Seconds until the same server is asked again."""
    confidence: int = 2
    """By how many answers one outcome must lead the other to be believed."""
    window: int = 5
    """The last answers for an address that count."""
    max_addrs: int = 10
    """Addresses that are asked about at a time."""
    max_data: int = 100_000
    """Bytes that a server may demand for a dial; one that demands more gets none."""
    timeout: float = 30.0
    """Seconds for one question."""


@dataclass(frozen=True, slots=True)
class AutoNatServerConfig:
    """What a host does for others who ask."""

    burst: int = 60
    """Requests that are served at once."""
    interval: float = 1.0
    """Seconds after which one more is."""
    peer_burst: int = 12
    """Requests of one peer at once."""
    peer_interval: float = 5.0
    """Seconds after which one more of it is served."""
    max_requests_per_peer: int = 2
    """Requests of one peer being served at a time; one more is rejected."""
    max_requests: int = 64
    """The same of all peers."""
    max_addrs: int = 50
    """Addresses of a request that are looked at."""
    min_data: int = 30_000
    """Bytes that it costs at least to have another address dialed than the asker's own."""
    extra_data: int = 70_000
    """Bytes more that it may cost, at random."""
    max_pause: float = 3.0
    """Seconds between the data and the dial, at most, at random: many askers can't aim at one moment."""
    request_timeout: float = 15.0
    """Seconds for a request and its data."""
    dial_timeout: float = 10.0
    """Seconds for the dial."""
    back_timeout: float = 5.0
    """Seconds for handing over the nonce."""


@dataclass(frozen=True, slots=True)
class AutoNatV1Config:
    """What a host does for old peers that ask."""

    burst: int = 30
    """Requests that are served at once."""
    interval: float = 2.0
    """Seconds after which one more is."""
    peer_burst: int = 3
    """Requests of one peer at once."""
    peer_interval: float = 20.0
    """Seconds after which one more of it is served."""
    max_addrs: int = 16
    """Addresses of a request that are looked at."""
    request_timeout: float = 10.0
    """Seconds for a request."""
    dial_timeout: float = 15.0
    """Seconds for the dials; a failure is answered no earlier."""
