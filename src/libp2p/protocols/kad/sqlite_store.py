"""Records in a file of SQLite: they survive the process, kill -9 included (write-ahead log).

How the file is used: `database.py` of the package. The last moments' records, which a power failure may cost, others
hold too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ...database import Database
from ...errors import LocalProtocolError
from ...identity import PeerId
from .keys import BITS, Position, position
from .store import ProviderRecord, RecordStore, StoreConfig, StoredValue
from .wire import read_addrs

_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS stored_values (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, received REAL NOT NULL, distance BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS values_by_distance ON stored_values (distance);
CREATE TABLE IF NOT EXISTS providers (
    key BLOB, peer BLOB, addrs BLOB NOT NULL, received REAL NOT NULL, distance BLOB NOT NULL,
    PRIMARY KEY (key, peer)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS providers_by_distance ON providers (distance);
CREATE INDEX IF NOT EXISTS providers_by_time ON providers (received);
CREATE TABLE IF NOT EXISTS provided (key BLOB PRIMARY KEY, announced REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS published (key BLOB PRIMARY KEY, value BLOB NOT NULL, put REAL NOT NULL) WITHOUT ROWID;
"""


class SqliteRecordStore(RecordStore):
    """Records in the file `path`, which is made where it is missing. One process at a time uses it."""

    def __init__(self, path: str | Path, config: StoreConfig | None = None) -> None:
        self._path = str(path)
        self._config = config or StoreConfig()
        self._own: Position = 0
        self._file: Database | None = None
        self._db: sqlite3.Connection | None = None
        self._counts = [0, 0, 0]  # values, their bytes, provider records

    async def open(self, own: Position) -> None:
        if self._file is not None:
            return
        self._file = Database(
            Path(self._path), version=_VERSION, prepare=lambda db: self._prepare(db, own), snapshot=self._snapshot
        )
        try:
            await self._file.open()
        except sqlite3.Error as error:
            self._file = None
            raise OSError(f"cannot use the records in {self._path}: {error}") from error

    async def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await file.close()
            self._db = None

    async def put_value(self, value: StoredValue) -> bool:
        return await self._write(lambda: self._put_value(value))

    async def value(self, key: bytes, now: float) -> StoredValue | None:
        oldest = now - self._config.value_ttl
        rows = await self._read(
            "SELECT value, received FROM stored_values WHERE key = ? AND received > ?", (key, oldest)
        )
        return StoredValue(key, *rows[0]) if rows else None

    async def remove_value(self, key: bytes) -> None:
        await self._write(lambda: self._delete_values("key = ?", (key,)) > 0)

    async def add_provider(self, record: ProviderRecord) -> bool:
        return await self._write(lambda: self._add_provider(record))

    async def providers(self, key: bytes, now: float) -> list[ProviderRecord]:
        rows = await self._read(
            "SELECT peer, addrs, received FROM providers WHERE key = ? AND received > ? ORDER BY received DESC",
            (key, now - self._config.provider_ttl),
        )
        found = []
        for encoded, addrs, received in rows:
            peer = PeerId.from_bytes(encoded)
            fresh = now - received < self._config.addr_ttl
            found.append(ProviderRecord(key, peer, read_addrs(peer, _split(addrs)) if fresh else (), received))
        return found

    async def set_provided(self, keys: Iterable[bytes], announced: float) -> None:
        rows = [(key, announced) for key in keys]
        await self._write(lambda: self._many("INSERT OR REPLACE INTO provided VALUES (?, ?)", rows))

    async def remove_provided(self, key: bytes) -> None:
        await self._write(lambda: self._many("DELETE FROM provided WHERE key = ?", [(key,)]))

    async def provided(self) -> dict[bytes, float]:
        return dict(await self._read("SELECT key, announced FROM provided", ()))

    async def set_published(self, value: StoredValue) -> None:
        row = (value.key, value.value, value.received)
        await self._write(lambda: self._many("INSERT OR REPLACE INTO published VALUES (?, ?, ?)", [row]))

    async def remove_published(self, key: bytes) -> None:
        await self._write(lambda: self._many("DELETE FROM published WHERE key = ?", [(key,)]))

    async def published(self) -> list[StoredValue]:
        return [StoredValue(*row) for row in await self._read("SELECT key, value, put FROM published", ())]

    async def expire(self, now: float) -> int:
        gone = 0

        def drop() -> bool:
            nonlocal gone
            gone = self._delete_values("received <= ?", (now - self._config.value_ttl,))
            gone += self._delete_providers("received <= ?", (now - self._config.provider_ttl,))
            return True

        await self._write(drop)
        return gone

    async def counts(self) -> tuple[int, int]:
        await self._opened.run(lambda _: None)  # behind the writes under way
        return self._counts[0], self._counts[2]

    # Between the loop and the thread

    @property
    def _opened(self) -> Database:
        if self._file is None:
            raise LocalProtocolError(f"the record store {self._path} is not open")
        return self._file

    async def _read(self, query: str, arguments: Sequence[Any]) -> list[Any]:
        return await self._opened.run(lambda db: db.execute(query, arguments).fetchall())

    async def _write(self, call: Callable[[], bool]) -> bool:
        """Do `call` in a transaction, with whatever else waits; its result once it is committed."""
        try:
            return await self._opened.commit(lambda _: call())
        except sqlite3.Error as error:
            raise OSError(f"cannot write the records in {self._path}: {error!r}") from error

    # On the thread

    @property
    def _database(self) -> sqlite3.Connection:
        assert self._db is not None
        return self._db

    def _prepare(self, db: sqlite3.Connection, own: Position) -> None:
        self._own, self._db = own, db
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        # Distances are from another position where the file was made by another peer.
        db.create_function("distance", 1, self._distance, deterministic=True)
        for table in ("stored_values", "providers"):
            row = db.execute(f"SELECT key, distance FROM {table} LIMIT 1").fetchone()  # noqa: S608 - our own names
            if row is not None and self._distance(row[0]) != row[1]:
                db.execute(f"UPDATE {table} SET distance = distance(key)")  # noqa: S608
        values, size = db.execute("SELECT count(*), coalesce(sum(length(value)), 0) FROM stored_values").fetchone()
        self._counts = [values, size, db.execute("SELECT count(*) FROM providers").fetchone()[0]]

    def _snapshot(self) -> Callable[[], None]:
        before = list(self._counts)

        def undo() -> None:
            self._counts = before

        return undo

    def _many(self, query: str, rows: list[Any]) -> bool:
        self._database.executemany(query, rows)
        return True

    def _distance(self, key: bytes) -> bytes:
        return (position(key) ^ self._own).to_bytes(BITS // 8, "big")

    def _put_value(self, value: StoredValue) -> bool:
        config = self._config
        self._delete_values("key = ?", (value.key,))
        self._database.execute(
            "INSERT INTO stored_values VALUES (?, ?, ?, ?)",
            (value.key, value.value, value.received, self._distance(value.key)),
        )
        self._counts[0] += 1
        self._counts[1] += len(value.value)
        while self._counts[0] > config.max_values or self._counts[1] > config.max_values_size:
            (key,) = self._database.execute("SELECT key FROM stored_values ORDER BY distance DESC LIMIT 1").fetchone()
            self._delete_values("key = ?", (key,))
            if key == value.key:
                return False
        return True

    def _add_provider(self, record: ProviderRecord) -> bool:
        config = self._config
        peer, distance = record.peer.to_bytes(), self._distance(record.key)
        self._delete_providers("key = ? AND peer = ?", (record.key, peer))
        self._database.execute(
            "INSERT INTO providers VALUES (?, ?, ?, ?, ?)",
            (record.key, peer, _join([addr.to_bytes() for addr in record.addrs]), record.received, distance),
        )
        self._counts[2] += 1
        (of_key,) = self._database.execute("SELECT count(*) FROM providers WHERE key = ?", (record.key,)).fetchone()
        if of_key > config.max_providers_per_key:
            self._delete_providers(
                "key = ? AND peer = (SELECT peer FROM providers WHERE key = ? ORDER BY received LIMIT 1)",
                (record.key, record.key),
            )
        while self._counts[2] > config.max_provider_records:
            (key,) = self._database.execute("SELECT key FROM providers ORDER BY distance DESC LIMIT 1").fetchone()
            self._delete_providers(
                "key = ? AND peer = (SELECT peer FROM providers WHERE key = ? ORDER BY received LIMIT 1)", (key, key)
            )
        kept = self._database.execute("SELECT 1 FROM providers WHERE key = ? AND peer = ?", (record.key, peer))
        return kept.fetchone() is not None

    def _delete_values(self, where: str, arguments: Sequence[Any]) -> int:
        rows = self._database.execute(
            f"DELETE FROM stored_values WHERE {where} RETURNING length(value)",  # noqa: S608 - our own conditions
            arguments,
        ).fetchall()
        self._counts[0] -= len(rows)
        self._counts[1] -= sum(size for (size,) in rows)
        return len(rows)

    def _delete_providers(self, where: str, arguments: Sequence[Any]) -> int:
        gone = self._database.execute(f"DELETE FROM providers WHERE {where}", arguments).rowcount  # noqa: S608
        self._counts[2] -= gone
        return gone


def _join(addrs: Sequence[bytes]) -> bytes:
    """Binary addresses, each behind its length of two bytes."""
    return b"".join(len(addr).to_bytes(2, "big") + addr for addr in addrs)


def _split(joined: bytes) -> list[bytes]:
    addrs, offset = [], 0
    while offset < len(joined):
        size = int.from_bytes(joined[offset : offset + 2], "big")
        addrs.append(joined[offset + 2 : offset + 2 + size])
        offset += 2 + size
    return addrs
