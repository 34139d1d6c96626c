"""Finding peers with the same interest through whatever finds content: a namespace counts as content of its name.

namespace  ->  CIDv1, raw, sha2-256 of the name        what go-libp2p's routing discovery makes of it
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from ..cid import Cid
from ..connection import ServiceHost
from ..routing import ContentRouting, PeerDiscovered, PeerInfo

ADVERTISE_INTERVAL = 3 * 3600.0
"""Seconds after which a peer should advertise again."""


class RoutingDiscovery:
    """A `Discovery` over `router`."""

    def __init__(self, host: ServiceHost, router: ContentRouting) -> None:
        self._host = host
        self._router = router

    async def advertise(self, namespace: str) -> float:
        """See `Discovery.advertise`. Raises what the router's `provide` does."""
        await self._router.provide(content_of(namespace))
        return ADVERTISE_INTERVAL

    async def find_peers(self, namespace: str, *, limit: int = 20) -> AsyncGenerator[PeerInfo, None]:
        """See `Discovery.find_peers`. Each peer is a `PeerDiscovered` event as well."""
        # We may be among them: one more is asked for.
        found = 0
        async for info in self._router.find_providers(content_of(namespace), limit=limit and limit + 1):
            if info.peer == self._host.id:
                continue
            found += 1
            self._host.events.emit(PeerDiscovered(info, "routing"))
            yield info
            if limit and found >= limit:
                return


def content_of(namespace: str) -> Cid:
    """The content that a namespace counts as."""
    return Cid.of(namespace.encode())
