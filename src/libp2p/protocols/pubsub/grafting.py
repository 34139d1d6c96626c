"""The mesh: who sends us all messages of a topic at once, and we them. Spec: gossipsub-v1.0.md, gossipsub-v1.1.md.

        GRAFT  "you are in my mesh"  ->  the other side adds us too, or answers PRUNE
        PRUNE  "you are not"         ->  and don't come back for `backoff` seconds; here are other peers

Rules:
- Who is backed off, direct, or scored below 0 is not grafted; who grafts us all the same is pruned, and misbehaves (P7)
  where it knew better. A mesh of `d_high` takes only peers that we connected to.
- Who grafts us before our stream to it is open is in the mesh; whoever lets us open none until the second heartbeat is
  not: it can't be told PRUNE.
- A PRUNE's back-off counts as `max_backoff` at most: 2**64 - 1 seconds must neither overflow nor part us for ever.
- Peers are offered (PX) to who is pruned for want of room only; they are taken from peers of a good score only.
- GRAFTs for topics that we are not in are ignored, not answered: an answer would be worth a flood.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from ...identity import PeerId
from .mesh_rules import median, to_keep
from .peers import Peer, Version
from .state import PeerSet, RouterState
from .wire import Prune, PxPeer


class Grafting:
    """Keeps the meshes of all topics. `record_of` gives the signed record of a peer, as it was received."""

    def __init__(self, state: RouterState, record_of: Callable[[PeerId], bytes | None]) -> None:
        self._state = state
        self._config = state.config
        self._record_of = record_of
        self.offers: list[PxPeer] = []
        """Peers that were offered and should be connected to; whoever carries that out takes them."""

    # Our own coming and going

    def join(self, topic: str, now: float) -> None:
        """Make a mesh: of the peers to whom we published before, and of others."""
        state = self._state
        fanout = state.fanout.pop(topic, {})
        state.last_published.pop(topic, None)
        state.mesh[topic] = {}
        first = [peer for peer in fanout if self._may_graft(topic, peer, now)]
        for peer in first[: self._config.d]:
            self._graft(topic, peer, now)
        self._fill(topic, self._config.d - len(state.mesh[topic]), now)

    def leave(self, topic: str, now: float) -> None:
        """Prune all, and don't graft them again at once."""
        backoff = self._config.unsubscribe_backoff
        for peer in list(self._state.mesh.pop(topic, ())):
            self._state.scores.prune(peer, topic)
            self._say_prune(topic, peer, backoff, px=self._config.peer_exchange)
            self._state.backoffs.add(topic, peer, now + backoff)

    def forget(self, peer: PeerId) -> None:
        """The peer is gone."""
        for peers in (*self._state.mesh.values(), *self._state.fanout.values()):
            peers.pop(peer, None)

    def left(self, topic: str, peer: PeerId) -> None:
        """The peer has left a topic."""
        if self._state.mesh.get(topic, {}).pop(peer, self) is not self:
            self._state.scores.prune(peer, topic)
        self._state.fanout.get(topic, {}).pop(peer, None)

    def entered(self, topic: str, peer: PeerId, now: float) -> None:
        """The peer has entered a topic: a mesh that is too small need not wait for the heartbeat."""
        mesh = self._state.mesh.get(topic)
        if (
            mesh is not None
            and len(mesh) < self._config.d_low
            and peer not in mesh
            and self._may_graft(topic, peer, now)
        ):
            self._graft(topic, peer, now)

    # What peers say

    def grafted_by(self, peer: Peer, topics: list[str], now: float) -> None:
        """GRAFTs of a peer."""
        state, config = self._state, self._config
        refused: dict[str, None] = {}
        px = config.peer_exchange
        for topic in topics:
            mesh = state.mesh.get(topic)
            if mesh is None:
                px = False  # nothing of our peers to who guesses topics
                continue
            if peer.id in mesh:
                continue
            until = state.backoffs.until(topic, peer.id)
            if state.is_direct(peer.id):
                px = False
            elif now < until:
                px = False
                state.scores.penalize(peer.id)
                if now < until + config.graft_flood_threshold - config.prune_backoff:
                    state.scores.penalize(peer.id)
                state.backoffs.add(topic, peer.id, now + config.prune_backoff)
            elif state.score(peer.id) < 0:
                px = False
                state.backoffs.add(topic, peer.id, now + config.prune_backoff)
            elif len(mesh) >= config.d_high and not peer.outbound:
                state.backoffs.add(topic, peer.id, now + config.prune_backoff)
            else:
                self._add(topic, peer.id, now)
                continue
            refused[topic] = None
        for topic in refused:
            self._say_prune(topic, peer.id, config.prune_backoff, px=px)

    def pruned_by(self, peer: Peer, prunes: list[Prune], now: float) -> None:
        """PRUNEs of a peer."""
        state, config = self._state, self._config
        score = state.score(peer.id)
        for prune in prunes:
            mesh = state.mesh.get(prune.topic)
            if mesh is None:
                continue
            if mesh.pop(peer.id, self) is not self:
                state.scores.prune(peer.id, prune.topic)
            seconds = min(prune.backoff, config.max_backoff) if prune.backoff else config.prune_backoff
            state.backoffs.add(prune.topic, peer.id, now + seconds)
            if prune.peers and score >= config.thresholds.accept_px:
                self._take_offers(prune.peers)

    # Each heartbeat

    def heartbeat(self, now: float) -> None:
        """Look after all meshes and fanouts."""
        for known in self._state.peers.values():
            known.waits = 0 if known.ready else known.waits + 1
        if not self._state.ticks % 15:
            self._state.backoffs.clear_expired(now - self._config.backoff_slack)
        for topic in self._state.mesh:
            self._maintain(topic, now)
        self._maintain_fanouts(now)

    def _maintain(self, topic: str, now: float) -> None:
        state, config = self._state, self._config
        mesh = state.mesh[topic]
        for peer in [peer for peer in mesh if state.peers[peer].waits > 1 or state.score(peer) < 0]:
            self._prune(topic, peer, now, px=False)
        if len(mesh) < config.d_low:
            self._fill(topic, config.d - len(mesh), now)
        if len(mesh) >= config.d_high:
            kept = set(
                to_keep(
                    list(mesh),
                    d=config.d,
                    d_score=config.d_score,
                    d_out=config.d_out,
                    score=state.score,
                    is_outbound=state.is_outbound,
                    dice=state.dice,
                )
            )
            for peer in [peer for peer in mesh if peer not in kept]:
                self._prune(topic, peer, now, px=config.peer_exchange)
        if len(mesh) >= config.d_low:
            lacking = config.d_out - sum(map(state.is_outbound, mesh))
            self._fill(topic, lacking, now, state.is_outbound)
        if not state.ticks % config.opportunistic_graft_ticks and len(mesh) > 1:
            middle = median(list(mesh), state.score)
            if middle < config.thresholds.opportunistic_graft:
                self._fill(topic, config.opportunistic_graft_peers, now, lambda peer: state.score(peer) > middle)

    def _maintain_fanouts(self, now: float) -> None:
        state, config = self._state, self._config
        for topic, when in list(state.last_published.items()):
            if when + config.fanout_ttl < now:
                state.fanout.pop(topic, None)
                del state.last_published[topic]
        for topic, fanout in state.fanout.items():
            members = state.topics.get(topic, {})
            for peer in [peer for peer in fanout if peer not in members or not self.may_publish_to(peer)]:
                del fanout[peer]
            self.fill_fanout(topic, fanout)

    def fill_fanout(self, topic: str, fanout: PeerSet) -> None:
        """Choose the peers that get what we publish in a topic that we are not in."""
        lacking = self._config.d - len(fanout)
        for peer in self._state.candidates(topic, lacking, lambda p: p not in fanout and self.may_publish_to(p)):
            fanout[peer] = None

    def may_publish_to(self, peer: PeerId) -> bool:
        """Whether its score is good enough for our own messages."""
        return self._state.score(peer) >= self._config.thresholds.publish

    # Inside

    def _fill(self, topic: str, count: int, now: float, accept: Callable[[PeerId], bool] = lambda _: True) -> None:
        mesh = self._state.mesh[topic]
        for peer in self._state.candidates(
            topic, count, lambda p: p not in mesh and self._may_graft(topic, p, now) and accept(p)
        ):
            self._graft(topic, peer, now)

    def _may_graft(self, topic: str, peer: PeerId, now: float) -> bool:
        state = self._state
        return (
            peer in state.peers
            and state.can_mesh(peer)
            and not state.is_direct(peer)
            and state.backoffs.until(topic, peer) + self._config.backoff_slack <= now
            and state.score(peer) >= 0
        )

    def _graft(self, topic: str, peer: PeerId, now: float) -> None:
        self._add(topic, peer, now)
        self._state.to(peer).graft.append(topic)

    def _add(self, topic: str, peer: PeerId, now: float) -> None:
        self._state.mesh[topic][peer] = None
        self._state.scores.graft(peer, topic, now)

    def _prune(self, topic: str, peer: PeerId, now: float, *, px: bool) -> None:
        del self._state.mesh[topic][peer]
        self._state.scores.prune(peer, topic)
        self._state.backoffs.add(topic, peer, now + self._config.prune_backoff)
        self._say_prune(topic, peer, self._config.prune_backoff, px=px)

    def _say_prune(self, topic: str, peer: PeerId, backoff: float, *, px: bool) -> None:
        known = self._state.peers.get(peer)
        if known is None or not known.ready:
            return
        if known.version < Version.V11:
            prune = Prune(topic)
        else:
            prune = Prune(topic, ceil(backoff), self._offer(topic, peer) if px else ())
        self._state.to(peer).prune.append(prune)

    def _offer(self, topic: str, pruned: PeerId) -> tuple[PxPeer, ...]:
        state = self._state
        peers = state.candidates(topic, self._config.prune_peers, lambda p: p != pruned and state.score(p) >= 0)
        return tuple(PxPeer(peer.to_bytes(), self._record_of(peer)) for peer in peers)

    def _take_offers(self, peers: tuple[PxPeer, ...]) -> None:
        config, offers = self._config, list(peers)
        self._state.dice.shuffle(offers)
        room = config.max_pending_connects - len(self.offers)
        self.offers += offers[: max(0, min(config.prune_peers, room))]
