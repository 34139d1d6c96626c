"""Identify and identify push, both sides. Spec: libp2p/specs, identify/README.md.

    /ipfs/id/1.0.0        the listener of the stream tells who it is and closes it; asked once on each new connection
    /ipfs/id/push/1.0.0   the dialer of the stream tells what has changed

Rules:
- Nothing waits for identify: it runs in the background, and its outcome is an event.
- What a peer says is stored for the peer that the connection is proven to lead to, and for no other; its signed record
  only where it signed it itself.
- A malformed message costs its stream, not the connection.
- What a peer may lead us to, and what of ours it is told, depends on how far away it is (`multiaddr/reach.py`): no
  path and no private or loopback address comes from, or goes to, a peer on the Internet. So there is a signed record
  of ours for each such reach.
- Addresses live as long as a connection to the peer (the swarm sees to that); those that it no longer names, 2 minutes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from ...connection import Connection, Direction, Service, ServiceHost, Stream, StreamErrorCode
from ...errors import InvalidRecord, Libp2pError, LimitExceeded, LocalProtocolError, MessageTooLarge, copy_of
from ...identity import PeerId
from ...io import TokenBucket, time_limit
from ...io.rates import Rates
from ...multiaddr import ip_of, may_share, reach_of_remote
from ...peerstore import CONNECTED_ADDR_TTL, RECENTLY_CONNECTED_ADDR_TTL, TEMP_ADDR_TTL
from ...swarm.events import ConnectionOpened, PeerDisconnected
from ..events import AddrsChanged, ProtocolsChanged
from .config import IdentifyConfig
from .events import IdentifyFailed, PeerIdentified, PeerProtocolsChanged, PeerUpdated
from .telling import Acquaintances, OwnInfo
from .wire import MAX_READ, IdentifyInfo, decode

logger = logging.getLogger(__name__)

ID = "/ipfs/id/1.0.0"
PUSH_ID = "/ipfs/id/push/1.0.0"


_PREFIX = 7
"""Bytes of an IPv6 address that count: a /56."""


class _Exchange:
    """A question under way, and how many wait for its answer: callers, and the service where it asked by itself."""

    def __init__(self, task: asyncio.Task[IdentifyInfo | Exception], waiting: int) -> None:
        self.task = task
        self.waiting = waiting


class Identify(Service):
    """Tells peers who we are, and learns who they are. `wall_clock` gives the Unix time in nanoseconds."""

    def __init__(
        self, host: ServiceHost, config: IdentifyConfig | None = None, *, wall_clock: Callable[[], int] = time.time_ns
    ) -> None:
        super().__init__(host)
        self._config = config or IdentifyConfig()
        self._known = Acquaintances()
        self._own = OwnInfo(host, self._config, wall_clock, self._known)
        self._exchanges: dict[Connection, _Exchange] = {}
        self._rates: dict[PeerId, TokenBucket] = {}  # of connected peers that have asked or told
        burst, rate = self._config.exchange_burst_of_prefix, self._config.exchanges_per_second_and_prefix
        self._prefixes = Rates(burst, 1 / rate)
        self._changed = False
        self._pushing = False

    async def start(self) -> None:
        self.follow(ConnectionOpened, self._connection_opened)
        self.follow(PeerDisconnected, self._peer_gone)
        self.follow(AddrsChanged, self._own_changed)
        self.follow(ProtocolsChanged, self._own_changed)
        limit = self._config.max_inbound_streams
        self.serve([ID], self._answer, cancel_on_reset=False, max_streams_per_peer=limit)
        self.serve([PUSH_ID], self._receive_push, max_streams_per_peer=limit)
        self._own.changed()

    # Learning

    def info(self, connection: Connection) -> IdentifyInfo | None:
        """What the peer has said on this connection; None before it was identified."""
        return self._known.of(connection).info

    async def identify(self, connection: Connection) -> IdentifyInfo:
        """Ask the peer who it is, and store the answer in the peer store; where it is being asked, wait for that
        answer. The outcome is also emitted as an event.

        Raises `ProtocolNotSupported`, `RemoteProtocolError` for a malformed answer or another peer's key,
        `StageTimeout`, `LimitExceeded` where the peer store takes no more, what ended the stream or the connection, and
        `LocalProtocolError` where the service has ended.
        """
        exchange = self._exchanges.get(connection) or self._ask(connection)
        if exchange is None:
            raise LocalProtocolError("identify has ended")
        exchange.waiting += 1
        try:
            await asyncio.wait({exchange.task})
        finally:
            exchange.waiting -= 1
            if not exchange.waiting and not exchange.task.done():
                self._forget(connection, exchange)  # who comes now asks anew
                exchange.task.cancel()
        if exchange.task.cancelled():
            raise LocalProtocolError("identify has ended")
        outcome = exchange.task.result()
        if isinstance(outcome, Exception):
            raise copy_of(outcome)
        return outcome

    def _ask(self, connection: Connection, *, automatic: bool = False) -> _Exchange | None:
        """Begin to ask; None where the service has ended."""
        task = self.spawn(self._outcome(connection, automatic=automatic), name=f"identify {connection.remote_peer}")
        if task is None:
            return None
        exchange = self._exchanges[connection] = _Exchange(task, int(automatic))
        task.add_done_callback(lambda _: self._forget(connection, exchange))
        return exchange

    def _forget(self, connection: Connection, exchange: _Exchange) -> None:
        if self._exchanges.get(connection) is exchange:
            del self._exchanges[connection]

    async def _outcome(self, connection: Connection, *, automatic: bool) -> IdentifyInfo | Exception:
        """The answer, or why there is none."""
        for _ in range(2 if automatic else 0):
            await asyncio.sleep(0)  # whoever waits for the connection goes first: that takes two turns of the loop
        try:
            info = await self._exchange(connection)
        except (Libp2pError, OSError) as error:
            logger.debug("%r was not identified: %s", connection, error)
            self.host.events.emit(IdentifyFailed(connection, error))
            return error
        self._known.of(connection).info = info
        self.host.events.emit(PeerIdentified(connection, info))
        return info

    async def _exchange(self, connection: Connection) -> IdentifyInfo:
        async with (
            time_limit("identify", self._config.timeout),
            await self.host.new_stream(connection, ID) as stream,
        ):
            data = await self._read(stream)
        info = self._decode(data, IdentifyInfo(connection.remote_peer, connection.remote_key))
        self._store(info)
        return self._store_addrs(connection, info, info.signed_peer_record)

    async def _receive_push(self, stream: Stream) -> None:
        connection = stream.connection
        self._check_rate(stream)
        async with time_limit("identify push", self._config.timeout):
            data = await self._read(stream)
        known = self._known.of(connection).info or IdentifyInfo(connection.remote_peer, connection.remote_key)
        info = self._decode(data, known)
        self._store(info)
        # "Missing fields should be ignored, as peers may choose to send partial updates": the record may be an old one.
        record = info.signed_peer_record if info.signed_peer_record != known.signed_peer_record else None
        if record or info.listen_addrs != known.listen_addrs:
            info = self._store_addrs(connection, info, record)
        self._known.of(connection).info = info
        self.host.events.emit(PeerUpdated(connection, info))

    async def _read(self, stream: Stream) -> bytes:
        try:
            return await stream.read(limit=MAX_READ)
        except MessageTooLarge as error:
            raise MessageTooLarge(f"identify message of {stream.connection.remote_peer}", limit=MAX_READ) from error

    def _decode(self, data: bytes, known: IdentifyInfo) -> IdentifyInfo:
        return decode(data, known, max_addrs=self._config.max_addrs, max_protocols=self._config.max_protocols)

    def _store(self, info: IdentifyInfo) -> None:
        """Put everything but the addresses in the peer store."""
        store = self.host.peerstore
        store.add_key(info.peer, info.public_key)
        before = store.protocols(info.peer)
        store.set_protocols(info.peer, info.protocols)
        store.set_metadata(info.peer, "agent", info.agent_version)
        store.set_metadata(info.peer, "protocol_version", info.protocol_version)
        added = tuple(name for name in info.protocols if name not in before)
        removed = tuple(name for name in before if name not in info.protocols)
        if added or removed:
            self.host.events.emit(PeerProtocolsChanged(info.peer, added, removed))

    def _store_addrs(self, connection: Connection, info: IdentifyInfo, record: bytes | None) -> IdentifyInfo:
        """Put the addresses, those of `record` if it is valid, in the peer store, in place of those before. Returns
        `info` without an invalid record, and without the addresses that this peer must not lead us to.
        """
        store, peer = self.host.peerstore, info.peer
        connected = bool(self.host.connections_to(peer))  # it may have gone while we read
        ttl = CONNECTED_ADDR_TTL if connected else RECENTLY_CONNECTED_ADDR_TTL
        store.update_addrs(peer, CONNECTED_ADDR_TTL, TEMP_ADDR_TTL)
        if connection.direction is Direction.OUTBOUND:
            store.add_addrs(peer, [connection.remote_addr], ttl)  # known to work
        own = self._own.ips
        told = reach_of_remote(connection.remote_addr, own=own)
        addrs = tuple(addr for addr in info.listen_addrs if may_share(addr, told, own=own))
        info = replace(info, listen_addrs=addrs)
        taken = False
        if record:
            try:
                taken = store.consume_peer_record(record, ttl, told=told, expected_peer=peer)
            except InvalidRecord as error:
                logger.debug("signed record of %s dropped: %s", peer, error)
                info = replace(info, signed_peer_record=None)
        if not taken:
            store.add_addrs(peer, addrs, ttl, told=told)
        return info

    # Telling

    def _own_changed(self, _: AddrsChanged | ProtocolsChanged) -> None:
        """The host's protocols or addresses have changed: tell the peers, in a while and of all at once."""
        self._own.changed()
        self._changed = True
        if not self._pushing and self.host.connections:
            self._pushing = self.spawn(self._push_changes(), name="identify push") is not None

    async def push(self) -> None:
        """Tell all connected peers that can be told, and that don't know yet, what we now are. Failures are logged."""
        untold = [one for one in self.host.connections if self._can_push(one) and not self._own.knows(one)]
        waiting = iter(untold)

        async def tell_some() -> None:
            for connection in waiting:
                await self._push_to(connection)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(untold), self._config.max_pushes)):
                group.create_task(tell_some())

    async def _push_changes(self) -> None:
        try:
            while self._changed:
                await asyncio.sleep(self._config.push_delay)
                self._changed = False
                await self.push()
        finally:
            self._pushing = False

    async def _push_to(self, connection: Connection) -> None:
        if connection.is_closed or self._own.knows(connection):  # by now
            return
        try:
            async with (
                time_limit("identify push", self._config.timeout),
                await self.host.new_stream(connection, PUSH_ID) as stream,
            ):
                await stream.write(self._own.message(connection))
                await stream.close_write()
                await stream.agreed()
        except (Libp2pError, OSError) as error:
            logger.debug("no identify push on %r: %s", connection, error)
            self._own.forget(connection)

    def _can_push(self, connection: Connection) -> bool:
        """Whether the peer takes pushes, or has not said yet what it supports."""
        info = self._known.of(connection).info
        return not connection.is_closed and (info is None or PUSH_ID in info.protocols)

    async def _answer(self, stream: Stream) -> None:
        connection = stream.connection
        self._check_rate(stream)
        try:
            async with time_limit("identify", self._config.timeout):
                await stream.write(self._own.message(connection))
        except (Libp2pError, OSError):
            self._own.forget(connection)
            raise

    # The host's events

    def _connection_opened(self, event: ConnectionOpened) -> None:
        if self._config.automatic:
            self._ask(event.connection, automatic=True)

    def _in_time(self, connection: Connection) -> bool:
        """Whether neither the peer, nor all of its prefix, has asked or told too often of late."""
        now, peer = asyncio.get_running_loop().time(), connection.remote_peer
        ip = ip_of(connection.remote_addr)
        if ip is not None and not self._prefixes.take(ip.packed[:_PREFIX], now):
            return False
        if (rate := self._rates.get(peer)) is None:
            rate = TokenBucket(self._config.exchanges_per_second, self._config.exchange_burst, now)
            if self.host.connections_to(peer):
                self._rates[peer] = rate
        return rate.try_take(now)

    def _peer_gone(self, event: PeerDisconnected) -> None:
        self._rates.pop(event.peer, None)

    def _check_rate(self, stream: Stream) -> None:
        """Reset a stream of a peer that has asked or told too often of late, and raise `LimitExceeded`."""
        peer = stream.connection.remote_peer
        if not self._in_time(stream.connection):
            stream.reset(StreamErrorCode.RATE_LIMITED)
            raise LimitExceeded("exchanges_per_second", scope=str(peer), value=self._config.exchanges_per_second)
