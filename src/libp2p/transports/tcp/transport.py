"""Dialing and listening over TCP (libp2p/specs addressing: `/ip4/<address>/tcp/<port>`, `/ip6/...`).

A listener's port is also the one that this side dials from, where the system allows it, so that peers, and the NATs
between, see one address of ours. Sockets that share a port need SO_REUSEPORT, which would also let two programs
listen on one port unnoticed; so a port is first taken without it, which fails if anybody else listens there.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import ifaddr

from ...connection import Accept, Connection, Listener, RawConnection, Transport
from ...errors import Libp2pError, LimitExceeded, ListenError
from ...identity import PeerId
from ...io import TaskSupervisor, time_limit
from ...multiaddr import (
    HostPort,
    Multiaddr,
    from_ip,
    from_socket_address,
    host_port,
    is_link_local,
    is_loopback,
    is_unspecified,
)
from ...upgrader import Upgrader
from .connection import TcpConnection

_FAMILIES = {"ip4": socket.AF_INET, "ip6": socket.AF_INET6}
_CAN_SHARE = hasattr(socket, "SO_REUSEPORT")
_SHARED_MEMORY = 256 * 1024
_OWN_MEMORY = 64 * 1024


@dataclass(frozen=True, slots=True)
class TcpConfig:
    """Settings of the TCP transport."""

    connect_timeout: float = 5.0
    """Seconds for a TCP connection to be made; the upgrade that follows has its own limits."""
    backlog: int = 1024
    """Connections that the system keeps for a listener that has not accepted them yet."""
    max_pending_inbound: int = 512
    """Inbound connections of a listener that may be in the handshake at a time; more are closed at once."""
    reuse_port: bool = True
    """Dial from the listener's port where the system allows it."""


class Tcp(Transport):
    """TCP over IPv4 and IPv6. Names (/dns4...) are resolved by the swarm before they come here."""

    def __init__(self, upgrader: Upgrader, config: TcpConfig | None = None) -> None:
        self._upgrader = upgrader
        self._config = config or TcpConfig()
        self._memory: memoryview | None = None
        self._listeners: list[TcpListener] = []

    def can_dial(self, addr: Multiaddr) -> bool:
        names = [component.name for component in addr.without_peer()]
        return names[-2:] in (["ip4", "tcp"], ["ip6", "tcp"]) and names[:-2] in ([], ["ip6zone"])

    def can_listen(self, addr: Multiaddr) -> bool:
        return addr.peer_id_text is None and self.can_dial(addr)

    async def dial(self, addr: Multiaddr, peer: PeerId | None) -> Connection:
        return await self._upgrader.upgrade_outbound(await self._connect(host_port(addr)), peer)

    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        try:
            sock = self._bind(host_port(addr))
        except OSError as error:
            raise ListenError(addr, error.strerror or str(error)) from error
        listener = TcpListener(sock, self._upgrader, accept, self._config)
        await listener.start(sock, self._receive_memory())
        self._listeners = [other for other in self._listeners if not other.is_closed] + [listener]
        return listener

    async def _connect(self, target: HostPort) -> RawConnection:
        async with time_limit("TCP connect", self._config.connect_timeout):
            if source := self._source_port(target):
                try:
                    return await self._connect_from(target, source)
                except OSError as error:
                    if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                        raise
            return await self._connect_from(target, None)

    async def _connect_from(self, target: HostPort, source_port: int | None) -> RawConnection:
        loop = asyncio.get_running_loop()
        sock = _socket(target)
        try:
            sock.setblocking(False)
            if source_port is not None:
                _share_port(sock)
                sock.bind(("" if sock.family is socket.AF_INET else "::", source_port))
            await loop.sock_connect(sock, _sockaddr(target))
            _, connection = await loop.create_connection(lambda: TcpConnection(self._receive_memory()), sock=sock)
        except BaseException:
            sock.close()
            raise
        return connection

    def _source_port(self, target: HostPort) -> int | None:
        """The port of a listener that the target could dial back: one on all addresses, or both on the loopback."""
        if self._config.reuse_port and _CAN_SHARE:
            for listener in self._listeners:
                if not listener.is_closed and listener.suits(target):
                    return listener.port
        return None

    def _bind(self, target: HostPort) -> socket.socket:
        share = self._config.reuse_port and _CAN_SHARE
        if share and target.port:
            with _socket(target) as probe:
                probe.bind(_sockaddr(target))
        sock = _socket(target)
        try:
            if share:
                _share_port(sock)
            sock.bind(_sockaddr(target))
        except BaseException:
            sock.close()
            raise
        return sock

    def _receive_memory(self) -> memoryview:
        proactor = getattr(asyncio, "ProactorEventLoop", None)
        if proactor is not None and isinstance(asyncio.get_running_loop(), proactor):
            return memoryview(bytearray(_OWN_MEMORY))
        if self._memory is None:
            self._memory = memoryview(bytearray(_SHARED_MEMORY))
        return self._memory


class TcpListener(Listener):
    """A listening socket, and the connections accepted on it that are still in the handshake."""

    def __init__(self, sock: socket.socket, upgrader: Upgrader, accept: Accept, config: TcpConfig) -> None:
        host, port, *rest = sock.getsockname()
        self.port: int = port
        self._bound = from_socket_address(host, port, scope_id=rest[1] if rest else 0)
        self._upgrader = upgrader
        self._accept = accept
        self._config = config
        self._server: asyncio.Server | None = None
        self._upgrades = TaskSupervisor(f"listener {self._bound}")
        self.is_closed = False

    async def start(self, sock: socket.socket, memory: memoryview) -> None:
        """Begin to accept."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: TcpConnection(memory, self._accepted), sock=sock, backlog=self._config.backlog
        )

    @property
    def addrs(self) -> Sequence[Multiaddr]:
        if not is_unspecified(self._bound):
            return (self._bound,)
        wanted = "ip6" if "ip6" in self._bound else "ip4"
        hosts = (ip.ip if ip.is_IPv4 else ip.ip[0] for adapter in ifaddr.get_adapters() for ip in adapter.ips)
        addrs = (from_socket_address(str(host), self.port) for host in hosts)
        return tuple(dict.fromkeys(addr for addr in addrs if wanted in addr and not is_link_local(addr)))

    def suits(self, target: HostPort) -> bool:
        """Whether a connection to `target` may come from this listener's port."""
        bound = host_port(self._bound)
        if bound.family != target.family:
            return False
        return is_unspecified(self._bound) or (is_loopback(self._bound) and is_loopback(from_ip(target.host)))

    async def close(self) -> None:
        self.is_closed = True
        if self._server is not None:
            self._server.close()
        await self._upgrades.close()

    def _accepted(self, raw: TcpConnection) -> None:
        if len(self._upgrades) >= self._config.max_pending_inbound:
            limit = LimitExceeded(
                "max_pending_inbound", scope=f"listener {self._bound}", value=self._config.max_pending_inbound
            )
            raw.abort(limit)
            self._accept.connection_failed(raw.local_addr, raw.remote_addr, limit)
        elif self._upgrades.spawn(self._upgrade(raw), name=f"upgrade {raw.remote_addr}") is None:
            raw.abort()

    async def _upgrade(self, raw: TcpConnection) -> None:
        try:
            connection = await self._upgrader.upgrade_inbound(raw)
        except (Libp2pError, OSError) as error:
            self._accept.connection_failed(raw.local_addr, raw.remote_addr, error)
        else:
            self._accept.connection_opened(connection)


def _socket(target: HostPort) -> socket.socket:
    # asyncio sets TCP_NODELAY, without which small frames wait for the peer's delayed ACK, only where the protocol is
    # named
    sock = socket.socket(_FAMILIES[target.family], socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
    if target.family == "ip6":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _share_port(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _sockaddr(target: HostPort) -> tuple[str, int] | tuple[str, int, int, int]:
    host, _, zone = target.host.partition("%")
    if target.family == "ip4":
        return host, target.port
    return host, target.port, 0, (int(zone) if zone.isdigit() else socket.if_nametoindex(zone)) if zone else 0
