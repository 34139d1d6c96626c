"""Hole punches by QUIC: waiting for a peer that dials us through the NAT before us, which we keep open (DCUtR).

"B starts sending UDP packets filled with random bytes to A's address. [...] at random intervals between 10 and 200 ms"
(specs: relay/DCUtR.md). Each makes our NAT let in what comes from there.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...identity import PeerId
from ...io import time_limit

if TYPE_CHECKING:
    from .connection import QuicConnection

_INTERVAL = (0.010, 0.200)
"""Seconds between two datagrams."""

_SIZE = 64
_FIRST_BYTE = range(4, 16)
"""By its first byte a datagram belongs to none of the protocols that may share a port (RFC 9443, section 3)."""


class Punches:
    """The hole punches of one transport, each of which may take `timeout` seconds."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._waiting: dict[PeerId, list[asyncio.Future[QuicConnection]]] = {}

    async def punch(self, peer: PeerId, send: Callable[[bytes], None], *, dice: random.Random) -> QuicConnection:
        """Send datagrams to where `peer` is said to be until it has connected to us. Raises `StageTimeout`."""
        connected: asyncio.Future[QuicConnection] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(peer, []).append(connected)
        try:
            async with time_limit("QUIC hole punch", self._timeout):
                while not connected.done():
                    send(bytes((dice.choice(_FIRST_BYTE),)) + dice.randbytes(_SIZE - 1))
                    await asyncio.wait((connected,), timeout=dice.uniform(*_INTERVAL))
        except BaseException:
            if connected.done():
                connected.result().abort("the hole punch was given up")
            raise
        finally:
            self._forget(peer, connected)
        return connected.result()

    def claim(self, connection: QuicConnection) -> bool:
        """Give a new inbound `connection` to who waits for its peer; whether somebody does."""
        waiting = self._waiting.get(connection.remote_peer)
        if not waiting:
            return False
        connected = waiting[0]
        self._forget(connection.remote_peer, connected)
        connected.set_result(connection)
        return True

    def _forget(self, peer: PeerId, connected: asyncio.Future[QuicConnection]) -> None:
        waiting = self._waiting.get(peer, [])
        if connected in waiting:
            waiting.remove(connected)
            if not waiting:
                del self._waiting[peer]
