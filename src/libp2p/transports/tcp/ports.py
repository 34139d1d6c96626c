"""Listening TCP sockets, which several transports may share.

One port can serve TCP, WebSocket and secure WebSocket at once, since whoever connects speaks first, and the first byte
tells which of them it wants:

    13        the length of "/multistream/1.0.0\\n", with which a TCP connection's upgrade begins
    16        a TLS handshake record
    41 .. 5a  the method of an HTTP request

Rules:
- The transports of one host share its ports: they find them in their context.
- On a port that one transport has for itself nothing is looked at, nor waited for.
- In a private network a TCP connection begins with a random nonce, which may look like anything: it shares no port.
  (A WebSocket's secret is within the WebSocket, so the two kinds of those may share one.)
- What begins otherwise, or not at all, goes to who took the port first, whose own handshake then says what is wrong.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import Counter
from collections.abc import Callable
from enum import Enum
from ipaddress import ip_address
from typing import Any, cast

from ...connection import Accept
from ...errors import ListenError
from ...multiaddr import HostPort, Multiaddr, from_socket_address
from ..addresses import sockaddr
from ..loops import is_proactor
from .acceptor import Acceptor
from .connection import TcpConnection

_FAMILIES = {"ip4": socket.AF_INET, "ip6": socket.AF_INET6}
_SHARED_MEMORY = 256 * 1024
_OWN_MEMORY = 64 * 1024

_FIRST_BYTE_TIMEOUT = 5.0
"""Seconds that a connection to a shared port has for its first byte."""

_MAX_UNDECIDED = 512
"""Connections to a shared port that may be waited for at a time; one more ends the oldest, which has had its time: the
first byte of who means well comes within a round trip."""

_MAX_UNDECIDED_PER_PREFIX = 128
"""Those of one IPv4 address, or IPv6 /56; more are closed."""

CAN_SHARE = hasattr(socket, "SO_REUSEPORT")
"""Whether a connection can be made from the port of a listener."""


class Opening(Enum):
    """How a connection begins."""

    MULTISTREAM = "multistream"
    NONCE = "a private network's nonce"
    TLS = "TLS"
    HTTP = "HTTP"


def opening_of(first: int) -> Opening | None:
    """What a connection whose first byte is `first` wants, None if nobody knows."""
    if first == 0x13:
        return Opening.MULTISTREAM
    if first == 0x16:
        return Opening.TLS
    return Opening.HTTP if 0x41 <= first <= 0x5A else None


class TcpPorts:
    """The listening TCP sockets of one host, and the memory for what they receive."""

    def __init__(self) -> None:
        self._ports: dict[Multiaddr, _Port] = {}
        self._lock = asyncio.Lock()
        self._memory: memoryview | None = None

    async def listen(
        self,
        addr: Multiaddr,
        target: HostPort,
        opening: Opening,
        taker: Taker,
        *,
        backlog: int,
        reuse: bool,
        accept: Accept,
    ) -> Lease:
        """Give what connects to `target`, and begins with `opening`, to `taker`, until the lease is closed.

        `backlog` is how many connections the system keeps that were not accepted yet, `reuse` whether other sockets may
        dial from the port; `accept` says whether it makes sense to look at a connection at all. For a port that is open
        already these count for nothing. Raises `ListenError`, which names `addr`.
        """
        async with self._lock:
            port = self._ports.get(from_socket_address(target.host, target.port))
            if port is not None and opening in port.takers:
                raise ListenError(addr, os.strerror(errno.EADDRINUSE))
            if port is not None and Opening.NONCE in (opening, *port.takers):
                raise ListenError(addr, "in a private network TCP shares no port: its first bytes look like anything")
            if port is None:
                try:
                    sock = bind(target, reuse=reuse and CAN_SHARE)
                    host, number, *rest = sock.getsockname()
                    bound = from_socket_address(host, number, scope_id=rest[1] if rest else 0)
                    port = _Port(bound, self.memory, self._ports, accept)
                    port.takers[opening] = taker
                    await port.start(sock, backlog)
                except OSError as error:
                    raise ListenError(addr, error.strerror or str(error)) from error
                self._ports[bound] = port
            port.takers[opening] = taker
            return Lease(port, opening)

    def memory(self) -> memoryview:
        """Where connections receive; see `TcpConnection`."""
        if is_proactor():
            return memoryview(bytearray(_OWN_MEMORY))
        if self._memory is None:
            self._memory = memoryview(bytearray(_SHARED_MEMORY))
        return self._memory


Taker = Callable[[TcpConnection], None]
"""Gets connections that were accepted."""


class Lease:
    """A transport's part in a port."""

    def __init__(self, port: _Port, opening: Opening) -> None:
        self.addr = port.addr
        """Where it is bound: with the real port, a wildcard host still being one."""
        self.on_died: Callable[[OSError], None] = lambda _: None
        """Told where the port has ended by itself."""
        self._port = port
        self._opening = opening
        self.is_closed = False
        port.leases.add(self)

    def close(self) -> None:
        """Accept no more, and free the port unless others have a part in it. Idempotent."""
        if not self.is_closed:
            self.is_closed = True
            self._port.leases.discard(self)
            self._port.leave(self._opening)


class _Port:
    """One listening socket."""

    def __init__(
        self, addr: Multiaddr, memory: Callable[[], memoryview], ports: dict[Multiaddr, _Port], accept: Accept
    ) -> None:
        self.addr = addr
        self._might_admit = accept.might_admit  # of all who share the port: they are one host's
        self.takers: dict[Opening, Taker] = {}
        self.leases: set[Lease] = set()
        self.undecided: dict[_Undecided, None] = {}  # the oldest first
        self.undecided_of: Counter[bytes] = Counter()  # by prefix
        self.memory = memory
        self._ports = ports
        self._server: asyncio.Server | Acceptor | None = None

    async def start(self, sock: socket.socket, backlog: int) -> None:
        """Begin to accept. Where that fails, or is cancelled, the socket is closed."""
        if not is_proactor():
            self._server = Acceptor(sock, self._accept, self._died, self._screen)
            self._server.start(backlog)
            return
        self._server = await asyncio.get_running_loop().create_server(
            self._accept, sock=sock, backlog=backlog, start_serving=False
        )
        try:
            await self._server.start_serving()
        except BaseException:
            self._server.close()
            raise

    def _screen(self, addr: Any) -> bool:
        remote = from_socket_address(addr[0], addr[1], scope_id=addr[3] if len(addr) == 4 else 0)
        return self._might_admit(self.addr, remote)

    def _died(self, error: OSError) -> None:
        for lease in list(self.leases):
            lease.on_died(error)

    def _accept(self) -> asyncio.BaseProtocol:
        return _Undecided(self) if len(self.takers) > 1 else self.connection(self.memory())

    def connection(self, memory: memoryview, first: int | None = None) -> TcpConnection:
        """The protocol for a connection that begins with the byte `first`."""
        opening = None if first is None else opening_of(first)
        taker = self.takers.get(opening) if opening is not None else None
        return TcpConnection(memory, taker or next(iter(self.takers.values()), TcpConnection.abort))

    def leave(self, opening: Opening) -> None:
        del self.takers[opening]
        if not self.takers:
            assert self._server is not None
            self._server.close()
            del self._ports[self.addr]
            for undecided in list(self.undecided):
                undecided.abort()


class _Undecided(asyncio.BufferedProtocol):
    """A connection to a shared port until its first bytes are there; they are then received by whom they are for."""

    def __init__(self, port: _Port) -> None:
        self._port = port
        self._memory = port.memory()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type
        self._timer = asyncio.get_running_loop().call_later(_FIRST_BYTE_TIMEOUT, self._decide, None)
        self._prefix = ip_address(transport.get_extra_info("peername")[0].partition("%")[0]).packed[:7]
        port = self._port
        port.undecided[self] = None
        port.undecided_of[self._prefix] += 1
        if port.undecided_of[self._prefix] > _MAX_UNDECIDED_PER_PREFIX:
            self.abort()
        elif len(port.undecided) > _MAX_UNDECIDED:
            next(iter(port.undecided)).abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self._memory

    def buffer_updated(self, nbytes: int) -> None:
        self._decide(self._memory[0]).buffer_updated(nbytes)  # from the same memory

    def _decide(self, first: int | None) -> TcpConnection:
        self._forget()
        connection = self._port.connection(self._memory, first)
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)
        return connection

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._forget()

    def _forget(self) -> None:
        self._timer.cancel()
        if self in self._port.undecided:
            del self._port.undecided[self]
            self._port.undecided_of[self._prefix] -= 1
            if not self._port.undecided_of[self._prefix]:
                del self._port.undecided_of[self._prefix]

    def abort(self) -> None:
        self._forget()
        self._transport.abort()


def bind(target: HostPort, *, reuse: bool) -> socket.socket:
    """A socket bound to `target`. With `reuse` others may be bound to the port too, but none that there is already."""
    if reuse and target.port:
        with open_socket(target) as probe:
            probe.bind(sockaddr(target))
    sock = open_socket(target)
    try:
        if reuse:
            share_port(sock)
        sock.bind(sockaddr(target))
    except BaseException:
        sock.close()
        raise
    return sock


def open_socket(target: HostPort) -> socket.socket:
    """A TCP socket of the family of `target`."""
    # asyncio sets TCP_NODELAY, without which small frames wait for the peer's delayed ACK, only where the protocol is
    # named
    sock = socket.socket(_FAMILIES[target.family], socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
    if target.family == "ip6":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def share_port(sock: socket.socket) -> None:
    """Let other sockets be bound to the same port."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
