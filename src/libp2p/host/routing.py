"""Asking routers where a peer is, when the host does not know, or knows no address that works.

Rules:
- All routers are asked side by side; the first connection wins, and the others are cancelled.
- What a router says is hearsay: it is put into the peer store as such, and dialed from there.
- Dials that a router makes ask no router (`routing.unrouted`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ..connection import Connection
from ..errors import DialError, Libp2pError
from ..identity import PeerId
from ..multiaddr import Reach
from ..peerstore import TEMP_ADDR_TTL, PeerStore
from ..routing import PeerRouting, unrouted

logger = logging.getLogger(__name__)


class Routers:
    """The routers of a host. `dial` connects to a peer at the addresses that the peer store has."""

    def __init__(self, peerstore: PeerStore, dial: Callable[[PeerId], Awaitable[Connection]], timeout: float) -> None:
        self._peerstore = peerstore
        self._dial = dial
        self._timeout = timeout
        self._routers: list[PeerRouting] = []

    def __bool__(self) -> bool:
        return bool(self._routers)

    def add(self, router: PeerRouting) -> Callable[[], None]:
        """Ask `router` as well; returns the function that ends this (idempotent)."""
        self._routers.append(router)

        def remove() -> None:
            self._routers[:] = [one for one in self._routers if one is not router]

        return remove

    async def connect(self, peer: PeerId, error: DialError) -> Connection:
        """A connection to `peer` by what the routers say. Raises `DialError` with what was tried, `error` included."""
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._through(one, peer), name=f"routing to {peer}") for one in self._routers]
        attempts = dict(error.attempts)
        reasons: list[str] = []
        try:
            async with asyncio.timeout(self._timeout):
                for next_done in asyncio.as_completed(tasks):
                    try:
                        return await next_done
                    except DialError as failed:
                        attempts.update(failed.attempts)
                        reasons.append("what a router said did not work")
                    except (Libp2pError, OSError) as failed:
                        reasons.append(str(failed))
        except TimeoutError:
            reasons.append(f"routers took more than {self._timeout:g} s")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled():
                    task.exception()  # seen, where another one was faster
        raise DialError(peer, attempts, reason="; ".join(reasons)) from error

    async def _through(self, router: PeerRouting, peer: PeerId) -> Connection:
        with unrouted():
            info = await router.find_peer(peer)
            self._peerstore.add_addrs(peer, info.addrs, TEMP_ADDR_TTL, told=Reach.PUBLIC)
            return await self._dial(peer)
