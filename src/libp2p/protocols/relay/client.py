"""Using relays: a service that makes `/p2p-circuit` a transport of its host.

    async with Host(...) as host, RelayClient(host) as relays:
        await relays.listen("/ip4/192.0.2.1/tcp/4001/p2p/RELAY")     # host.addrs has .../p2p/RELAY/p2p-circuit now
        await host.connect("/ip4/192.0.2.1/tcp/4001/p2p/RELAY/p2p-circuit/p2p/TARGET")

Rules:
- What listens here is kept for as long as the service runs: see `reservation.py`.
- Who only dials through relays needs no reservation.
- Where the machine's addresses change, relays are asked whether they are still there, and listened at anew.
- Relayed connections are replaced by direct ones (`HolePuncher`), unless the host does that already, or is told not to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from ...connection import Listener, Service
from ...errors import Libp2pError
from ...host import Host
from ...host.events import AddrsChanged
from ...identity import PeerId
from ...io import time_limit
from ...multiaddr import Multiaddr, is_relayed
from ..dcutr import PROTOCOL_ID as DCUTR_ID
from ..dcutr import HolePunchConfig, HolePuncher
from ..observed import ObservedAddrs
from .config import CircuitConfig
from .reservation import CIRCUIT
from .transport import CircuitTransport, relay_of
from .wire import STOP_ID

_TAG = "relay"
"""What protects the connections to relays that we listen at."""


class RelayClient(Service):
    """Dials and listens through relays, and replaces relayed connections by direct ones; not so with `hole_punching`
    False. `wall_clock` gives the Unix time in seconds.
    """

    def __init__(
        self,
        host: Host,
        config: CircuitConfig | None = None,
        *,
        hole_punching: HolePunchConfig | bool = True,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(host)
        self._punching: list[Service] = []
        if hole_punching:
            observed = ObservedAddrs(host, announce=False)
            how = hole_punching if isinstance(hole_punching, HolePunchConfig) else None
            self._punching = [observed, HolePuncher(host, observed, how)]
        self._swarm = host.swarm
        self._limits = host.limits
        self.transport = CircuitTransport(host, config, wall_clock=wall_clock)
        self._ping = host.ping
        self._probe_timeout = (config or CircuitConfig()).probe_timeout
        self._machine: frozenset[Multiaddr] = frozenset()
        self._listeners: dict[PeerId, Listener] = {}

    async def start(self) -> None:
        """Dial `/p2p-circuit` from now on, and take what relays bring."""
        self._undo.append(self._swarm.add_transport(self.transport))
        self.serve([STOP_ID], self.transport.stopped)
        self._machine = frozenset(self.host.listen_addrs)
        self.follow(AddrsChanged, self._addrs_changed)
        if DCUTR_ID in self.host.protocols:
            self._punching.clear()
        for service in self._punching:
            await service.__aenter__()

    async def stop(self) -> None:
        """Take no more connections through relays. Those that there are stay."""
        for relay in list(self._listeners):
            await self.leave(relay)
        for service in reversed(self._punching):
            await service.close()

    def abort(self) -> set[asyncio.Task[Any]]:
        """See `Service`."""
        while self._listeners:
            relay, listener = self._listeners.popitem()
            self._limits.unprotect(relay, _TAG)
            listener.abort()
            self._swarm.addrs_changed(listener)
        ending = super().abort()
        for service in reversed(self._punching):
            ending |= service.abort()
        return ending

    async def listen(self, relay: Multiaddr | str) -> Listener:
        """Take connections through `relay`, whose address has its peer id, with or without /p2p-circuit behind. Its
        connection is not closed to make room for others. Raises `ListenError`.
        """
        addr = Multiaddr(relay)
        addr = addr if is_relayed(addr) else addr / CIRCUIT
        listener = await self._swarm.listen(addr)
        if (found := relay_of(addr)) is not None:
            self._listeners[found[1]] = listener
            self._limits.protect(found[1], _TAG)
        return listener

    async def leave(self, relay: PeerId) -> None:
        """Take no more connections through `relay`. Does nothing where none are taken."""
        listener = self._listeners.pop(relay, None)
        if listener is not None:
            self._limits.unprotect(relay, _TAG)
            await self._swarm.stop_listening(listener)

    def _addrs_changed(self, _: AddrsChanged) -> None:
        """Where the machine's addresses are others, connections to relays may be dead without a word."""
        before, self._machine = self._machine, frozenset(self.host.listen_addrs)
        if before != self._machine:
            for relay in self._listeners:
                self.spawn(self._probe(relay), name=f"probe of {relay}")

    async def _probe(self, relay: PeerId) -> None:
        for connection in self.host.connections_to(relay):
            try:
                async with (
                    time_limit("a relay's answer to a ping", self._probe_timeout),
                    self._ping.open(connection) as pinger,
                ):
                    await pinger.ping()
            except (Libp2pError, OSError):
                connection.abort("the relay did not answer after this machine's addresses have changed")
