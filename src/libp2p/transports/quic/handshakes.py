"""The inbound handshakes under way at one socket: how long each may take, what it has been granted, whose it is."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

from ...connection import Scope
from .address import network
from .config import QuicConfig
from .datagrams import SocketAddress
from .driver import Driver
from .service import Service

_MAX_QUEUED = 4
"""Datagrams of a handshake that are kept until it may begin."""


class PendingHandshake:
    """One that a dialer has begun: the `Holder` of its connection."""

    is_idle = True
    is_kept = False

    def __init__(self, scope: Scope, timer: asyncio.TimerHandle | None = None) -> None:
        self.scope = scope
        """What `Accept` has granted; released by who removes the handshake, or handed on."""
        self.service: Service | None = None
        """What the dialer asks for; None until it has said so."""
        self.timer = timer
        self.driver: Driver | None = None
        """Who runs it, until it is over."""

    def evict(self, error: Exception) -> None:
        """See `Holder`."""
        if self.driver is not None:
            self.driver.abort(str(error), error)


class QueuedHandshake:
    """One that waits for its turn to begin: the `Holder` of its connection. `forget` is told where it won't."""

    is_idle = True
    is_kept = False

    def __init__(self, first: bytes, forget: Callable[[], None]) -> None:
        self.datagrams = [first]
        """What has come of it."""
        self._forget = forget

    def add(self, datagram: bytes) -> None:
        """One more has come: a first message may need several."""
        if len(self.datagrams) < _MAX_QUEUED:
            self.datagrams.append(datagram)

    def evict(self, error: Exception) -> None:  # noqa: ARG002
        """See `Holder`. Nobody was answered yet."""
        self._forget()

    def give_up(self) -> None:
        """Nothing comes of it."""
        self._forget()


class Handshakes:
    """Those of one socket, and how many of them come from where."""

    def __init__(self, settings: QuicConfig) -> None:
        self._settings = settings
        self._by_driver: dict[Driver, PendingHandshake] = {}
        self._queued = 0
        self._from: Counter[bytes] = Counter()

    def __contains__(self, driver: Driver) -> bool:
        return driver in self._by_driver

    def __len__(self) -> int:
        return len(self._by_driver)

    def __iter__(self) -> Iterator[tuple[Driver, PendingHandshake]]:
        return iter(list(self._by_driver.items()))

    def queued(self, addr: SocketAddress, change: int) -> None:
        """So many more handshakes with `addr` wait to begin."""
        self._queued += change
        self._from[network(addr)] += change
        if not self._from[network(addr)]:
            del self._from[network(addr)]

    def add(self, driver: Driver, handshake: PendingHandshake) -> None:
        """`driver` runs this handshake."""
        self._by_driver[driver] = handshake
        handshake.driver = driver
        handshake.scope.held_by(handshake)
        self._from[network(driver.addr)] += 1

    def remove(self, driver: Driver) -> PendingHandshake | None:
        """It is over, or was none."""
        if (handshake := self._by_driver.pop(driver, None)) is None:
            return None
        handshake.driver = None
        if handshake.timer is not None:
            handshake.timer.cancel()
        self._from -= Counter((network(driver.addr),))
        return handshake

    def pending_for(self, addr: SocketAddress) -> int:
        """How many are under way, as far as it matters to `addr`: who has too many of them is out of turn."""
        if self._from[network(addr)] >= self._settings.max_pending_per_ip:
            return self._settings.max_pending_inbound
        return len(self._by_driver) + self._queued
