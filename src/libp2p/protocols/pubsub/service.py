"""Pubsub over a host: the asyncio half of the router, and the face for programs.

    async with Host() as host, GossipSub(host) as pubsub:
        news = await pubsub.subscribe("news")
        await news.wait_for_peers(1)
        await news.publish(b"steak recipes")
        async for message in news: ...

        streams of peers -> RPCs -> router (control)  -> outbox  -> queue of each peer -> its stream
                              '---> intake (messages) -> verdict -> topics of the program, router -> queues

Rules:
- One call of the router at a time, and none waits: reading a peer never waits for validators, nor for other peers.
- Whoever subscribes behind a publication of ours, within the history, is sent it: nothing has to be slept for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from typing import Literal

from ...callbacks import plain
from ...connection import Stream, StreamErrorCode
from ...connection.service import Service, ServiceHost
from ...errors import InvalidInput, LocalProtocolError
from ...figures import Figure
from ...host.identify import PeerIdentified, PeerUpdated
from ...identity import PeerId
from ...multiaddr.net import ip_of
from ...routing import Discovery
from ...swarm.events import ConnectionOpened
from .audience import Audience
from .authoring import Author
from .config import GossipSubConfig
from .connector import Connector
from .counts import Counts
from .discovery import TopicDiscovery
from .events import (
    PeerEnteredTopic,
    PeerLeftTopic,
    PubSubPeerGone,
    PubSubPeerReady,
    Tracer,
)
from .gater import gater_address
from .intake import Intake
from .links import Links
from .memberships import Memberships
from .message import Message
from .partial import PartialMessages
from .peers import Version
from .router import Router
from .score import explain
from .score.score import ip_keys
from .sending import Sender
from .subscription import Topic
from .validation import Validation, Validator
from .wire import Rpc, decode_rpc

logger = logging.getLogger(__name__)


class PubSub(Service):
    """What floodsub and gossipsub have in common: everything but their settings.

    `dice` is what randomness comes from; `tracer` sees each step; `inspect` may refuse an RPC (by False) before
    anything of it is done; `discovery` finds peers of our topics; `wall_clock` gives nanoseconds, from which sequence
    numbers start, so that they go on behind a restart.
    """

    def __init__(
        self,
        host: ServiceHost,
        config: GossipSubConfig,
        *,
        dice: Random | None = None,
        tracer: Tracer | None = None,
        inspect: Callable[[PeerId, Rpc], bool] | None = None,
        discovery: Discovery | None = None,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(host)
        self.config = config
        self.router = Router(host.id, config, dice or Random(), record_of=host.peerstore.peer_record)  # noqa: S311
        self._tracer = Counts(tracer)
        self._inspect = None if inspect is None else plain(inspect, "`inspect`")
        self._links = Links(host, config, self, lambda work, name: self.spawn(work, name=name))
        self._sender = Sender(self._links, self.router, self._tracer, max_size=config.max_message_size)
        self._validation = Validation(
            lambda work: self.spawn(work, name="validation"),
            queue=config.validator_queue,
            concurrency=config.validator_concurrency,
            timeout=config.validator_timeout,
        )
        self._intake = Intake(host.id, config, self.router, self._validation, self._tracer, self._now, self._accepted)
        self._connector = Connector(host, config, lambda work: self.spawn(work, name="connecting to an offered peer"))
        self.partial = PartialMessages(self.router, self._links, max_size=config.max_message_size)
        """Partial messages, where the settings offer them."""
        self._discovery = self._discover_by(discovery) if discovery is not None else None
        self._memberships = Memberships(self._left)
        self._audience = Audience(self.router.state)
        self._blocked: set[PeerId] = set()
        self._author = Author(host, config, self._validation, first_seqno=wall_clock())
        self._ended = False

    # Topics

    async def subscribe(
        self, topic: str, *, capacity: int | None = None, parts: Literal["want", "send"] | None = None
    ) -> Topic:
        """Enter a topic, if we are not in it, and get its messages from now on. `capacity` is how many wait for the
        program; None: as the settings say. `parts`: whether we want messages in parts, or only can send them so (see
        `partial`). Raises `InvalidInput` for a topic that the settings don't allow, and `LocalProtocolError` behind the
        end.
        """
        subscription = Topic(self, topic, capacity or self.config.subscription_capacity)
        self._enter(topic, parts)
        self._memberships.subscribe(subscription)
        return subscription

    async def relay(self, topic: str) -> Callable[[], None]:
        """Enter a topic and pass on its messages, without getting them; the function that ends this."""
        self._enter(topic)
        return self._memberships.relay(topic)

    def unsubscribed(self, subscription: Topic) -> None:
        """A subscription has ended: what `Topic.close` calls."""
        self._memberships.unsubscribe(subscription)

    async def publish(self, topic: str, data: bytes) -> int:
        """Send a message to the peers of a topic; how many it goes to. We need not be in the topic.

        Returns when it waits in the peers' queues. Raises `InvalidInput` where a validator of ours refuses it,
        `MessageTooLarge`, and `LocalProtocolError` behind the end.
        """
        [count] = await self.publish_batch(topic, [data])
        return count

    async def publish_batch(self, topic: str, batch: Sequence[bytes]) -> list[int]:
        """Send several messages, to each peer in another order: so all of them spread at once. How many peers each goes
        to. Raises what `publish` does, with nothing sent.
        """
        messages = [self._author.make(topic, data) for data in batch]
        for message in messages:
            await self._author.check(message)
        if self._ended:
            raise LocalProtocolError("pubsub has ended")
        now = self._now()
        counts = [0] * len(messages)
        to_send: dict[PeerId, list[int]] = {}
        for n, message in enumerate(messages):
            self.router.seen.add(message.id, now)
            for peer in self.router.route(message, now):
                to_send.setdefault(peer, []).append(n)
            if self.config.deliver_own:
                self._memberships.hand_out(message)
        for peer, numbers in to_send.items():
            self.router.state.dice.shuffle(numbers)
            for n in numbers:
                counts[n] += self._sender.send(peer, messages[n])
        self._sender.flush()
        return counts

    async def wait_for_peers(self, topic: str | None, n: int = 1) -> list[PeerId]:
        """Wait until `n` peers would get what we publish in the topic (None: speak pubsub at all); who they are."""
        return await self._audience.wait(topic, n)

    def add_validator(self, topic: str, validator: Validator) -> Callable[[], None]:
        """Let `validator` judge the topic's messages; the function that ends this. See `validation`."""
        return self._validation.add(topic, validator)

    # Peers

    def block(self, peer: PeerId) -> None:
        """Take nothing from a peer any more, neither what it brings nor what it is the author of."""
        self._blocked.add(peer)
        self._intake.blocked.add(peer.to_bytes())
        self._links.drop(peer, StreamErrorCode.GATED)

    def unblock(self, peer: PeerId) -> None:
        """End what `block` began."""
        self._blocked.discard(peer)
        self._intake.blocked.discard(peer.to_bytes())
        self._links.ensure(peer)

    @property
    def topics(self) -> list[str]:
        """The topics that we are in."""
        return list(self.router.state.joined)

    def peers(self, topic: str | None = None) -> list[PeerId]:
        """The peers that we can send to; with a topic, those of them that are in it."""
        return self._audience.peers(topic)

    def topics_of(self, peer: PeerId) -> list[str]:
        """The topics that a peer has told us that it is in."""
        known = self.router.state.peers.get(peer)
        return list(known.topics) if known is not None else []

    def mesh(self, topic: str) -> list[PeerId]:
        """Our mesh of a topic."""
        return list(self.router.state.mesh.get(topic, ()))

    def score(self, peer: PeerId) -> float:
        """The peer's score."""
        return self.router.state.score(peer)

    def explain_score(self, peer: PeerId) -> str:
        """Why the peer has its score, in words."""
        return explain(self.router.scores, peer)

    # The service

    def figures(self) -> Iterator[Figure]:
        """See `Host.figures`."""
        yield from self._tracer.figures()
        yield Figure("pubsub_peers", "Peers that speak pubsub.", len(self.peers()))
        for topic in self.topics:
            labels = {"topic": topic}
            yield Figure("pubsub_topic_peers", "Peers in a topic of ours.", len(self.peers(topic)), labels)
            yield Figure("pubsub_mesh_peers", "Peers in our mesh of a topic.", len(self.mesh(topic)), labels)

    async def start(self) -> None:
        self.serve(self.config.protocols, self._serve)
        self.follow(ConnectionOpened, lambda event: self._links.ensure(event.connection.remote_peer))
        self.follow(PeerIdentified, lambda event: self._identified(event.connection.remote_peer, event.info.protocols))
        self.follow(PeerUpdated, lambda event: self._identified(event.connection.remote_peer, event.info.protocols))
        for connection in self.host.connections:
            self._links.ensure(connection.remote_peer)
        self.spawn(self._beat(), name="heartbeat")

    async def stop(self) -> None:
        self._ended = True
        self._memberships.end()
        self._audience.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.goodbye_timeout):
                await self._links.close()

    async def _serve(self, stream: Stream) -> None:
        if stream.connection.remote_peer in self._blocked:
            stream.reset(StreamErrorCode.GATED)
            return
        await self._links.serve(stream)

    async def _beat(self) -> None:
        """Heartbeats, at equal distances; those that would be late are left out."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self.config.heartbeat_initial_delay
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            self.router.heartbeat(loop.time())
            self._sender.flush()
            self._tell_of_drops()
            for peer in self.router.missing_direct_peers():
                self._connector.connect(peer)
            due += self.config.heartbeat_interval
            if due < loop.time():
                due = loop.time() + self.config.heartbeat_interval

    # What the links tell

    def link_ready(self, peer: PeerId, protocol: str, *, outbound: bool) -> None:
        ips = [ip for connection in self._links.connections(peer) if (ip := ip_of(connection.remote_addr)) is not None]
        keys = [ip_keys(str(ip)) for ip in ips]
        self.router.peer_ready(
            peer,
            Version.of(protocol),
            outbound=outbound,
            now=self._now(),
            ips=tuple(key for of_one in keys for key in of_one),
            address=gater_address(keys[0]) if keys else None,
        )
        self.host.events.emit(PubSubPeerReady(peer, protocol))
        for topic in list(self.router.state.peers[peer].topics):
            self._in_topic(peer, topic)
        self._audience.wake()
        self._sender.flush()

    def link_silent(self, peer: PeerId) -> None:
        self.router.peer_silent(peer, self._now())
        self._audience.wake()

    def link_gone(self, peer: PeerId) -> None:
        known = self.router.state.peers.get(peer)
        self.router.peer_gone(peer, self._now())
        for topic in known.topics if known is not None else ():
            self.host.events.emit(PeerLeftTopic(peer, topic))
        self._audience.wake()
        if known is not None:
            self.host.events.emit(PubSubPeerGone(peer))

    def link_opened_by(self, peer: PeerId) -> None:
        self.router.stream_opened(peer)

    def link_unwanted(self, peer: PeerId, mid: bytes) -> bool:
        return self.router.is_unwanted(peer, mid)

    def link_received(self, peer: PeerId, rpc: bytes) -> None:
        if peer in self._blocked or not self.router.accepts(peer):
            return
        self.receive(peer, decode_rpc(rpc, max_entries=self.config.max_entries))

    def receive(self, peer: PeerId, rpc: Rpc) -> None:
        """Act on an RPC of a peer."""
        if self._inspect is not None and not self._inspect(peer, rpc):
            return
        self._tracer.received(peer, rpc)
        now = self._now()
        joined = self.router.state.joined
        for change in self.router.receive(peer, rpc, now):
            if change.subscribe:
                self._in_topic(peer, change.topic)
            else:
                self.host.events.emit(PeerLeftTopic(peer, change.topic))
                self._audience.wake()
        if rpc.partial is not None:
            self.partial.received(peer, rpc.partial)
        if rpc.messages and not self.router.accepts_messages(peer, now):
            self._tracer.gated(peer, len(rpc.messages))
        else:
            for message in rpc.messages:
                if message.topic in joined:
                    self._intake.take(message, peer, now)
        for asker, wanted in self.router.take_answers():
            self._sender.send(asker, wanted)
        self._sender.flush()
        for px in self.router.take_offers():
            self._connector.offered(px, peer)

    # Inside

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _enter(self, topic: str, parts: Literal["want", "send"] | None = None) -> None:
        if self._ended:
            raise LocalProtocolError("pubsub has ended")
        if self.config.allowed_topics is not None and topic not in self.config.allowed_topics:
            raise InvalidInput(f"the topic {topic!r} is not among the allowed ones")
        if topic not in self.router.state.joined:
            self.router.join(topic, self._now(), requests_partial=parts == "want", supports_partial=parts is not None)
            self._sender.flush()
            self._audience.wake()
            if self._discovery is not None:
                self._discovery.entered(topic)

    def _left(self, topic: str) -> None:
        """Nothing of ours is in the topic any more."""
        if self._discovery is not None:
            self._discovery.left(topic)
        if not self._ended:
            self.router.leave(topic, self._now())
            self._sender.flush()

    def _discover_by(self, discovery: Discovery) -> TopicDiscovery:
        return TopicDiscovery(
            self.host,
            self.config,
            discovery,
            lacking=lambda topic: self._audience.wait_fewer(topic, self.config.d),
            connect=self._connector.connect,
            spawn=lambda work: self.spawn(work, name="discovery"),
        )

    def _accepted(self, message: Message, now: float) -> None:
        """A peer's message is valid: deliver it, and pass it on."""
        self._memberships.hand_out(message)
        for peer in self.router.route(message, now):
            self._sender.send(peer, message)

    def _in_topic(self, peer: PeerId, topic: str) -> None:
        """A peer is in a topic, as we see it: send it what we have just published there."""
        self.host.events.emit(PeerEnteredTopic(peer, topic))
        if self.router.state.peers[peer].ready:
            for message in self.router.recent_for(peer, topic):
                self._sender.send(peer, message)
        self._audience.wake()

    def _identified(self, peer: PeerId, protocols: Iterable[str]) -> None:
        if any(protocol in self.config.protocols for protocol in protocols):
            self._links.ensure(peer)

    def _tell_of_drops(self) -> None:
        for event in (*self._sender.take_drops(), *self._memberships.take_drops()):
            self.host.events.emit(event)
