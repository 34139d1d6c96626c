"""The router: where messages go, and what is said between peers. A state machine without I/O: floodsub and gossipsub.

    peer_ready, peer_gone, receive(rpc), join, leave, route(message), heartbeat   go in, each with the time `now`
    take_outbox, take_unwanted: what to say; take_answers: messages to send; take_offers: whom to connect to   come out

Rules:
- A floodsub peer is one that gets all messages of its topics; that is all that floodsub is. A router that offers
  floodsub only has no other peers, so it is floodsub.
- What a peer can make us remember is bounded by settings, and goes with it: after any number of reconnects nothing
  is left but its back-offs, and its score where that is kept.
- A message goes to nobody who brought it, made it, or said that it doesn't want it.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from ...identity import PeerId
from .caches import SeenCache
from .config import GossipSubConfig
from .gater import PeerGater
from .gossip import Gossip
from .grafting import Grafting
from .message import Message
from .peers import Peer, Version
from .score import PeerScores
from .state import RouterState
from .wire import Extensions, PxPeer, Rpc, SubOpts


class Router:
    """Routes for the peer `own`. `record_of` gives the signed record of a peer for peer exchange."""

    def __init__(
        self,
        own: PeerId,
        config: GossipSubConfig,
        dice: Random,
        *,
        record_of: Callable[[PeerId], bytes | None] = lambda _: None,
    ) -> None:
        self.config = config
        self.scores = PeerScores(config.score)
        self.gater = PeerGater(config.gater, dice)
        self.seen = SeenCache(ttl=config.seen_ttl, max_entries=config.max_seen)
        self.state = RouterState(own, config, self.scores, dice)
        self.grafting = Grafting(self.state, record_of)
        self.gossip = Gossip(self.state, self.seen.__contains__)
        self._refreshed: float | None = None

    # Peers

    def peer_ready(
        self,
        peer: PeerId,
        version: Version,
        *,
        outbound: bool,
        now: float,
        ips: tuple[str, ...] = (),
        address: str | None = None,
    ) -> None:
        """Our stream to a peer is open: greet it with our topics. `outbound`: we made the connection; `ips`: what all
        its addresses count under (see `ip_keys`), `address`: what the one does that the gater knows it by.
        """
        known = self._peer(peer)
        known.version, known.ready, known.outbound = version, True, outbound
        if known.in_mesh_protocol:
            self.state.floodsub.pop(peer, None)
        else:
            self.state.floodsub[peer] = None
        self.scores.peer_up(peer, ips, now)
        self.gater.peer_up(peer, address, now)
        for topic, mesh in self.state.mesh.items():
            if peer in mesh:  # it has grafted us already
                self.scores.graft(peer, topic, now)
        hello = self.state.to(peer)
        hello.subscriptions += self.state.joined.values()
        if version >= Version.V13:
            hello.extensions = Extensions(partial_messages=self.config.partial_messages)
        for topic in known.topics:
            self._entered(topic, known, now)

    def peer_gone(self, peer: PeerId, now: float) -> None:
        """No stream to or from the peer is left."""
        known = self.state.peers.pop(peer, None)
        if known is None:
            return
        self.state.floodsub.pop(peer, None)
        self.scores.peer_down(peer, now)
        self.gater.peer_down(peer, now)
        for topic in known.topics:
            self._remove_from(topic, peer)
        self.grafting.forget(peer)
        self.gossip.promises.forget([peer])
        self.state.outbox.pop(peer, None)

    def peer_silent(self, peer: PeerId, now: float) -> None:
        """Our stream to the peer has ended, its own is still there: nothing can be sent until `peer_ready`."""
        if (known := self.state.peers.get(peer)) is not None:
            self.scores.peer_down(peer, now)
            self.gater.peer_down(peer, now)
            known.ready = False
            self.grafting.forget(peer)
            self.state.outbox.pop(peer, None)

    def stream_opened(self, peer: PeerId) -> None:
        """The peer has a new stream to us: what it says first may hold its extensions."""
        self._peer(peer).extensions = None

    def accepts(self, peer: PeerId) -> bool:
        """Whether anything that the peer says is listened to."""
        return (
            not self.scores.enabled
            or self.state.is_direct(peer)
            or self.scores.score(peer) >= self.config.thresholds.graylist
        )

    def accepts_messages(self, peer: PeerId, now: float) -> bool:
        """Whether messages of the peer are looked at: not all of them, while validators can't keep up."""
        return not self.gater.enabled or self.state.is_direct(peer) or self.gater.accepts(peer, now)

    # What peers say

    def receive(self, peer: PeerId, rpc: Rpc, now: float) -> list[SubOpts]:
        """Act on everything in an RPC but its messages; the entries that change in which topics the peer is."""
        known = self._peer(peer)
        if known.extensions is None:
            known.extensions = rpc.extensions or Extensions()
        elif rpc.extensions is not None:
            self.scores.penalize(peer, 10)  # "MUST NOT be sent more than once"
        changes = [entry for entry in rpc.subscriptions if self._subscription(known, entry, now)]
        if rpc.has_control:
            self.gossip.offered(known, rpc.ihave, now)
            self.gossip.wanted(known, rpc.iwant)
            self.grafting.grafted_by(known, rpc.graft, now)
            self.grafting.pruned_by(known, rpc.prune, now)
            self.gossip.unwanted(known, rpc.idontwant)
        return changes

    # Our own topics

    def join(self, topic: str, now: float, *, requests_partial: bool = False, supports_partial: bool = False) -> None:
        """Enter a topic, and tell all."""
        entry = SubOpts(topic, True, requests_partial, supports_partial or requests_partial)
        self.state.joined[topic] = entry
        self._announce(entry)
        self.grafting.join(topic, now)

    def leave(self, topic: str, now: float) -> None:
        """Leave a topic, and tell all."""
        if self.state.joined.pop(topic, None) is not None:
            self.grafting.leave(topic, now)
            self._announce(SubOpts(topic, subscribe=False))

    # Messages

    def route(self, message: Message, now: float) -> list[PeerId]:
        """Keep a valid message for gossip; the peers that it goes to."""
        self.gossip.cache.put(message)
        state, topic = self.state, message.topic
        members = state.topics.get(topic)
        if not members:
            return []
        own = message.received_from == state.own
        targets: dict[PeerId, None] = {}
        if own and self.config.flood_publish:
            targets.update((peer, None) for peer in members if self._may_publish_to(peer))
        else:
            for peer in (*self.config.direct_peers, *state.floodsub):
                if peer in members and self._may_publish_to(peer):
                    targets[peer] = None
            targets.update(state.mesh[topic] if topic in state.mesh else self._fanout(topic, now))
        if own and self.config.idontwant_on_publish:
            self.gossip.arrived(message.id, topic, len(message.wire.data or b""), state.own)
        author, joined = message.wire.sender, state.joined.get(topic)
        parts = joined is not None and joined.supports_partial
        return [
            peer
            for peer in targets
            if peer != message.received_from
            and (known := state.peers[peer]).ready
            and message.id not in known.unwanted
            and peer.to_bytes() != author
            and not (parts and self.gossip.wants_parts(known, topic))
        ]

    def recent_for(self, peer: PeerId, topic: str) -> list[Message]:
        """What was published by us and is still kept, for a peer that has just entered the topic."""
        if not self._may_publish_to(peer):
            return []
        own = self.state.own
        return [message for message in self.gossip.cache.recent(topic) if message.received_from == own]

    def is_unwanted(self, peer: PeerId, mid: bytes) -> bool:
        """Whether the peer said that it doesn't want this message."""
        known = self.state.peers.get(peer)
        return known is not None and mid in known.unwanted

    # Time

    def heartbeat(self, now: float) -> None:
        """To be called each `heartbeat_interval`."""
        self.state.ticks += 1
        if self.scores.enabled and (
            self._refreshed is None or now - self._refreshed >= self.scores.params.decay_interval - 1e-6
        ):
            self._refreshed = now
            self.scores.refresh(now)
        self.gater.refresh(now)
        self.seen.clear_expired(now)
        self.grafting.heartbeat(now)
        self.gossip.heartbeat(now)

    def missing_direct_peers(self) -> list[PeerId]:
        """Direct peers to connect to: none but each `direct_connect_ticks` heartbeats, the first included."""
        if (self.state.ticks - 1) % self.config.direct_connect_ticks:
            return []
        return [peer for peer in self.config.direct_peers if peer not in self.state.peers]

    # What comes out

    def take_outbox(self) -> list[tuple[PeerId, Rpc]]:
        """What is to be sent, and to whom."""
        if not self.state.outbox:
            return []
        outbox, self.state.outbox = self.state.outbox, {}
        return [(peer, rpc) for peer, rpc in outbox.items() if rpc and self.state.peers[peer].ready]

    def take_unwanted(self) -> list[tuple[list[PeerId], list[bytes]]]:
        """IDONTWANTs: to which peers, and of which messages."""
        return self.gossip.take_unwanted()

    def take_answers(self) -> list[tuple[PeerId, Message]]:
        """Messages that peers have asked for."""
        if not self.gossip.answers:
            return []
        answers, self.gossip.answers = self.gossip.answers, []
        return answers

    def take_offers(self) -> list[PxPeer]:
        """Peers that others have offered; nothing about them is checked."""
        if not self.grafting.offers:
            return []
        offers, self.grafting.offers = self.grafting.offers, []
        return offers

    # Inside

    def _peer(self, peer: PeerId) -> Peer:
        known = self.state.peers.get(peer)
        if known is None:
            known = self.state.peers[peer] = Peer(peer)
        return known

    def _subscription(self, peer: Peer, entry: SubOpts, now: float) -> bool:
        topic, config = entry.topic, self.config
        if not entry.subscribe:
            if peer.topics.pop(topic, None) is None:
                return False
            self._remove_from(topic, peer.id)
            self.grafting.left(topic, peer.id)
            return True
        if topic in peer.topics:
            peer.topics[topic] = entry
            return False
        if (
            len(peer.topics) >= config.max_topics_per_peer
            or len(topic.encode(errors="surrogateescape")) > config.max_topic_length
            or (config.allowed_topics is not None and topic not in config.allowed_topics)
        ):
            return False
        peer.topics[topic] = entry
        self.state.topics.setdefault(topic, {})[peer.id] = None
        if peer.ready:
            self._entered(topic, peer, now)
        return True

    def _entered(self, topic: str, peer: Peer, now: float) -> None:
        if peer.in_mesh_protocol:
            self.grafting.entered(topic, peer.id, now)

    def _remove_from(self, topic: str, peer: PeerId) -> None:
        members = self.state.topics.get(topic, {})
        members.pop(peer, None)
        if not members:
            self.state.topics.pop(topic, None)

    def _announce(self, entry: SubOpts) -> None:
        for peer, known in self.state.peers.items():
            if known.ready:
                self.state.to(peer).subscriptions.append(entry)

    def _may_publish_to(self, peer: PeerId) -> bool:
        return self.state.is_direct(peer) or self.grafting.may_publish_to(peer)

    def _fanout(self, topic: str, now: float) -> dict[PeerId, None]:
        fanout = self.state.fanout.setdefault(topic, {})
        if not fanout:
            self.grafting.fill_fanout(topic, fanout)
        self.state.last_published[topic] = now
        return fanout
