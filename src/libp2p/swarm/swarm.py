"""The swarm: the listeners and connections of one host.

Rules:
- Every connection in the table is finished: secure, muxed, its peer proven.
- What happens is told by events: see `events.py`.
- Who may connect is bounded by `SwarmConfig`; what is refused is told why in `InboundFailed` or the dialer's error.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from weakref import WeakSet

from ..connection import Connection, Direction, Listener, Scope, Stream, Transport, TransportContext
from ..errors import ConnectionClosed, DialError, LimitExceeded, ListenError
from ..events import EventBus
from ..forks import ForkGuard
from ..identity import PeerId
from ..multiaddr import Multiaddr
from ..peerstore import CONNECTED_ADDR_TTL, RECENTLY_CONNECTED_ADDR_TTL, PeerStore
from .dialer import Dialer
from .events import (
    ConnectionLost,
    ConnectionOpened,
    DialFailed,
    InboundFailed,
    ListenAddrAdded,
    ListenAddrRemoved,
    StreamClosed,
)
from .race import DialerConfig

logger = logging.getLogger(__name__)

_CONNECTED = "connected"
"""The tag that keeps the records of connected peers."""


@dataclass(frozen=True, slots=True)
class SwarmConfig:
    """Limits of the table of connections."""

    max_connections: int = 4096
    """Connections at a time, in all. Inbound ones above it are closed; dials raise `LimitExceeded`."""
    max_connections_per_peer: int = 8
    """Connections to one peer at a time; more inbound ones are closed."""
    dialer: DialerConfig = field(default_factory=DialerConfig)
    """Limits of dialing."""


class Swarm:
    """Listens, dials, and keeps the connections until they end. `on_stream` gets every stream that a peer opens."""

    def __init__(
        self,
        local_peer: PeerId,
        *,
        context: TransportContext,
        transports: Sequence[Transport],
        peerstore: PeerStore,
        events: EventBus,
        on_stream: Callable[[Stream], None],
        config: SwarmConfig | None = None,
    ) -> None:
        self._local_peer = local_peer
        self._context = context
        self._transports: list[Transport] = []
        self._peerstore = peerstore
        self._events = events
        self._on_stream = on_stream
        self._config = config or SwarmConfig()
        self._dialer = Dialer(
            self._transports,
            context.resolver,
            self._config.dialer,
            own_addrs=lambda: self.listen_addrs,
            told_over=peerstore.told_over,
        )
        self._listeners: list[Listener] = []
        self._connections: dict[PeerId, list[Connection]] = {}
        self._closing: WeakSet[Connection] = WeakSet()  # by us: they may still be saying goodbye
        self._count = 0
        self._closed = False
        self._guard = ForkGuard()
        for transport in transports:
            self.add_transport(transport)

    def add_transport(self, transport: Transport) -> None:
        """Dial and listen by `transport` too, behind those that there are. Raises what `Transport.use` does."""
        self._transports.append(transport.use(self._context))

    @property
    def listen_addrs(self) -> list[Multiaddr]:
        """Where the swarm listens: real ports, wildcards resolved to the machine's addresses, no peer id."""
        return list(dict.fromkeys(addr for listener in self._listeners for addr in listener.addrs))

    @property
    def connections(self) -> list[Connection]:
        """All connections."""
        return [connection for connections in self._connections.values() for connection in connections]

    def connections_to(self, peer: PeerId) -> list[Connection]:
        """The connections to `peer`, the oldest first."""
        return list(self._connections.get(peer, ()))

    async def listen(self, addr: Multiaddr) -> Listener:
        """Listen on `addr`. Raises `ListenError`."""
        self.check_process()
        if self._closed:
            raise ListenError(addr, "the host is closed")
        transport = next((transport for transport in self._transports if transport.can_listen(addr)), None)
        if transport is None:
            raise ListenError(addr, "no transport of this host listens on such an address")
        listener = await transport.listen(addr, self)
        self._listeners.append(listener)
        for bound in listener.addrs:
            self._events.emit(ListenAddrAdded(bound))
        return listener

    async def stop_listening(self, listener: Listener) -> None:
        """Close a listener; the connections made through it stay."""
        addrs: Sequence[Multiaddr] = ()
        if listener in self._listeners:
            self._listeners.remove(listener)
            addrs = listener.addrs
        try:
            await listener.close()
        finally:
            for addr in addrs:
                self._events.emit(ListenAddrRemoved(addr))

    async def connect(self, peer: PeerId | None, addrs: Sequence[Multiaddr] = ()) -> Connection:
        """An open connection to `peer`: one that there is, else a new one to the best of `addrs` and of the addresses
        that the peer store has. With `peer` None the one at `addrs` is taken as the peer, whoever it proves to be.

        Raises `DialError` and `LimitExceeded`.
        """
        self.check_process()
        if peer is not None:
            if usable := self.usable_connection(peer):
                return usable
            if peer == self._local_peer:
                raise DialError(peer, {}, reason="that is this host itself")
        if not self._closed:  # else the dialer says so
            self._check_room()
        known = self._peerstore.addrs(peer) if peer is not None else ()
        try:
            return await self._dialer.dial(peer, known, addrs, self._dialed)
        except DialError as error:
            self._events.emit(DialFailed(peer, error))
            raise

    def check_process(self) -> None:
        """Raise `LocalProtocolError` in a process that was forked from the one whose sockets and loop these are."""
        self._guard.check("this host")

    def usable_connection(self, peer: PeerId) -> Connection | None:
        """The oldest connection to `peer` that still opens streams."""
        return next((one for one in self._connections.get(peer, ()) if not one.is_closed), None)

    async def close(self) -> None:
        """Stop listening, cancel dials, and close all connections with a goodbye."""
        self._closed = True
        for listener in list(self._listeners):
            await self.stop_listening(listener)
        await self._dialer.close()
        async with asyncio.TaskGroup() as closing:
            for connection in (*self.connections, *self._closing):
                closing.create_task(connection.close("the host is shutting down"))

    # Accept: what listeners report

    def admit(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> Scope:  # noqa: ARG002
        """Whether somebody may begin a handshake."""
        self._check_open()
        self._check_room()
        return _InboundScope(self._check_room)

    def connection_opened(self, connection: Connection, scope: Scope) -> None:
        """Take a new inbound connection, unless a limit forbids it."""
        scope.release()
        try:
            self._check_open()
            self._check_room(connection.remote_peer)
            self._add(connection)
        except (LimitExceeded, ConnectionClosed) as error:
            connection.abort(str(error))
            self.connection_failed(connection.local_addr, connection.remote_addr, error)

    def addrs_changed(self, listener: Listener) -> None:
        """The addresses of a listener are not what they were."""

    def listener_died(self, listener: Listener, error: Exception) -> None:
        """A listener has ended by itself."""

    def connection_failed(self, local_addr: Multiaddr, remote_addr: Multiaddr, error: Exception) -> None:
        """An inbound connection came to nothing."""
        logger.debug("inbound connection from %s failed: %s", remote_addr, error)
        self._events.emit(InboundFailed(local_addr, remote_addr, error))

    # Inside

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectionClosed("the host is shutting down", by="local")

    def _check_room(self, peer: PeerId | None = None) -> None:
        config = self._config
        if self._count >= config.max_connections:
            raise LimitExceeded("max_connections", scope="host", value=config.max_connections)
        if peer is not None and len(self._connections.get(peer, ())) >= config.max_connections_per_peer:
            raise LimitExceeded("max_connections_per_peer", scope=f"peer {peer}", value=config.max_connections_per_peer)

    def _dialed(self, connection: Connection) -> Connection:
        if connection.remote_peer == self._local_peer:
            connection.abort("connected to itself")
            raise DialError(self._local_peer, {}, reason="that is this host itself")
        try:
            self._check_room()  # again: other dials may have ended meanwhile
            self._add(connection)
        except LimitExceeded as error:
            connection.abort(str(error))
            raise
        return connection

    def _add(self, connection: Connection) -> None:
        """Put a connection in the table. Raises `LimitExceeded`, with nothing done, where the peer store is full."""
        peer = connection.remote_peer
        self._peerstore.protect(peer, _CONNECTED)
        self._peerstore.add_key(peer, connection.remote_key)
        if connection.direction is Direction.OUTBOUND:
            self._peerstore.add_addrs(peer, [connection.remote_addr], CONNECTED_ADDR_TTL)
        self._connections.setdefault(peer, []).append(connection)
        self._count += 1
        self._events.emit(ConnectionOpened(connection))
        connection.serve(
            self._on_stream,
            lambda reason: self._lost(connection, reason),
            lambda stream: self._events.emit(StreamClosed(stream)),
            on_memory_limit=self._events.emit,
        )

    def _lost(self, connection: Connection, reason: ConnectionClosed) -> None:
        peer = connection.remote_peer
        remaining = self._connections[peer]
        remaining.remove(connection)
        self._count -= 1
        if not remaining:
            del self._connections[peer]
            self._peerstore.update_addrs(peer, CONNECTED_ADDR_TTL, RECENTLY_CONNECTED_ADDR_TTL)
            self._peerstore.unprotect(peer, _CONNECTED)
        if reason.by == "local":
            self._closing.add(connection)
        logger.debug("%r", connection)
        self._events.emit(ConnectionLost(connection, reason))


class _InboundScope:
    """What an inbound connection takes of the limits."""

    def __init__(self, check_room: Callable[[PeerId], None]) -> None:
        self._check_room = check_room

    def identified(self, peer: PeerId) -> None:
        self._check_room(peer)

    def release(self) -> None:
        pass
