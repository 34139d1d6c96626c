"""What every store of a DHT's records does: `RecordStoreSuite`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ...identity import PeerId
from ...multiaddr import Multiaddr
from ...protocols.kad.keys import position
from ...protocols.kad.store import ProviderRecord, RecordStore, StoreConfig, StoredValue

OWN = position(b"the store's peer")
ADDRS = (Multiaddr("/ip4/192.0.2.1/tcp/4001"), Multiaddr("/ip4/192.0.2.1/udp/4001/quic-v1"))
HOUR = 3600.0
NOW = 1_700_000_000.0


def peer(n: int) -> PeerId:
    """A peer id for each number."""
    return PeerId.from_bytes(b"\x12\x20" + n.to_bytes(32, "big"))


def keys_by_distance(count: int) -> list[bytes]:
    """Keys, the nearest to the store's peer first."""
    return sorted((b"/v/%d" % n for n in range(count)), key=lambda key: position(key) ^ OWN)


class RecordStoreSuite:
    """Tests of a `RecordStore`. `make` gives a new, empty one, which is not open yet."""

    survives_reopening: bool = False
    """Whether the same records are there when it is closed and opened again."""

    def make(self, config: StoreConfig) -> RecordStore:
        """A new store."""
        raise NotImplementedError

    @asynccontextmanager
    async def opened(self, config: StoreConfig | None = None) -> AsyncIterator[RecordStore]:
        """A store, for the time of a test."""
        store = self.make(config or StoreConfig())
        await store.open(OWN)
        try:
            yield store
        finally:
            await store.close()

    async def test_a_value_replaces_the_one_before(self) -> None:
        async with self.opened() as store:
            assert await store.value(b"/v/a", NOW) is None
            for value in (b"one", b"", b"\0" * 5000):
                stored = StoredValue(b"/v/a", value, NOW)
                assert await store.put_value(stored)
                assert await store.value(b"/v/a", NOW + 1) == stored
            assert await store.value(b"/v/b", NOW) is None
            assert await store.counts() == (1, 0)
            await store.remove_value(b"/v/a")
            await store.remove_value(b"/v/a")
            assert await store.value(b"/v/a", NOW) is None
            assert await store.counts() == (0, 0)

    async def test_a_value_expires(self) -> None:
        async with self.opened(StoreConfig(value_ttl=HOUR)) as store:
            await store.put_value(StoredValue(b"/v/a", b"x", NOW))
            await store.put_value(StoredValue(b"/v/b", b"x", NOW + 1))
            assert await store.value(b"/v/a", NOW + HOUR - 1) is not None
            assert await store.value(b"/v/a", NOW + HOUR) is None
            assert await store.counts() == (2, 0)
            assert await store.expire(NOW + HOUR) == 1
            assert await store.counts() == (1, 0)

    async def test_a_full_store_keeps_the_nearest_values(self) -> None:
        keys = keys_by_distance(9)
        async with self.opened(StoreConfig(max_values=4)) as store:
            kept = [await store.put_value(StoredValue(key, b"x", NOW)) for key in reversed(keys)]
            assert kept == [True] * 9
            assert [await store.value(key, NOW) is not None for key in keys] == [True] * 4 + [False] * 5
            assert not await store.put_value(StoredValue(keys[8], b"x", NOW))
            assert await store.counts() == (4, 0)

    async def test_the_size_of_all_values_is_bounded(self) -> None:
        keys = keys_by_distance(3)
        async with self.opened(StoreConfig(max_values_size=100)) as store:
            assert await store.put_value(StoredValue(keys[2], bytes(60), NOW))
            assert await store.put_value(StoredValue(keys[2], bytes(90), NOW))  # in the place of the one before
            assert await store.put_value(StoredValue(keys[0], bytes(10), NOW))
            assert await store.put_value(StoredValue(keys[1], bytes(50), NOW))
            assert await store.value(keys[2], NOW) is None
            assert await store.counts() == (2, 0)

    async def test_providers_of_a_key_the_latest_first(self) -> None:
        async with self.opened() as store:
            assert await store.providers(b"key", NOW) == []
            records = [ProviderRecord(b"key", peer(n), ADDRS[:n], NOW + n) for n in range(3)]
            for record in records:
                assert await store.add_provider(record)
            assert await store.providers(b"key", NOW + 9) == records[::-1]
            again = ProviderRecord(b"key", peer(0), ADDRS, NOW + 5)
            assert await store.add_provider(again)
            assert await store.providers(b"key", NOW + 9) == [again, records[2], records[1]]
            assert await store.providers(b"other", NOW) == []
            assert await store.counts() == (0, 3)

    async def test_addresses_expire_before_providers_do(self) -> None:
        async with self.opened(StoreConfig(provider_ttl=48 * HOUR, addr_ttl=24 * HOUR)) as store:
            await store.add_provider(ProviderRecord(b"key", peer(1), ADDRS, NOW))
            await store.add_provider(ProviderRecord(b"key", peer(2), ADDRS, NOW + HOUR))
            ages = [[len(one.addrs) for one in await store.providers(b"key", NOW + age * HOUR)] for age in (23, 24, 48)]
            assert ages == [[2, 2], [2, 0], [0]]
            assert await store.expire(NOW + 48 * HOUR) == 1
            assert await store.counts() == (0, 1)
            assert await store.expire(NOW + 49 * HOUR) == 1
            assert await store.counts() == (0, 0)

    async def test_a_key_keeps_its_latest_providers(self) -> None:
        async with self.opened(StoreConfig(max_providers_per_key=3)) as store:
            for n in range(6):
                await store.add_provider(ProviderRecord(b"key", peer(n), (), NOW + n))
            assert [one.peer for one in await store.providers(b"key", NOW)] == [peer(5), peer(4), peer(3)]
            assert await store.counts() == (0, 3)

    async def test_a_full_store_keeps_the_providers_of_the_nearest_keys(self) -> None:
        keys = keys_by_distance(5)
        async with self.opened(StoreConfig(max_provider_records=6)) as store:
            for n in range(2):
                for key in reversed(keys):
                    await store.add_provider(ProviderRecord(key, peer(n), (), NOW + n))
            assert [len(await store.providers(key, NOW + 5)) for key in keys] == [2, 2, 2, 0, 0]
            assert not await store.add_provider(ProviderRecord(keys[4], peer(1), (), NOW))
            assert await store.counts() == (0, 6)

    async def test_our_own_announcements(self) -> None:
        async with self.opened() as store:
            assert await store.provided() == {}
            await store.set_provided([b"a", b"b"], 0.0)
            await store.set_provided([b"b", b"c"], NOW)
            await store.remove_provided(b"c")
            await store.remove_provided(b"d")
            assert await store.provided() == {b"a": 0.0, b"b": NOW}
            assert await store.expire(NOW + 1e9) == 0
            assert await store.provided() == {b"a": 0.0, b"b": NOW}

    async def test_our_own_values(self) -> None:
        async with self.opened(StoreConfig(max_values=1)) as store:
            assert await store.published() == []
            ours = [StoredValue(b"/v/%d" % n, b"value", NOW + n) for n in range(3)]
            for value in ours:
                await store.set_published(value)
            again = StoredValue(b"/v/1", b"better", NOW + 9)
            await store.set_published(again)
            await store.remove_published(b"/v/2")
            await store.remove_published(b"/v/none")
            assert await store.expire(NOW + 1e9) == 0
            assert sorted(await store.published(), key=lambda value: value.key) == [ours[0], again]
            assert await store.value(b"/v/1", NOW) is None
            assert await store.counts() == (0, 0)

    async def test_opening_and_closing_twice(self) -> None:
        async with self.opened() as store:
            await store.open(OWN)
            await store.put_value(StoredValue(b"/v/a", b"x", NOW))
            await store.close()
            await store.close()

    async def test_reopening(self) -> None:
        async with self.opened() as store:
            value = StoredValue(b"/v/a", b"x", NOW)
            provider = ProviderRecord(b"key", peer(1), ADDRS, NOW)
            await store.put_value(value)
            await store.add_provider(provider)
            await store.set_provided([b"a"], NOW)
            await store.set_published(value)
            await store.close()
            if self.survives_reopening:
                await store.open(position(b"another peer"))
                assert await store.value(b"/v/a", NOW) == value
                assert await store.providers(b"key", NOW) == [provider]
                assert await store.provided() == {b"a": NOW}
                assert await store.published() == [value]
                assert await store.counts() == (1, 1)
