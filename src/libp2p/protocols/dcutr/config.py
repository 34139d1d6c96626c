"""Settings of hole punching."""

from __future__ import annotations

from dataclasses import dataclass

from ...multiaddr import Reach


@dataclass(frozen=True, slots=True)
class HolePunchConfig:
    """How a relayed connection is replaced by a direct one."""

    max_attempts: int = 3
    """Exchanges of addresses, each followed by a simultaneous dial, until it is given up."""
    attempt_timeout: float = 10.0
    """Seconds that one exchange, and again the dials behind it, may take."""
    reversal_timeout: float = 4.0
    """Seconds that dialing the peer's public addresses, before any punch, may take."""
    patience: float = 5.0
    """Seconds that streams to a peer, which was reached through a relay, wait for it to begin."""
    grace: float = 10.0
    """Seconds after a success until the relayed connection is closed, once it carries no stream."""
    max_addrs: int = 16
    """Addresses of a peer that are dialed in one attempt, and of ours that are told."""
    max_inbound: int = 32
    """Attempts that other peers have begun, at a time; the stream of one more is reset."""
    reach: Reach = Reach.PUBLIC
    """How far away peers are: only addresses that lead so far are told and dialed. Nearer than `PUBLIC` is for networks
    that are private as a whole."""
