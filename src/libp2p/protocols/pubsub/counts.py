"""What pubsub counts: a tracer that sums up, and passes on to the program's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ...figures import Figure, FigureKind, Names
from ...identity import PeerId
from .events import Tracer
from .message import Message
from .wire import Rpc

MAX_TOPICS = 100
"""Topics that are told apart, the first ones; peers may send messages of any."""

_HELP = {
    "pubsub_delivered": "New and valid messages.",
    "pubsub_duplicates": "Messages that were here before.",
    "pubsub_rejected": "Messages that were not delivered.",
    "pubsub_forwarded": "Messages put into the queues of peers.",
    "pubsub_dropped": "Messages that peers did not get: too much waited for them.",
}


class Counts(Tracer):
    """Counts by topic."""

    def __init__(self, then: Tracer | None) -> None:
        self._then = then or Tracer()
        self._topics = Names(MAX_TOPICS)
        self._messages: Counter[tuple[str, str]] = Counter()
        self._rpcs: Counter[str] = Counter()

    def figures(self) -> Iterator[Figure]:
        """All counts."""
        for (name, topic), count in self._messages.items():
            yield Figure(name, _HELP[name], count, {"topic": topic}, FigureKind.COUNTER)
        for way, count in self._rpcs.items():
            yield Figure("pubsub_rpcs", "RPCs of and for peers.", count, {"way": way}, FigureKind.COUNTER)

    def received(self, peer: PeerId, rpc: Rpc) -> None:
        """See `Tracer`."""
        self._rpcs["received"] += 1
        self._then.received(peer, rpc)

    def sent(self, peer: PeerId, rpc: Rpc) -> None:
        """See `Tracer`."""
        self._rpcs["sent"] += 1
        self._then.sent(peer, rpc)

    def forwarded(self, peer: PeerId, message: Message) -> None:
        """See `Tracer`."""
        self._count("pubsub_forwarded", message.topic)
        self._then.forwarded(peer, message)

    def dropped(self, peer: PeerId, message: Message) -> None:
        """See `Tracer`."""
        self._count("pubsub_dropped", message.topic)
        self._then.dropped(peer, message)

    def delivered(self, message: Message) -> None:
        """See `Tracer`."""
        self._count("pubsub_delivered", message.topic)
        self._then.delivered(message)

    def duplicate(self, peer: PeerId, topic: str, mid: bytes) -> None:
        """See `Tracer`."""
        self._count("pubsub_duplicates", topic)
        self._then.duplicate(peer, topic, mid)

    def gated(self, peer: PeerId, count: int) -> None:
        """See `Tracer`."""
        self._then.gated(peer, count)

    def rejected(self, peer: PeerId, topic: str, why: str) -> None:
        """See `Tracer`."""
        self._count("pubsub_rejected", topic)
        self._then.rejected(peer, topic, why)

    def _count(self, name: str, topic: str) -> None:
        self._messages[name, self._topics.of(topic)] += 1
