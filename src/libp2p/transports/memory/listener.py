"""The listener of in-process transports."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...connection import Accept, Listener, RawConnection, TransportContext
from ...multiaddr import Multiaddr
from ..inbound import InboundUpgrades

MAX_PENDING_INBOUND = 2048
"""Connections of one listener that may be in the handshake at a time, unless a transport says otherwise."""


class InProcessListener(Listener):
    """Gets raw connections by `incoming`; calls `on_close` once, when it is closed."""

    def __init__(
        self,
        addrs: Sequence[Multiaddr],
        context: TransportContext,
        accept: Accept,
        *,
        limit: int,
        on_close: Callable[[], None],
    ) -> None:
        self._addrs = tuple(addrs)
        self._upgrades = InboundUpgrades(addrs[0], context.upgrader, accept, limit=limit)
        self._on_close = on_close
        self._closed = False

    @property
    def addrs(self) -> Sequence[Multiaddr]:
        return () if self._closed else self._addrs

    def incoming(self, raw: RawConnection) -> None:
        """Somebody has connected."""
        if self._closed:
            raw.abort(ConnectionRefusedError(f"{raw.local_addr} takes no more connections"))
        else:
            self._upgrades.take(raw)

    def abort(self) -> None:
        if not self._closed:
            self._closed = True
            self._on_close()
        self._upgrades.abort()

    async def close(self) -> None:
        self.abort()
        await self._upgrades.close()
