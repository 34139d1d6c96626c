"""Settings of pubsub. Defaults are those of go-libp2p-pubsub where it has them; each bounds what peers cost us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ...errors import InvalidInput
from ...identity import PeerId
from .gater import PeerGaterParams
from .ids import MessageIdFunction, author_and_seqno
from .score import ScoreParams, ScoreThresholds
from .signing import SignaturePolicy

FLOODSUB = "/floodsub/1.0.0"
GOSSIPSUB_10 = "/meshsub/1.0.0"
GOSSIPSUB_11 = "/meshsub/1.1.0"
GOSSIPSUB_12 = "/meshsub/1.2.0"
GOSSIPSUB_13 = "/meshsub/1.3.0"

GOSSIPSUB_PROTOCOLS = (GOSSIPSUB_13, GOSSIPSUB_12, GOSSIPSUB_11, GOSSIPSUB_10, FLOODSUB)
"""What a gossipsub peer offers, best first."""


class DataTransform(Protocol):
    """Turns data into what travels, and back: compression, for instance."""

    def encode(self, data: bytes) -> bytes:
        """What travels for `data`."""

    def decode(self, data: bytes) -> bytes:
        """The data for what travelled. Raises `InvalidInput` where there is none, or too much of it."""


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """What holds for the messages of a topic; all its peers must agree on it."""

    signature_policy: SignaturePolicy = SignaturePolicy.STRICT_SIGN
    message_id: MessageIdFunction = author_and_seqno
    transform: DataTransform | None = None
    """Applied to data; None: it travels as it is."""


@dataclass(frozen=True, slots=True)
class PubSubConfig:
    """Settings of pubsub beside its routing; times in seconds, sizes in bytes."""

    max_message_size: int = 1024 * 1024
    """Bytes of an RPC, and so of a message with its fields; go-libp2p, and most others, read no more."""
    max_entries: int = 5000
    """Entries of any list of an RPC. One with more ends the peer's stream."""
    max_topics_per_peer: int = 1000
    """Topics that a peer is remembered to be in; further ones are ignored."""
    max_topic_length: int = 1024
    """Bytes of a topic that a peer may subscribe to; longer ones are ignored. (UTF-8)"""
    allowed_topics: frozenset[str] | None = None
    """The topics of which it is remembered who is in them; None: all. Subscribing to another raises `InvalidInput`."""
    seen_ttl: float = 120.0
    """Time for which a message's id is remembered, so that a late copy is known for one."""
    max_seen: int = 500_000
    """Ids that are remembered at most; the oldest make way."""
    max_queue_size: int = 4 * 1024 * 1024
    """Bytes of messages that wait for a peer; further ones are dropped, for that peer."""
    max_control_queue_size: int = 1024 * 1024
    """Bytes of all else that wait for a peer. Gossip is dropped from half of that on; beyond it the peer's streams
    end: it makes us answer and reads nothing."""
    subscription_capacity: int = 1024
    """Messages of a topic that wait for the program; the oldest make way, which is counted and told."""
    validator_queue: int = 1024
    """Messages of a topic that wait for validators; further ones are dropped."""
    validator_concurrency: int = 64
    """Messages of a topic that asynchronous validators look at at a time."""
    validator_timeout: float = 30.0
    """Time for one of them; who takes longer has ignored the message."""
    open_timeout: float = 10.0
    """Time for opening our stream to a peer."""
    reopen_delay: float = 1.0
    """Time from the loss of our stream to a peer to the next attempt; doubled with each attempt up to a minute."""
    goodbye_timeout: float = 2.0
    """Time that peers have, at the end, to take what waits for them."""
    deliver_own: bool = False
    """Whether what we publish comes to our own subscriptions, too."""
    discovery_interval: float = 30.0
    """Time between two searches for peers of a topic that has too few, where pubsub was given a way to search."""
    use_limited_connections: bool = False
    """Whether connections through a relay, which are short-lived and narrow, carry pubsub."""
    topic: TopicConfig = field(default_factory=TopicConfig)
    topics: Mapping[str, TopicConfig] = field(default_factory=dict)
    """What holds for single topics in place of `topic`."""

    def for_topic(self, topic: str) -> TopicConfig:
        """What holds for `topic`."""
        return self.topics.get(topic, self.topic)


@dataclass(frozen=True, slots=True)
class GossipSubConfig(PubSubConfig):
    """Settings of gossipsub. Raises `InvalidInput` for those that contradict each other."""

    protocols: tuple[str, ...] = GOSSIPSUB_PROTOCOLS
    """What is offered and served, best first."""
    d: int = 6
    """Peers that a mesh should have."""
    d_low: int = 5
    """Fewer than these: further ones are grafted."""
    d_high: int = 12
    """As many as these: those beyond `d` are pruned."""
    d_score: int = 4
    """Peers of these that stay for their score, when some are pruned."""
    d_out: int = 2
    """Peers of a mesh to which we made the connection, so that not all are such as came to us."""
    d_lazy: int = 6
    """Peers that get gossip, at least."""
    gossip_factor: float = 0.25
    """Part of the peers outside of the mesh that get gossip, if that is more."""
    heartbeat_interval: float = 1.0
    """Time between two looks at mesh and gossip."""
    heartbeat_initial_delay: float = 0.1
    """Time to the first one."""
    history_length: int = 5
    """Heartbeats for which a message can be had by IWANT."""
    history_gossip: int = 3
    """Heartbeats for which it is told of by IHAVE."""
    max_history_size: int = 64 * 1024 * 1024
    """Bytes of messages that are kept for that; the oldest make way."""
    fanout_ttl: float = 60.0
    """Time for which the peers are remembered to whom we published in a topic that we are not in."""
    prune_backoff: float = 60.0
    """Time for which who was pruned is not grafted again."""
    unsubscribe_backoff: float = 10.0
    """The same, when we leave a topic."""
    max_backoff: float = 3600.0
    """The longest such time that a peer may ask for; more counts as this."""
    max_backoffs: int = 10_000
    """Back-offs that are remembered in a topic; the oldest make way."""
    backoff_slack: float = 2.0
    """Time that we add to a back-off of our own grafts: clocks differ."""
    graft_flood_threshold: float = 10.0
    """A graft so soon behind a prune counts as two misbehaviours."""
    flood_publish: bool = True
    """Whether our own messages go to all peers of the topic with a score to publish to, not to the mesh only."""
    max_ihave_messages: int = 10
    """IHAVEs of a peer that are read between two heartbeats: RPCs with some."""
    max_ihave_length: int = 5000
    """Ids that are asked a peer for, and told to one, between two heartbeats."""
    max_iwant_length: int = 5000
    """Ids for which a peer is answered between two heartbeats."""
    gossip_retransmission: int = 3
    """How often a message is sent to one peer that asks."""
    iwant_followup_time: float = 3.0
    """Time in which a message must come that was asked for; else its promise counts as broken."""
    idontwant_threshold: int = 1024
    """Bytes of data from which on peers are told that we have a message already."""
    idontwant_on_publish: bool = False
    """Whether they are told so of our own messages, too."""
    idontwant_ttl: int = 3
    """Heartbeats for which it is remembered that a peer doesn't want a message."""
    max_idontwant_messages: int = 1000
    """RPCs of a peer with IDONTWANTs that are read between two heartbeats."""
    max_idontwant_ids: int = 10_000
    """Ids that are remembered for a peer."""
    opportunistic_graft_ticks: int = 60
    """Heartbeats between two looks at whether better peers should join a mesh."""
    opportunistic_graft_peers: int = 2
    """How many are grafted then."""
    direct_peers: frozenset[PeerId] = frozenset()
    """Peers that get, and may send, all messages outside of the mesh, whatever they score; both sides must agree."""
    direct_connect_ticks: int = 300
    """Heartbeats between two attempts to connect to those that are not there."""
    peer_exchange: bool = False
    """Whether peers that we prune are offered others; for bootstrap nodes."""
    prune_peers: int = 16
    """Peers that are offered, and taken of an offer, at a prune."""
    max_pending_connects: int = 128
    """Peers offered that wait for being connected to; further ones are ignored."""
    connectors: int = 8
    """Connections that are made to such peers at a time."""
    connect_timeout: float = 30.0
    """Time for one."""
    partial_messages: bool = False
    """Whether the extension for partial messages (gossipsub 1.3) is offered."""
    score: ScoreParams | None = None
    """How peers are scored; None: all score 0."""
    gater: PeerGaterParams | None = None
    """Whose messages are dropped first while validators can't keep up; None: those that come last."""
    thresholds: ScoreThresholds = field(default_factory=ScoreThresholds)

    def __post_init__(self) -> None:
        if not 0 <= self.d_low <= self.d <= self.d_high:
            raise InvalidInput(f"the mesh needs d_low {self.d_low} <= d {self.d} <= d_high {self.d_high}")
        if self.d_score > self.d or (self.d_out and (self.d_out >= self.d_low or self.d_out > self.d / 2)):
            raise InvalidInput(
                f"d_score {self.d_score} must be at most d {self.d}, d_out {self.d_out} below d_low {self.d_low} and "
                "at most half of d"
            )
        if not 0 < self.history_gossip <= self.history_length:
            raise InvalidInput(
                f"history_gossip {self.history_gossip} must be 1 to history_length {self.history_length}"
            )
        if not self.protocols or not set(self.protocols) <= set(GOSSIPSUB_PROTOCOLS):
            raise InvalidInput(f"protocols must be some of {', '.join(GOSSIPSUB_PROTOCOLS)}")
        if self.heartbeat_interval <= 0:
            raise InvalidInput(f"heartbeat_interval {self.heartbeat_interval:g} s is no time")
