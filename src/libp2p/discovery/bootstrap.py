"""Bootstrap: connections to peers that were named beforehand, as long as there are few others.

Rules:
- While the host has fewer connections than `min_connections`, the peers named are dialed, side by side, those that
  failed only after they have rested.
- Known networks' lists are data: `AMINO_BOOTSTRAP`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from ..connection import Service, ServiceHost
from ..errors import InvalidInput, Libp2pError
from ..identity import PeerId
from ..multiaddr import Multiaddr
from ..routing import PeerDiscovered, PeerInfo
from ..swarm.backoff import Backoff
from ..swarm.events import ConnectionLost

logger = logging.getLogger(__name__)

AMINO_BOOTSTRAP = (
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
)
"""The public network of IPFS: where its own nodes begin."""


@dataclass(frozen=True, slots=True)
class BootstrapConfig:
    """Settings of bootstrap; times in seconds."""

    min_connections: int = 4
    """With fewer connections the peers named are dialed."""
    interval: float = 30.0
    """Between two looks at how many there are."""
    max_parallel: int = 8
    """Dials at a time."""


class Bootstrap(Service):
    """Keeps the host connected. `peers` are addresses with /p2p at their end. Raises `InvalidInput` for others."""

    def __init__(
        self, host: ServiceHost, peers: Iterable[Multiaddr | str], config: BootstrapConfig | None = None
    ) -> None:
        super().__init__(host)
        self.config = config or BootstrapConfig()
        self._peers: dict[PeerId, list[Multiaddr]] = {}
        for one in peers:
            addr = Multiaddr(one)
            if addr.peer_id_text is None:
                raise InvalidInput(f"a bootstrap peer needs its id at the end of its address: {addr}")
            self._peers.setdefault(PeerId.from_string(addr.peer_id_text), []).append(addr)
        self._backoff = Backoff()
        self._lost = asyncio.Event()

    async def start(self) -> None:
        """Tell of the peers, and dial them in the background."""
        for peer, addrs in self._peers.items():
            info = PeerInfo(peer, tuple(addr.without_peer() for addr in addrs))
            self.host.events.emit(PeerDiscovered(info, "bootstrap"))
        self.follow(ConnectionLost, lambda _: self._lost.set())
        self.spawn(self._run(), name="keeping connections")

    async def _run(self) -> None:
        while True:
            await self._dial_due()
            self._lost.clear()
            try:
                async with asyncio.timeout(self.config.interval):
                    await self._lost.wait()
            except TimeoutError:
                pass

    async def _dial_due(self) -> None:
        now = asyncio.get_running_loop().time()
        due = iter(
            [
                peer
                for peer in self._peers
                if not self.host.connections_to(peer) and self._backoff.rests_until(peer, now) is None
            ]
        )

        async def dial() -> None:
            for peer in due:
                if len(self.host.connections) >= self.config.min_connections:
                    return
                await self._dial(peer)

        await asyncio.gather(*(dial() for _ in range(self.config.max_parallel)))

    async def _dial(self, peer: PeerId) -> None:
        for addr in self._peers[peer]:
            try:
                await self.host.connect(addr)
            except (Libp2pError, OSError) as error:
                logger.debug("bootstrap peer %s was not reached: %s", addr, error)
            else:
                self._backoff.succeeded(peer)
                return
        self._backoff.failed(peer, asyncio.get_running_loop().time())
