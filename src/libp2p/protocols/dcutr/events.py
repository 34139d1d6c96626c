"""What came of replacing a relayed connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ...connection import Connection, Role
from ...identity import PeerId
from ...multiaddr import Multiaddr


class How(Enum):
    """How a direct connection was tried."""

    REVERSAL = "reversal"
    """The peer's public addresses were dialed."""
    PUNCH = "punch"
    """Both sides dialed at the same moment."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try."""

    how: How
    addrs: tuple[Multiaddr, ...]
    """Where the peer was dialed."""
    rtt: float | None
    """Seconds of a round trip through the relay, as far as it was measured."""
    started: float
    """When the dials began, in the event loop's time."""
    seconds: float
    """How long they took."""
    errors: Mapping[Multiaddr, Exception]
    """By address, why it did not lead there."""
    error: Exception | None = None
    """What went wrong before, or instead of, the dials."""


@dataclass(frozen=True, slots=True)
class HolePunchEnded:
    """All that was tried to reach `peer` directly is over."""

    peer: PeerId
    role: Role
    """The responder is who accepted the relayed connection: it begins the exchange, and the peer's handshakes begin."""
    attempts: tuple[Attempt, ...]
    connection: Connection | None
    """The direct one; None where there is none."""
