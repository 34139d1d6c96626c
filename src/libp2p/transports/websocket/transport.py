"""Dialing and listening by WebSocket, with and without TLS (libp2p/specs websockets).

Rules:
- TLS is the web's: the dialer checks the certificate for the name in /sni, else for the IP address. It comes on top of
  the libp2p handshake, never in its place ("should also be used to encrypt all traffic ... even if TLS certificates are
  also used at the transport layer").
- The request's Host is the name in the address, also behind its resolution: a proxy may serve several.
- Requests of any Origin are taken: who a peer is, is proven by its key, and no cookie or other authority of a browser
  means anything here.
- The `websockets` library is loaded when it is first used.

Behind a reverse proxy, which does the TLS, listen on a plain `/ws` address and announce the proxy's `/tls/ws` one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from ...connection import (
    Accept,
    Connection,
    DialOptions,
    Direction,
    Listener,
    RawConnection,
    StreamTransport,
)
from ...errors import InvalidInput, ListenError
from ...identity import PeerId
from ...io import time_limit
from ...multiaddr import Multiaddr, from_socket_address, ip_of
from ..addresses import reachable_addrs
from ..inbound import InboundUpgrades
from ..interfaces import Interfaces
from ..tcp.ports import Lease, Opening, TcpPorts
from ..tcp.transport import connect
from .address import WsAddress, http_host, parse_address, read_address

if TYPE_CHECKING:
    from .connection import WsConnection

_TLS_MEMORY = 256 * 1024


@dataclass(frozen=True, slots=True)
class WebSocketConfig:
    """Settings of the WebSocket transport."""

    server_tls: ssl.SSLContext | None = None
    """The certificate for listening on secure addresses: see `certificate_context`. None: they can't be listened on."""
    client_tls: ssl.SSLContext | None = None
    """How to check the certificates of secure addresses that are dialed. None: by the system's authorities."""
    connect_timeout: float = 5.0
    """Seconds for a TCP connection to be made."""
    handshake_timeout: float = 10.0
    """Seconds for TLS and the HTTP upgrade together; the libp2p upgrade that follows has its own limits."""
    close_timeout: float = 2.0
    """Seconds that a closed connection waits for the peer's Close frame."""
    max_header_size: int = 16 * 1024
    """Bytes that the head of the peer's HTTP request or response may have."""
    backlog: int = 1024
    """Connections that the system keeps for a listener that has not accepted them yet."""
    max_pending_inbound: int = 2048
    """Inbound connections of a listener that may be in the handshake at a time; more are closed at once."""
    trusted_proxies: Sequence[str] = ()
    """Networks ("127.0.0.1/32") of reverse proxies: what connects from there is taken to be from the address that its
    X-Forwarded-For header ends in, at an unknown port, written 0. From anywhere else the header is ignored."""

    def __post_init__(self) -> None:
        for network in self.trusted_proxies:
            try:
                ip_network(network)
            except ValueError as error:
                raise InvalidInput(f"trusted_proxies: {error}") from error


def certificate_context(certificate: str, key: str | None = None, *, password: str | None = None) -> ssl.SSLContext:
    """A TLS context for listening with the certificate chain, and its private key, in PEM files.

    When the files have been renewed, `load_cert_chain` of the context that is in use makes new connections use them.
    Raises `OSError` where the files can't be read or don't belong together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key, password)
    return context


class WebSocket(StreamTransport):
    """WebSockets over TCP. Names (/dns4...) are resolved by the swarm, which keeps them as /sni, before they come here.

    It can share a port with the other transports of its host that listen on TCP: see `tcp/ports.py`.
    """

    def __init__(self, config: WebSocketConfig | None = None) -> None:
        self._config = config or WebSocketConfig()
        self._client_tls = self._config.client_tls
        self._tls_memory = memoryview(b"")
        self._proxies = [ip_network(network) for network in self._config.trusted_proxies]

    def can_dial(self, addr: Multiaddr) -> bool:
        return read_address(addr) is not None

    def can_listen(self, addr: Multiaddr) -> bool:
        return addr.peer_id_text is None and self.can_dial(addr)

    async def dial(self, addr: Multiaddr, peer: PeerId | None, options: DialOptions = DialOptions()) -> Connection:
        address, context = parse_address(addr), self.context
        memory = context.shared(TcpPorts).memory()
        raw = await connect(address.target, memory, timeout=self._config.connect_timeout)
        try:
            async with time_limit("WebSocket handshake", self._config.handshake_timeout):
                connection = await self._open(raw, address, addr.without_peer(), options.host_name)
        except BaseException:
            raw.abort()
            raise
        return await context.upgrader.upgrade(connection, Direction.OUTBOUND, role=options.role, peer=peer)

    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        address, config, context = parse_address(addr), self._config, self.context
        if address.secure and config.server_tls is None:
            raise ListenError(addr, "there is no certificate for it: WebSocketConfig.server_tls")

        async def prepare(raw: RawConnection) -> RawConnection:
            try:
                async with time_limit("WebSocket handshake", config.handshake_timeout):
                    return await self._accept(raw, address)
            except BaseException as error:
                raw.abort(error if isinstance(error, Exception) else None)
                raise

        upgrades = InboundUpgrades(
            addr,
            context.upgrader,
            accept,
            limit=config.max_pending_inbound,
            prepare=prepare,
            suffix=address.kind,
        )
        opening = Opening.TLS if address.secure else Opening.HTTP
        lease = await context.shared(TcpPorts).listen(
            addr, address.target, opening, upgrades.take, backlog=config.backlog, reuse=True, accept=accept
        )
        listener = WsListener(lease, upgrades, address.form, context.shared(Interfaces))
        lease.on_died = lambda error: accept.listener_died(listener, error)
        return listener

    async def _open(self, raw: RawConnection, address: WsAddress, addr: Multiaddr, host_name: str) -> WsConnection:
        """The dialer's part, on a connection that was made."""
        from .connection import WsConnection  # noqa: PLC0415
        from .handshake import request_upgrade  # noqa: PLC0415
        from .tls import start_tls  # noqa: PLC0415

        config = self._config
        if address.secure:
            context = await self._client_context()
            raw = await start_tls(raw, context, server_name=address.name, memory=self._memory())
        host = address.server_name or http_host(host_name) or address.name
        protocol = await request_upgrade(raw, address, host=host, max_head=config.max_header_size)
        return WsConnection(
            raw,
            protocol,
            local_addr=raw.local_addr / address.kind,
            remote_addr=addr,
            close_timeout=config.close_timeout,
        )

    async def _accept(self, raw: RawConnection, address: WsAddress) -> WsConnection:
        """The listener's part."""
        from .connection import WsConnection  # noqa: PLC0415
        from .handshake import answer_upgrade  # noqa: PLC0415
        from .tls import start_tls  # noqa: PLC0415

        config = self._config
        if address.secure:
            assert config.server_tls is not None
            raw = await start_tls(raw, config.server_tls, server_name=None, memory=self._memory())
        protocol, request = await answer_upgrade(raw, path=address.path, max_head=config.max_header_size)
        forwarded = ",".join(request.headers.get_all("X-Forwarded-For"))
        return WsConnection(
            raw,
            protocol,
            local_addr=raw.local_addr / address.form,
            remote_addr=self._origin(raw.remote_addr, forwarded) / address.kind,
            close_timeout=config.close_timeout,
        )

    def _origin(self, addr: Multiaddr, forwarded: str) -> Multiaddr:
        """Who is behind `addr`: the last of the forwarded addresses that is no proxy of ours."""
        hops = forwarded.split(",")
        while hops and any((ip := ip_of(addr)) is not None and ip in network for network in self._proxies):
            try:
                addr = from_socket_address(str(ip_address(hops.pop().strip())), 0)
            except ValueError:
                break
        return addr

    async def _client_context(self) -> ssl.SSLContext:
        if self._client_tls is None:
            self._client_tls = await asyncio.to_thread(ssl.create_default_context)  # which reads many certificates
            self._client_tls.set_alpn_protocols(["http/1.1"])
        return self._client_tls

    def _memory(self) -> memoryview:
        if not self._tls_memory:
            self._tls_memory = memoryview(bytearray(_TLS_MEMORY))
        return self._tls_memory


class WsListener(Listener):
    """A part in a listening socket, and the connections accepted on it that are still in the handshake."""

    def __init__(self, lease: Lease, upgrades: InboundUpgrades, form: Multiaddr, interfaces: Interfaces) -> None:
        self._lease = lease
        self._interfaces = interfaces
        self._raw_addrs: tuple[Multiaddr, ...] = ()
        self._addrs: tuple[Multiaddr, ...] = ()
        self._upgrades = upgrades
        self._form = form

    @property
    def addrs(self) -> Sequence[Multiaddr]:
        raw = reachable_addrs(self._lease.addr, self._interfaces)
        if raw != self._raw_addrs:
            self._raw_addrs, self._addrs = raw, tuple(addr / self._form for addr in raw)
        return self._addrs

    def abort(self) -> None:
        self._lease.close()
        self._upgrades.abort()

    async def close(self) -> None:
        self.abort()
        await self._upgrades.close()
