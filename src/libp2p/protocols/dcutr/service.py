"""Direct connection upgrade through relay: a relayed connection is replaced by a direct one. Spec: relay/DCUtR.md.

    A, who dialed through the relay                 B, who was reached through it
                                                    identify; A's public addresses are dialed: connection reversal
             <- CONNECT, B's addresses
             CONNECT, A's addresses ->              the time between is one round trip
             <- SYNC
    dials at once, as initiator                     dials half a round trip later, as responder

    Three attempts at most. By TCP this is a simultaneous open; by QUIC B only sends datagrams that open its NAT. In the
    second attempt B dials as initiator too.

Rules:
- Both sides run this service. New streams use the direct connection as soon as it is there; the relayed one is closed
  by B after a grace, once it carries no stream.
- Only public addresses are told and dialed, unless `HolePunchConfig.reach` says otherwise: a peer behind a relay must
  not lead us to neighbours.
- Who waits for a direct connection (`new_stream` without `allow_limited`) gets it when it is there.
- What was tried, and why it failed, is told by one event, `HolePunchEnded`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TypeVar

from ...connection import Connection, Direction, Role, Service, Stream, StreamErrorCode
from ...errors import Libp2pError, RemoteProtocolError
from ...host import Host
from ...identity import PeerId
from ...io import time_limit
from ...multiaddr import Multiaddr, is_relayed
from ...swarm.events import ConnectionOpened
from ..observed import ObservedAddrs
from .config import HolePunchConfig
from .events import Attempt, HolePunchEnded, How
from .punch import candidates, dial_all
from .wire import MAX_MESSAGE, PROTOCOL_ID, Connect, Message, Sync, decode, encode

M = TypeVar("M", Connect, Sync)

_PLAIN = 1
"""The number of the attempt in which B's handshakes begin, too. Where B is behind a symmetric NAT, and A's NAT lets it
in from any port, only B's dials lead anywhere; A takes them as any other. Elsewhere the other attempts do."""

_HANDSHAKE = 5
"""Round trips through the relay that the peer's own dial may need after all of ours have failed."""

logger = logging.getLogger(__name__)


class HolePuncher(Service):
    """Replaces relayed connections by direct ones, those that peers make to us and those that we make."""

    def __init__(self, host: Host, observed: ObservedAddrs, config: HolePunchConfig | None = None) -> None:
        super().__init__(host)
        self.config = config or HolePunchConfig()
        self._identify = host.identify
        self._swarm = host.swarm
        self._observed = observed
        self._upgrading: set[PeerId] = set()
        self._inbound: dict[PeerId, asyncio.Future[None]] = {}
        """By peer whose attempt is under way: done where a further one has taken its place."""

    async def start(self) -> None:
        """Serve the protocol, and follow relayed connections as they come."""
        self.serve([PROTOCOL_ID], self._serve)
        self.follow(ConnectionOpened, self._opened)

    def own_addrs(self) -> tuple[Multiaddr, ...]:
        """Where a peer may try to reach us: what others see us at, and what we hold to be ours."""
        return self._candidates((*self._observed.candidates(), *self.host.addrs))

    def _candidates(self, addrs: Iterable[Multiaddr]) -> tuple[Multiaddr, ...]:
        return candidates(addrs, self.config.max_addrs, self.config.reach)

    def _opened(self, event: ConnectionOpened) -> None:
        connection, peer = event.connection, event.connection.remote_peer
        if not _is_relayed(connection):
            return
        if connection.direction is Direction.OUTBOUND:
            self.spawn(self._expect(peer), name=f"upgrade by {peer}")
        elif peer not in self._upgrading:
            self._upgrading.add(peer)
            task = self.spawn(self._upgrade(connection), name=f"upgrade of {peer}")
            if task is None:
                self._upgrading.discard(peer)
            else:
                task.add_done_callback(lambda _: self._upgrading.discard(peer))

    # B: who was reached through the relay

    async def _upgrade(self, relayed: Connection) -> None:
        peer = relayed.remote_peer
        attempts: list[Attempt] = []
        direct: Connection | None = None
        with self._swarm.punching(peer):
            try:
                info = await self._identify.identify(relayed)
            except (Libp2pError, OSError) as error:
                logger.debug("%r is not upgraded: %s", relayed, error)
                return
            if self._direct(peer) is not None:
                return
            if addrs := self._candidates(info.listen_addrs):
                timeout = self.config.reversal_timeout
                direct = await self._dial(peer, How.REVERSAL, addrs, Role.INITIATOR, None, attempts, timeout)
            if PROTOCOL_ID in info.protocols:
                for number in range(self.config.max_attempts):
                    direct = direct or self._direct(peer)
                    if direct is not None or relayed.is_closed:
                        break
                    role = Role.INITIATOR if number == _PLAIN else Role.RESPONDER
                    direct = await self._attempt(relayed, role, attempts)
        self._ended(peer, Role.RESPONDER, attempts, direct)
        if direct is not None:
            await self._leave(relayed)

    async def _attempt(self, relayed: Connection, role: Role, attempts: list[Attempt]) -> Connection | None:
        """One exchange, and the dials behind it."""
        peer, loop, timeout = relayed.remote_peer, asyncio.get_running_loop(), self.config.attempt_timeout
        started = loop.time()
        try:
            async with (
                time_limit("the exchange before a hole punch", timeout),
                await self.host.new_stream(relayed, PROTOCOL_ID) as stream,
            ):
                sent_at = loop.time()
                await stream.write_message(encode(Connect(self.own_addrs())))
                addrs = self._candidates((await _read(stream, Connect)).addrs)
                rtt = loop.time() - sent_at
                await stream.write_message(encode(Sync()))
            await asyncio.sleep(rtt / 2)
        except (Libp2pError, OSError) as error:
            attempts.append(Attempt(How.PUNCH, (), None, started, loop.time() - started, {}, error))
            return None
        return await self._dial(peer, How.PUNCH, addrs, role, rtt, attempts, timeout)

    async def _leave(self, relayed: Connection) -> None:
        """Close the relayed connection, which is needed no more, when nothing uses it."""
        while not relayed.is_closed:
            await asyncio.sleep(self.config.grace)
            if not relayed.streams:
                await relayed.close("a direct connection took its place")

    # A: who has dialed through the relay

    async def _expect(self, peer: PeerId) -> None:
        """The peer is about to reach us directly, or to begin a hole punch: streams to it may wait for that."""
        with self._swarm.punching(peer):
            await asyncio.sleep(self.config.patience)

    async def _serve(self, stream: Stream) -> None:
        relayed, peer = stream.connection, stream.connection.remote_peer
        if not _is_relayed(relayed) or relayed.direction is not Direction.OUTBOUND:
            raise RemoteProtocolError("a hole punch takes a relayed connection, which its other side has accepted")
        if peer not in self._inbound and len(self._inbound) >= self.config.max_inbound:
            stream.reset(StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
            return
        superseded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if (former := self._inbound.get(peer)) is not None and not former.done():
            former.set_result(None)
        self._inbound[peer] = superseded
        attempts: list[Attempt] = []
        following = asyncio.ensure_future(self._follow(stream, attempts))
        try:
            with self._swarm.punching(peer):
                await asyncio.wait((following, superseded), return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    self._ended(peer, Role.INITIATOR, attempts, following.result())
                else:
                    logger.debug("%s has begun a further attempt; our dials for the one before it end", peer)
        finally:
            if self._inbound.get(peer) is superseded:
                del self._inbound[peer]
            following.cancel()
            await asyncio.wait((following,))

    async def _follow(self, stream: Stream, attempts: list[Attempt]) -> Connection | None:
        """The exchange, and the dials behind it."""
        peer, loop, timeout = stream.connection.remote_peer, asyncio.get_running_loop(), self.config.attempt_timeout
        async with time_limit("the exchange before a hole punch", timeout):
            addrs = self._candidates((await _read(stream, Connect)).addrs)
            sent_at = loop.time()
            await stream.write_message(encode(Connect(self.own_addrs())))
            await _read(stream, Sync)
            rtt = loop.time() - sent_at
        return await self._dial(peer, How.PUNCH, addrs, Role.INITIATOR, rtt, attempts, timeout)

    # Both

    async def _dial(
        self,
        peer: PeerId,
        how: How,
        addrs: tuple[Multiaddr, ...],
        role: Role,
        rtt: float | None,
        attempts: list[Attempt],
        timeout: float,
    ) -> Connection | None:
        started = asyncio.get_running_loop().time()
        async with self.host.events.expect(
            ConnectionOpened, lambda event: self._is_direct(event.connection, peer)
        ) as came:
            connection, errors = await dial_all(self._swarm, peer, addrs, role, timeout)
            if connection is None and rtt is not None:  # the peer, which dials too, may be in its handshake with us
                await asyncio.wait({came}, timeout=_HANDSHAKE * rtt)
        connection = connection or self._direct(peer)
        error = None if addrs else RemoteProtocolError("the peer has named no public address")
        seconds = asyncio.get_running_loop().time() - started
        attempts.append(Attempt(how, addrs, rtt, started, seconds, errors, None if connection else error))
        return connection

    def _direct(self, peer: PeerId) -> Connection | None:
        """A direct connection to `peer`, where there is one."""
        connections = self.host.connections_to(peer)
        return next((one for one in connections if self._is_direct(one, peer)), None)

    @staticmethod
    def _is_direct(connection: Connection, peer: PeerId) -> bool:
        return connection.remote_peer == peer and not (_is_relayed(connection) or connection.is_closed)

    def _ended(self, peer: PeerId, role: Role, attempts: list[Attempt], direct: Connection | None) -> None:
        logger.debug("hole punch to %s: %s, by %s", peer, "direct" if direct else "still relayed", attempts)
        self.host.events.emit(HolePunchEnded(peer, role, tuple(attempts), direct))


async def _read(stream: Stream, kind: type[M]) -> M:
    message: Message = decode(await stream.read_message(limit=MAX_MESSAGE, what="hole punch message"))
    if not isinstance(message, kind):
        raise RemoteProtocolError(f"{type(message).__name__} came, where {kind.__name__} was due")
    return message


def _is_relayed(connection: Connection) -> bool:
    return connection.is_limited or is_relayed(connection.remote_addr)
