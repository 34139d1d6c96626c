"""Delegated routing: an HTTP service that answers by what a router, such as a DHT, finds. Needs the extra
`http-routing`.

    runner = aiohttp.web.AppRunner(routing_app(dht), handler_cancellation=True)

It is an application of aiohttp, served as any other. With `handler_cancellation` a search ends when its client has
gone.

Rules:
- Streams where the client asks for one: providers go out as they are found. Otherwise 100 at most.
- Any site may read it (CORS). Caches are told to keep what was found for five minutes, "not found" for 15 seconds.
- Bounded: requests at a time, seconds of each, bytes of what is put.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from aiohttp import web

from ...cid import Cid
from ...errors import InvalidInput, Libp2pError, RoutingError
from ...identity import PeerId
from ...records.ipns import MAX_SIZE, IpnsRecord, parse_name, routing_key
from ...routing import PeerInfo, PeerRouting, ValueStore
from .core import IPNS_RECORD, JSON, MAX_RECORDS, NDJSON, filtered, read_key, record_of

_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, PUT, OPTIONS",
    "Vary": "Accept",
}
"""Of all answers: any site may read them."""


@dataclass(frozen=True, slots=True)
class HttpServiceConfig:
    """Limits of the service; times in seconds."""

    timeout: float = 60.0
    """An answer ends after so long with what was found."""
    max_requests: int = 64
    """Requests at a time; one more is answered by 429."""
    found_age: int = 300
    """For how long a cache may keep what was found..."""
    not_found_age: int = 15
    """...and that nothing was."""


class Finder(PeerRouting, ValueStore, Protocol):
    """What the service asks: a `KadDht` is one."""

    def find_providers(self, cid: Cid, *, limit: int = 20) -> AsyncIterator[PeerInfo]:
        """See `ContentRouting.find_providers`."""
        ...

    async def closest_peers(self, key: bytes) -> list[PeerInfo]:
        """The servers nearest to `key`, the nearest first."""
        ...


def routing_app(
    router: Finder, config: HttpServiceConfig | None = None, *, wall_clock: Callable[[], float] = time.time
) -> web.Application:
    """The application that serves `/routing/v1`. `wall_clock` gives the Unix time in seconds."""
    service = _Service(router, config or HttpServiceConfig(), wall_clock)

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await service.admit(request, handler)

    app = web.Application(middlewares=[admit], client_max_size=MAX_SIZE)
    app.router.add_get("/routing/v1/providers/{cid}", service.providers)
    app.router.add_get("/routing/v1/peers/{peer}", service.peers)
    app.router.add_get("/routing/v1/dht/closest/peers/{key}", service.closest)
    app.router.add_get("/routing/v1/ipns/{name}", service.get_ipns)
    app.router.add_put("/routing/v1/ipns/{name}", service.put_ipns)
    return app


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Service:
    def __init__(self, router: Finder, config: HttpServiceConfig, wall_clock: Callable[[], float]) -> None:
        self._router = router
        self._config = config
        self._wall_clock = wall_clock
        self._requests = 0

    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Bound the requests at a time, answer preflights, and let any site read the answers."""
        if request.method == "OPTIONS":
            return web.Response(headers={**_HEADERS, "Access-Control-Allow-Headers": "Content-Type, Accept"})
        if self._requests >= self._config.max_requests:
            return web.Response(status=429, headers={**_HEADERS, "Retry-After": "1"})
        self._requests += 1
        try:
            return await handler(request)
        except InvalidInput as error:
            return web.Response(status=422, text=str(error), headers=_HEADERS)
        finally:
            self._requests -= 1

    async def providers(self, request: web.Request) -> web.StreamResponse:
        """Answer `/providers`."""
        cid = Cid.parse(request.match_info["cid"])
        limit = 0 if _wants_stream(request) else MAX_RECORDS
        return await self._answer(request, "Providers", self._router.find_providers(cid, limit=limit))

    async def peers(self, request: web.Request) -> web.StreamResponse:
        """Answer `/peers`."""
        peer = PeerId.from_string(request.match_info["peer"])

        async def found() -> AsyncIterator[PeerInfo]:
            yield await self._router.find_peer(peer)

        return await self._answer(request, "Peers", found())

    async def closest(self, request: web.Request) -> web.StreamResponse:
        """Answer `/dht/closest/peers`."""
        key = read_key(request.match_info["key"])

        async def found() -> AsyncIterator[PeerInfo]:
            for info in await self._router.closest_peers(key):
                yield info

        return await self._answer(request, "Peers", found())

    async def get_ipns(self, request: web.Request) -> web.StreamResponse:
        """Answer a question for an IPNS record."""
        if not _accepts(request, IPNS_RECORD):
            return web.Response(status=406, text=f"ask again with Accept: {IPNS_RECORD}", headers=_HEADERS)
        name = parse_name(request.match_info["name"])
        now = self._wall_clock()
        try:
            async with asyncio.timeout(self._config.timeout):
                value = await self._router.get_value(routing_key(name))
        except (RoutingError, TimeoutError):
            age = self._config.not_found_age
            return web.Response(text="no record", headers={**_HEADERS, "Cache-Control": f"public, max-age={age}"})
        record = IpnsRecord.open(value, name, now)
        left, ttl = int(record.expires / 1e9 - now), record.ttl // 10**9 or 60
        cache = f"public, max-age={min(ttl, left)}, stale-while-revalidate={left}, stale-if-error={left}"
        headers = {**_HEADERS, "Cache-Control": cache, "Etag": f'"{sha256(value).hexdigest()[:32]}"'}
        return web.Response(body=value, content_type=IPNS_RECORD, headers=headers)

    async def put_ipns(self, request: web.Request) -> web.StreamResponse:
        """Publish an IPNS record."""
        if request.content_type != IPNS_RECORD:
            return web.Response(status=406, text=f"send it with Content-Type: {IPNS_RECORD}", headers=_HEADERS)
        try:
            name = parse_name(request.match_info["name"])
            value = await request.read()
            IpnsRecord.open(value, name, self._wall_clock())
            async with asyncio.timeout(self._config.timeout):
                await self._router.put_value(routing_key(name), value)
        except InvalidInput as error:
            return web.Response(status=400, text=str(error), headers=_HEADERS)
        except (RoutingError, TimeoutError) as error:
            return web.Response(status=503, text=str(error), headers=_HEADERS)
        return web.Response(headers=_HEADERS)

    async def _answer(self, request: web.Request, field: str, infos: AsyncIterator[PeerInfo]) -> web.StreamResponse:
        if not _wants_stream(request):
            records = [record async for record in self._records(request, infos, MAX_RECORDS)]
            age = self._config.found_age if records else self._config.not_found_age
            headers = {**_HEADERS, "Cache-Control": f"public, max-age={age}"}
            return web.json_response({field: records}, headers=headers)
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": NDJSON})
        await response.prepare(request)
        async for record in self._records(request, infos, 0):
            await response.write(json.dumps(record).encode() + b"\n")
        await response.write_eof()
        return response

    async def _records(
        self, request: web.Request, infos: AsyncIterator[PeerInfo], limit: int
    ) -> AsyncIterator[dict[str, object]]:
        """The records of what is found and passes the filters, until time is up; what fails ends them."""
        filters = request.query.get("filter-addrs"), request.query.get("filter-protocols")
        count = 0
        deadline = asyncio.get_running_loop().time() + self._config.timeout
        async with aclosing(infos):  # type: ignore[type-var]
            while not limit or count < limit:
                try:
                    async with asyncio.timeout_at(deadline):
                        info = await anext(infos)
                except (StopAsyncIteration, Libp2pError, TimeoutError):
                    return
                if (passed := filtered(info, *filters)) is not None:
                    count += 1
                    yield record_of(passed)


def _accepts(request: web.Request, content_type: str) -> bool:
    accept = request.headers.get("Accept", "*/*")
    return any(one.split(";")[0].strip() in (content_type, "*/*", "application/*") for one in accept.split(","))


def _wants_stream(request: web.Request) -> bool:
    """ "The server MUST NOT respond with streaming response if the client did not explicitly request so." """
    return any(one.split(";")[0].strip() == NDJSON for one in request.headers.get("Accept", JSON).split(","))
