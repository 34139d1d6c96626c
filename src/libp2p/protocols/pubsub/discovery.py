"""Finds peers of our topics through a `libp2p.routing.Discovery`, such as a DHT or a rendezvous point.

    topic entered -> advertise the topic, again and again -> while it has few peers: find some, and connect to them

The namespace of a topic is `floodsub:<topic>`, as go-libp2p-pubsub has it, for gossipsub, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ...connection.service import ServiceHost
from ...errors import Libp2pError
from ...identity import PeerId
from ...peerstore import TEMP_ADDR_TTL
from ...routing import Discovery
from .config import GossipSubConfig

logger = logging.getLogger(__name__)


def namespace_of(topic: str) -> str:
    """Where peers of a topic are looked for."""
    return f"floodsub:{topic}"


class TopicDiscovery:
    """Advertises and searches for each topic that we are in. `lacking` waits until a topic needs peers, `connect` takes
    those that are found.
    """

    def __init__(
        self,
        host: ServiceHost,
        config: GossipSubConfig,
        discovery: Discovery,
        lacking: Callable[[str], Awaitable[None]],
        connect: Callable[[PeerId], None],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[Any] | None],
    ) -> None:
        self._host = host
        self._interval = config.discovery_interval
        self._discovery = discovery
        self._lacking = lacking
        self._connect = connect
        self._spawn = spawn
        self._topics: dict[str, list[asyncio.Task[Any] | None]] = {}

    def entered(self, topic: str) -> None:
        """We are in a topic now."""
        if topic not in self._topics:
            self._topics[topic] = [self._spawn(self._advertise(topic)), self._spawn(self._search(topic))]

    def left(self, topic: str) -> None:
        """We are not any more."""
        for task in self._topics.pop(topic, ()):
            if task is not None:
                task.cancel()

    async def _advertise(self, topic: str) -> None:
        while True:
            try:
                pause = await self._discovery.advertise(namespace_of(topic))
            except Libp2pError as error:
                logger.debug("topic %r is not advertised: %s", topic, error)
                pause = self._interval
            await asyncio.sleep(max(pause, self._interval))

    async def _search(self, topic: str) -> None:
        while True:
            try:
                await self._lacking(topic)
                async for info in self._discovery.find_peers(namespace_of(topic)):
                    if info.peer != self._host.id and not self._host.connections_to(info.peer):
                        self._host.peerstore.add_addrs(info.peer, info.addrs, TEMP_ADDR_TTL)
                        self._connect(info.peer)
            except Libp2pError as error:
                logger.debug("no peers of topic %r are found: %s", topic, error)
            await asyncio.sleep(self._interval)  # while it lacks peers; those that were found need time to come, too
