"""What happens at relays, and to those who use them."""

from __future__ import annotations

from dataclasses import dataclass

from ...identity import PeerId
from ...multiaddr import Multiaddr


@dataclass(frozen=True, slots=True)
class Reserved:
    """A relay takes connections for this host, anew or again."""

    relay: PeerId
    addrs: tuple[Multiaddr, ...]
    """Where; without this host's peer id."""
    seconds: float
    """How long, unless it is renewed, which happens by itself."""


@dataclass(frozen=True, slots=True)
class ReservationLost:
    """A relay takes no connections for this host any more, or not yet; another attempt follows."""

    relay: PeerId
    error: Exception


@dataclass(frozen=True, slots=True)
class CircuitOpened:
    """This host relays a connection from `source` to `target`."""

    source: PeerId
    target: PeerId


@dataclass(frozen=True, slots=True)
class CircuitClosed:
    """A connection that this host relayed has ended."""

    source: PeerId
    target: PeerId
    bytes_passed: int
    """In both directions."""
    reason: str
