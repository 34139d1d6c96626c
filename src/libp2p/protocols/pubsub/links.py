"""The streams between us and each peer: one of ours to it, on which only we send, and one of its own to us.

Rules:
- One stream of ours to a peer, over any of its connections. Where it is lost and a connection is left, another is
  opened, after a pause that doubles; a peer that does not speak pubsub is asked again when it says that it does.
- Of a peer's streams the newest counts; an older one is reset. So connecting twice, or 10,000 times, leaves nothing.
- Reading a peer waits for nobody but the peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from ...connection import Connection, Direction, Stream, StreamErrorCode
from ...connection.service import ServiceHost
from ...errors import Libp2pError, ProtocolNotSupported
from ...identity import PeerId
from ...io import time_limit
from .config import GossipSubConfig
from .frames import FrameReader
from .outbound import OutboundQueue

_CHUNK = 64 * 1024
"""Bytes that are read, and about those that are written, at a time."""

_MAX_REOPEN_DELAY = 60.0


class LinkUser(Protocol):
    """What the links tell, and ask."""

    def link_ready(self, peer: PeerId, protocol: str, *, outbound: bool) -> None:
        """Our stream to the peer is open."""

    def link_silent(self, peer: PeerId) -> None:
        """Our stream to the peer is lost; its own may still be there."""

    def link_gone(self, peer: PeerId) -> None:
        """No stream is left."""

    def link_opened_by(self, peer: PeerId) -> None:
        """The peer has a new stream to us."""

    def link_received(self, peer: PeerId, rpc: bytes) -> None:
        """An RPC. Raises `Libp2pError` for a malformed one: the stream is then reset."""

    def link_unwanted(self, peer: PeerId, mid: bytes) -> bool:
        """Whether the peer does not want a message that waits for it."""


class Link:
    """What there is between us and one peer."""

    __slots__ = ("closing", "idle", "inbound", "peer", "queue", "stream", "task", "wake", "writing")

    def __init__(self, peer: PeerId) -> None:
        self.peer = peer
        self.inbound: Stream | None = None
        self.stream: Stream | None = None
        """Ours; None while it is not open."""
        self.queue: OutboundQueue | None = None
        self.task: asyncio.Task[Any] | None = None
        self.wake = asyncio.Event()
        self.idle = asyncio.Event()
        """Set whenever nothing is left to be sent, and when our stream ends."""
        self.writing = False
        self.closing = False
        """Whether our stream is being ended in order, and must not be reset."""


class Links:
    """All links. `spawn` runs a task that ends with the service; it gives None behind that."""

    def __init__(
        self,
        host: ServiceHost,
        config: GossipSubConfig,
        user: LinkUser,
        spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[Any] | None],
    ) -> None:
        self._host = host
        self._config = config
        self._user = user
        self._spawn = spawn
        self._links: dict[PeerId, Link] = {}

    def __len__(self) -> int:
        return len(self._links)

    def get(self, peer: PeerId) -> Link | None:
        """The link to a peer."""
        return self._links.get(peer)

    def all(self) -> Sequence[Link]:
        """All of them."""
        return list(self._links.values())

    def usable(self, connection: Connection) -> bool:
        """Whether pubsub may use the connection: not through a relay, unless it is allowed."""
        return self._config.use_limited_connections or all(
            component.name != "p2p-circuit" for component in connection.remote_addr
        )

    def connections(self, peer: PeerId) -> list[Connection]:
        """The connections to a peer that pubsub may use."""
        return [
            connection
            for connection in self._host.connections_to(peer)
            if not connection.is_closed and self.usable(connection)
        ]

    def ensure(self, peer: PeerId) -> None:
        """Open our stream to a peer that is connected, unless it is there or being opened."""
        if not self.connections(peer):
            return
        link = self._links.get(peer)
        if link is None:
            link = self._links[peer] = Link(peer)
        if link.task is None:
            link.task = self._spawn(self._talk(link), f"to {peer}")
            if link.task is None:
                self._forget_if_done(link)

    def drop(self, peer: PeerId, code: StreamErrorCode) -> None:
        """Reset all streams of a peer."""
        link = self._links.get(peer)
        for stream in (link.stream, link.inbound) if link is not None else ():
            if stream is not None:
                stream.reset(code)

    async def close(self) -> None:
        """Send what is queued, as far as peers take it, and end our streams in order."""
        await asyncio.gather(*map(self._close, self.all()))

    async def _close(self, link: Link) -> None:
        stream, queue = link.stream, link.queue
        if stream is None or queue is None:
            return
        try:
            while link.stream is stream and (queue or link.writing):
                link.idle.clear()
                await link.idle.wait()
            link.closing = True
            await stream.close()
        except Libp2pError:
            pass  # it is lost already
        except asyncio.CancelledError:
            stream.reset(StreamErrorCode.SHUTDOWN)  # the peer takes too long
            raise

    async def serve(self, stream: Stream) -> None:
        """Read a peer's stream to us, to its end."""
        peer = stream.connection.remote_peer
        if not self.usable(stream.connection):
            stream.reset(StreamErrorCode.GATED)
            return
        link = self._links.get(peer)
        if link is None:
            link = self._links[peer] = Link(peer)
        if link.inbound is not None:
            link.inbound.reset(StreamErrorCode.SUPPLANTED)
        link.inbound = stream
        self._user.link_opened_by(peer)
        self.ensure(peer)
        reader = FrameReader(limit=self._config.max_message_size)
        try:
            while link.inbound is stream and (chunk := await stream.read(_CHUNK)):
                for rpc in reader.feed(chunk):
                    self._user.link_received(peer, rpc)
        finally:
            if link.inbound is stream:
                link.inbound = None
                self._forget_if_done(link)

    # Our stream to a peer

    async def _talk(self, link: Link) -> None:
        """Keep our stream to the peer open, as long as there is a connection."""
        delay = self._config.reopen_delay
        loop = asyncio.get_running_loop()
        try:
            while connections := self.connections(link.peer):
                started = loop.time()
                try:
                    async with time_limit("opening a pubsub stream", self._config.open_timeout):
                        stream = await self._host.new_stream(connections[0], *self._config.protocols)
                        await stream.agreed()
                except ProtocolNotSupported:
                    return
                except Libp2pError:
                    pass
                else:
                    await self._send(link, stream)
                if loop.time() - started > _MAX_REOPEN_DELAY:
                    delay = self._config.reopen_delay
                if self.connections(link.peer):
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, _MAX_REOPEN_DELAY)
        finally:
            link.task = None
            self._forget_if_done(link)

    async def _send(self, link: Link, stream: Stream) -> None:
        """Send what is queued until the stream ends."""
        link.wake.clear()
        link.stream = stream
        link.queue = OutboundQueue(
            max_size=self._config.max_queue_size,
            max_control_size=self._config.max_control_queue_size,
            wake=link.wake.set,
        )
        watch = asyncio.ensure_future(self._watch(link, stream))
        try:
            self._user.link_ready(
                link.peer, stream.protocol, outbound=stream.connection.direction is Direction.OUTBOUND
            )
            await self._write(link, stream, link.queue)
        except Libp2pError:
            pass  # the stream is lost, and what waited for it
        finally:
            link.stream = link.queue = None
            link.writing = False
            link.idle.set()
            watch.cancel()
            if not link.closing:
                stream.reset(StreamErrorCode.NONE)
            await asyncio.gather(watch, return_exceptions=True)
            self._user.link_silent(link.peer)

    async def _write(self, link: Link, stream: Stream, queue: OutboundQueue) -> None:
        while link.stream is stream:
            if frames := queue.take(_CHUNK, lambda mid: self._user.link_unwanted(link.peer, mid)):
                link.writing = True
                await stream.write(b"".join(frames))
                link.writing = False
            elif not queue:
                link.idle.set()
                link.wake.clear()
                await link.wake.wait()

    async def _watch(self, link: Link, stream: Stream) -> None:
        """The peer sends nothing on our stream: whatever comes ends it, its end above all."""
        try:
            await stream.read(1)
        except Libp2pError:
            pass
        finally:
            if not link.closing:
                stream.reset(StreamErrorCode.NONE)
            if link.stream is stream:
                link.stream = None
            link.idle.set()
            link.wake.set()

    def _forget_if_done(self, link: Link) -> None:
        if link.task is None and link.inbound is None and self._links.get(link.peer) is link:
            del self._links[link.peer]
            self._user.link_gone(link.peer)
