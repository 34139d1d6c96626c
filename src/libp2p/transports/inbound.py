"""What a listener has accepted and not finished yet: the one way in, for every transport of raw connections.

    a raw connection -> admitted? -> what the transport does first -> upgraded -> handed over
                        '- refused    '- failed: released, aborted, reported

Rules:
- `Accept` is asked before anything is spent on a connection.
- Connections are upgraded side by side, so many at a time; one more is closed at once. All stages of one together
  have one deadline.
- Each outcome is reported, once. What comes to nothing is aborted, and its scope is released.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from ..connection import Accept, ConnectionUpgrader, Direction, RawConnection, Scope
from ..errors import Libp2pError, LimitExceeded
from ..io import TaskSupervisor, time_limit
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
        self._unfinished: dict[RawConnection, _Unfinished] = {}

    def take(self, raw: RawConnection) -> None:
        """Somebody has connected. Who is not admitted, or comes beyond the limit, is closed at once."""
        try:
            scope = self.admit(*self._addrs(raw))
        except Libp2pError as error:
            raw.abort(error)
            return
        self.begin(raw, scope)

    def admit(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> Scope:
        """Whether somebody may connect; what is granted is the caller's, until `begin`. Who is refused is reported.
        Raises `LimitExceeded`, and what `Accept.admit` does.
        """
        try:
            scope = self._accept.admit(local_addr, remote_addr)  # which may end another one to make room
            if len(self._unfinished) >= self._limit:
                scope.release()
                raise LimitExceeded("max_pending_inbound", scope=f"listener {local_addr}", value=self._limit)
        except Libp2pError as error:
            self._accept.connection_failed(local_addr, remote_addr, error)
            raise
        return scope

    def begin(self, raw: RawConnection, scope: Scope) -> None:
        """Upgrade `raw`, which `scope` was granted for."""
        if self._tasks.spawn(self._run(raw, scope), name=f"upgrade {raw.remote_addr}"):
            self._unfinished[raw] = unfinished = _Unfinished(raw, scope, self._unfinished)
            scope.held_by(unfinished)
        else:
            scope.release()
            raw.abort()

    def abort(self) -> None:
        """End those that are not finished, at once. Idempotent."""
        self._tasks.abort()
        for unfinished in list(self._unfinished.values()):
            unfinished.give_up()

    async def close(self) -> None:
        """The same, and wait until nothing of them is left. Idempotent."""
        self.abort()
        await self._tasks.close()

    async def _run(self, raw: RawConnection, scope: Scope) -> None:
        try:
            async with time_limit("the upgrade of an inbound connection", scope.upgrade_timeout):
                prepared = raw if self._prepare is None else await self._prepare(raw)
                connection = await self._upgrader.upgrade(prepared, Direction.INBOUND, scope=scope)
        except Exception as error:
            if not isinstance(error, Libp2pError | OSError):
                logger.exception("the upgrade of a connection from %s failed", raw.remote_addr)
            self._unfinished.pop(raw, None)
            scope.release()
            raw.abort()  # where an upgrade has failed it has aborted it already, with the reason
            self._accept.connection_failed(*self._addrs(raw), error)
        else:
            self._unfinished.pop(raw, None)  # it is no longer ours to end
            self._accept.connection_opened(connection, scope)

    def _addrs(self, raw: RawConnection) -> tuple[Multiaddr, Multiaddr]:
        if self._suffix is None:
            return raw.local_addr, raw.remote_addr
        return raw.local_addr / self._suffix, raw.remote_addr / self._suffix


class _Unfinished:
    """One of those in `among`: a `Holder`."""

    __slots__ = ("_among", "_raw", "_scope")

    is_idle = True
    is_kept = False

    def __init__(self, raw: RawConnection, scope: Scope, among: dict[RawConnection, _Unfinished]) -> None:
        self._raw = raw
        self._scope = scope
        self._among = among

    def evict(self, error: Exception) -> None:
        """See `Holder`. Its upgrade fails by that, and is reported."""
        self._among.pop(self._raw, None)
        self._raw.abort(error)

    def give_up(self) -> None:
        """Nothing comes of it."""
        self._among.pop(self._raw, None)
        self._scope.release()
        self._raw.abort()
