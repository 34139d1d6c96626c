"""Keeping the table: who comes in, who leaves, and lookups that fill it. Spec: kad-dht/README.md, "Bootstrap process".

Rules:
- A peer that says by identify that it serves the protocol is asked a question first (FIND_NODE for ourselves): who does
  not answer is not taken. Checks are bounded, and made only for peers that the table would take.
- A peer that stops to serve the protocol leaves.
- At the start, and then at each refresh: a lookup for ourselves, and for a key in each bucket that there is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ...connection import Connection
from ...errors import Libp2pError
from ...host.identify import IdentifyInfo, PeerIdentified, PeerUpdated
from ...identity import PeerId
from ...multiaddr import Multiaddr
from ...routing import unrouted
from .diversity import group_of
from .keys import key_near, peer_position
from .node import Node
from .table import Admission
from .wire import Message, MessageType

logger = logging.getLogger(__name__)


class Maintenance:
    """Keeps the table filled with peers that answer. `spawn` runs a coroutine in the background."""

    def __init__(self, node: Node, spawn: Callable[[Coroutine[Any, Any, Any], str], object]) -> None:
        self._node = node
        self._spawn = spawn
        self._waiting: dict[PeerId, Connection] = {}
        self._checking = 0
        self.refreshed = asyncio.Event()
        """Set when the first refresh has ended."""

    def identified(self, event: PeerIdentified | PeerUpdated) -> None:
        """A peer has said what it serves."""
        self._consider(event.connection, event.info)

    def _consider(self, connection: Connection, info: IdentifyInfo) -> None:
        node, peer = self._node, info.peer
        if node.config.protocol not in info.protocols:
            if node.table.remove(peer):
                logger.debug("%s serves the DHT no more", peer)
            return
        now = asyncio.get_running_loop().time()
        if (
            not node.config.scope.admits(connection.remote_addr)
            or node.table.would_admit(peer, group_of(connection.remote_addr), now) is not Admission.ADDED
            or len(self._waiting) >= node.config.max_waiting_checks
        ):
            return
        self._waiting[peer] = connection
        if self._checking < node.config.max_checks:
            self._checking += 1
            self._spawn(self._check(), "checking peers for the table")

    async def _check(self) -> None:
        """Check the peers that wait, one after the other."""
        try:
            while self._waiting:
                peer = next(iter(self._waiting))
                connection = self._waiting.pop(peer)
                now = asyncio.get_running_loop().time()
                group = group_of(connection.remote_addr)
                if self._node.table.would_admit(peer, group, now) is Admission.ADDED:
                    await self.ask_for_life(peer)
        finally:
            self._checking -= 1

    async def ask_for_life(self, peer: PeerId) -> bool:
        """Ask `peer` for peers near to us: it is added to the table, or removed; whether it answered."""
        node = self._node
        try:
            answer = await node.messenger.request(peer, Message(MessageType.FIND_NODE, node.host.id.to_bytes()))
        except (Libp2pError, OSError) as error:
            logger.debug("%s does not serve the DHT: %s", peer, error)
            node.heard_from(peer, None)
            return False
        node.heard_from(peer, answer.connection)
        return True

    async def run(self) -> None:
        """Bootstrap, then refresh for ever."""
        config, loop = self._node.config, asyncio.get_running_loop()
        next_refresh = loop.time()
        while True:
            if len(self._node.table) < config.min_peers:
                await self.bootstrap()
            if loop.time() >= next_refresh or len(self._node.table) < config.min_peers:
                await self.refresh()
                next_refresh = loop.time() + config.refresh_interval
            self.refreshed.set()
            await self.revive()  # behind the refresh, which has asked most of them
            few = len(self._node.table) < config.min_peers
            await asyncio.sleep(config.bootstrap_interval if few else max(0.0, next_refresh - loop.time()))

    async def bootstrap(self) -> None:
        """Ask all bootstrap peers for peers near to us."""

        async def ask(address: Multiaddr | str) -> None:
            try:
                with unrouted():
                    connection = await self._node.host.connect(address)
            except (Libp2pError, OSError) as error:
                logger.debug("bootstrap peer %s was not reached: %s", address, error)
                return
            await self.ask_for_life(connection.remote_peer)

        await asyncio.gather(*(ask(address) for address in self._node.config.bootstrap))

    async def refresh(self) -> None:
        """Look up ourselves, and a key in each bucket."""
        node = self._node
        if not len(node.table):
            return
        await node.lookup(node.host.id.to_bytes(), use_map=False)
        here = peer_position(node.host.id)
        for common in node.table.to_refresh():
            await node.lookup(key_near(here, common, node.dice), use_map=False)

    async def revive(self) -> None:
        """Ask the peers for life that have been silent for long."""
        node = self._node
        silent = node.table.silent(asyncio.get_running_loop().time(), node.config.max_silence)
        waiting = iter(silent)

        async def ask() -> None:
            for peer in waiting:
                await self.ask_for_life(peer)

        await asyncio.gather(*(ask() for _ in range(min(len(silent), node.config.max_checks))))
