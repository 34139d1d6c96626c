"""A message as programs see it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...errors import InvalidPeerId
from ...identity import PeerId
from .wire import WireMessage, frame, publish_field


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A message of a topic. What it says of its author is proven where the topic's policy is to sign."""

    wire: WireMessage
    """As it travelled."""
    id: bytes
    """What makes it the same as its copies: the topic's message id function."""
    received_from: PeerId
    """Who brought it first; ourselves, where it is our own."""
    data: bytes
    """What it says, behind the topic's transform."""
    encoded: bytes = field(repr=False)
    """A whole RPC that carries it, behind its length: made once for all peers that it goes to."""

    @classmethod
    def of(cls, wire: WireMessage, mid: bytes, received_from: PeerId, data: bytes) -> Message:
        """The message that `wire` is."""
        return cls(wire, mid, received_from, data, frame(publish_field(wire.encode())))

    @property
    def topic(self) -> str:
        return self.wire.topic

    @property
    def size(self) -> int:
        """Bytes that it takes on a stream."""
        return len(self.encoded)

    @property
    def sender(self) -> PeerId | None:
        """Its author (the field `from`); None: it is anonymous, or names nobody who could exist."""
        if self.wire.sender is None:
            return None
        try:
            return PeerId.from_bytes(self.wire.sender)
        except InvalidPeerId:
            return None

    @property
    def seqno(self) -> int | None:
        """Its author's number for it; None where it has none."""
        return int.from_bytes(self.wire.seqno, "big") if self.wire.seqno is not None else None
