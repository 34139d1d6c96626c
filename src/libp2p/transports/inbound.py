"""What a listener has accepted and not finished yet: the one way in, for every transport of raw connections.

    a raw connection -> admitted? -> what the transport does first -> upgraded -> handed over
                        '- refused    '- failed: released, aborted, reported

Rules:
- `Accept` is asked before anything is spent on a connection.
- Connections are upgraded side by side, so many at a time; one more is closed at once.
- Each outcome is reported, once. What comes to nothing is aborted, and its scope is released.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from ..connection import Accept, ConnectionUpgrader, Direction, RawConnection, Scope
from ..errors import Libp2pError, LimitExceeded
from ..io import TaskSupervisor
from ..multiaddr import Multiaddr

logger = logging.getLogger(__name__)

Prepare = Callable[[RawConnection], Awaitable[RawConnection]]
"""What a transport does with a connection before it is upgraded; it aborts what it is given where it fails."""


class InboundUpgrades:
    """Makes connections of raw ones, at most `limit` at a time, and tells `accept`.

    `addr` names the listener; `prepare` comes before the upgrade; `suffix` is what the addresses of its result have
    behind those of the raw connections, for reports of failures.
    """

    def __init__(
        self,
        addr: Multiaddr,
        upgrader: ConnectionUpgrader,
        accept: Accept,
        *,
        limit: int,
        prepare: Prepare | None = None,
        suffix: Multiaddr | None = None,
    ) -> None:
        self._upgrader = upgrader
        self._accept = accept
        self._limit = limit
        self._prepare = prepare
        self._suffix = suffix
        self._tasks = TaskSupervisor(f"listener {addr}")
        self._unfinished: dict[RawConnection, Scope] = {}

    def take(self, raw: RawConnection) -> None:
        """Somebody has connected. Who is not admitted, or comes beyond the limit, is closed at once."""
        try:
            if len(self._tasks) >= self._limit:
                raise LimitExceeded("max_pending_inbound", scope=f"listener {raw.local_addr}", value=self._limit)
            scope = self._accept.admit(*self._addrs(raw))
        except Libp2pError as error:
            raw.abort(error)
            self._accept.connection_failed(*self._addrs(raw), error)
            return
        if task := self._tasks.spawn(self._run(raw, scope), name=f"upgrade {raw.remote_addr}"):
            self._unfinished[raw] = scope
            task.add_done_callback(lambda _: self._unfinished.pop(raw, None))
        else:
            _give_up(raw, scope)

    def abort(self) -> None:
        """End those that are not finished, at once. Idempotent."""
        self._tasks.abort()
        for raw, scope in self._unfinished.items():
            _give_up(raw, scope)

    async def close(self) -> None:
        """The same, and wait until nothing of them is left. Idempotent."""
        self.abort()
        await self._tasks.close()

    async def _run(self, raw: RawConnection, scope: Scope) -> None:
        try:
            prepared = raw if self._prepare is None else await self._prepare(raw)
            connection = await self._upgrader.upgrade(prepared, Direction.INBOUND, scope=scope)
        except Exception as error:
            if not isinstance(error, Libp2pError | OSError):
                logger.exception("the upgrade of a connection from %s failed", raw.remote_addr)
            _give_up(raw, scope)
            self._accept.connection_failed(*self._addrs(raw), error)
        else:
            del self._unfinished[raw]  # it is no longer ours to end
            self._accept.connection_opened(connection, scope)

    def _addrs(self, raw: RawConnection) -> tuple[Multiaddr, Multiaddr]:
        if self._suffix is None:
            return raw.local_addr, raw.remote_addr
        return raw.local_addr / self._suffix, raw.remote_addr / self._suffix


def _give_up(raw: RawConnection, scope: Scope) -> None:
    """Nothing comes of `raw`. Where an upgrade has failed it has aborted it already, with the reason."""
    scope.release()
    raw.abort()
