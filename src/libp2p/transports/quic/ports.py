"""The UDP sockets of one host: an endpoint for each, which all its transports over QUIC share.

Rules:
- Who listens on a port that an endpoint of the host is bound to gets a part in that endpoint: another protocol by
  ALPN, or the same again once the one before has stopped, although connections live there.
- A socket to dial from serves all dials that no listener's socket suits; it lives as long as a connection from it.
- What opens a port first decides how: with which settings, and which key.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from ...multiaddr import HostPort
from ..addresses import may_dial_from
from .address import from_socket
from .datagrams import SocketAddress
from .endpoint import Endpoint
from .service import Service

OpenEndpoint: TypeAlias = Callable[[SocketAddress], Awaitable[Endpoint]]
"""An endpoint bound to an address (port 0: any free one). Raises `OSError`."""

_ANY: dict[str, SocketAddress] = {"ip4": ("0.0.0.0", 0), "ip6": ("::", 0, 0, 0)}  # noqa: S104 - to dial from


class QuicPorts:
    """The UDP sockets of one host."""

    def __init__(self) -> None:
        self._endpoints: dict[SocketAddress, Endpoint] = {}
        self._dialing: dict[str, Endpoint] = {}
        self._lock = asyncio.Lock()

    async def listen(self, addr: SocketAddress, service: Service, open_endpoint: OpenEndpoint) -> Endpoint:
        """An endpoint at `addr`, which serves `service` from now on. Raises `OSError`."""
        async with self._lock:
            endpoint = self._find(addr)
            if endpoint is None:
                endpoint = await self._open(addr, open_endpoint)
            elif endpoint.serves(service.alpn):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            endpoint.serve(service)
            return endpoint

    def listening(self, target: HostPort) -> Endpoint | None:
        """One that somebody listens on, and that leads to `target`."""
        for addr, endpoint in self._endpoints.items():
            if endpoint.is_listening and may_dial_from(from_socket(addr), target):
                return endpoint
        return None

    async def dialing(self, family: str, open_endpoint: OpenEndpoint) -> Endpoint:
        """The one from which that is dialed which no listener leads to. Raises `OSError`."""
        async with self._lock:
            endpoint = self._dialing.get(family)
            if endpoint is None or endpoint.is_closed:
                endpoint = self._dialing[family] = await self._open(_ANY[family], open_endpoint)
            return endpoint

    async def fresh(self, family: str, open_endpoint: OpenEndpoint) -> Endpoint:
        """A new one, for one dial. Raises `OSError`."""
        async with self._lock:
            return await self._open(_ANY[family], open_endpoint)

    def close(self) -> None:
        """End what was dialed, and the sockets that nobody listens on. Idempotent."""
        for endpoint in list(self._endpoints.values()):
            if not endpoint.is_listening:
                endpoint.close("the host is shutting down")
        self._dialing.clear()

    def _find(self, addr: SocketAddress) -> Endpoint | None:
        endpoint = self._endpoints.get(addr)
        return None if endpoint is None or endpoint.is_closed else endpoint

    async def _open(self, addr: SocketAddress, open_endpoint: OpenEndpoint) -> Endpoint:
        endpoint = await open_endpoint(addr)
        self._endpoints = {at: one for at, one in self._endpoints.items() if not one.is_closed}
        self._endpoints[endpoint.socket.addr] = endpoint
        return endpoint
