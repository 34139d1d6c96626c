"""Dialing and listening over TCP (libp2p/specs addressing: `/ip4/<address>/tcp/<port>`, `/ip6/...`).

A listener's port is also the one that this side dials from, where the system allows it, so that peers, and the NATs
between, see one address of ours. Sockets that share a port need SO_REUSEPORT, which would also let two programs
listen on one port unnoticed; so a port is first taken without it, which fails if anybody else listens there.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from ...connection import Accept, Connection, DialOptions, Direction, Listener, LocalPort, StreamTransport
from ...identity import PeerId
from ...io import time_limit
from ...multiaddr import HostPort, Multiaddr, host_port
from ..addresses import is_on_ip, may_dial_from, reachable_addrs, sockaddr
from ..inbound import InboundUpgrades
from ..interfaces import Interfaces
from .connection import TcpConnection
from .ports import CAN_SHARE, Lease, Opening, TcpPorts, open_socket, share_port


@dataclass(frozen=True, slots=True)
class TcpConfig:
    """Settings of the TCP transport."""

    connect_timeout: float = 5.0
    """Seconds for a TCP connection to be made; the upgrade that follows has its own limits."""
    backlog: int = 1024
    """Connections that the system keeps for a listener that has not accepted them yet."""
    max_pending_inbound: int = 2048
    """Inbound connections of a listener that may be in the handshake at a time; more are closed at once."""
    reuse_port: bool = True
    """Dial from the listener's port where the system allows it."""


class Tcp(StreamTransport):
    """TCP over IPv4 and IPv6. Names (/dns4...) are resolved by the swarm before they come here.

    It can share a port with the other transports of its host that listen on TCP: see `ports.py`.
    """

    def __init__(self, config: TcpConfig | None = None) -> None:
        self._config = config or TcpConfig()
        self._listeners: list[TcpListener] = []

    def can_dial(self, addr: Multiaddr) -> bool:
        return is_on_ip(addr, "tcp")

    def can_listen(self, addr: Multiaddr) -> bool:
        return addr.peer_id_text is None and self.can_dial(addr)

    async def dial(self, addr: Multiaddr, peer: PeerId | None, options: DialOptions = DialOptions()) -> Connection:
        target, context = host_port(addr), self.context
        source = self._source_port(target) if options.local_port is LocalPort.SHARED else None
        memory, timeout = context.shared(TcpPorts).memory(), self._config.connect_timeout
        raw = await connect(target, memory, timeout=timeout, source_port=source)
        return await context.upgrader.upgrade(raw, Direction.OUTBOUND, role=options.role, peer=peer)

    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        config, context = self._config, self.context
        upgrades = InboundUpgrades(addr, context.upgrader, accept, limit=config.max_pending_inbound)
        lease = await context.shared(TcpPorts).listen(
            addr,
            host_port(addr),
            Opening.NONCE if context.is_private else Opening.MULTISTREAM,
            upgrades.take,
            backlog=config.backlog,
            reuse=config.reuse_port,
            accept=accept,
        )
        listener = TcpListener(lease, upgrades, context.shared(Interfaces))
        lease.on_died = lambda error: accept.listener_died(listener, error)
        self._listeners = [other for other in self._listeners if not other.is_closed] + [listener]
        return listener

    def _source_port(self, target: HostPort) -> int | None:
        """The port of a listener that the target could dial back: one on all addresses, or both on the loopback."""
        if self._config.reuse_port and CAN_SHARE:
            for listener in self._listeners:
                if not listener.is_closed and listener.suits(target):
                    return listener.port
        return None


class TcpListener(Listener):
    """A listening socket, and the connections accepted on it that are still in the handshake."""

    def __init__(self, lease: Lease, upgrades: InboundUpgrades, interfaces: Interfaces) -> None:
        self._lease = lease
        self._interfaces = interfaces
        self._upgrades = upgrades
        self.port = host_port(lease.addr).port

    @property
    def is_closed(self) -> bool:
        """Whether it accepts no more."""
        return self._lease.is_closed

    @property
    def addrs(self) -> Sequence[Multiaddr]:
        return reachable_addrs(self._lease.addr, self._interfaces)

    def suits(self, target: HostPort) -> bool:
        """Whether a connection to `target` may come from this listener's port."""
        return may_dial_from(self._lease.addr, target)

    def abort(self) -> None:
        self._lease.close()
        self._upgrades.abort()

    async def close(self) -> None:
        self.abort()
        await self._upgrades.close()


async def connect(
    target: HostPort, memory: memoryview, *, timeout: float, source_port: int | None = None
) -> TcpConnection:
    """Connect to `target` within `timeout` seconds, from `source_port` if that is possible. Raises `OSError` and
    `StageTimeout`.
    """
    async with time_limit("TCP connect", timeout):
        if source_port is not None:
            try:
                return await _connect_from(target, memory, source_port)
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                    raise
        return await _connect_from(target, memory, None)


async def _connect_from(target: HostPort, memory: memoryview, source_port: int | None) -> TcpConnection:
    loop = asyncio.get_running_loop()
    sock = open_socket(target)
    try:
        sock.setblocking(False)
        if source_port is not None:
            share_port(sock)
            sock.bind(("" if sock.family is socket.AF_INET else "::", source_port))
        await loop.sock_connect(sock, sockaddr(target))
        _, connection = await loop.create_connection(lambda: TcpConnection(memory), sock=sock)
    except BaseException:
        sock.close()
        raise
    return connection
