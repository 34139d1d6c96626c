"""What all parts of the router share: peers, topics, meshes, scores, and what is to be sent."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

from ...identity import PeerId
from .caches import Backoffs
from .config import GossipSubConfig
from .mesh_rules import choose
from .peers import Peer
from .score import PeerScores
from .wire import Rpc, SubOpts

PeerSet: TypeAlias = dict[PeerId, None]
"""A set in the order of insertion: what is drawn from it by the same dice is the same in each run."""


class RouterState:
    """Tables, and an outbox: what the router wants sent gathers in it, one RPC for each peer."""

    def __init__(self, own: PeerId, config: GossipSubConfig, scores: PeerScores, dice: Random) -> None:
        self.own = own
        self.config = config
        self.scores = scores
        self.dice = dice
        self.peers: dict[PeerId, Peer] = {}
        self.floodsub: PeerSet = {}
        """Those of them that we talk floodsub to."""
        self.topics: dict[str, PeerSet] = {}
        """Who is in each topic, of the peers that we know; ourselves not counted."""
        self.joined: dict[str, SubOpts] = {}
        """The topics that we are in, and what we told others about it."""
        self.mesh: dict[str, PeerSet] = {}
        self.fanout: dict[str, PeerSet] = {}
        self.last_published: dict[str, float] = {}
        self.backoffs = Backoffs(max_entries=config.max_backoffs)
        self.outbox: dict[PeerId, Rpc] = {}
        self.ticks = 0
        """Heartbeats so far."""

    def score(self, peer: PeerId) -> float:
        """The peer's score now."""
        return self.scores.score(peer) if self.scores.enabled else 0.0

    def is_direct(self, peer: PeerId) -> bool:
        """Whether it is one of our direct peers."""
        return peer in self.config.direct_peers

    def is_outbound(self, peer: PeerId) -> bool:
        """Whether we made the connection to it."""
        known = self.peers.get(peer)
        return known is not None and known.outbound

    def to(self, peer: PeerId) -> Rpc:
        """What will be sent to a peer next; to be added to."""
        rpc = self.outbox.get(peer)
        if rpc is None:
            rpc = self.outbox[peer] = Rpc()
        return rpc

    def candidates(self, topic: str, count: int, accept: Callable[[PeerId], bool]) -> list[PeerId]:
        """`count` peers at random of those in the topic that speak gossipsub and `accept` takes; never direct ones."""
        found = [
            peer
            for peer in self.topics.get(topic, ())
            if self.can_mesh(peer) and not self.is_direct(peer) and accept(peer)
        ]
        return choose(found, count, self.dice)

    def can_mesh(self, peer: PeerId) -> bool:
        """Whether it can be sent to, and speaks gossipsub."""
        known = self.peers[peer]
        return known.ready and known.in_mesh_protocol
