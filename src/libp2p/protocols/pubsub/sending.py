"""Puts into the peers' queues what the router wants said, and messages."""

from __future__ import annotations

import logging

from ...connection import StreamErrorCode
from ...identity import PeerId
from .events import SlowPeer, Tracer
from .links import Links
from .message import Message
from .router import Router
from .wire import Rpc, encode_rpc, frame, split

logger = logging.getLogger(__name__)


class Sender:
    """Fills the queues of `links`; an RPC has `max_size` bytes at most, unless a single entry of it has more."""

    def __init__(self, links: Links, router: Router, tracer: Tracer, *, max_size: int) -> None:
        self._links = links
        self._router = router
        self._tracer = tracer
        self._max_size = max_size

    def send(self, peer: PeerId, message: Message) -> bool:
        """Queue a message for a peer; False: it is dropped, or the peer is gone."""
        link = self._links.get(peer)
        if link is None or link.queue is None:
            return False
        taken = link.queue.push_message(message)
        if taken:
            self._tracer.forwarded(peer, message)
        else:
            self._tracer.dropped(peer, message)
        return taken

    def flush(self) -> None:
        """Queue what the router wants said."""
        for peers, ids in self._router.take_unwanted():
            for part in split(Rpc(idontwant=ids), max_size=self._max_size):
                encoded = frame(encode_rpc(part))
                for peer in peers:
                    if (link := self._links.get(peer)) is not None and link.queue is not None:
                        self._tracer.sent(peer, part)
                        link.queue.push_gossip(encoded)
        for peer, rpc in self._router.take_outbox():
            self._say(peer, rpc)

    def take_drops(self) -> list[SlowPeer]:
        """What was dropped since the last call, for which peers."""
        drops = []
        for link in self._links.all():
            if link.queue is not None and link.queue.dropped:
                drops += [SlowPeer(link.peer, topic, count) for topic, count in link.queue.dropped.items()]
                link.queue.dropped.clear()
        return drops

    def _say(self, peer: PeerId, rpc: Rpc) -> None:
        link = self._links.get(peer)
        if link is None or (queue := link.queue) is None:
            return
        self._tracer.sent(peer, rpc)
        for part in split(rpc, max_size=self._max_size):
            encoded = frame(encode_rpc(part))
            if not (part.subscriptions or part.graft or part.prune or part.extensions):
                queue.push_gossip(encoded)
            elif not queue.push_control(encoded):
                logger.debug("%s makes us answer and reads nothing: its streams end", peer)
                self._links.drop(peer, StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
                return
