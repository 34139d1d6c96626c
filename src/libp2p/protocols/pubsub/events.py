"""What happens in pubsub: events of the host's bus, and a tracer that sees each single step."""

from __future__ import annotations

from dataclasses import dataclass

from ...identity import PeerId
from .message import Message
from .wire import Rpc


@dataclass(frozen=True, slots=True)
class PubSubPeerReady:
    """A peer speaks pubsub, and our stream to it is open."""

    peer: PeerId
    protocol: str


@dataclass(frozen=True, slots=True)
class PubSubPeerGone:
    """No pubsub stream to or from the peer is left."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerEnteredTopic:
    """A peer subscribes to a topic."""

    peer: PeerId
    topic: str


@dataclass(frozen=True, slots=True)
class PeerLeftTopic:
    """A peer has said that it doesn't any more, or is gone."""

    peer: PeerId
    topic: str


@dataclass(frozen=True, slots=True)
class SlowPeer:
    """Messages of a topic were dropped because a peer doesn't read as fast as they come; told once a heartbeat."""

    peer: PeerId
    topic: str
    dropped: int


@dataclass(frozen=True, slots=True)
class SlowSubscriber:
    """Messages were dropped because our own program doesn't read them as fast as they come; told once a heartbeat."""

    topic: str
    dropped: int


class Tracer:
    """Sees what pubsub does; to be derived from. Its methods are called within each step, so they must be quick."""

    def received(self, peer: PeerId, rpc: Rpc) -> None:
        """A peer said this."""

    def sent(self, peer: PeerId, rpc: Rpc) -> None:
        """This waits to be sent to a peer; messages come by `forwarded`."""

    def forwarded(self, peer: PeerId, message: Message) -> None:
        """The message waits to be sent to a peer."""

    def dropped(self, peer: PeerId, message: Message) -> None:
        """The message is not sent to a peer: too much waits for it."""

    def delivered(self, message: Message) -> None:
        """The message is valid, and new."""

    def duplicate(self, peer: PeerId, topic: str, mid: bytes) -> None:
        """A peer brought a message that was here before."""

    def gated(self, peer: PeerId, count: int) -> None:
        """So many messages of a peer were not looked at: the gater is on."""

    def rejected(self, peer: PeerId, topic: str, why: str) -> None:
        """A peer brought a message that is not delivered."""
