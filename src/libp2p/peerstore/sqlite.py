"""The peer store in a file of SQLite: what is known of peers outlives the process.

    memory (`MemoryPeerStore`)  <- load(peer), awaited before a dial -  file, on a thread
                                - changed peers, behind the calls ->

Rules here:
- All calls but the awaited ones answer from memory, and never wait for the disk. Of a peer that was not loaded they
  tell what came in meanwhile; it is put together with what the file has when it is loaded or written.
- What was changed is written `write_delay` seconds later, all together; what `flush` has confirmed survives kill -9.
- A peer that memory has no more room for stays in the file; those last written longest ago go where that is full.
- Who protects a peer, and that it is connected, ends with the process: it is not written.
- A file is no more to be trusted than a peer: signed records are verified when they are read, and what is damaged is as
  if it were not there. A file that is no database is set aside, with a warning, and a new one begun.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..database import Database, is_damage
from ..errors import Libp2pError
from ..identity import PeerId
from .entry import PeerEntry
from .interface import CONNECTED_ADDR_TTL
from .memory import MemoryPeerStore, PeerStoreConfig
from .rows import Row, encode, merge, peers_of

logger = logging.getLogger(__name__)

_VERSION = 1
_RETRY = 30.0
"""Seconds after which what could not be written is tried again."""
_TRIMMED = 0.05
"""Which part of the peers goes at a time where the file is full."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS peers (
    peer BLOB PRIMARY KEY, seen REAL NOT NULL, connected REAL, expires REAL NOT NULL, addrs BLOB NOT NULL, record BLOB,
    key BLOB, protocols TEXT NOT NULL, metadata TEXT NOT NULL,
    checksum INTEGER NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID
"""
_COLUMNS = "peer, seen, connected, expires, addrs, record, key, protocols, metadata, checksum"


def _prepare(db: sqlite3.Connection) -> None:
    db.execute(_SCHEMA)


@dataclass(frozen=True, slots=True)
class SqlitePeerStoreConfig:
    """Settings of a `SqlitePeerStore`, beside those of what is in memory."""

    max_peers: int = 100_000
    """Peers in the file."""
    max_bytes: int = 256 * 1024 * 1024
    """Bytes of all peers in the file, about."""
    write_delay: float = 1.0
    """Seconds from a change to its writing."""


class SqlitePeerStore(MemoryPeerStore):
    """What is known of peers, in the file `path`, which is made where it is missing; to be opened and closed, or
    entered. One process at a time uses a file. `clock` tells the time in seconds, from any beginning, and `wall_clock`
    Unix time.
    """

    def __init__(
        self,
        path: str | Path,
        config: PeerStoreConfig | None = None,
        *,
        file: SqlitePeerStoreConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(config, clock=clock)
        self.set_aside: Path | None = None
        """Where the file is now that was damaged, if one was."""
        self._path = Path(path)
        self._file = file or SqlitePeerStoreConfig()
        self._wall_clock = wall_clock
        self._database = self._new_database()
        self._loaded: set[PeerId] = set()  # of those in memory: what the file has of them is there too
        self._unwritten: dict[PeerId, None] = {}
        self._leaving: dict[PeerId, Row] = {}  # dropped from memory before they were written
        self._removed: set[PeerId] = set()
        self._writing = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """See `PeerStore`. Raises `OSError` where the file can't be used, or another process does."""
        try:
            try:
                await self._database.open()
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                await self._set_aside(error)
                await self._database.open()
        except sqlite3.Error as error:
            raise OSError(f"the peer store {self._path} can't be used: {error}") from error
        now = self._wall_clock()
        await self._commit(lambda db: db.execute("DELETE FROM peers WHERE expires <= ?", (now,)))

    async def load(self, peer: PeerId) -> None:
        """See `PeerStore`."""
        if peer not in self._loaded and self._database.is_open:
            await self._load([peer])

    async def recent(self, count: int) -> list[PeerId]:
        """See `PeerStore`."""
        query = f"SELECT {_COLUMNS} FROM peers WHERE connected IS NOT NULL ORDER BY connected DESC LIMIT ?"  # noqa: S608
        return list(peers_of(await self._rows(query, (count,))))

    async def flush(self) -> None:
        """See `PeerStore`."""
        while self._unwritten or self._leaving or self._removed or self._writing.locked():
            await self._write()

    async def close(self) -> None:
        """See `PeerStore`."""
        try:
            if self._database.is_open:
                await self.flush()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._task is not None:
                await asyncio.wait([self._task])
            await self._database.close()

    # What memory tells

    def remove(self, peer: PeerId) -> None:
        """See `PeerStore`."""
        super().remove(peer)
        self._unwritten.pop(peer, None)
        self._leaving.pop(peer, None)
        self._loaded.discard(peer)
        self._removed.add(peer)
        self._write_later()

    def update_addrs(self, peer: PeerId, old_ttl: float, new_ttl: float) -> None:
        """See `PeerStore`."""
        entry = self._peers.get(peer)
        if entry is not None and old_ttl == CONNECTED_ADDR_TTL and any(a.ttl == old_ttl for a in entry.addrs.values()):
            entry.connected = self._wall_clock()
        super().update_addrs(peer, old_ttl, new_ttl)

    def _changed(self, peer: PeerId) -> None:
        self._unwritten[peer] = None
        self._removed.discard(peer)
        self._write_later()

    def _dropped(self, peer: PeerId, entry: PeerEntry) -> None:
        self._loaded.discard(peer)
        if peer in self._unwritten:
            del self._unwritten[peer]
            self._leaving[peer] = self._row(peer, entry)

    def _row(self, peer: PeerId, entry: PeerEntry) -> Row:
        now = self._wall_clock()
        return encode(peer, entry, now=now, offset=now - self._clock())

    # Reading

    async def _load(self, peers: list[PeerId]) -> None:
        """Put what the file has of `peers` together with what is in memory."""
        places = ", ".join("?" * len(peers))
        query = f"SELECT {_COLUMNS} FROM peers WHERE peer IN ({places})"  # noqa: S608 - our own words
        found = peers_of(await self._rows(query, [peer.to_bytes() for peer in peers]))
        for peer in peers:
            row = self._leaving.get(peer) or found.get(peer)
            if row is not None and peer not in self._loaded and peer not in self._removed:
                self._merge(peer, row)
            if peer in self._peers:
                self._loaded.add(peer)

    def _merge(self, peer: PeerId, row: Row) -> None:
        now = self._wall_clock()
        limit = self._config.max_addrs_per_peer
        try:
            entry = self._known_or_new(peer)
        except Libp2pError as error:
            logger.debug("%s stays in the file: %s", peer, error)
            return
        try:
            merge(row, peer, entry, now=now, offset=now - self._clock(), limit=limit)
        except ValueError as error:
            logger.warning("%s", error)
        was_unwritten = peer in self._unwritten
        self._written(peer, entry)
        if not was_unwritten:
            self._unwritten.pop(peer, None)  # it is what the file has

    async def _rows(self, query: str, arguments: Iterable[object]) -> list[Row]:
        """What the file has; nothing where it can't be read."""
        values = tuple(arguments)
        try:
            return await self._database.run(lambda db: [Row(*row) for row in db.execute(query, values)])
        except (sqlite3.Error, TypeError) as error:
            logger.warning("the peer store %s can't be read: %s", self._path, error)
            return []

    # Writing

    def _write_later(self) -> None:
        if self._timer is None and self._database.is_open:
            self._timer = asyncio.get_running_loop().call_later(self._file.write_delay, self._begin_to_write)

    def _begin_to_write(self) -> None:
        self._timer = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write_behind(), name="peer store")

    async def _write_behind(self) -> None:
        try:
            await self._write()
        except OSError as error:
            logger.warning("%s", error)
        finally:
            self._task = None
            if self._timer is None and (self._unwritten or self._leaving or self._removed):
                self._timer = asyncio.get_running_loop().call_later(_RETRY, self._begin_to_write)

    async def _write(self) -> None:
        """Write what waits. Raises `OSError`, and it waits on."""
        async with self._writing:
            unloaded = [peer for peer in self._unwritten if peer in self._peers and peer not in self._loaded]
            for first in range(0, len(unloaded), 500):
                await self._load(unloaded[first : first + 500])
            unwritten, self._unwritten = self._unwritten, {}
            leaving, self._leaving = self._leaving, {}
            removed, self._removed = self._removed, set()
            rows = list(leaving.values())
            rows += [self._row(peer, self._peers[peer]) for peer in unwritten if peer in self._peers]
            gone = removed | {peer for peer in unwritten if peer not in self._peers}
            try:
                await self._commit(lambda db: self._put(db, rows, [peer.to_bytes() for peer in gone]))
            except BaseException:
                self._unwritten = unwritten | self._unwritten
                self._leaving = leaving | self._leaving
                self._removed |= removed
                raise

    async def _commit(self, call: Callable[[sqlite3.Connection], object]) -> None:
        try:
            try:
                await self._database.commit(call)
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                await self._database.close()
                await self._set_aside(error)
                await self._database.open()
                self._loaded.clear()
                self._unwritten.update(dict.fromkeys(self._peers))
                await self._database.commit(call)
        except sqlite3.Error as error:
            raise OSError(f"the peer store {self._path} can't be written: {error}") from error

    def _put(self, db: sqlite3.Connection, rows: list[Row], gone: list[bytes]) -> None:
        """On the thread."""
        db.executemany("DELETE FROM peers WHERE peer = ?", [(peer,) for peer in gone])
        marks = ", ".join("?" * (len(Row._fields) + 1))
        db.executemany(
            f"INSERT OR REPLACE INTO peers VALUES ({marks})",  # noqa: S608 - our own words
            [(*row, row.size) for row in rows],
        )
        while True:
            count, size = db.execute("SELECT count(*), coalesce(sum(size), 0) FROM peers").fetchone()
            if count <= self._file.max_peers and size <= self._file.max_bytes:
                return
            some = max(count - self._file.max_peers, int(count * _TRIMMED), 1)
            db.execute("DELETE FROM peers WHERE peer IN (SELECT peer FROM peers ORDER BY seen LIMIT ?)", (some,))

    # Damage

    def _new_database(self) -> Database:
        return Database(self._path, version=_VERSION, prepare=_prepare)

    async def _set_aside(self, error: sqlite3.Error) -> None:
        """Begin anew: the file goes where it can be looked at."""

        def rename() -> Path:
            number = 1
            while (place := self._path.with_name(f"{self._path.name}.damaged-{number}")).exists():
                number += 1
            self._path.replace(place)
            for suffix in ("-wal", "-shm", "-journal"):
                beside = self._path.with_name(self._path.name + suffix)
                if beside.exists():
                    beside.replace(place.with_name(place.name + suffix))
            return place

        self.set_aside = await asyncio.to_thread(rename)
        logger.warning("the peer store %s is damaged (%s): it is %s now", self._path, error, self.set_aside)
        self._database = self._new_database()
