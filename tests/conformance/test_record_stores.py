"""The record stores of the DHT."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from libp2p.errors import LocalProtocolError
from libp2p.protocols.kad.memory_store import MemoryRecordStore
from libp2p.protocols.kad.sqlite_store import SqliteRecordStore
from libp2p.protocols.kad.store import ProviderRecord, RecordStore, StoreConfig, StoredValue
from libp2p.testing.conformance import RecordStoreSuite
from libp2p.testing.conformance.record_stores import NOW, OWN, peer


class TestMemoryRecordStore(RecordStoreSuite):
    def make(self, config: StoreConfig) -> RecordStore:
        return MemoryRecordStore(config)


class TestSqliteRecordStore(RecordStoreSuite):
    survives_reopening = True

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "records.db"

    def make(self, config: StoreConfig) -> RecordStore:
        return SqliteRecordStore(self.path, config)

    async def test_a_full_store_goes_on_by_the_new_distances_when_the_peer_has_changed(self) -> None:
        async with self.opened(StoreConfig(max_values=1)) as store:
            await store.put_value(StoredValue(b"/v/a", b"x", NOW))
            await store.close()
            from libp2p.protocols.kad.keys import position

            await store.open(position(b"/v/b"))
            assert await store.put_value(StoredValue(b"/v/b", b"x", NOW))
            assert await store.value(b"/v/a", NOW) is None

    async def test_a_cancelled_write_is_done_nonetheless(self) -> None:
        async with self.opened() as store:
            writing = asyncio.create_task(store.put_value(StoredValue(b"/v/a", b"x", NOW)))
            await asyncio.sleep(0)
            writing.cancel()
            await asyncio.wait([writing])
            assert writing.cancelled()
            await store.put_value(StoredValue(b"/v/b", b"x", NOW))
            assert await store.counts() == (2, 0)

    async def test_a_closed_store_says_so(self) -> None:
        store = self.make(StoreConfig())
        with pytest.raises(LocalProtocolError, match="not open"):
            await store.value(b"/v/a", NOW)

    async def test_what_is_no_store(self) -> None:
        self.path.write_bytes(b"something else" * 100)
        with pytest.raises(OSError, match="cannot use the records"):
            await self.make(StoreConfig()).open(OWN)

    async def test_a_newer_format_is_left_alone(self) -> None:
        database = sqlite3.connect(self.path)
        database.execute("PRAGMA user_version = 99")
        database.close()
        with pytest.raises(OSError, match="version 99"):
            await self.make(StoreConfig()).open(OWN)


KILLED = """
import asyncio, os, sys
from libp2p.protocols.kad.sqlite_store import SqliteRecordStore
from libp2p.protocols.kad.store import StoredValue
async def main():
    store = SqliteRecordStore(sys.argv[1])
    await store.open(0)
    await store.put_value(StoredValue(b"/v/a", b"x", 1.0))
    await store.set_provided([b"a"], 5.0)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


@pytest.mark.real
async def test_records_survive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    command = [sys.executable, "-c", KILLED, str(path)]
    killed = await asyncio.to_thread(subprocess.run, command, check=False)
    assert killed.returncode == -9
    store = SqliteRecordStore(path)
    await store.open(OWN)
    assert await store.value(b"/v/a", 2.0) is not None
    assert await store.provided() == {b"a": 5.0}
    await store.close()


@pytest.mark.real
async def test_many_provider_records_are_written_together(tmp_path: Path) -> None:
    """2,000 records at once cost few commits, and are all there."""
    store = SqliteRecordStore(tmp_path / "records.db")
    await store.open(OWN)
    records = [ProviderRecord(b"key %d" % (n % 500), peer(n), (), time.time()) for n in range(2000)]
    assert all(await asyncio.gather(*map(store.add_provider, records)))
    assert await store.counts() == (0, 2000)
    await store.close()
