"""What the router knows of each peer that it talks to, and of who is in which topic."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from ...identity import PeerId
from .config import FLOODSUB, GOSSIPSUB_10, GOSSIPSUB_11, GOSSIPSUB_12, GOSSIPSUB_13
from .wire import Extensions, SubOpts


class Version(IntEnum):
    """What a peer speaks; later ones know all of the earlier ones."""

    FLOODSUB = 0
    V10 = 10
    """Mesh and gossip."""
    V11 = 11
    """Back-off and peer exchange in PRUNE."""
    V12 = 12
    """IDONTWANT."""
    V13 = 13
    """Extensions."""

    @classmethod
    def of(cls, protocol: str) -> Version:
        """The version that a protocol id stands for."""
        return _VERSIONS[protocol]


_VERSIONS = {
    FLOODSUB: Version.FLOODSUB,
    GOSSIPSUB_10: Version.V10,
    GOSSIPSUB_11: Version.V11,
    GOSSIPSUB_12: Version.V12,
    GOSSIPSUB_13: Version.V13,
}


@dataclass(slots=True)
class Peer:
    """A peer with a stream to us, from us, or both."""

    id: PeerId
    version: Version = Version.FLOODSUB
    ready: bool = False
    """Whether our stream to it is open: only then it is sent anything."""
    waits: int = 0
    """Heartbeats so far at which it was not."""
    outbound: bool = False
    """Whether we made the connection."""
    topics: dict[str, SubOpts] = field(default_factory=dict)
    extensions: Extensions | None = None
    """What it said in its first RPC; None before that."""
    # Counted from one heartbeat to the next
    ihave_rpcs: int = 0
    asked: int = 0
    answered: int = 0
    idontwant_rpcs: int = 0
    # Remembered for some heartbeats
    unwanted: dict[bytes, int] = field(default_factory=dict)
    """Ids that it doesn't want, each with the heartbeat at which that is forgotten."""

    @property
    def in_mesh_protocol(self) -> bool:
        """Whether it speaks gossipsub."""
        return self.version >= Version.V10

    def has_partial(self) -> bool:
        """Whether it speaks the extension for partial messages."""
        return self.extensions is not None and self.extensions.partial_messages
