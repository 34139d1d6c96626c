"""Records in memory: gone with the process."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

from ...identity import PeerId
from .keys import Position, position
from .store import ProviderRecord, RecordStore, StoreConfig, StoredValue


class _ByDistance:
    """Keys in the order of their distance from us."""

    def __init__(self) -> None:
        self._order: list[tuple[int, bytes]] = []

    def add(self, distance: int, key: bytes) -> None:
        insort(self._order, (distance, key))

    def remove(self, distance: int, key: bytes) -> None:
        del self._order[bisect_left(self._order, (distance, key))]

    @property
    def farthest(self) -> tuple[int, bytes]:
        return self._order[-1]


class MemoryRecordStore(RecordStore):
    """Records for as long as the process lives."""

    def __init__(self, config: StoreConfig | None = None) -> None:
        self._config = config or StoreConfig()
        self._own: Position = 0
        self._values: dict[bytes, StoredValue] = {}
        self._values_size = 0
        self._value_order = _ByDistance()
        self._providers: dict[bytes, dict[PeerId, ProviderRecord]] = {}
        self._provider_records = 0
        self._provider_order = _ByDistance()
        self._provided: dict[bytes, float] = {}
        self._published: dict[bytes, StoredValue] = {}

    async def open(self, own: Position) -> None:
        self._own = own

    async def close(self) -> None:
        """Nothing to end."""

    async def put_value(self, value: StoredValue) -> bool:
        key = value.key
        if key in self._values:
            self._drop_value(key)
        self._values[key] = value
        self._values_size += len(value.value)
        self._value_order.add(self._distance(key), key)
        while len(self._values) > self._config.max_values or self._values_size > self._config.max_values_size:
            self._drop_value(self._value_order.farthest[1])
        return key in self._values

    async def value(self, key: bytes, now: float) -> StoredValue | None:
        value = self._values.get(key)
        return value if value is not None and now - value.received < self._config.value_ttl else None

    async def remove_value(self, key: bytes) -> None:
        if key in self._values:
            self._drop_value(key)

    async def add_provider(self, record: ProviderRecord) -> bool:
        key, peer = record.key, record.peer
        of_key = self._providers.get(key)
        if of_key is None:
            of_key = self._providers[key] = {}
            self._provider_order.add(self._distance(key), key)
        elif of_key.pop(peer, None) is not None:  # so that the latest stands last
            self._provider_records -= 1
        of_key[peer] = record
        self._provider_records += 1
        if len(of_key) > self._config.max_providers_per_key:
            del of_key[next(iter(of_key))]
            self._provider_records -= 1
        while self._provider_records > self._config.max_provider_records:
            self._drop_one_provider(self._provider_order.farthest[1])
        return key in self._providers and peer in self._providers[key]

    async def providers(self, key: bytes, now: float) -> list[ProviderRecord]:
        config = self._config
        found = []
        for record in reversed(self._providers.get(key, {}).values()):
            age = now - record.received
            if age < config.addr_ttl:
                found.append(record)
            elif age < config.provider_ttl:
                found.append(ProviderRecord(record.key, record.peer, (), record.received))
        return found

    async def set_provided(self, keys: Iterable[bytes], announced: float) -> None:
        self._provided.update(dict.fromkeys(keys, announced))

    async def remove_provided(self, key: bytes) -> None:
        self._provided.pop(key, None)

    async def provided(self) -> dict[bytes, float]:
        return dict(self._provided)

    async def set_published(self, value: StoredValue) -> None:
        self._published[value.key] = value

    async def remove_published(self, key: bytes) -> None:
        self._published.pop(key, None)

    async def published(self) -> list[StoredValue]:
        return list(self._published.values())

    async def expire(self, now: float) -> int:
        values = [key for key, value in self._values.items() if now - value.received >= self._config.value_ttl]
        for key in values:
            self._drop_value(key)
        expired = [
            (key, peer)
            for key, of_key in self._providers.items()
            for peer, record in of_key.items()
            if now - record.received >= self._config.provider_ttl
        ]
        for key, peer in expired:
            self._drop_provider(key, peer)
        return len(values) + len(expired)

    async def counts(self) -> tuple[int, int]:
        return len(self._values), self._provider_records

    def _distance(self, key: bytes) -> int:
        return position(key) ^ self._own

    def _drop_value(self, key: bytes) -> None:
        self._values_size -= len(self._values.pop(key).value)
        self._value_order.remove(self._distance(key), key)

    def _drop_one_provider(self, key: bytes) -> None:
        self._drop_provider(key, next(iter(self._providers[key])))

    def _drop_provider(self, key: bytes, peer: PeerId) -> None:
        of_key = self._providers[key]
        del of_key[peer]
        self._provider_records -= 1
        if not of_key:
            del self._providers[key]
            self._provider_order.remove(self._distance(key), key)
