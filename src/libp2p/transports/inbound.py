"""What a listener has accepted and not finished yet: upgraded side by side, bounded, each outcome reported."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..connection import Accept, Connection, RawConnection
from ..errors import Libp2pError, LimitExceeded
from ..io import TaskSupervisor
from ..multiaddr import Multiaddr


class InboundUpgrades:
    """Makes connections of raw ones by `upgrade`, at most `limit` at a time, and tells `accept`.

    `addr` names the listener; `suffix` is what its addresses have behind those of the raw connections, for reports of
    failures.
    """

    def __init__(
        self,
        addr: Multiaddr,
        upgrade: Callable[[RawConnection], Awaitable[Connection]],
        accept: Accept,
        *,
        limit: int,
        suffix: Multiaddr | None = None,
    ) -> None:
        self._upgrade = upgrade
        self._accept = accept
        self._limit = limit
        self._suffix = suffix
        self._tasks = TaskSupervisor(f"listener {addr}")

    def take(self, raw: RawConnection) -> None:
        """Somebody has connected. Beyond the limit the connection is closed at once."""
        if len(self._tasks) >= self._limit:
            error = LimitExceeded("max_pending_inbound", scope=f"listener {raw.local_addr}", value=self._limit)
            raw.abort(error)
            self._failed(raw, error)
        elif task := self._tasks.spawn(self._run(raw), name=f"upgrade {raw.remote_addr}"):
            # An upgrade aborts `raw` in time, but not in a task that was cancelled before it ran.
            task.add_done_callback(lambda ended: raw.abort() if ended.cancelled() else None)
        else:
            raw.abort()

    async def close(self) -> None:
        """End those that are not finished. Idempotent."""
        await self._tasks.close()

    async def _run(self, raw: RawConnection) -> None:
        try:
            connection = await self._upgrade(raw)
        except (Libp2pError, OSError) as error:
            self._failed(raw, error)
        else:
            self._accept.connection_opened(connection)

    def _failed(self, raw: RawConnection, error: Exception) -> None:
        local, remote = raw.local_addr, raw.remote_addr
        if self._suffix is not None:
            local, remote = local / self._suffix, remote / self._suffix
        self._accept.connection_failed(local, remote, error)
