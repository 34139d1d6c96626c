"""Gossip: messages that the mesh has missed are told of, asked for, and sent. Spec: gossipsub-v1.0.md to v1.2.md.

        IHAVE      "I have seen these"      ->  IWANT those that the other side has not
        IWANT      "send me these"          ->  the messages
        IDONTWANT  "I have it: don't send"  ->  said to the mesh when a large message has come

Rules:
- What a peer can make us send and remember is bounded from one heartbeat to the next; a message is sent to one peer
  three times at most.
- Of each IWANT of ours one message, chosen by dice, must come in time: the promise of an IHAVE that is not kept is a
  misbehaviour (P7).
- IDONTWANTs count for messages that are still to be queued, or wait in a queue, and for answers to IWANTs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...identity import PeerId
from .caches import MessageCache, Promises
from .mesh_rules import choose, gossip_target
from .message import Message
from .peers import Peer, Version
from .state import RouterState
from .wire import IHave


class Gossip:
    """Tells of messages, and of what peers tell. `seen` says of an id whether its message was here."""

    def __init__(self, state: RouterState, seen: Callable[[bytes], bool]) -> None:
        self._state = state
        self._config = state.config
        self._seen = seen
        self.cache = MessageCache(
            gossip=self._config.history_gossip,
            length=self._config.history_length,
            max_size=self._config.max_history_size,
        )
        self.promises = Promises(followup=self._config.iwant_followup_time)
        self.answers: list[tuple[PeerId, Message]] = []
        """Messages that peers have asked for; whoever sends takes them."""
        self._arrived: dict[tuple[str, PeerId], list[bytes]] = {}

    def offered(self, peer: Peer, offers: list[IHave], now: float) -> None:
        """IHAVEs of a peer: ask for what we lack."""
        state, config = self._state, self._config
        if not offers or not peer.ready or state.score(peer.id) < config.thresholds.gossip:
            return
        peer.ihave_rpcs += 1
        room = config.max_ihave_length - peer.asked
        if peer.ihave_rpcs > config.max_ihave_messages or room <= 0:
            return
        wanted: dict[bytes, None] = {}
        for offer in offers:
            if offer.topic in state.mesh:
                wanted.update(dict.fromkeys(mid for mid in offer.ids[: config.max_ihave_length] if not self._seen(mid)))
        if not wanted:
            return
        ids = list(wanted)
        state.dice.shuffle(ids)
        ids = ids[:room]
        peer.asked += len(ids)
        self.promises.add(state.dice.choice(ids), peer.id, now)
        state.to(peer.id).iwant += ids

    def wanted(self, peer: Peer, ids: list[bytes]) -> None:
        """IWANTs of a peer: send what we have."""
        state, config = self._state, self._config
        if not ids or not peer.ready or state.score(peer.id) < config.thresholds.gossip:
            return
        ids = ids[: max(0, config.max_iwant_length - peer.answered)]
        peer.answered += len(ids)
        for mid in dict.fromkeys(ids):
            if mid in peer.unwanted:
                continue
            found = self.cache.take_for(mid, peer.id)
            if found is not None and found[1] <= config.gossip_retransmission:
                self.answers.append((peer.id, found[0]))

    def unwanted(self, peer: Peer, ids: list[bytes]) -> None:
        """IDONTWANTs of a peer."""
        if not ids or peer.idontwant_rpcs >= self._config.max_idontwant_messages:
            return
        peer.idontwant_rpcs += 1
        until = self._state.ticks + self._config.idontwant_ttl
        for mid in ids[: max(0, self._config.max_idontwant_ids - len(peer.unwanted))]:
            peer.unwanted[mid] = until

    def arrived(self, mid: bytes, topic: str, size: int, sender: PeerId) -> None:
        """A message is here, and its signature is valid: who is in the mesh need not send it."""
        self.promises.kept(mid)
        if size < self._config.idontwant_threshold:
            return
        self._arrived.setdefault((topic, sender), []).append(mid)

    def take_unwanted(self) -> list[tuple[list[PeerId], list[bytes]]]:
        """To whom IDONTWANT is to be said, and of which messages. It is the same for many, so it is no part of the
        outbox: it can be encoded once.
        """
        if not self._arrived:
            return []
        arrived, self._arrived = self._arrived, {}
        peers = self._state.peers
        return [
            (
                [
                    peer
                    for peer in self._state.mesh.get(topic, ())
                    if peer != sender
                    and (known := peers[peer]).version >= Version.V12
                    and known.ready
                    and not self.sends_parts(known, topic)
                ],
                ids,
            )
            for (topic, sender), ids in arrived.items()
        ]

    def heartbeat(self, now: float) -> None:
        """Begin to count anew; count broken promises as misbehaviour; tell of messages; shift the history."""
        state = self._state
        for peer in state.peers.values():
            peer.ihave_rpcs = peer.asked = peer.answered = peer.idontwant_rpcs = 0
            if peer.unwanted:
                for mid in [mid for mid, until in peer.unwanted.items() if until <= state.ticks]:
                    del peer.unwanted[mid]
        for culprit, count in self.promises.broken(now).items():
            state.scores.penalize(culprit, count)
        for topic, members in (*state.mesh.items(), *state.fanout.items()):
            if ids := self.cache.gossip_ids(topic):
                self._tell(topic, ids, members)
        self.cache.shift()

    def _tell(self, topic: str, ids: list[bytes], members: dict[PeerId, None]) -> None:
        """Tell peers outside of the mesh of these messages; each, where they are too many, of others."""
        state, config = self._state, self._config
        outside = [
            peer
            for peer in state.topics.get(topic, ())
            if peer not in members
            and state.can_mesh(peer)
            and not state.is_direct(peer)
            and state.score(peer) >= config.thresholds.gossip
            and not self.wants_parts(state.peers[peer], topic)
        ]
        target = gossip_target(len(outside), d_lazy=config.d_lazy, factor=config.gossip_factor)
        for peer in choose(outside, target, state.dice):
            told: Sequence[bytes] = ids
            if len(ids) > config.max_ihave_length:
                told = state.dice.sample(ids, config.max_ihave_length)
            state.to(peer).ihave.append(IHave(topic, tuple(told)))

    def sends_parts(self, peer: Peer, topic: str) -> bool:
        """Whether we get the topic's messages from this peer in parts."""
        ours, theirs = self._state.joined.get(topic), peer.topics.get(topic)
        return bool(ours and theirs and ours.requests_partial and theirs.supports_partial and peer.has_partial())

    def wants_parts(self, peer: Peer, topic: str) -> bool:
        """Whether this peer gets the topic's messages from us in parts."""
        ours, theirs = self._state.joined.get(topic), peer.topics.get(topic)
        return bool(ours and theirs and ours.supports_partial and theirs.requests_partial and peer.has_partial())
