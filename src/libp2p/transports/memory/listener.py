"""The listener of in-process transports: upgrades what comes in, side by side, and reports how it went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ...connection import Accept, Listener, RawConnection
from ...io import TaskSupervisor
from ...multiaddr import Multiaddr

if TYPE_CHECKING:
    from ...upgrader import Upgrader

BACKLOG = 128
"""Connections of one listener that may be in the middle of their upgrade; more are refused."""


class InboundListener(Listener):
    """Gets raw connections by `incoming`; calls `on_close` once, when it is closed."""

    def __init__(
        self, addrs: Sequence[Multiaddr], upgrader: Upgrader, accept: Accept, on_close: Callable[[], None]
    ) -> None:
        self._addrs = tuple(addrs)
        self._upgrader = upgrader
        self._accept = accept
        self._on_close = on_close
        self._supervisor = TaskSupervisor(f"listener {addrs[0]}")
        self._upgrading: set[RawConnection] = set()
        self._closed = False

    @property
    def addrs(self) -> Sequence[Multiaddr]:
        return () if self._closed else self._addrs

    def incoming(self, raw: RawConnection) -> None:
        """Somebody has connected."""
        if self._closed or len(self._upgrading) >= BACKLOG:
            raw.abort(ConnectionRefusedError(f"{raw.local_addr} takes no more connections"))
            return
        self._upgrading.add(raw)
        self._supervisor.spawn(self._upgrade(raw), name=f"upgrade {raw.remote_addr}")

    async def _upgrade(self, raw: RawConnection) -> None:
        try:
            connection = await self._upgrader.upgrade_inbound(raw)
        except Exception as error:
            self._accept.connection_failed(raw.local_addr, raw.remote_addr, error)
        else:
            self._accept.connection_opened(connection)
        self._upgrading.discard(raw)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._on_close()
        await self._supervisor.close()
        while self._upgrading:
            self._upgrading.pop().abort()
