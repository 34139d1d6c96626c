"""Connects to peers that others have offered when they pruned us, and to direct peers.

Rules: so many at a time, so many in wait. A signed record must be of the peer that it is offered for; an offer without
one is worth an attempt where we know addresses of the peer ourselves. Who is far away leads us to no address near us.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from ...connection.service import ServiceHost
from ...errors import InvalidPeerId, InvalidRecord, Libp2pError
from ...identity import PeerId
from ...multiaddr import Reach, reach_of_remote
from ...peerstore import TEMP_ADDR_TTL
from .config import GossipSubConfig
from .wire import PxPeer

logger = logging.getLogger(__name__)


class Connector:
    """A queue of peers, and tasks that connect to them."""

    def __init__(
        self, host: ServiceHost, config: GossipSubConfig, spawn: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        self._host = host
        self._config = config
        self._spawn = spawn
        self._waiting: deque[PeerId] = deque()
        self._running = 0

    def offered(self, px: PxPeer, by: PeerId) -> None:
        """Connect to a peer that another one, which is connected to us, has offered, if that makes sense."""
        try:
            peer = PeerId.from_bytes(px.peer)
            if peer == self._host.id or self._host.connections_to(peer):
                return
            if px.record is not None:
                told = max(
                    (reach_of_remote(connection.remote_addr) for connection in self._host.connections_to(by)),
                    default=Reach.PUBLIC,
                )
                self._host.peerstore.consume_peer_record(px.record, TEMP_ADDR_TTL, told=told, expected_peer=peer)
        except (InvalidPeerId, InvalidRecord) as error:
            logger.debug("an offered peer is not taken: %s", error)
            return
        if self._host.peerstore.addrs(peer):
            self.connect(peer)

    def connect(self, peer: PeerId) -> None:
        """Connect to a peer when it is its turn; where too many wait it is left out."""
        if peer in self._waiting or len(self._waiting) >= self._config.max_pending_connects:
            return
        self._waiting.append(peer)
        if self._running < self._config.connectors:
            self._running += 1
            self._spawn(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting:
                peer = self._waiting.popleft()
                try:
                    async with asyncio.timeout(self._config.connect_timeout):
                        await self._host.connect(peer)
                except (Libp2pError, TimeoutError) as error:
                    logger.debug("%s could not be connected to: %s", peer, error)
        finally:
            self._running -= 1
