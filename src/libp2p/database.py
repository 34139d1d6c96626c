"""A file of SQLite on a thread of its own, so that the event loop never waits for the disk.

Rules:
- Calls run one after the other, in the order in which they were made.
- Writes that come while one is under way are committed together: a flood of them costs one commit at a time.
- The log is written ahead and `synchronous=NORMAL`: what was committed survives the end of the process, kill -9
  included; a power failure may cost the last moments' writes, never the file.
- One process uses a file at a time; another one is told so.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

from .errors import LocalProtocolError

T = TypeVar("T")

_OURS = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
)
"""Codes of what is no fault of the file's."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is to blame: it is no database, or a broken one."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.DatabaseError) and (code is None or code & 0xFF not in _OURS)


class Database:
    """The file `path`, which is made where it is missing. `prepare` makes its tables; `snapshot` is asked before each
    transaction, and what it returns is called where that is taken back; both on the thread.
    """

    def __init__(
        self,
        path: Path,
        *,
        version: int,
        prepare: Callable[[sqlite3.Connection], None],
        snapshot: Callable[[], Callable[[], None]] = lambda: lambda: None,
    ) -> None:
        self.path = path
        self._version = version
        self._prepare = prepare
        self._snapshot = snapshot
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._waiting: list[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]] = []
        self._committing = False

    @property
    def is_open(self) -> bool:
        """Whether calls are taken."""
        return self._thread is not None

    async def open(self) -> None:
        """Open the file. Raises `sqlite3.Error` (`is_damage` tells whether the file is to blame), and `OSError` for one
        of another format.
        """
        if self._thread is not None:
            return
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=self.path.name)
        try:
            await self.run(lambda _: None)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the file behind the calls that were made. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            loop = asyncio.get_running_loop()
            await asyncio.shield(loop.run_in_executor(thread, self._close))
            thread.shutdown(wait=False)

    async def run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """What `call` returns, on the thread. Raises what it does; `LocalProtocolError` where the file is not open."""
        if self._thread is None:
            raise LocalProtocolError(f"{self.path} is not open")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(self._opened()))
        except UnicodeDecodeError as error:  # of the message, which quotes what is damaged
            raise sqlite3.DatabaseError(f"{self.path} is damaged") from error

    async def commit(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """What `call` returns, on the thread and in a transaction, with whatever else waits: all of that is done, or
        nothing. It is committed then. A caller that is cancelled has its call done nonetheless. Raises what `run` does,
        and what another call of the same transaction raised.
        """
        if self._thread is None:
            raise LocalProtocolError(f"{self.path} is not open")
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, done))
        if not self._committing:
            self._commit_next()
        return await done

    def _commit_next(self) -> None:
        batch, self._waiting = self._waiting, []
        self._committing = bool(batch)
        if batch:
            calls = [call for call, _ in batch]
            committed = asyncio.ensure_future(self.run(lambda connection: self._transaction(connection, calls)))
            committed.add_done_callback(lambda task: self._committed([done for _, done in batch], task))

    def _committed(self, waiting: list[asyncio.Future[Any]], task: asyncio.Future[list[Any]]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        results = [None] * len(waiting) if error is not None else task.result()
        for done, result in zip(waiting, results, strict=True):
            if done.done():
                continue  # its caller was cancelled
            if error is not None:
                done.set_exception(copy(error))  # each has notes and a traceback of its own
            else:
                done.set_result(result)
        self._commit_next()

    def _transaction(
        self, connection: sqlite3.Connection, calls: list[Callable[[sqlite3.Connection], Any]]
    ) -> list[Any]:
        undo = self._snapshot()
        connection.execute("BEGIN IMMEDIATE")
        try:
            results = [call(connection) for call in calls]
            connection.execute("COMMIT")
        except BaseException:
            undo()
            connection.execute("ROLLBACK")
            raise
        return results

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            # The thread is the only one that uses it; a virtual-time loop has its executor's calls on the loop's.
            connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
            try:
                self._set_up(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        if (said := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(f"the file is damaged: {said}")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, self._version):
            raise OSError(f"{self.path} has a format of version {version}, this code knows {self._version}")
        connection.execute("BEGIN IMMEDIATE")
        self._prepare(connection)
        connection.execute(f"PRAGMA user_version = {self._version}")
        connection.execute("COMMIT")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
