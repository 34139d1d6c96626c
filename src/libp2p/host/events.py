"""What changes about a host itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..multiaddr import Multiaddr


@dataclass(frozen=True, slots=True)
class ProtocolsChanged:
    """The host serves other protocols than before; `protocols` are those it serves now."""

    protocols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AddrsChanged:
    """The host's own addresses are not what they were; none has a peer id at its end."""

    addrs: tuple[Multiaddr, ...]
    """Those that it tells others now."""
    added: tuple[Multiaddr, ...]
    removed: tuple[Multiaddr, ...]


class Reachability(Enum):
    """Whether strangers can dial a host, or one of its addresses."""

    UNKNOWN = "unknown"
    PUBLIC = "public"
    PRIVATE = "private"


@dataclass(frozen=True, slots=True)
class ReachabilityChanged:
    """It is known anew whether strangers can dial the host; told by AutoNAT."""

    reachability: Reachability
    addrs: tuple[Multiaddr, ...] = ()
    """The addresses at which they can."""
