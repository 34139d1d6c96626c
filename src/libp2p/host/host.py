"""The host: what a program makes to talk to other peers."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakSet

from ..connection import (
    Connection,
    DialOptions,
    Muxer,
    SecurityProtocol,
    Service,
    Stream,
    Target,
    Transport,
    TransportContext,
)
from ..errors import InvalidInput, LocalProtocolError
from ..events import EventBus
from ..figures import Figure, Measured
from ..identity import PeerId, PrivateKey
from ..io import Buffer, HostMemory, TaskSupervisor, all_of
from ..io.timers import loop_time
from ..multiaddr import Multiaddr, Resolver, is_relayed
from ..muxers.yamux import Yamux
from ..peerstore import MemoryPeerStore, PeerStore
from ..routing import PeerRouting
from ..security.noise import Noise
from ..security.pnet import PrivateNetwork
from ..security.tls import Tls
from ..spans import span
from ..swarm import Gater, HostLimits, StreamEnded, StreamStarted, Swarm
from ..swarm.events import ConnectionLost, ListenAddrAdded, ListenAddrRemoved
from ..transports.interfaces import Interfaces
from ..transports.memory import MemoryTransport
from ..transports.quic import Quic
from ..transports.tcp import Tcp
from ..transports.unix import Unix
from ..transports.websocket import WebSocket
from ..upgrader import Upgrader
from .addrs import AddrSource, OwnAddrs
from .config import HostConfig
from .data_dir import DataDir, dial_again
from .figures import figures_of
from .identify import Identify
from .keeping import Kept, RedialBackoff
from .opening import Opening
from .ping import PingService
from .requests import Call, Requests, Responder
from .routing import Routers
from .serving import Serving
from .targets import check_addrs, check_key, check_peer, whom
from .traffic import Traffic, TrafficTable

R = TypeVar("R", bound=Responder)


class Host(Serving):
    """A libp2p node. An async context manager: it listens when entered; everything it started is gone at the end.
    Where a block does not fit, such as in a notebook, `start` and `close` do the same.

    `key` is its identity (None: a fresh Ed25519 key); `listen_addrs` are where it listens. `transports`, `security` and
    `muxers` are used in their order, best first; by default QUIC (which brings its own security and muxer), TCP,
    WebSocket, Unix and memory; Noise and TLS; yamux. An empty sequence of transports means none. With a
    `private_network` it talks to nobody outside, not by QUIC either; a transport that can't be confined to it raises
    `ValueError`.

    With a `data_dir`, a directory that is made where it is missing, the host is the same one in the next run: its key,
    unless one is given, what it knows of peers, unless a `peerstore` is given, and its ports are kept there, and the
    peers that it was connected to last are dialed at the start. Raises what reading the key does, and `OSError`.

    What a host has, besides the methods below:

        key, id      its private key, and its peer id, which is made of it
        events       what happens: `host.events.on(PeerConnected, callback)`, `.subscribe(...)`, `.expect(...)`
        peerstore    what is known of peers: addresses, keys, protocols
        ping         round-trip times: `async with host.ping.open(peer) as pinger: await pinger.ping()`
        identify     who peers say they are
        own_addrs    the host's addresses, and how each is known
        swarm        transports, listeners and connections, for who builds services
        config       its settings, a `HostConfig`
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
        data_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        check_key(key)
        self._listen_on = check_addrs(listen_addrs)
        self._data_dir = None if data_dir is None else DataDir(data_dir)
        self.key = key or (PrivateKey.generate() if self._data_dir is None else self._data_dir.key())
        self.id = self.key.public_key.peer_id
        self.config = config or _DEFAULTS
        self.events = EventBus()
        name = f"host {self.id}"
        super().__init__(name, self.config.negotiation_timeout, self.config.swarm.handler_grace)
        self._tasks = TaskSupervisor(name)
        self._started = False
        self._kept: WeakSet[Kept] | None = None  # mostly none, and an empty one takes 800 bytes
        self._measured: dict[Measured, None] = {}
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
        self._own_store: PeerStore | None = None  # to be opened and closed by us
        if peerstore is None and self._data_dir is not None:
            peerstore = self._own_store = self._data_dir.peerstore(loop_time)
        self.peerstore = peerstore if peerstore is not None else MemoryPeerStore(clock=loop_time)
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
        self.events.on(ListenAddrAdded, self._listening_changed)
        self.events.on(ListenAddrRemoved, self._listening_changed)
        self._traffic = TrafficTable()
        self.events.on(StreamEnded, self._traffic.stream_ended)
        self.events.on(ConnectionLost, self._connection_lost)
        self._routers = Routers(self.peerstore, self.swarm.connect, self.config.routing_timeout)
        self._opening = Opening(self.id, self.swarm, self._routers, negotiation_timeout=self.config.negotiation_timeout)
        self.identify = Identify(self, self.config.identify)
        self.ping = PingService(self, self.config.ping)
        self._services: tuple[Service, ...] = (self.identify, self.ping)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> Self:
        """What entering `async with` does: begin to listen. Who calls it calls `close` in the end. Raises
        `ListenError`, with nothing left behind, and `LocalProtocolError` for one that was started before.
        """
        if self._started:
            raise LocalProtocolError("this host was started before: make another one")
        self._started = True
        self._interfaces.on_change = self.swarm.machine_changed
        try:
            if self._own_store is not None:
                await self._own_store.open()
            for service in self._services:
                await service.__aenter__()
            await self._listen()
        except BaseException:
            await self.close()
            raise
        return self

    async def _listen(self) -> None:
        """Where it was told to; with a directory of its own as the last time, and to whom it was connected then."""
        for addr in self._listen_on:
            if self._data_dir is None:
                await self.swarm.listen(addr)
            else:
                await self._data_dir.listen(self.swarm, addr)
        if self._own_store is not None and self.config.reconnect:
            again = dial_again(
                self.peerstore,
                lambda peer: self._opening.dial(peer, [], DialOptions(heed_backoff=False)),
                count=self.config.reconnect,
                backoff=self.config.redial,
                dice=random.random,
            )
            self.spawn(again, name="dialing those from before")

    async def close(self, grace: float = 0) -> None:
        """Stop listening, end handlers and background work, close all connections. Idempotent. Cancelled, or where
        something of it fails, everything has ended nevertheless.

        With `grace` handlers and requests that are at work have so many seconds to finish first; meanwhile peers open
        no more streams (they get `StreamErrorCode.SHUTDOWN`) and make no more requests.
        """
        try:
            if grace > 0:
                await self._drain(grace)
            self._stop_serving()  # at once with the tasks
            await self._tasks.close()
            await self._serving.close()
            if "_requests" in self.__dict__:
                await self._requests.close()
            for service in reversed(self._services):
                await service.close()
            await self.swarm.close()
            if self._own_store is not None:
                await self._own_store.close()
        finally:
            self._tasks.abort()
            self._stop_serving()
            for service in self._services:
                service.abort()
            self.swarm.abort()
            self._interfaces.close()
            self.events.close()

    async def _drain(self, grace: float) -> None:
        self._draining = True
        for kept in self._kept or ():
            kept.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self.swarm.stop_accepting()
                if "_requests" in self.__dict__:
                    await self._requests.drain()
                await self._serving.ended()

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

    @property
    def peers(self) -> dict[PeerId, list[Connection]]:
        """The peers that the host is connected to, with the connections to each, the oldest first. A copy, of this
        moment: `PeerConnected` and `PeerDisconnected` tell of changes.
        """
        return self.swarm.peers

    def connections_to(self, peer: PeerId) -> list[Connection]:
        """The open connections to `peer`, the oldest first. Raises `TypeError` for what is no `PeerId`."""
        check_peer(peer)
        return self.swarm.connections_to(peer)

    @property
    def traffic(self) -> Mapping[str, Traffic]:
        """The bytes that the streams of each protocol have carried so far, those of identify and ping too; under "" are
        streams that had none.
        """
        return self._traffic.with_open(self.connections)

    def figures(self) -> Iterator[Figure]:
        """What the host and its services count, now; `libp2p.metrics` brings them to Prometheus."""
        yield from figures_of(self.connections, self.traffic, self.limits, self.peerstore)
        for part in list(self._measured):
            yield from part.figures()

    def measure(self, part: Measured) -> Callable[[], None]:
        """Let `figures` have those of `part` too, as services do by themselves. Returns the function that ends this."""
        self._measured[part] = None

        def remove() -> None:
            self._measured.pop(part, None)

        return remove

    # Background work

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any] | None:
        """Run `work` in the background until the host closes; None where it is closed already."""
        return self._tasks.spawn(work, name=name)

    def add_router(self, router: PeerRouting) -> Callable[[], None]:
        """Ask `router` where peers are whom no known address leads to. Returns the function that ends this."""
        return self._routers.add(router)

    # Talking

    async def connect(self, target: Target, *, dial: bool = True) -> Connection:
        """An open connection to `target`: one that there is, else, with `dial`, a new one. `Target` says what it may
        be, and which connection is chosen. Where a peer is named to whom no known address leads, the routers are asked.

        Raises `DialError`, `LimitExceeded`, `InvalidMultiaddr` or `InvalidPeerId` for malformed text, `InvalidInput`
        for addresses of several peers, and `TypeError` for what is no target.
        """
        return await self._opening.connect(target, DialOptions(dial=dial))

    async def disconnect(self, peer: PeerId, reason: str = "closed by the application") -> None:
        """Close all connections to `peer`, with a goodbye. Does nothing where there is none. Peers may come back: who
        must not is refused by a `Gater`; and one that is kept (`keep`) is dialed again.
        """
        await all_of(*(connection.close(reason) for connection in self.connections_to(peer)))

    def keep(self, target: Target, *, backoff: RedialBackoff | None = None) -> Kept:
        """Stay connected to `target`, a peer or addresses that name one: dialed now, and again whenever the connection
        is lost, for ever, with pauses by `backoff` (`HostConfig.redial` by default).

            kept = host.keep("/ip4/192.0.2.7/tcp/4001/p2p/12D3Koo...")
            async for connection in kept: ...  # the first one, and each after that

        `kept.close()` ends it; the connection stays. Raises `InvalidInput` where the target names no peer,
        `LimitExceeded` where the peer store can protect no more peers, and what `connect` raises for what is no target.
        """
        addrs: list[Multiaddr]
        if isinstance(target, Connection):
            peer, addrs = target.remote_peer, []
        else:
            named, addrs = whom(target)
            if named is None:
                raise InvalidInput("to keep a connection takes a peer: addresses that end in /p2p/...")
            peer = named
        kept = Kept(
            peer,
            addrs,
            dial=self._opening.dial,
            peerstore=self.peerstore,
            limits=self.limits,
            backoff=backoff or self.config.redial,
            dice=random.random,
        )
        if self._kept is None:
            self._kept = WeakSet()
        self._kept.add(kept)
        kept.run_in(self.spawn(kept.run(), name=f"keep {peer.short}"))
        return kept

    async def new_stream(
        self, target: Target, *protocols: str, allow_limited: bool = False, dial: bool = True
    ) -> Stream:
        """Open a stream to `target` and offer it `protocols`, the best first; the peer takes the first that it
        supports. Without `dial` a connection must be there already: see `connect`.

        One protocol is offered optimistically: the stream is there at once, data can follow the offer, and a peer that
        declines makes reading (and `stream.agreed()`) raise `ProtocolNotSupported`. With several the peer's choice is
        awaited.

        Direct connections are used before those through a relay. A limited one is used only with `allow_limited`, or
        where it is the target itself: else a hole punch that is under way is waited for, up to the dial's limit.

        Raises what `connect` raises, `LimitedConnection`, `ProtocolNotSupported`, `ConnectionClosed`, `StreamReset`,
        `LimitExceeded` and `StageTimeout`.
        """
        options = DialOptions(allow_limited=allow_limited, dial=dial)
        with span("new_stream", host=self.id, target=target, protocols=protocols):
            stream = await self._opening.new_stream(target, protocols, options)
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
        with span("request", host=self.id, target=target, protocol=protocol):
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

    # Inside

    def _listened(self) -> list[Multiaddr]:
        return [addr for addr in self.swarm.listen_addrs if not is_relayed(addr)]

    def _listening_changed(self, _: ListenAddrAdded | ListenAddrRemoved) -> None:
        """Where a relay listens for the host is another matter than where it listens itself."""
        relayed = [addr for addr in self.swarm.listen_addrs if is_relayed(addr)]
        self.own_addrs.set(AddrSource.RELAYED, relayed, by="listeners")


_DEFAULTS = HostConfig()  # one for all hosts


def _default_transports(private_network: PrivateNetwork | None) -> Sequence[Transport]:
    private = (Tcp(), WebSocket(), Unix(), MemoryTransport())
    return private if private_network is not None else (Quic(), *private)
