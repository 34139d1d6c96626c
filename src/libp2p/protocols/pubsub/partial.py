"""Partial messages: a large message goes in parts, and each side says which parts it has and wants.

Spec: the partial messages extension of gossipsub 1.3 (libp2p/specs pull request 685), as go-libp2p-pubsub has it.

    first RPC                  extensions { partialMessages }                          both sides, or nothing
    SubOpts of a topic         requestsPartial: "send me parts, no whole messages"     supportsSendingPartial: "I can"
    PartialMessagesExtension   topic, group (whose parts they are), a part, what the sender has and wants

Rules:
- What parts are, and what is said of them (`parts`), is the application's: here they only travel.
- Parts go to peers that said they want them, word of them to all who have the extension, in the topic or not: so who
  only publishes learns what others lack. They are no messages: no ids, no validators, no gossip.
- A peer that asked for parts gets no whole messages from us; who sends us parts gets no IDONTWANT.
- Partial messages can be lost, as messages can: where too much waits for a peer they are dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from ...errors import InvalidInput, MessageTooLarge
from ...identity import PeerId
from .links import Links
from .router import Router
from .wire import Partial, Rpc, encode_rpc, frame

logger = logging.getLogger(__name__)

OnPartial: TypeAlias = Callable[[PeerId, Partial], None]
"""Called with what a peer said; must be quick."""


class PartialMessages:
    """The partial messages of all topics, as a program sees them: `pubsub.partial`."""

    def __init__(self, router: Router, links: Links, *, max_size: int) -> None:
        self._router = router
        self._links = links
        self._max_size = max_size
        self._callbacks: dict[str, OnPartial] = {}

    def on(self, topic: str, callback: OnPartial) -> Callable[[], None]:
        """Call `callback` with the partial messages of a topic; the function that ends this. Raises `InvalidInput`
        where the topic has a callback, or the settings leave the extension out.
        """
        if topic in self._callbacks or not self._router.config.partial_messages:
            raise InvalidInput(f"the topic {topic!r} has a callback for partial messages, or they are not offered")
        self._callbacks[topic] = callback

        def stop() -> None:
            if self._callbacks.get(topic) is callback:
                del self._callbacks[topic]

        return stop

    def peers(self, topic: str) -> list[PeerId]:
        """The peers of a topic that we can exchange parts with: one of us wants them, the other can send them."""
        return [peer for peer in self._router.state.topics.get(topic, ()) if self._exchanges(peer, topic)]

    def wants(self, peer: PeerId, topic: str) -> bool:
        """Whether a peer wants parts of a topic, in which we need not be ourselves."""
        known = self._router.state.peers.get(peer)
        entry = known.topics.get(topic) if known is not None and self._speaks(peer) else None
        return entry is not None and entry.requests_partial

    def send(
        self, peer: PeerId, topic: str, group: bytes, *, message: bytes | None = None, parts: bytes | None = None
    ) -> bool:
        """Send a part, or word of which parts we have and want, to one of `peers`; whether it waits in its queue. We
        need not be in the topic to send parts to who `wants` them, nor does a peer to be told of parts.

        Raises `InvalidInput` for another peer, and `MessageTooLarge`.
        """
        if not self._exchanges(peer, topic) and not (
            self._speaks(peer) and (message is None or self.wants(peer, topic))
        ):
            raise InvalidInput(f"no parts of {topic!r} are exchanged with {peer}")
        encoded = frame(encode_rpc(Rpc(partial=Partial(topic, group, message, parts))))
        if len(encoded) > self._max_size:
            raise MessageTooLarge(f"partial message of {topic!r}", limit=self._max_size, size=len(encoded))
        link = self._links.get(peer)
        return link is not None and link.queue is not None and link.queue.push_gossip(encoded)

    def received(self, peer: PeerId, partial: Partial) -> None:
        """A peer said this: what the service calls."""
        callback = self._callbacks.get(partial.topic)
        if callback is None or not self._speaks(peer):
            return
        try:
            callback(peer, partial)
        except Exception:
            logger.exception("a callback for partial messages of %r failed", partial.topic)

    def _speaks(self, peer: PeerId) -> bool:
        """Whether both of us have the extension."""
        known = self._router.state.peers.get(peer)
        return known is not None and self._router.config.partial_messages and known.has_partial()

    def _exchanges(self, peer: PeerId, topic: str) -> bool:
        known, ours = self._router.state.peers.get(peer), self._router.state.joined.get(topic)
        if known is None or ours is None or not self._speaks(peer):
            return False
        theirs = known.topics.get(topic)
        return theirs is not None and (
            (ours.requests_partial and theirs.supports_partial) or (ours.supports_partial and theirs.requests_partial)
        )
