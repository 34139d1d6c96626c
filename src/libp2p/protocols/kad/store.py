"""What a server of the DHT keeps for others, and what it announces itself: the interface, which every store implements.

    values      key -> value                 one each, for `value_ttl`; which of two is kept, the validator says
    providers   key -> peers                 each with where it is and when it said so, for `provider_ttl`
    provided    key -> when announced last   our own announcements, which a restart resumes
    published   key -> value, when put last  our own values, the same

Rules:
- Bounded: a full store drops what lies farthest from us in the key space, since that is what others keep for sure; of
  one key's providers the oldest.
- Time is wall-clock time in Unix seconds, passed in as `now`: records survive the process. What has expired is never
  returned.
- Our own announcements and values are never dropped to make room.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from ...identity import PeerId
from ...multiaddr import Multiaddr
from .keys import Position


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Limits of a store; times in seconds."""

    value_ttl: float = 48 * 3600.0
    """A value is forgotten so long after it was last put."""
    provider_ttl: float = 48 * 3600.0
    """A provider is forgotten so long after it last said that it is one (Amino)."""
    addr_ttl: float = 24 * 3600.0
    """Its addresses are forgotten so long after that."""
    max_values: int = 8192
    """Values; the farthest are dropped."""
    max_values_size: int = 64 * 1024 * 1024
    """Bytes of all values together; the farthest are dropped."""
    max_provider_records: int = 200_000
    """Pairs of a key and a provider; those of the farthest keys are dropped."""
    max_providers_per_key: int = 200
    """Providers of one key; the oldest are dropped."""


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A value, and when it was put here."""

    key: bytes
    value: bytes
    received: float


@dataclass(frozen=True, slots=True)
class ProviderRecord:
    """A peer that said that it has what `key`, a multihash, stands for."""

    key: bytes
    peer: PeerId
    addrs: tuple[Multiaddr, ...]
    received: float


class RecordStore(ABC):
    """Records by key. Methods may wait for a disk; each is done as a whole or not at all, cancelled or not."""

    @abstractmethod
    async def open(self, own: Position) -> None:
        """Begin, for a peer at `own`. Raises `OSError` where the store can't be used. Idempotent."""

    @abstractmethod
    async def close(self) -> None:
        """End; what was written is safe. Idempotent."""

    @abstractmethod
    async def put_value(self, value: StoredValue) -> bool:
        """Keep a value in the place of the one before; False where it is too far away to be kept."""

    @abstractmethod
    async def value(self, key: bytes, now: float) -> StoredValue | None:
        """The value of `key`."""

    @abstractmethod
    async def remove_value(self, key: bytes) -> None:
        """Forget the value of `key`."""

    @abstractmethod
    async def add_provider(self, record: ProviderRecord) -> bool:
        """Keep a provider, in the place of what it said before; False where the key is too far away to be kept."""

    @abstractmethod
    async def providers(self, key: bytes, now: float) -> list[ProviderRecord]:
        """The providers of `key`, the latest first; addresses that are too old are left out of them."""

    @abstractmethod
    async def set_provided(self, keys: Iterable[bytes], announced: float) -> None:
        """These keys are ours to announce; they were announced last at `announced` (0: never yet)."""

    @abstractmethod
    async def remove_provided(self, key: bytes) -> None:
        """`key` is not ours to announce any more."""

    @abstractmethod
    async def provided(self) -> dict[bytes, float]:
        """The keys that are ours to announce, and when each was last."""

    @abstractmethod
    async def set_published(self, value: StoredValue) -> None:
        """This value is ours to put again; it was put last when it says that it was received."""

    @abstractmethod
    async def remove_published(self, key: bytes) -> None:
        """The value of `key` is not ours to put again any more."""

    @abstractmethod
    async def published(self) -> list[StoredValue]:
        """The values that are ours to put again."""

    @abstractmethod
    async def expire(self, now: float) -> int:
        """Drop what has expired; how many values and provider records went."""

    @abstractmethod
    async def counts(self) -> tuple[int, int]:
        """How many values and how many provider records there are, expired ones included."""
