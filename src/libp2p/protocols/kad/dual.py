"""Two DHTs side by side: one of the Internet, one of the local network. Peers of a company or a home find each other
without the Internet, and nobody outside hears of their addresses.

Rules:
- What is looked for is looked for in both.
- What is announced or put goes to the Internet's where that has peers, else to the local one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import Any, TypeVar

from ...cid import Cid
from ...connection import Service, ServiceHost
from ...errors import RoutingError
from ...identity import PeerId
from ...routing import PeerInfo
from .config import AMINO, AMINO_LAN, KadConfig
from .query import Progress
from .scope import Scope
from .service import KadDht
from .store import RecordStore
from .stream_of import stream_of
from .validators import Validators

T = TypeVar("T")

WAN = KadConfig(protocol=AMINO, scope=Scope.WAN)
LAN = KadConfig(protocol=AMINO_LAN, scope=Scope.LAN)


class DualDht(Service):
    """`wan` and `lan` as one. `config` says what both share; the protocols and scopes are those of `wan` and `lan`.

    Each has a store of its own: `wan_store`, `lan_store` (None: in memory).
    """

    def __init__(
        self,
        host: ServiceHost,
        wan: KadConfig = WAN,
        lan: KadConfig = LAN,
        *,
        wan_store: RecordStore | None = None,
        lan_store: RecordStore | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(host)
        self.wan = KadDht(host, replace(wan, scope=Scope.WAN), store=wan_store, wall_clock=wall_clock)
        self.lan = KadDht(host, replace(lan, scope=Scope.LAN), store=lan_store, wall_clock=wall_clock)
        self._validators = Validators({**lan.validators, **wan.validators})
        self._exit = AsyncExitStack()

    async def start(self) -> None:
        """Start both."""
        await self._exit.enter_async_context(self.lan)
        await self._exit.enter_async_context(self.wan)

    async def stop(self) -> None:
        """End both."""
        await self._exit.aclose()

    async def ready(self) -> None:
        """Wait until both tables were filled for the first time, as far as they could be."""
        await asyncio.gather(self.wan.ready(), self.lan.ready())

    async def find_peer(self, peer: PeerId, *, progress: Progress | None = None) -> PeerInfo:
        """See `KadDht.find_peer`: what is found first."""
        return await _first(self.wan.find_peer(peer, progress=progress), self.lan.find_peer(peer, progress=progress))

    async def provide(self, cid: Cid, *, progress: Progress | None = None) -> None:
        """See `KadDht.provide`."""
        await self._for_storing.provide(cid, progress=progress)

    async def stop_providing(self, cid: Cid) -> None:
        """See `KadDht.stop_providing`: in both."""
        await self.wan.stop_providing(cid)
        await self.lan.stop_providing(cid)

    def find_providers(
        self, cid: Cid, *, limit: int = 20, progress: Progress | None = None
    ) -> AsyncGenerator[PeerInfo, None]:
        """See `KadDht.find_providers`: those of both, each once."""
        return stream_of(lambda found: self._find_providers(cid, limit, found, progress))

    async def put_value(self, key: bytes, value: bytes, *, progress: Progress | None = None) -> None:
        """See `KadDht.put_value`."""
        await self._for_storing.put_value(key, value, progress=progress)

    async def get_value(self, key: bytes, *, quorum: int = 0, progress: Progress | None = None) -> bytes:
        """See `KadDht.get_value`: the better of what both find."""
        self._validators.check_key(key)
        results = await asyncio.gather(
            *(one.get_value(key, quorum=quorum, progress=progress) for one in (self.wan, self.lan)),
            return_exceptions=True,
        )
        values = [one for one in results if isinstance(one, bytes)]
        if not values:
            raise next(one for one in results if isinstance(one, BaseException))
        return values[self._validators.select(key, values)]

    @property
    def _for_storing(self) -> KadDht:
        return self.wan if len(self.wan.table) else self.lan

    async def _find_providers(
        self, cid: Cid, limit: int, found: Callable[[PeerInfo], None], progress: Progress | None
    ) -> None:
        seen: set[PeerId] = set()

        async def search(dht: KadDht) -> None:
            async with aclosing(dht.find_providers(cid, limit=limit, progress=progress)) as infos:
                async for info in infos:
                    if info.peer in seen or (limit and len(seen) >= limit):
                        continue
                    seen.add(info.peer)
                    found(info)
                    if limit and len(seen) >= limit:
                        raise _EnoughError

        try:
            async with asyncio.TaskGroup() as group:
                for one in (self.wan, self.lan):
                    group.create_task(search(one), name="DHT: finding")
        except* _EnoughError:
            pass  # which has ended the other search


class _EnoughError(Exception):
    """As many were found as were asked for."""


async def _first(*searches: Coroutine[Any, Any, T]) -> T:
    """The first result; the errors of all where there is none."""
    tasks = [asyncio.create_task(one, name="DHT: finding") for one in searches]
    reasons = []
    try:
        for next_done in asyncio.as_completed(tasks):
            try:
                return await next_done
            except RoutingError as error:
                reasons.append(str(error))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    raise RoutingError("; ".join(reasons))
