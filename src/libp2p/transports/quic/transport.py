"""Dialing and listening over QUIC (specs: quic/README.md, tls/tls.md).

A connection is secure and muxed from birth: the host's key is all that the transport takes of its context. One UDP
socket serves a listener and everything that is dialed from its port, so that peers, and the NATs between, see one
address of ours. What no listener's socket can reach is dialed from one more socket, which lives as long as its
connections.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from ...connection import Accept, Connection, DialOptions, Listener, Transport
from ...errors import ListenError
from ...forks import ForkGuard
from ...identity import PeerId
from ...multiaddr import HostPort, Multiaddr, host_port
from ..addresses import may_dial_from, sockaddr
from .address import from_socket, is_quic, to_socket
from .config import QuicConfig
from .datagrams import OpenSocket, SocketAddress
from .udp import open_udp

if TYPE_CHECKING:
    from .credentials import Credentials
    from .endpoint import Endpoint

_ANY: dict[str, SocketAddress] = {"ip4": ("0.0.0.0", 0), "ip6": ("::", 0, 0, 0)}  # noqa: S104 - to dial from


class Quic(Transport):
    """QUIC version 1 over IPv4 and IPv6: `/udp/<port>/quic-v1`. Names (/dns4...) are resolved before they come here.

    `open_socket` opens its UDP sockets: those of the system, or of a simulated machine.
    """

    def __init__(self, config: QuicConfig | None = None, *, open_socket: OpenSocket | None = None) -> None:
        self._config = config or QuicConfig()
        self._open_socket = open_socket or partial(open_udp, buffer_size=self._config.socket_buffer)
        self._guard = ForkGuard()
        self._prepared: Credentials | None = None
        self._listeners: list[QuicListener] = []
        self._dialing: dict[str, Endpoint] = {}
        self._lock = asyncio.Lock()

    def can_dial(self, addr: Multiaddr) -> bool:
        return is_quic(addr)

    def can_listen(self, addr: Multiaddr) -> bool:
        return addr.peer_id_text is None and is_quic(addr)

    async def dial(
        self,
        addr: Multiaddr,
        peer: PeerId | None,
        options: DialOptions = DialOptions(),  # noqa: ARG002
    ) -> Connection:
        """See `Transport.dial`. Returns once the listener has accepted us: a dialer's own handshake is over before the
        listener has looked at its certificate, so it waits for the listener's confirmation, a round trip more.
        """
        target = host_port(addr)
        socket_addr = sockaddr(target)  # before a socket is opened: it raises `OSError` where there is no such zone
        endpoint = await self._endpoint_for(target)
        return await endpoint.dial(socket_addr, peer)

    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        try:
            endpoint = await self._open(to_socket(addr))
        except OSError as error:
            raise ListenError(addr, error.strerror or os.strerror(error.errno or 0)) from error
        endpoint.listen(accept)
        listener = QuicListener(endpoint)
        self._listeners = [other for other in self._listeners if other.is_listening] + [listener]
        return listener

    async def _endpoint_for(self, target: HostPort) -> Endpoint:
        """The endpoint to dial `target` from."""
        for listener in self._listeners:
            if listener.is_listening and may_dial_from(from_socket(listener.endpoint.socket.addr), target):
                return listener.endpoint
        async with self._lock:
            endpoint = self._dialing.get(target.family)
            if endpoint is None or endpoint.is_closed:
                endpoint = self._dialing[target.family] = await self._open(_ANY[target.family])
            return endpoint

    async def _open(self, addr: SocketAddress) -> Endpoint:
        from .credentials import Credentials  # noqa: PLC0415 - loads aioquic
        from .endpoint import Endpoint  # noqa: PLC0415

        self._guard.check("this Quic transport")
        if self._prepared is None:
            self._prepared = Credentials(self.context.key, self._config)
        return Endpoint(await self._open_socket(addr), self._prepared, self._config)


class QuicListener(Listener):
    """A listening socket. What is accepted on it, and dialed from it, outlives it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    @property
    def is_listening(self) -> bool:
        """Whether it still accepts connections."""
        return self.endpoint.is_listening

    @property
    def addrs(self) -> Sequence[Multiaddr]:
        socket = self.endpoint.socket
        return [from_socket((ip, *socket.addr[1:])) for ip in socket.local_ips()]

    async def close(self) -> None:
        self.endpoint.stop_listening()
