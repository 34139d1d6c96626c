"""The swarm: the listeners and connections of one host.

Rules:
- Every connection in the table is finished: secure, muxed, its peer proven.
- What happens is told by events: see `events.py`.
- Who may connect is bounded by `SwarmConfig`, and asked of the `Gater`; what is refused is told why in `InboundFailed`
  or the dialer's error. Above the high water those least worth keeping are closed: see `limits/`.
- A `close` that is cancelled, or fails, has ended everything nevertheless.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from weakref import WeakSet

from ..connection import (
    Connection,
    DialOptions,
    Direction,
    Listener,
    Scope,
    Stream,
    StreamErrorCode,
    Transport,
    TransportContext,
)
from ..errors import ConnectionClosed, DialError, Gated, Libp2pError, LimitExceeded
from ..events import EventBus
from ..forks import ForkGuard
from ..identity import PeerId
from ..io import all_of
from ..multiaddr import Multiaddr, is_relayed
from ..peerstore import CONNECTED_ADDR_TTL, RECENTLY_CONNECTED_ADDR_TTL, PeerStore
from ..spans import span
from .dialer import Dialer
from .direct import DirectConnections
from .events import (
    ConnectionLost,
    ConnectionOpened,
    DialFailed,
    InboundFailed,
    PeerConnected,
    PeerDisconnected,
    StreamEnded,
)
from .limits import Gater, HostLimits, SwarmConfig
from .limits.gater import ask
from .listening import Listeners
from .table import ConnectionTable, Entry
from .thinning import Thinning

logger = logging.getLogger(__name__)

_CONNECTED = "connected"
"""The tag that keeps the records of connected peers."""

_SHUTDOWN = "the host is shutting down"


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
        gater: Gater | None = None,
        config: SwarmConfig | None = None,
    ) -> None:
        self._local_peer = local_peer
        self._context = context
        self._transports: list[Transport] = []
        self._peerstore = peerstore
        self._events = events
        self._on_stream = on_stream
        self._config = config or SwarmConfig()
        self._gater = gater or Gater()
        self.limits = HostLimits(self._config, self._gater, context.now, context.memory.account, _later)
        """What peers may take, and do: see `limits/`."""
        self._table = ConnectionTable(local_peer)
        self._listeners = Listeners(self._transports, self, events)
        self._dialer = Dialer(
            self._transports,
            context.resolver,
            self._config.dialer,
            own_addrs=self._own_addrs,
            told_over=peerstore.told_over,
            forbidden=self._forbidden,
        )
        self._thinning = Thinning(self._table, self.limits, self._config, context.now)
        self._direct = DirectConnections(self._table, self._config.dialer.dial_timeout)
        self._closing: WeakSet[Connection] | None = None  # by us: they may still be saying goodbye
        # One of each for all connections:
        self._protected = self.limits.is_protected
        self._let_go = self._thinning.let_go
        self._gone = self._lost
        self._on_stream_ended = self._stream_ended
        self._on_memory_limit = events.emit
        self._closed = False
        self._guard = ForkGuard()
        for transport in transports:
            self.add_transport(transport)

    def add_transport(self, transport: Transport) -> Callable[[], None]:
        """Dial and listen by `transport` too, behind those that there are. Raises what `Transport.use` does. Returns
        the function that ends this; listeners and connections stay.
        """
        self._transports.append(transport.use(self._context))

        def remove() -> None:
            if transport in self._transports:
                self._transports.remove(transport)

        return remove

    def can_dial(self, addr: Multiaddr) -> bool:
        """Whether a transport dials `addr`, which has no name to look up."""
        return any(transport.can_dial(addr) for transport in self._transports)

    # Listening

    @property
    def listen_addrs(self) -> list[Multiaddr]:
        """Where the swarm listens: real ports, wildcards resolved to the machine's addresses, no peer id."""
        return self._listeners.addrs

    async def listen(self, addr: Multiaddr) -> Listener:
        """Listen on `addr`. Raises `ListenError`."""
        self.check_process()
        return await self._listeners.listen(addr)

    async def stop_listening(self, listener: Listener) -> None:
        """Close a listener; the connections made through it stay."""
        await self._listeners.stop(listener)

    async def stop_accepting(self) -> None:
        """Listen no more, on any address; the connections that there are stay."""
        await self._listeners.close()

    # Connections

    @property
    def peers(self) -> dict[PeerId, list[Connection]]:
        """The connected peers, with the connections to each, the oldest first."""
        return self._table.peers

    @property
    def connections(self) -> list[Connection]:
        """All connections."""
        return self._table.connections

    def connections_to(self, peer: PeerId) -> list[Connection]:
        """The connections to `peer`, the oldest first."""
        return self._table.to(peer)

    def usable_connection(self, peer: PeerId) -> Connection | None:
        """The connection to `peer` to open streams on: see `table.py`."""
        return self._table.best(peer)

    async def connect(
        self, peer: PeerId | None, addrs: Sequence[Multiaddr] = (), options: DialOptions = DialOptions()
    ) -> Connection:
        """An open connection to `peer`: one that there is, else a new one to the best of `addrs` and of the addresses
        that the peer store has. With `peer` None the one at `addrs` is taken as the peer, whoever it proves to be.

        A limited connection does not do for who names direct ways only. Where `options` does not allow one, there is no
        other, and `addrs` names no direct way, a hole punch that is under way is waited for. Raises `DialError`,
        `LimitedConnection` and `LimitExceeded`.
        """
        self.check_process()
        if peer == self._local_peer:
            raise DialError(peer, {}, reason="that is this host itself")
        if not options.new_connection:
            found = self._table.best(peer) if peer is not None else self._table.at(addrs)
            named_direct = bool(addrs) and not any(map(is_relayed, addrs))
            if found is not None and (not found.is_limited or (options.allow_limited and not named_direct)):
                return found
            if found is not None and peer is not None and all(map(is_relayed, addrs)):
                return await self._direct.wait(peer)
        if not options.dial:
            raise DialError(peer, {}, reason="there is no connection, and none was to be made")
        if not self._closed:  # else the dialer says so
            self.limits.connections.check_room()
            if peer is not None:
                self._check_peer_dial(peer)
        known: Sequence[Multiaddr] = ()
        if peer is not None and not options.only_given:
            await self._peerstore.load(peer)
            known = self._peerstore.addrs(peer)
        leads_there = addrs if peer is None and len(addrs) == 1 else ()  # of several one knows not which
        try:
            with span("dial", host=self._local_peer, peer=peer):
                return await self._dialer.dial(
                    peer, known, addrs, lambda connection: self._dialed(connection, leads_there, options), options
                )
        except DialError as error:
            self._events.emit(DialFailed(peer, error))
            raise

    def check_process(self) -> None:
        """Raise `LocalProtocolError` in a process that was forked from the one whose sockets and loop these are."""
        self._guard.check("this host")

    def punching(self, peer: PeerId) -> AbstractContextManager[None]:
        """A direct connection to `peer` is being made, within the block, beside a limited one: who may not use that one
        waits for it.
        """
        return self._direct.expected(peer)

    # The end

    def abort(self) -> None:
        """End everything at once, without goodbyes. Idempotent."""
        self._closed = True
        self._listeners.abort()
        self._dialer.abort()
        self._thinning.stop()
        for connection in (*self.connections, *(self._closing or ())):
            connection.abort(_SHUTDOWN)
        for transport in self._transports:
            transport.abort()
        self._direct.give_up()

    async def close(self) -> None:
        """Stop listening, cancel dials, and close all connections with a goodbye. Cancelled, or where something of it
        fails, everything has ended nevertheless.
        """
        self._closed = True
        try:
            await all_of(self._listeners.close(), self._dialer.close())
            connections = (*self.connections, *(self._closing or ()))
            await all_of(*(connection.close(_SHUTDOWN) for connection in connections), *self._thinning.farewells)
            await all_of(*(transport.close() for transport in self._transports))
        finally:
            self.abort()

    # Accept: what listeners report

    def might_admit(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> bool:
        """Whether it makes sense to look at a connection from there."""
        try:
            self.limits.connections.check_chance(remote_addr)
        except LimitExceeded as error:
            self.connection_failed(local_addr, remote_addr, error)
            return False
        return not self._closed

    def admit(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> Scope:
        """Whether somebody may begin a handshake."""
        if self._closed:
            raise ConnectionClosed(_SHUTDOWN, by="local")
        return self.limits.connections.admit(local_addr, remote_addr)

    def connection_opened(self, connection: Connection, scope: Scope) -> None:
        """Take a new inbound connection, unless a limit forbids it."""
        try:
            if self._closed:
                raise ConnectionClosed(_SHUTDOWN, by="local")
            scope.identified(connection.remote_peer)  # most have been already
            self._add(connection, scope)
        except Libp2pError as error:
            scope.release()
            connection.abort(str(error), _code_of(error))
            self.connection_failed(connection.local_addr, connection.remote_addr, error)

    def connection_failed(self, local_addr: Multiaddr, remote_addr: Multiaddr, error: Exception) -> None:
        """An inbound connection came to nothing."""
        logger.debug("inbound connection from %s failed: %s", remote_addr, error)
        self._events.emit(InboundFailed(local_addr, remote_addr, error))

    def addrs_changed(self, listener: Listener) -> None:
        """The addresses of a listener are not what they were."""
        self._listeners.changed(listener)

    def machine_changed(self) -> None:
        """The machine's addresses are not what they were: listeners on a wildcard have others."""
        self._listeners.machine_changed()

    def listener_died(self, listener: Listener, error: Exception) -> None:
        """A listener has ended by itself."""
        self._listeners.died(listener, error)

    # Inside

    def _own_addrs(self) -> list[Multiaddr]:
        return self.listen_addrs

    def _forbidden(self, peer: PeerId | None, addr: Multiaddr) -> Exception | None:
        try:
            ask(lambda: self._gater.check_dial(peer, addr))
        except Libp2pError as error:
            return error
        return None

    def _check_peer_dial(self, peer: PeerId) -> None:
        try:
            ask(lambda: self._gater.check_peer_dial(peer))
        except Libp2pError as error:
            raise DialError(peer, {}, reason=str(error)) from error

    def _dialed(self, connection: Connection, addrs: Iterable[Multiaddr], options: DialOptions) -> Connection:
        peer = connection.remote_peer
        if peer == self._local_peer:
            connection.abort("connected to itself")
            raise DialError(peer, {}, reason="that is this host itself")
        try:
            scope = self.limits.connections.establish(peer, connection.remote_addr)
        except Libp2pError as error:
            connection.abort(str(error))
            raise
        try:
            self._add(connection, scope, addrs, options)
        except Libp2pError as error:
            scope.release()
            connection.abort(str(error), _code_of(error))
            raise
        return connection

    def _add(
        self,
        connection: Connection,
        scope: Scope,
        dialed: Iterable[Multiaddr] = (),
        options: DialOptions = DialOptions(),
    ) -> None:
        """Put a connection in the table. Raises `LimitExceeded`, with nothing done, where the peer store is full, and
        what the gater does.
        """
        ask(lambda: self._gater.check_upgraded(connection))
        peer = connection.remote_peer
        self._peerstore.protect(peer, _CONNECTED)
        self._peerstore.add_key(peer, connection.remote_key)
        is_outbound = connection.direction is Direction.OUTBOUND
        if is_outbound and options.remember:
            self._peerstore.add_addrs(peer, [connection.remote_addr], CONNECTED_ADDR_TTL)
        entry = Entry(
            connection,
            scope,
            since=self._context.now(),
            on_purpose=options.new_connection,
            dialed=tuple(dict.fromkeys((*dialed, connection.remote_addr.without_peer()))) if is_outbound else (),
            protected=self._protected,
            let_go=self._let_go,
            lost=self._gone,
        )
        scope.held_by(entry)
        is_first = self._table.add(entry)
        self._events.emit(ConnectionOpened(connection))
        if is_first:
            self._events.emit(PeerConnected(peer))
        else:
            for doubtful in self._table.doubtful(peer):
                doubtful.probe()
            self._thinning.duplicates_later(peer)
        connection.serve(self._on_stream, entry.ended, self._on_stream_ended, on_memory_limit=self._on_memory_limit)
        self._direct.changed(peer)
        self._thinning.trim_later()

    def _stream_ended(self, stream: Stream) -> None:
        self._events.emit(StreamEnded(stream))

    def _lost(self, entry: Entry, reason: ConnectionClosed) -> None:
        connection, peer = entry.connection, entry.connection.remote_peer
        is_last = self._table.remove(entry)
        entry.scope.release()
        if is_last:
            self._peerstore.update_addrs(peer, CONNECTED_ADDR_TTL, RECENTLY_CONNECTED_ADDR_TTL)
            self._peerstore.unprotect(peer, _CONNECTED)
        if reason.by == "local":
            if self._closing is None:
                self._closing = WeakSet()
            self._closing.add(connection)
        logger.debug("%r", connection)
        self._events.emit(ConnectionLost(connection, reason))
        if is_last:
            self._events.emit(PeerDisconnected(peer))


def _later(seconds: float, callback: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    if seconds:
        loop.call_later(seconds, callback)
    else:
        loop.call_soon(callback)


def _code_of(error: Libp2pError) -> int | None:
    """What a peer is told that is refused by `error`."""
    if isinstance(error, LimitExceeded):
        return StreamErrorCode.RESOURCE_LIMIT_EXCEEDED
    return StreamErrorCode.GATED if isinstance(error, Gated) else None
