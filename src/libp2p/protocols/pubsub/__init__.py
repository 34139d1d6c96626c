"""Pubsub: messages to all who are interested in a topic. Floodsub, and gossipsub 1.0 to 1.3.

    async with Host() as host, GossipSub(host) as pubsub:
        news = await pubsub.subscribe("news")
        async for message in news: ...

How it works, in words: docs/pubsub.md. The specs: libp2p/specs, pubsub/.
"""

from .config import (
    FLOODSUB,
    GOSSIPSUB_10,
    GOSSIPSUB_11,
    GOSSIPSUB_12,
    GOSSIPSUB_13,
    DataTransform,
    GossipSubConfig,
    PubSubConfig,
    TopicConfig,
)
from .events import (
    PeerEnteredTopic,
    PeerLeftTopic,
    PubSubPeerGone,
    PubSubPeerReady,
    SlowPeer,
    SlowSubscriber,
    Tracer,
)
from .gater import PeerGaterParams
from .gossipsub import FloodSub, GossipSub
from .message import Message
from .score import ScoreParams, ScoreThresholds, TopicScoreParams, decay_over
from .service import PubSub
from .signing import SignaturePolicy
from .subscription import Topic
from .validation import Validator, Verdict

__all__ = [
    "FLOODSUB",
    "GOSSIPSUB_10",
    "GOSSIPSUB_11",
    "GOSSIPSUB_12",
    "GOSSIPSUB_13",
    "DataTransform",
    "FloodSub",
    "GossipSub",
    "GossipSubConfig",
    "Message",
    "PeerEnteredTopic",
    "PeerGaterParams",
    "PeerLeftTopic",
    "PubSub",
    "PubSubConfig",
    "PubSubPeerGone",
    "PubSubPeerReady",
    "ScoreParams",
    "ScoreThresholds",
    "SignaturePolicy",
    "SlowPeer",
    "SlowSubscriber",
    "Topic",
    "TopicConfig",
    "TopicScoreParams",
    "Tracer",
    "Validator",
    "Verdict",
    "decay_over",
]
