"""The host: what a program makes to talk to other peers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeVar

from .. import multistream
from ..connection import (
    Connection,
    DialOptions,
    Handler,
    Match,
    Muxer,
    SecurityProtocol,
    Service,
    Stream,
    StreamErrorCode,
    Target,
    Transport,
    TransportContext,
)
from ..connection.negotiation import expect_agreement, incoming_of
from ..errors import ConnectionClosed, DialError, Libp2pError, LimitExceeded, ProtocolNotSupported
from ..events import EventBus
from ..identity import PeerId, PrivateKey
from ..io import Buffer, HostMemory, MemoryConfig, TaskSupervisor, time_limit
from ..multiaddr import Multiaddr, Resolver, is_relayed
from ..muxers.yamux import Yamux
from ..peerstore import MemoryPeerStore, PeerStore
from ..routing import PeerRouting, is_unrouted
from ..security.noise import Noise
from ..security.pnet import PrivateNetwork
from ..security.tls import Tls
from ..swarm import Gater, HostLimits, StreamStarted, Swarm, SwarmConfig
from ..swarm.events import ListenAddrAdded, ListenAddrRemoved
from ..swarm.limits.streams import StreamGrant
from ..transports.interfaces import Interfaces
from ..transports.memory import MemoryTransport
from ..transports.quic import Quic
from ..transports.tcp import Tcp
from ..transports.unix import Unix
from ..transports.websocket import WebSocket
from ..upgrader import Upgrader, UpgraderConfig
from .addrs import AddrsConfig, AddrSource, OwnAddrs
from .events import ProtocolsChanged
from .handlers import HandlerTable
from .identify import Identify, IdentifyConfig
from .ping import PingConfig, PingService
from .requests import Call, Requests, RequestsConfig, Responder
from .routing import Routers

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Responder)


@dataclass(frozen=True, slots=True)
class HostConfig:
    """Settings of a host, each part with its own."""

    negotiation_timeout: float = 10.0
    """Seconds for agreeing on the protocol of a stream. An open stream has no time limit."""
    routing_timeout: float = 60.0
    """Seconds for finding a peer through routers, and connecting to it."""
    upgrader: UpgraderConfig = field(default_factory=UpgraderConfig)
    addrs: AddrsConfig = field(default_factory=AddrsConfig)
    swarm: SwarmConfig = field(default_factory=SwarmConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    identify: IdentifyConfig = field(default_factory=IdentifyConfig)
    ping: PingConfig = field(default_factory=PingConfig)
    requests: RequestsConfig = field(default_factory=RequestsConfig)


class Host:
    """A libp2p node. An async context manager: it listens when entered; everything it started is gone at the end.

    `key` is its identity (None: a fresh Ed25519 key); `listen_addrs` are where it listens. `transports`, `security` and
    `muxers` are used in their order, best first; by default QUIC (which brings its own security and muxer), TCP,
    WebSocket, Unix and memory; Noise and TLS; yamux. An empty sequence of transports means none. With a
    `private_network` it talks to nobody outside, not by QUIC either; a transport that can't be confined to it raises
    `ValueError`.
    """

    def __init__(
        self,
        key: PrivateKey | None = None,
        listen_addrs: Iterable[Multiaddr | str] = (),
        *,
        transports: Sequence[Transport] | None = None,
        security: Sequence[SecurityProtocol] | None = None,
        muxers: Sequence[Muxer] | None = None,
        private_network: PrivateNetwork | None = None,
        peerstore: PeerStore | None = None,
        resolver: Resolver | None = None,
        gater: Gater | None = None,
        config: HostConfig | None = None,
    ) -> None:
        self.key = key or PrivateKey.generate()
        self.id = self.key.public_key.peer_id
        self.config = config or HostConfig()
        self.peerstore = peerstore if peerstore is not None else MemoryPeerStore()
        self.events = EventBus()
        self._listen_on = [Multiaddr(addr) for addr in listen_addrs]
        self._handlers = HandlerTable()
        self._tasks = TaskSupervisor(f"host {self.id}")
        memory = HostMemory(self.config.memory)
        upgrader = Upgrader(
            self.key,
            security=security or [Noise(), Tls()],
            muxers=muxers or [Yamux()],
            private_network=private_network,
            config=self.config.upgrader,
            memory=memory,
        )
        context = TransportContext(
            self.key, upgrader, resolver=resolver, is_private=private_network is not None, memory=memory
        )
        self._interfaces = context.shared(Interfaces)
        self.swarm = Swarm(
            self.id,
            context=context,
            transports=_default_transports(private_network) if transports is None else transports,
            peerstore=self.peerstore,
            events=self.events,
            on_stream=self._stream_opened,
            gater=gater,
            config=self.config.swarm,
        )
        self.own_addrs = OwnAddrs(self.id, self.events, self._listened, self.config.addrs)
        self.events.on(ListenAddrAdded, lambda _: self._listening_changed())
        self.events.on(ListenAddrRemoved, lambda _: self._listening_changed())
        self._routers = Routers(self.peerstore, self.swarm.connect, self.config.routing_timeout)
        self.identify = Identify(self, self.config.identify)
        self.ping = PingService(self, self.config.ping)
        self._services: tuple[Service, ...] = (self.identify, self.ping)

    async def __aenter__(self) -> Self:
        self._interfaces.on_change = self.swarm.machine_changed
        try:
            for service in self._services:
                await service.__aenter__()
            for addr in self._listen_on:
                await self.swarm.listen(addr)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening, end handlers and background work, close all connections. Idempotent. Cancelled, or where
        something of it fails, everything has ended nevertheless.
        """
        try:
            await self._tasks.close()
            if "_requests" in self.__dict__:
                await self._requests.close()
            for service in reversed(self._services):
                await service.close()
            await self.swarm.close()
        finally:
            self._tasks.abort()
            for service in self._services:
                service.abort()
            self.swarm.abort()
            self._interfaces.close()
            self.events.close()

    # Who and where

    @property
    def listen_addrs(self) -> list[Multiaddr]:
        """Where the host listens: real ports, wildcards resolved to the machine's addresses, no peer id."""
        return list(self.own_addrs.found(AddrSource.LISTENED))

    @property
    def addrs(self) -> list[Multiaddr]:
        """The addresses of the host, with its peer id: what others are told, and dial. An address that ends in a path
        (/unix) has no room for the id. `own_addrs` says where they come from; `AddrsChanged` tells of a change.
        """
        return list(self.own_addrs.with_peer)

    @property
    def connections(self) -> list[Connection]:
        """All open connections."""
        return self.swarm.connections

    @property
    def limits(self) -> HostLimits:
        """What peers may take, who takes it (`explain`), and whose connections are kept (`protect`, `tag`)."""
        return self.swarm.limits

    def connections_to(self, peer: PeerId) -> list[Connection]:
        """The open connections to `peer`."""
        return self.swarm.connections_to(peer)

    # Serving

    @property
    def protocols(self) -> list[str]:
        """The protocol ids that the host serves."""
        return self._handlers.protocols

    def handle(self, *protocols: str, match: Match | None = None) -> Callable[[Handler], Handler]:
        """Serve `protocols`, and what `match` accepts, with the function that this decorates:

            @host.handle("/echo/1.0.0", "/echo/0.9.0")
            async def echo(stream): ...

        The stream's `protocol` says which was agreed on. The stream is closed when the handler returns (unless a raw
        connection has taken it over: `OverStream`) and reset when it raises. Raises `ValueError` for a protocol that is
        served already.
        """

        def add(handler: Handler) -> Handler:
            self._handlers.add(protocols, match, handler)
            self.events.emit(ProtocolsChanged(tuple(self.protocols)))
            return handler

        return add

    def remove_handler(self, *protocols: str, handler: Handler | None = None) -> None:
        """Stop serving `protocols`; streams that are open go on. Raises `KeyError` for one that is not served. With a
        `handler` those are passed over that it does not serve (any more).
        """
        self._handlers.remove(protocols, handler)
        self.events.emit(ProtocolsChanged(tuple(self.protocols)))

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any] | None:
        """Run `work` in the background until the host closes; None where it is closed already."""
        return self._tasks.spawn(work, name=name)

    def add_router(self, router: PeerRouting) -> Callable[[], None]:
        """Ask `router` where peers are whom no known address leads to. Returns the function that ends this."""
        return self._routers.add(router)

    # Talking

    async def connect(self, target: Target) -> Connection:
        """An open connection to `target`: one that there is, else a new one. Where a peer is named to whom no known
        address leads, the routers are asked. Raises `DialError`, `LimitExceeded`, and `InvalidMultiaddr` or
        `InvalidPeerId` for malformed text.
        """
        return await self._connect(target, DialOptions())

    async def _connect(self, target: Target, options: DialOptions) -> Connection:
        self.swarm.check_process()
        if isinstance(target, Connection):
            return target
        peer, addrs = _whom(target)
        try:
            return await self.swarm.connect(peer, addrs, options)
        except DialError as error:
            if peer is None or addrs or peer == self.id or not self._routers or is_unrouted():
                raise
            return await self._routers.connect(peer, error)

    async def new_stream(self, target: Target, *protocols: str, allow_limited: bool = False) -> Stream:
        """Open a stream to `target` and offer it `protocols`, the best first; the peer takes the first that it
        supports.

        One protocol is offered optimistically: the stream is there at once, data can follow the offer, and a peer that
        declines makes reading (and `stream.agreed()`) raise `ProtocolNotSupported`. With several the peer's choice is
        awaited.

        Direct connections are used before those through a relay. A limited one is used only with `allow_limited`, or
        where it is the target itself: else a hole punch that is under way is waited for, up to the dial's limit.

        Raises what `connect` raises, `LimitedConnection`, `ProtocolNotSupported`, `ConnectionClosed`, `StreamReset`,
        `LimitExceeded` and `StageTimeout`.
        """
        if not protocols:
            raise ValueError("a stream needs at least one protocol to offer")
        stream = await self._open(target, DialOptions(allow_limited=allow_limited))
        peer = stream.connection.remote_peer
        try:
            if len(protocols) == 1:
                offer = multistream.Offer(incoming_of(stream), protocols[0], peer=peer)
                stream.protocol = protocols[0]
                await stream.write(offer.message)
                expect_agreement(stream, offer.agreement)
            else:
                async with time_limit("protocol negotiation", self.config.negotiation_timeout):
                    stream.protocol = await multistream.select(incoming_of(stream), stream.write, protocols, peer=peer)
        except BaseException:
            stream.reset(StreamErrorCode.PROTOCOL_NEGOTIATION_FAILED)
            raise
        self.events.emit(StreamStarted(stream))
        return stream

    # Requests

    def respond(self, protocol: str, *, limit: int | None = None, max_calls: int | None = None) -> Callable[[R], R]:
        """Answer the requests of `protocol`, of at most `limit` bytes each, with the function that this decorates:

            @host.respond("/sum/1.0.0")
            async def add(request): return b"%d" % sum(request.data)

        An `async def` that yields answers with many messages: see `call`. What it raises goes to who asked, as
        `RequestFailed`; it is cancelled when nobody waits any more. At most `max_calls` of one stream run at a time.
        Limits are those of `RequestsConfig` by default. Raises `ValueError` for a protocol that is served already, and
        `InvalidInput` for what is no `async def` function.
        """
        return self._requests.respond(protocol, limit=limit, max_calls=max_calls)

    async def request(
        self,
        target: Target,
        protocol: str,
        data: Buffer | AsyncIterable[bytes],
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """The answer to `data`, of at most `limit` bytes, within `timeout` seconds; both are those of `RequestsConfig`
        by default. Where `data` yields many messages, the responder reads them as they come.

        Any number may be under way. With peers of this package they share a stream, which is kept; with others each has
        one: the request to its end, then the answer to its end. Raises `RequestFailed` with what the responder raised,
        `StageTimeout`, `MessageTooLarge`, and what `new_stream` does.
        """
        return await self._requests.request(target, protocol, data, limit=limit, timeout=timeout)

    async def call(
        self, target: Target, protocol: str, *, limit: int | None = None, timeout: float | None = None
    ) -> Call:
        """Begin a request of many messages each way, of at most `limit` bytes each, that is over within `timeout`
        seconds (None: it may take for ever):

            async with await host.call(peer, "/count/1.0.0") as call:
                await call.send(b"10")
                await call.end()
                async for answer in call: ...

        Leaving it early cancels it on both sides. Raises what `new_stream` does.
        """
        return await self._requests.call(target, protocol, limit=limit, timeout=timeout)

    @cached_property
    def _requests(self) -> Requests:
        return Requests(self, self.config.requests)

    async def _open(self, target: Target, options: DialOptions) -> Stream:
        connection = await self._connect(target, options)
        try:
            return await connection.open_stream()
        except ConnectionClosed:
            if connection is target:
                raise
        # The connection that there was ended at this very moment: make a new one.
        return await (await self._connect(target, options)).open_stream()

    # Inside

    def _listened(self) -> list[Multiaddr]:
        return [addr for addr in self.swarm.listen_addrs if not is_relayed(addr)]

    def _listening_changed(self) -> None:
        """Where a relay listens for the host is another matter than where it listens itself."""
        relayed = [addr for addr in self.swarm.listen_addrs if is_relayed(addr)]
        self.own_addrs.set(AddrSource.RELAYED, relayed, by="listeners")

    def _stream_opened(self, stream: Stream) -> None:
        try:
            grant = self.limits.streams.admit(stream)
        except LimitExceeded:
            stream.reset(StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
            return
        task = self._tasks.spawn(self._serve(stream, grant), name=f"stream {stream.id}")
        if task is None:
            grant.release()
        else:
            task.add_done_callback(lambda _: grant.release())

    async def _serve(self, stream: Stream, grant: StreamGrant) -> None:
        """Agree on the protocol of a stream that a peer opened, and run the handler for it."""
        try:
            async with time_limit("protocol negotiation", self.config.negotiation_timeout):
                stream.protocol = await multistream.handle(
                    incoming_of(stream), stream.write, self._supports, listed=lambda: self.protocols
                )
            handler = self._handlers.find(stream.protocol)
            if handler is None:
                raise ProtocolNotSupported([stream.protocol])
            grant.agreed(stream.protocol)
        except LimitExceeded:
            stream.reset(StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
            return
        except multistream.Refused as error:
            logger.debug("%r: %s", stream, error)
            await stream.close()  # a reset could overtake our answer
            return
        except Libp2pError as error:
            logger.debug("%r: no protocol agreed: %s", stream, error)
            stream.reset(StreamErrorCode.PROTOCOL_NEGOTIATION_FAILED)
            return
        except asyncio.CancelledError:
            stream.reset(StreamErrorCode.SHUTDOWN)
            raise
        except Exception:
            logger.exception("%r: a match function failed", stream)
            stream.reset()
            return
        self.events.emit(StreamStarted(stream))
        await self._run(handler, stream)

    async def _run(self, handler: Handler, stream: Stream) -> None:
        try:
            await handler(stream)
            if not stream.is_diverted:
                await stream.close()
        except Libp2pError as error:
            logger.debug("%r: handler ended: %r", stream, error)
            stream.reset()
        except asyncio.CancelledError:
            stream.reset(StreamErrorCode.SHUTDOWN)
            raise
        except Exception:
            logger.exception("%r: handler failed", stream)
            stream.reset()

    def _supports(self, protocol: str) -> bool:
        return self._handlers.find(protocol) is not None


def _default_transports(private_network: PrivateNetwork | None) -> Sequence[Transport]:
    private = (Tcp(), WebSocket(), Unix(), MemoryTransport())
    return private if private_network is not None else (Quic(), *private)


def _whom(target: PeerId | Multiaddr | str) -> tuple[PeerId | None, list[Multiaddr]]:
    """The peer and the addresses that a target names."""
    if isinstance(target, str):
        target = Multiaddr(target) if target.startswith("/") else PeerId.from_string(target)
    if isinstance(target, PeerId):
        return target, []
    text = target.peer_id_text
    if text is None:
        return None, [target]
    bare = target.without_peer()
    return PeerId.from_string(text), [bare] if len(bare) else []
