"""Settings of relays and of those who use them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """What a relay does for others."""

    max_reservations: int = 128
    """Peers for which it takes connections, at a time."""
    max_reservations_per_ip: int = 8
    """Of these, peers with one IPv4 address, or in one IPv6 network of 56 bits."""
    max_reservations_per_prefix: int = 32
    """Of these, peers in one network: the first 24 bits of IPv4, 48 of IPv6."""
    reservation_ttl: float = 3600.0
    """Seconds that a reservation holds, unless it is renewed."""
    max_circuits: int = 1024
    """Connections relayed at a time, those being made included."""
    max_circuits_per_peer: int = 16
    """Of these, those of one peer, at either end."""
    circuit_duration: float | None = 120.0
    """Seconds after which a relayed connection is ended. None: no limit."""
    circuit_bytes: int | None = 128 * 1024
    """Bytes in each direction after which it is ended. None: no limit."""
    peer_burst: int = 30
    """Requests of each kind that one peer may make at once."""
    peer_interval: float = 120.0
    """Seconds after which it may make one more."""
    ip_burst: int = 60
    """Requests of each kind from one IPv4 address, or one IPv6 network of 56 bits, at once."""
    ip_interval: float = 60.0
    """Seconds after which one more is allowed."""
    max_requests: int = 256
    """Requests being answered at a time, in all; the stream of one more is reset."""
    max_requests_per_peer: int = 16
    """The same of one peer."""
    request_timeout: float = 10.0
    """Seconds that a peer has for its request."""
    connect_timeout: float = 10.0
    """Seconds that the peer behind the relay has to take a connection."""


@dataclass(frozen=True, slots=True)
class CircuitConfig:
    """Settings of connections through relays, dialed and listened for."""

    reserve_timeout: float = 10.0
    """Seconds that a relay has to answer a request for a reservation."""
    dial_timeout: float = 15.0
    """Seconds that a relay has to connect us to a peer."""
    max_pending_inbound: int = 64
    """Connections through one relay that may be in the handshake at a time; more are refused."""
    renew_at: float = 0.75
    """The part of a reservation's time after which it is renewed."""
    min_pause: float = 1.0
    """Seconds after a reservation was lost, or refused, until the next attempt; doubled with each that fails."""
    max_pause: float = 10.0
    """Seconds between two attempts, at most."""
    probe_timeout: float = 5.0
    """Seconds that a relay has to answer a ping after this machine's addresses have changed, else its connection counts
    as lost."""


@dataclass(frozen=True, slots=True)
class AutoRelayConfig:
    """How relays are found, and how many are kept."""

    relays: int = 2
    """Relays to listen at. Given ones count, and are all used."""
    min_candidates: int = 4
    """Peers that may be relays, from which a choice is made at once; with fewer it waits, and the source is asked."""
    max_candidates: int = 20
    """Such peers that are remembered, beside the given ones; more are not looked at."""
    candidate_age: float = 1800.0
    """Seconds after which one that was not seen again is forgotten."""
    boot_delay: float = 15.0
    """Seconds from the start until few candidates have to do."""
    unknown_delay: float = 20.0
    """Seconds after which a host that does not know whether it can be reached takes relays. Given ones it takes at
    once."""
    min_backoff: float = 60.0
    """Seconds after a failure until that relay is asked again; doubled with each."""
    max_backoff: float = 3600.0
    """The most of that."""
    patience: float = 60.0
    """Seconds that a relay, which was lost, may take to come back until another one takes its place."""
    source_interval: float = 30.0
    """Seconds between two questions to the source of peers."""
    source_timeout: float = 60.0
    """Seconds for one of them."""
