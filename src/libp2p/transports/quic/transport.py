"""Dialing and listening over QUIC (specs: quic/README.md, tls/tls.md).

A connection is secure and muxed from birth: the host's key is all that the transport takes of its context. One UDP
socket serves a listener and everything that is dialed from its port, so that peers, and the NATs between, see one
address of ours. What no listener's socket can reach is dialed from one more socket, which lives as long as its
connections.

QUIC has one way to begin: who sends the first Initial packet is the initiator of the handshake. A dial as responder is
a hole punch (specs: relay/DCUtR.md): it sends datagrams of no meaning from the listener's socket, so that the NATs
before us let in the peer, who dials at the same time, and returns the connection that the peer makes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from ...connection import Accept, Connection, DialOptions, Listener, LocalPort, Role, Transport
from ...errors import ListenError, LocalProtocolError
from ...forks import ForkGuard
from ...identity import PeerId
from ...multiaddr import HostPort, Multiaddr, host_port
from ..addresses import sockaddr
from ..interfaces import Interfaces
from .address import from_socket, is_quic, to_socket
from .config import QuicConfig
from .datagrams import OpenSocket, SocketAddress
from .punching import Punches
from .udp import open_udp

if TYPE_CHECKING:
    from .connection import QuicConnection
    from .credentials import Credentials
    from .driver import Driver
    from .endpoint import Endpoint
    from .ports import QuicPorts
    from .service import PeerService


class Quic(Transport):
    """QUIC version 1 over IPv4 and IPv6: `/udp/<port>/quic-v1`. Names (/dns4...) are resolved before they come here.

    `open_socket` opens its UDP sockets: those of the system, or of a simulated machine.
    """

    def __init__(self, config: QuicConfig | None = None, *, open_socket: OpenSocket | None = None) -> None:
        self._config = config or QuicConfig()
        self._open_socket = open_socket or partial(open_udp, buffer_size=self._config.socket_buffer)
        self._guard = ForkGuard()
        self._prepared: Credentials | None = None
        self._punches = Punches(self._config.handshake_timeout)

    def can_dial(self, addr: Multiaddr) -> bool:
        return is_quic(addr)

    def can_listen(self, addr: Multiaddr) -> bool:
        return addr.peer_id_text is None and is_quic(addr)

    async def dial(self, addr: Multiaddr, peer: PeerId | None, options: DialOptions = DialOptions()) -> Connection:
        """See `Transport.dial`. Returns once the listener has accepted us: a dialer's own handshake is over before the
        listener has looked at its certificate, so it waits for the listener's confirmation, a round trip more.

        As responder (a hole punch) it returns the connection that `peer` makes, whose direction is inbound. Raises
        `LocalProtocolError` where nobody listens on a socket that leads to `addr`, or no `peer` is named.
        """
        target = host_port(addr)
        socket_addr = sockaddr(target)  # before a socket is opened: it raises `OSError` where there is no such zone
        if options.role is Role.RESPONDER:
            return await self._punch(addr, target, socket_addr, peer)
        endpoint = await self._endpoint_for(target, options.local_port)
        return cast("QuicConnection", await endpoint.dial(socket_addr, peer, partial(self._connection, endpoint)))

    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        from .credentials import ALPN  # noqa: PLC0415 - loads aioquic
        from .service import PeerService  # noqa: PLC0415

        listener: QuicListener
        service = PeerService(
            ALPN,
            self._credentials().terms,
            accept,
            start=lambda driver: self._connection(listener.endpoint, driver),
            claim=self._punches.claim,
            died=lambda error: accept.listener_died(listener, error),
        )
        try:
            endpoint = await self._ports.listen(to_socket(addr), service, self._open)
        except OSError as error:
            raise ListenError(addr, error.strerror or os.strerror(error.errno or 0)) from error
        listener = QuicListener(endpoint, service, self.context.shared(Interfaces))
        return listener

    def send_datagram(self, addr: Multiaddr, datagram: bytes) -> bool:
        """Send `datagram`, which belongs to no connection, to `addr` from the socket of a listener that leads there;
        whether there is one. Whether it leaves nobody knows.
        """
        target = host_port(addr)
        endpoint = self._ports.listening(target)
        if endpoint is not None:
            endpoint.send_raw(datagram, sockaddr(target))
        return endpoint is not None

    async def close(self) -> None:
        """End what was dialed from sockets of its own."""
        if self._prepared is not None:  # else nothing was ever opened
            self._ports.close()

    async def _punch(
        self, addr: Multiaddr, target: HostPort, socket_addr: SocketAddress, peer: PeerId | None
    ) -> Connection:
        endpoint = self._ports.listening(target)
        if endpoint is None or peer is None:
            what = "a peer to wait for" if peer is None else "a listener whose socket leads there"
            raise LocalProtocolError(f"to punch a hole for {addr} takes {what}")
        dice = random.Random()  # noqa: S311 - of bytes that mean nothing
        return await self._punches.punch(peer, lambda data: endpoint.send_raw(data, socket_addr), dice=dice)

    async def _endpoint_for(self, target: HostPort, local_port: LocalPort) -> Endpoint:
        """The endpoint to dial `target` from."""
        if local_port is LocalPort.FRESH:
            return await self._ports.fresh(target.family, self._open)
        return self._ports.listening(target) or await self._ports.dialing(target.family, self._open)

    @property
    def _ports(self) -> QuicPorts:
        from .ports import QuicPorts  # noqa: PLC0415 - loads aioquic

        return self.context.shared(QuicPorts)

    def _credentials(self) -> Credentials:
        from .credentials import Credentials  # noqa: PLC0415 - loads aioquic

        self._guard.check("this Quic transport")
        if self._prepared is None:
            self._prepared = Credentials(self.context.key, self._config)
        return self._prepared

    async def _open(self, addr: SocketAddress) -> Endpoint:
        from .endpoint import Endpoint  # noqa: PLC0415 - loads aioquic

        return Endpoint(await self._open_socket(addr), self._credentials(), self._config)

    def _connection(self, endpoint: Endpoint, driver: Driver) -> QuicConnection:
        """What runs over `driver`, whose peer is known now."""
        from .connection import QuicConnection  # noqa: PLC0415 - loads aioquic

        engine = driver.engine
        if engine.remote_key is None:
            raise LocalProtocolError("no connection is handed out before its peer is proven")
        return QuicConnection(
            driver,
            engine,
            local_peer=self._credentials().peer_id,
            remote_key=engine.remote_key,
            local_addr=endpoint.local_addr(driver.addr, driver.local_ip),
            remote_addr=from_socket(driver.addr),
            direction=driver.direction,
            memory=self.context.memory.of_connection(engine.remote_key.peer_id),
        )


class QuicListener(Listener):
    """A listening socket, or a part in one. What is accepted on it, and dialed from it, outlives it."""

    def __init__(self, endpoint: Endpoint, service: PeerService, interfaces: Interfaces) -> None:
        self.endpoint = endpoint
        self._interfaces = interfaces
        self._ips: tuple[str, ...] = ()
        self._addrs: tuple[Multiaddr, ...] = ()
        self._service = service

    @property
    def addrs(self) -> Sequence[Multiaddr]:
        socket = self.endpoint.socket
        ips = tuple(socket.local_ips(self._interfaces))
        if ips != self._ips:
            self._ips, self._addrs = ips, tuple(from_socket((ip, *socket.addr[1:])) for ip in ips)
        return self._addrs

    def abort(self) -> None:
        self.endpoint.stop_serving(self._service)
