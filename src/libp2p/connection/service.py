"""What a service, such as identify, ping, pubsub or a DHT, is: a protocol over a host, with a beginning and an end.

    async with Host() as host, GossipSub(host) as pubsub, KadDht(host) as dht: ...

Rules:
- A service sees its host through `ServiceHost`, a narrow face: so it can be driven by a small stand-in, and a host can
  speak a protocol without a circle of imports.
- What a service has registered, subscribed to and started is gone at its end, whatever happens there; handlers that
  serve a stream are cancelled, which resets it.
- A service is entered once: who wants it again makes another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias, TypeVar

from ..errors import LocalProtocolError
from ..events import EventBus
from ..figures import Figure, Measured
from ..identity import PeerId, PrivateKey
from ..io import TaskSupervisor
from ..multiaddr import Multiaddr
from ..peerstore import PeerStore
from ..routing import PeerRouting
from .streams import Connection, Stream

E = TypeVar("E")

Handler: TypeAlias = Callable[[Stream], Awaitable[None]]
"""Serves one stream: closed when it returns, reset when it raises."""

WhenFull: TypeAlias = Literal["wait", "refuse"]
"""What happens to a peer's stream above the limit: it waits until another one has ended, or it is reset."""

Match: TypeAlias = Callable[[str], bool]
"""Whether a protocol id is served (libp2p/specs connections: a "match function")."""

Target: TypeAlias = PeerId | Multiaddr | str | Sequence[Multiaddr | str] | Connection
"""Whom to talk to:

- a peer id: the peer, at the addresses that the peer store has, or that routers find
- an address: the peer that its /p2p names, else whoever is there
- several addresses of one peer, all tried side by side; it is enough that one of them names the peer
- either of these as text
- a connection: that one, and no other

An open connection to the peer is used whichever way it was made: asked for a TCP address one may get the QUIC
connection that there is. Of several a direct one is taken before a relayed one, and both sides take the same one. A
limited one, through a relay, does not do for who names direct addresses only.
"""


class ServiceHost(Protocol):
    """What a service asks of its host. `Host` says what each part does."""

    @property
    def key(self) -> PrivateKey: ...

    @property
    def id(self) -> PeerId: ...

    @property
    def peerstore(self) -> PeerStore: ...

    @property
    def events(self) -> EventBus: ...

    @property
    def listen_addrs(self) -> list[Multiaddr]: ...

    @property
    def addrs(self) -> list[Multiaddr]: ...

    @property
    def protocols(self) -> list[str]: ...

    @property
    def connections(self) -> list[Connection]: ...

    def connections_to(self, peer: PeerId) -> list[Connection]: ...

    def handle(
        self,
        *protocols: str,
        match: Match | None = None,
        cancel_on_reset: bool = True,
        max_streams_per_peer: int | None = None,
        when_full: WhenFull = "refuse",
    ) -> Callable[[Handler], Handler]: ...

    def remove_handler(self, *protocols: str, handler: Handler | None = None) -> None: ...

    def add_router(self, router: PeerRouting) -> Callable[[], None]: ...

    def measure(self, part: Measured) -> Callable[[], None]: ...

    async def connect(self, target: Target) -> Connection: ...

    async def new_stream(self, target: Target, *protocols: str, allow_limited: bool = False) -> Stream: ...


class Service:
    """A protocol over a host: an async context manager. Subclasses register in `start`, and say goodbye in `stop`."""

    def __init__(self, host: ServiceHost) -> None:
        self.host = host
        self._tasks = TaskSupervisor(type(self).__name__)
        self._undo: list[Callable[[], None]] = []
        self._handling: dict[asyncio.Task[Any], None] = {}  # the host's tasks, in which our handlers run
        self._entered = False

    async def start(self) -> None:
        """Begin: register handlers, follow events, start tasks. Where it raises, what it did is undone."""

    async def stop(self) -> None:
        """Say goodbye, where there is something to say; everything else ends by itself behind it."""

    async def close(self) -> None:
        """End the service: its handlers, subscriptions and tasks are gone, even where this is cancelled. Idempotent."""
        try:
            await self.stop()
            ending = self.abort()
            await self._tasks.close()
            if ending:
                await asyncio.wait(ending)
        finally:
            self.abort()

    def abort(self) -> set[asyncio.Task[Any]]:
        """End the service at once, without a goodbye. Tasks and handlers are cancelled, and not awaited; returns the
        handlers that were at work. Idempotent.
        """
        while self._undo:
            self._undo.pop()()
        self._tasks.abort()
        ending = self._handling.keys() - {asyncio.current_task()}
        self._handling.clear()
        for task in ending:
            task.cancel()
        return ending

    def figures(self) -> Iterable[Figure]:
        """What the service counts, for `Host.figures`."""
        return ()

    def serve(
        self,
        protocols: Sequence[str],
        handler: Handler,
        *,
        cancel_on_reset: bool = True,
        max_streams_per_peer: int | None = None,
        when_full: WhenFull = "refuse",
    ) -> None:
        """Serve `protocols` with `handler` until the end, as `Host.handle` does. Raises `ValueError` for one that is
        served already.
        """
        served = _Served(self.host, tuple(protocols), handler, self._handling)
        self.host.handle(
            *protocols,
            cancel_on_reset=cancel_on_reset,
            max_streams_per_peer=max_streams_per_peer,
            when_full=when_full,
        )(served.serve)
        self._undo.append(served)

    def follow(self, kind: type[E], callback: Callable[[E], None]) -> None:
        """Call `callback` with each event of `kind` until the end."""
        self._undo.append(self.host.events.on(kind, callback))

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any] | None:
        """Run `work` until the end; None where that has come already."""
        return self._tasks.spawn(work, name=name)

    async def __aenter__(self) -> Self:
        if self._entered:
            raise LocalProtocolError(f"this {type(self).__name__} was entered before: make another one")
        self._entered = True
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        if type(self).figures is not Service.figures:
            self._undo.append(self.host.measure(self))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Served:
    """The protocols that one handler of a service serves."""

    __slots__ = ("_handler", "_handling", "_host", "_protocols")

    def __init__(
        self,
        host: ServiceHost,
        protocols: tuple[str, ...],
        handler: Handler,
        handling: dict[asyncio.Task[Any], None],
    ) -> None:
        self._host = host
        self._protocols = protocols
        self._handler = handler
        self._handling = handling

    async def serve(self, stream: Stream) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handling[task] = None
        try:
            await self._handler(stream)
        finally:
            self._handling.pop(task, None)

    def __call__(self) -> None:
        """Serve them no more."""
        self._host.remove_handler(*self._protocols, handler=self.serve)
