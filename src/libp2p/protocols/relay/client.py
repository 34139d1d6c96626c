"""Using relays: a service that makes `/p2p-circuit` a transport of its host.

    async with Host(...) as host, RelayClient(host) as relays:
        await relays.listen("/ip4/192.0.2.1/tcp/4001/p2p/RELAY")     # host.addrs has .../p2p/RELAY/p2p-circuit now
        await host.connect("/ip4/192.0.2.1/tcp/4001/p2p/RELAY/p2p-circuit/p2p/TARGET")

Rules:
- What listens here is kept for as long as the service runs: see `reservation.py`.
- Who only dials through relays needs no reservation, and serves nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from ...connection import Listener, Service
from ...host import Host
from ...identity import PeerId
from ...multiaddr import Multiaddr, is_relayed
from .config import CircuitConfig
from .reservation import CIRCUIT
from .transport import CircuitTransport, relay_of
from .wire import STOP_ID

_TAG = "relay"
"""What protects the connections to relays that we listen at."""


class RelayClient(Service):
    """Dials and listens through relays. `wall_clock` gives the Unix time in seconds."""

    def __init__(
        self, host: Host, config: CircuitConfig | None = None, *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(host)
        self._swarm = host.swarm
        self._limits = host.limits
        self.transport = CircuitTransport(host, config, wall_clock=wall_clock)
        self._listeners: list[Listener] = []
        self._protected: set[PeerId] = set()

    async def start(self) -> None:
        """Dial `/p2p-circuit` from now on, and take what relays bring."""
        self._undo.append(self._swarm.add_transport(self.transport))
        self.serve([STOP_ID], self.transport.stopped)

    async def stop(self) -> None:
        """Take no more connections through relays. Those that there are stay."""
        while self._listeners:
            await self._swarm.stop_listening(self._listeners.pop())
        self._unprotect()

    def abort(self) -> set[asyncio.Task[Any]]:
        """See `Service`."""
        for listener in self._listeners:
            listener.abort()
            self._swarm.addrs_changed(listener)
        self._unprotect()
        return super().abort()

    async def listen(self, relay: Multiaddr | str) -> Listener:
        """Take connections through `relay`, whose address has its peer id, with or without /p2p-circuit behind. Its
        connection is not closed to make room for others. Raises `ListenError`.
        """
        addr = Multiaddr(relay)
        addr = addr if is_relayed(addr) else addr / CIRCUIT
        listener = await self._swarm.listen(addr)
        self._listeners.append(listener)
        if (found := relay_of(addr)) is not None:
            self._protected.add(found[1])
            self._limits.protect(found[1], _TAG)
        return listener

    def _unprotect(self) -> None:
        while self._protected:
            self._limits.unprotect(self._protected.pop(), _TAG)
