"""A place at one relay, kept for as long as it is wanted: asked for, renewed, and asked for again when it was lost.

    ask -> held -- renew_at of its time, or the relay is gone --> ask -> held ...
      '- refused, unreachable: a pause, doubled each time up to max_pause, then ask again

Rules:
- Nothing is withdrawn while it is renewed: only a relay that is gone, or refuses, takes the addresses away.
- A voucher is not required; a forged one refuses the whole reservation.
- The relay's clock may be wrong: its times are believed within bounds.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from ...connection import Connection, ServiceHost
from ...errors import ConnectionClosed, Libp2pError, RemoteProtocolError
from ...identity import PeerId
from ...io import time_limit
from ...multiaddr import Multiaddr, is_relayed, may_share, reach_of_remote
from ...swarm.events import ConnectionLost
from .config import CircuitConfig
from .core import RelayRefused
from .events import ReservationLost, Reserved
from .voucher import Voucher
from .wire import HOP_ID, MAX_MESSAGE, Answer, Reservation, Reserve, Status, decode_hop, encode_hop

logger = logging.getLogger(__name__)

CIRCUIT = Multiaddr("/p2p-circuit")

_MIN_TTL, _MAX_TTL = 120.0, 24 * 3600.0
"""Seconds between which a reservation's time is believed to be."""

_MAX_ADDRS = 16
"""Addresses of a relay that are kept."""


class HeldReservation:
    """The place at the relay `peer`, which is connected to by `target`. `changed` is called when `addrs` have."""

    def __init__(
        self,
        host: ServiceHost,
        target: Multiaddr,
        peer: PeerId,
        config: CircuitConfig,
        changed: Callable[[], None],
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.peer = peer
        self.addrs: tuple[Multiaddr, ...] = ()
        """Where the relay takes connections for us; they end in /p2p-circuit. Empty while there is no reservation."""
        self._host = host
        self._target = target
        self._config = config
        self._changed = changed
        self._wall_clock = wall_clock
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        self._unfollow = host.events.on(ConnectionLost, self._connection_lost)

    async def acquire(self) -> float:
        """Ask the relay; return how many seconds the reservation holds. Raises `RelayRefused`, `InvalidRecord` for a
        forged voucher, `RemoteProtocolError`, and what connecting and opening a stream may raise.
        """
        connection = await self._host.connect(self._target)
        if connection.is_limited or is_relayed(connection.remote_addr):
            raise RelayRefused(Status.PERMISSION_DENIED, "no reservations over relayed connections")
        async with (
            time_limit("the relay's answer to a reservation", self._config.reserve_timeout),
            await self._host.new_stream(connection, HOP_ID) as stream,
        ):
            await stream.write_message(encode_hop(Reserve()))
            answer = decode_hop(await stream.read_message(limit=MAX_MESSAGE, what="hop message"))
        if not isinstance(answer, Answer):
            raise RemoteProtocolError("the relay answered with a request")
        if answer.status != Status.OK or answer.reservation is None:
            raise RelayRefused(answer.status, f"the relay {self.peer} gives no reservation")
        if answer.reservation.voucher:
            Voucher.open(answer.reservation.voucher, relay=self.peer, peer=self._host.id)
        if connection.is_closed:
            raise ConnectionClosed("the relay has left", by="remote")
        self._connection = connection
        self._lost.clear()
        self._set_addrs(self._addrs_of(answer.reservation, connection))
        seconds = min(max(answer.reservation.expire - self._wall_clock(), _MIN_TTL), _MAX_TTL)
        self._host.events.emit(Reserved(self.peer, self.addrs, seconds))
        return seconds

    async def keep(self, seconds: float) -> None:
        """Keep it for ever; it holds for `seconds` now."""
        config = self._config
        while True:
            try:
                async with asyncio.timeout(seconds * config.renew_at):
                    await self._lost.wait()
            except TimeoutError:
                pass
            deadline = _now() + seconds * (1 - config.renew_at)
            pause = config.min_pause
            while True:
                try:
                    seconds = await self.acquire()
                    break
                except (Libp2pError, OSError) as error:
                    if self._lost.is_set() or _now() >= deadline or isinstance(error, RelayRefused):
                        self._give_up(error)
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - not all come back at once
                pause = min(2 * pause, config.max_pause)

    def close(self) -> None:
        """Follow the relay no more. Idempotent."""
        self._unfollow()
        self.addrs = ()

    def _give_up(self, error: Exception) -> None:
        logger.debug("no reservation at %s: %s", self.peer, error)
        self._host.events.emit(ReservationLost(self.peer, error))
        self._set_addrs(())

    def _connection_lost(self, event: ConnectionLost) -> None:
        if event.connection is self._connection:
            self._lost.set()

    def _addrs_of(self, reservation: Reservation, connection: Connection) -> tuple[Multiaddr, ...]:
        """Where the relay takes connections: the address that leads to it from here, then those that it names."""
        reach = reach_of_remote(connection.remote_addr)
        named = [
            addr.without_peer()
            for addr in reservation.addrs
            if addr.peer_id_text in (None, str(self.peer)) and not is_relayed(addr) and may_share(addr, reach)
        ]
        dialed = self._target.without_peer()
        relays = dict.fromkeys((*((dialed,) if len(dialed) else ()), *named))
        if not relays:  # known by its id alone, and silent
            relays = dict.fromkeys([connection.remote_addr.without_peer()])
        return tuple(addr.with_peer(str(self.peer)) / CIRCUIT for addr in relays)[:_MAX_ADDRS]

    def _set_addrs(self, addrs: tuple[Multiaddr, ...]) -> None:
        if addrs != self.addrs:
            self.addrs = addrs
            self._changed()


def _now() -> float:
    return asyncio.get_running_loop().time()
