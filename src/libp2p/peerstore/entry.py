"""What a peer store holds of one peer, in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..identity import PublicKey
from ..multiaddr import Reach
from .interface import CONNECTED_ADDR_TTL, MetadataValue


@dataclass(slots=True)
class StoredAddr:
    """An address, with what is known of it."""

    ttl: float
    expiry: float
    certified: bool
    told: Reach | None

    @property
    def held(self) -> bool:
        """Connected or permanent."""
        return self.ttl >= CONNECTED_ADDR_TTL

    def worth(self) -> tuple[bool, bool, float]:
        return self.held, self.certified, self.expiry


_ENTRY, _ITEM = 512, 160
"""Bytes, about, of an entry, and of an address or a value in it, beside what they hold."""

IDLE, HELD, PROTECTED = range(3)  # ranks: what is dropped first


@dataclass(slots=True)
class PeerEntry:
    """What is known of one peer."""

    addrs: dict[bytes, StoredAddr] = field(default_factory=dict)
    next_expiry: float = math.inf  # no address expires before
    record: bytes | None = None
    seq: int = -1
    key: PublicKey | None = None
    protocols: tuple[str, ...] = ()
    metadata: dict[str, MetadataValue] | None = None
    tags: frozenset[str] = frozenset()  # of those who want it kept
    connected: float | None = None  # Unix time at which a connection that we had made was last there; on disk only
    rank: int = IDLE
    size: int = 0
    """Bytes, about, as of the last change."""

    def measure(self) -> int:
        """What it takes, about: what a peer says may take four bytes a character."""
        text = 4 * (sum(map(len, self.protocols)) + 8 * len(self.protocols))
        metadata = sum(4 * len(str(value)) + _ITEM for value in self.metadata.values()) if self.metadata else 0
        addrs = sum(map(len, self.addrs)) + _ITEM * len(self.addrs)
        return _ENTRY + text + metadata + addrs + len(self.record or b"")

    def prune(self, now: float) -> int:
        """Drop expired addresses, and the record with the last address; return how many went."""
        if self.next_expiry > now:
            return 0
        expired = [encoded for encoded, addr in self.addrs.items() if addr.expiry <= now]
        for encoded in expired:
            del self.addrs[encoded]
        self.next_expiry = min((addr.expiry for addr in self.addrs.values()), default=math.inf)
        if not self.addrs:
            self.record = None
        return len(expired)

    def put(self, encoded: bytes, new: StoredAddr, limit: int) -> None:
        """Store an address, or drop it where `limit` others are worth more."""
        if encoded not in self.addrs and len(self.addrs) >= limit:
            victim = min(self.addrs, key=lambda known: self.addrs[known].worth())
            if new.worth() <= self.addrs[victim].worth():
                return
            del self.addrs[victim]
        self.addrs[encoded] = new
        self.next_expiry = min(self.next_expiry, new.expiry)

    def current_rank(self) -> int:
        if self.tags:
            return PROTECTED
        return HELD if any(addr.held for addr in self.addrs.values()) else IDLE

    def is_empty(self) -> bool:
        return not (self.addrs or self.key or self.protocols or self.metadata or self.tags)
