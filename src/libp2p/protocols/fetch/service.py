"""Fetch, `/libp2p/fetch/0.0.1`: ask one peer for the value of one key. Spec: libp2p/specs, fetch/README.md.

    client   <length varint> FetchRequest { 1 identifier } ->
    server                          <- <length varint> FetchResponse { 1 status   2 data }     0 OK 1 NOT_FOUND 2 ERROR

Rules:
- What a key means is between the two programs: each prefix of keys has a function that looks them up.
- Nobody vouches for a value but the peer that was asked.
- Bounded: the key, the value, the streams of a peer, the time that looking up may take.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ...connection import Service, ServiceHost, Stream, Target
from ...errors import RemoteProtocolError
from ...io import read_protobuf, time_limit, write_protobuf
from .fetch_pb2 import FetchRequest, FetchResponse

logger = logging.getLogger(__name__)

PROTOCOL_ID = "/libp2p/fetch/0.0.1"

OK, NOT_FOUND, ERROR = range(3)

_OVERHEAD = 64
"""Bytes of a message besides its key or value."""

Lookup = Callable[[bytes], Awaitable[bytes | None]]
"""The value of a key; None where there is none."""


@dataclass(frozen=True, slots=True)
class FetchConfig:
    """Limits of fetch; times in seconds."""

    timeout: float = 10.0
    """A request is answered within so long, in either role."""
    max_key_size: int = 1024
    """Bytes of a key."""
    max_value_size: int = 1024 * 1024
    """Bytes of a value."""
    max_streams_per_peer: int = 8
    """Streams of one peer that are served; one more is reset."""


class Fetch(Service):
    """Answers what peers ask for, by the functions given to `register`, and asks them."""

    def __init__(self, host: ServiceHost, config: FetchConfig | None = None) -> None:
        super().__init__(host)
        self.config = config or FetchConfig()
        self._lookups: dict[bytes, Lookup] = {}

    async def start(self) -> None:
        """Serve the protocol."""
        self.serve([PROTOCOL_ID], self._answer, max_streams_per_peer=self.config.max_streams_per_peer)

    def register(self, prefix: bytes | str, lookup: Lookup) -> None:
        """Look up keys that begin with `prefix` by `lookup`; of several prefixes the longest counts. Raises
        `ValueError` for a prefix that has a function already.
        """
        key = prefix.encode() if isinstance(prefix, str) else prefix
        if key in self._lookups:
            raise ValueError(f"keys that begin with {key!r} are looked up already")
        self._lookups[key] = lookup

    def unregister(self, prefix: bytes | str) -> None:
        """End what `register` began. Raises `KeyError`."""
        del self._lookups[prefix.encode() if isinstance(prefix, str) else prefix]

    async def fetch(self, target: Target, key: bytes | str) -> bytes | None:
        """Ask a peer for the value of `key`; None where it has none.

        Raises what `Host.new_stream` does, `StageTimeout`, `RemoteProtocolError` where the peer failed or answered
        nonsense, and what ended the stream.
        """
        wanted = key.encode() if isinstance(key, str) else key
        async with time_limit("fetch", self.config.timeout):
            stream = await self.host.new_stream(target, PROTOCOL_ID)
            try:
                await write_protobuf(stream, FetchRequest(identifier=wanted))
                limit = self.config.max_value_size + _OVERHEAD
                response = await read_protobuf(stream, FetchResponse, limit=limit, what="fetch response")
            except BaseException:
                stream.reset()
                raise
            await stream.close()
        if response.status == NOT_FOUND:
            return None
        if response.status != OK:
            raise RemoteProtocolError(f"the peer could not look up {wanted[:64]!r}: status {response.status}")
        return response.data

    async def _answer(self, stream: Stream) -> None:
        async with time_limit("answering a fetch", self.config.timeout):
            limit = self.config.max_key_size + _OVERHEAD
            request = await read_protobuf(stream, FetchRequest, limit=limit, what="fetch request")
            await write_protobuf(stream, await self._response(request))

    async def _response(self, request: FetchRequest) -> FetchResponse:
        key = request.identifier
        prefix = max((one for one in self._lookups if key.startswith(one)), key=len, default=None)
        if prefix is None:
            return FetchResponse(status=NOT_FOUND)
        try:
            value = await self._lookups[prefix](key)
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("looking up %r failed", key[:64])
            return FetchResponse(status=ERROR)
        if value is None:
            return FetchResponse(status=NOT_FOUND)
        if len(value) > self.config.max_value_size:
            logger.error("the value of %r has %d bytes, more than is sent", key[:64], len(value))
            return FetchResponse(status=ERROR)
        return FetchResponse(status=OK, data=value)
