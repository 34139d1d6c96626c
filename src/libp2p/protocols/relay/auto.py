"""AutoRelay: a host that strangers can't dial is reachable through relays, which it finds by itself.

    async with RelayClient(host) as client, AutoRelay(host, client): ...                      # among connected peers
    AutoRelay(host, client, relays=["/ip4/192.0.2.1/tcp/4001/p2p/RELAY"])                     # these, and others
    AutoRelay(host, client, source=lambda number: discovery.find_peers("relays", limit=number))

Which relays, and when, is decided by `choice.py`; here its decisions are carried out.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeAlias

from ...connection import Direction, Service
from ...errors import InvalidMultiaddr, Libp2pError
from ...host import Host
from ...host.events import ReachabilityChanged
from ...host.identify import PeerIdentified, PeerProtocolsChanged
from ...identity import PeerId
from ...multiaddr import Multiaddr, is_relayed
from ...routing import PeerInfo
from .choice import Candidate, Origin, RelayChoice
from .client import RelayClient
from .config import AutoRelayConfig
from .events import ReservationLost, Reserved
from .transport import relay_of
from .wire import HOP_ID

logger = logging.getLogger(__name__)

PeerSource: TypeAlias = Callable[[int], AsyncIterator[PeerInfo]]
"""Finds so many peers that may be relays: a DHT, a rendezvous point, a list. What it raises is logged."""


class AutoRelay(Service):
    """Keeps reservations at relays for as long as the host needs them. `relays` are addresses that name the relay;
    `dice` gives numbers from 0 to 1. Raises `InvalidMultiaddr` for an address that names none.
    """

    def __init__(
        self,
        host: Host,
        client: RelayClient,
        config: AutoRelayConfig | None = None,
        *,
        relays: Iterable[Multiaddr | str] = (),
        source: PeerSource | None = None,
        dice: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(host)
        self.config = config or AutoRelayConfig()
        self._client = client
        self._given = [_named(Multiaddr(relay)) for relay in relays]
        self._source = source
        self._dice = dice
        self._choice = RelayChoice(self.config, dice, 0)
        self._changed = asyncio.Event()
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    @property
    def relays(self) -> tuple[PeerId, ...]:
        """Those that the host listens at by this service, or is asking now."""
        return self._choice.taken

    async def start(self) -> None:
        """Look for relays."""
        self._choice.started = _now()
        for peer, addr in self._given:
            self._choice.found(peer, addr, Origin.GIVEN, _now())
        self.follow(PeerIdentified, lambda event: self._look_at(event.peer))
        self.follow(PeerProtocolsChanged, lambda event: self._look_at(event.peer))
        self.follow(Reserved, self._reserved)
        self.follow(ReservationLost, self._lost)
        self.follow(ReachabilityChanged, self._reachability_changed)
        for peer in {connection.remote_peer for connection in self.host.connections}:
            self._look_at(peer)
        self.spawn(self._run(), name="relays")

    async def stop(self) -> None:
        """Give the reservations back."""
        for peer in self._choice.taken:
            await self._client.leave(peer)

    # What happens

    def _look_at(self, peer: PeerId) -> None:
        """It is known anew what `peer` speaks."""
        if HOP_ID not in self.host.peerstore.protocols(peer):
            self._choice.no_relay(peer)
            return
        direct = [one for one in self.host.connections_to(peer) if not is_relayed(one.remote_addr)]
        if not direct:
            return
        dialed = [one.remote_addr for one in direct if one.direction is Direction.OUTBOUND]
        known = [addr for addr in self.host.peerstore.addrs(peer) if not is_relayed(addr)]
        for addr in (*dialed, *known):
            self._choice.found(peer, addr.without_peer().with_peer(str(peer)), Origin.CONNECTED, _now())
            self._changed.set()
            return

    def _reserved(self, event: Reserved) -> None:
        self._choice.reserved(event.relay)
        self._changed.set()

    def _lost(self, event: ReservationLost) -> None:
        self._choice.lost(event.relay, _now())
        self._changed.set()

    def _reachability_changed(self, event: ReachabilityChanged) -> None:
        self._choice.reachability_changed(event.reachability, _now())
        self._changed.set()

    # What is done about it

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            decision = self._choice.decide(_now())
            for peer in decision.leave:
                await self._client.leave(peer)
            for candidate in decision.listen:
                self.spawn(self._listen(candidate), name=f"reservation at {candidate.peer}")
            wake = decision.wake
            if decision.find and self._source is not None:
                wake = min(wake or float("inf"), self._find(self._source, decision.find))
            try:
                async with asyncio.timeout_at(wake):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _listen(self, candidate: Candidate) -> None:
        try:
            await self._client.listen(candidate.addr)
        except (Libp2pError, OSError) as error:
            logger.debug("no reservation at %s: %s", candidate.addr, error)
            self._choice.failed(candidate.peer, _now())
            self._changed.set()
        else:
            if candidate.peer not in self._choice.taken:  # it was left meanwhile
                await self._client.leave(candidate.peer)

    def _find(self, source: PeerSource, number: int) -> float:
        """Ask the source, unless it was asked just now; return when it may be asked again."""
        now = _now()
        at = self._asked_at + self.config.source_interval
        if now >= at and (self._asking is None or self._asking.done()):
            self._asked_at, at = now, now + self.config.source_interval
            self._asking = self.spawn(self._ask(source, number), name="a source of relays")
        return max(at, now + 1)

    async def _ask(self, source: PeerSource, number: int) -> None:
        try:
            async with asyncio.timeout(self.config.source_timeout):
                left = number
                async for info in source(number):
                    left -= self._take(info)
                    if left <= 0:
                        break
        except (Libp2pError, OSError, TimeoutError) as error:
            logger.debug("the source of relays has failed: %r", error)
        self._changed.set()

    def _take(self, info: PeerInfo) -> bool:
        """The source has named a peer; whether it may be a relay."""
        addrs = [addr for addr in info.addrs if not is_relayed(addr)]
        if not addrs or info.peer == self.host.id:
            return False
        addr = addrs[int(self._dice() * len(addrs)) % len(addrs)]
        self._choice.found(info.peer, addr.without_peer().with_peer(str(info.peer)), Origin.SOURCE, _now())
        return True


def _named(addr: Multiaddr) -> tuple[PeerId, Multiaddr]:
    """The relay at `addr`, with or without /p2p-circuit behind."""
    found = relay_of(addr if is_relayed(addr) else addr / "p2p-circuit")
    if found is None:
        raise InvalidMultiaddr(f"{addr} names no relay, as /p2p/ID at its end does")
    return found[1], found[0]


def _now() -> float:
    return asyncio.get_running_loop().time()
