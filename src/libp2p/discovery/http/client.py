"""Delegated routing: asking an HTTP service for peers, providers and IPNS records. Needs the extra `http-routing`.

Rules:
- The service is a stranger: of the addresses that it names only public ones are taken, and IPNS records are checked.
- Answers come as a stream where the service can, so providers are yielded as they come; each record has a limit.
- "404 MUST be interpreted as 200 with 0 results."
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ...cid import Cid
from ...errors import InvalidRecord, RoutingError
from ...identity import PeerId
from ...multiaddr import Reach, may_share
from ...peerstore import TEMP_ADDR_TTL
from ...records.ipns import MAX_SIZE, NAMESPACE, IpnsRecord
from ...routing import PeerInfo
from .core import IPNS_RECORD, JSON, NDJSON, read_record

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

    from ...connection import ServiceHost


@dataclass(frozen=True, slots=True)
class HttpRoutingConfig:
    """Settings of the client; times in seconds."""

    timeout: float = 30.0
    """A request is over after so long."""
    max_answer_size: int = 4 * 1024 * 1024
    """Bytes of an answer..."""
    max_record_size: int = 64 * 1024
    """...and of one record in a stream."""


class HttpRouter:
    """A `PeerRouting`, a `ContentRouting` that only finds, and a `ValueStore` of IPNS records, at `url`
    (`https://example.org`). An async context manager; `host`'s peer store gets what is found, and the host asks it for
    peers.
    """

    def __init__(
        self,
        url: str,
        *,
        host: ServiceHost | None = None,
        config: HttpRoutingConfig | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url.rstrip("/") + "/routing/v1"
        self._host = host
        self._config = config or HttpRoutingConfig()
        self._wall_clock = wall_clock
        self._session: ClientSession | None = None
        self._remove: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        from aiohttp import ClientSession, ClientTimeout  # noqa: PLC0415 - an extra, and slow to load

        self._session = ClientSession(timeout=ClientTimeout(total=self._config.timeout))
        if self._host is not None:
            self._remove = self._host.add_router(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._remove is not None:
            self._remove()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def find_peer(self, peer: PeerId) -> PeerInfo:
        """See `PeerRouting.find_peer`."""
        async with aclosing(self._peers(f"/peers/{peer.to_cid('base36')}", "Peers")) as infos:
            async for info in infos:
                if info.peer == peer and info.addrs:
                    return info
        raise RoutingError(f"{self._url} does not know where {peer} is")

    async def find_providers(self, cid: Cid, *, limit: int = 20) -> AsyncGenerator[PeerInfo, None]:
        """See `ContentRouting.find_providers`."""
        seen: set[PeerId] = set()
        async with aclosing(self._peers(f"/providers/{cid.to_v1()}", "Providers")) as infos:
            async for info in infos:
                if info.peer not in seen:
                    seen.add(info.peer)
                    yield info
                    if limit and len(seen) >= limit:
                        return

    async def get_value(self, key: bytes) -> bytes:
        """The IPNS record under the key `/ipns/<name>`. Raises `RoutingError`, and `InvalidRecord` for other keys."""
        name = _name_of(key)
        async with _told(self._url), self._get(f"/ipns/{name.to_cid('base36')}", IPNS_RECORD) as response:
            if response.status != 200 or response.content_type != IPNS_RECORD:
                raise RoutingError(f"{self._url} knows no IPNS record of {name}")
            value = b""
            while len(value) <= MAX_SIZE and (more := await response.content.read(MAX_SIZE)):
                value += more
        try:
            IpnsRecord.open(value, name, self._wall_clock())
        except InvalidRecord as error:
            raise RoutingError(f"{self._url} sent no valid IPNS record of {name}: {error}") from error
        return value

    async def put_value(self, key: bytes, value: bytes) -> None:
        """Publish an IPNS record under its key. Raises `InvalidRecord`, `RoutingError`."""
        name = _name_of(key)
        IpnsRecord.open(value, name, self._wall_clock())
        path = f"{self._url}/ipns/{name.to_cid('base36')}"
        async with (
            _told(self._url),
            self._open.put(path, data=value, headers={"Content-Type": IPNS_RECORD}) as response,
        ):
            if response.status != 200:
                raise RoutingError(f"{self._url} did not take the IPNS record: status {response.status}")

    @property
    def _open(self) -> ClientSession:
        if self._session is None:
            raise RoutingError(f"the router at {self._url} is not open: use it within `async with`")
        return self._session

    def _get(self, path: str, accept: str) -> Any:
        return self._open.get(self._url + path, headers={"Accept": accept})

    async def _peers(self, path: str, field: str) -> AsyncGenerator[PeerInfo, None]:
        async with _told(self._url), self._get(path, f"{NDJSON}, {JSON};q=0.9") as response:
            if response.status == 404:
                return
            if response.status != 200:
                raise RoutingError(f"{self._url} answered with status {response.status}")
            records = self._lines(response) if response.content_type == NDJSON else self._list(response, field)
            async for record in records:
                if (info := read_record(record)) is not None:
                    yield self._take(info)

    async def _lines(self, response: ClientResponse) -> AsyncIterator[object]:
        """The records of a stream, as they come."""
        rest, total = b"", 0
        async for chunk in response.content.iter_any():
            total += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield _parse(line)
            if len(rest) > self._config.max_record_size or total > self._config.max_answer_size:
                raise RoutingError(f"{self._url} sends more than the limits allow")
        if rest.strip():
            yield _parse(rest)

    async def _list(self, response: ClientResponse, field: str) -> AsyncIterator[object]:
        data = b""
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) > self._config.max_answer_size:
                raise RoutingError(f"{self._url} sends more than the limits allow")
        answer = _parse(data)
        records = answer.get(field) if isinstance(answer, dict) else None
        for record in records if isinstance(records, list) else ():
            yield record

    def _take(self, info: PeerInfo) -> PeerInfo:
        addrs = tuple(addr for addr in info.addrs if may_share(addr, Reach.PUBLIC))
        if self._host is not None and addrs:
            self._host.peerstore.add_addrs(info.peer, addrs, TEMP_ADDR_TTL, told=Reach.PUBLIC)
        return PeerInfo(info.peer, addrs)


class _told:  # noqa: N801 - reads as the statement it makes
    """What goes wrong with HTTP is a `RoutingError`."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from aiohttp import ClientError  # noqa: PLC0415

        if isinstance(error, ClientError | TimeoutError):
            raise RoutingError(f"{self._url}: {str(error) or 'no answer in time'}") from error


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RoutingError(f"the routing service sent no JSON: {error}") from error


def _name_of(key: bytes) -> PeerId:
    if not key.startswith(NAMESPACE):
        raise InvalidRecord(f"an HTTP routing service keeps IPNS records only, not {key[:64]!r}")
    return PeerId.from_bytes(key.removeprefix(NAMESPACE))
