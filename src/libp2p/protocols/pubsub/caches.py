"""The memories of the router, each bounded: messages for gossip, ids seen, back-offs, promises.

            newest                                                   oldest
MessageCache  [ window 0 | window 1 | window 2 ] [ window 3 | window 4 ]     a heartbeat shifts them by one
              '------- told of by IHAVE -------'
              '---------------- sent on IWANT -------------------------'
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from ...identity import PeerId
from .message import Message


@dataclass(slots=True)
class _Cached:
    message: Message
    sent: dict[PeerId, int] = field(default_factory=dict)


class MessageCache:
    """The messages of the last heartbeats. `gossip` of its `length` windows are told of; all hold `max_size` bytes."""

    def __init__(self, *, gossip: int, length: int, max_size: int) -> None:
        self._gossip = gossip
        self._windows: deque[dict[bytes, str]] = deque([{} for _ in range(length)], maxlen=length)
        self._messages: dict[bytes, _Cached] = {}
        self._max_size = max_size
        self.size = 0
        """Bytes of the messages in it."""

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> None:
        """Keep a message. The oldest make way for it; one that is larger than all the room is not kept."""
        if message.id in self._messages or message.size > self._max_size:
            return
        self._messages[message.id] = _Cached(message)
        self._windows[0][message.id] = message.topic
        self.size += message.size
        while self.size > self._max_size:
            self._drop(next(iter(self._messages)))

    def get(self, mid: bytes) -> Message | None:
        """The message of that id."""
        cached = self._messages.get(mid)
        return cached.message if cached is not None else None

    def take_for(self, mid: bytes, peer: PeerId) -> tuple[Message, int] | None:
        """The message of that id, and how often `peer` has asked for it, this time included."""
        cached = self._messages.get(mid)
        if cached is None:
            return None
        count = cached.sent[peer] = cached.sent.get(peer, 0) + 1
        return cached.message, count

    def gossip_ids(self, topic: str) -> list[bytes]:
        """The ids of the topic's messages that are told of."""
        windows = [self._windows[n] for n in range(self._gossip)]
        return [mid for window in windows for mid, its_topic in window.items() if its_topic == topic]

    def recent(self, topic: str) -> list[Message]:
        """The topic's messages that are kept, the oldest first."""
        return [cached.message for cached in self._messages.values() if cached.message.topic == topic]

    def shift(self) -> None:
        """A heartbeat has passed: the oldest window goes."""
        for mid in list(self._windows[-1]):
            self._drop(mid)
        self._windows.appendleft({})

    def _drop(self, mid: bytes) -> None:
        self.size -= self._messages.pop(mid).message.size
        for window in self._windows:
            window.pop(mid, None)


class SeenCache:
    """Ids of the messages that were here in the last `ttl` seconds; `max_entries` at most."""

    def __init__(self, *, ttl: float, max_entries: int) -> None:
        self._ttl = ttl
        self._max = max_entries
        self._expires: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._expires)

    def __contains__(self, mid: bytes) -> bool:
        return mid in self._expires

    def add(self, mid: bytes, now: float) -> bool:
        """Remember an id; whether it is new. A known one does not live longer for it, as in go-libp2p-pubsub."""
        if mid in self._expires:
            return False
        self._expires[mid] = now + self._ttl
        if len(self._expires) > self._max:
            del self._expires[next(iter(self._expires))]
        return True

    def clear_expired(self, now: float) -> None:
        """Forget what is older than its time."""
        while self._expires:
            oldest = next(iter(self._expires))
            if self._expires[oldest] > now:
                return
            del self._expires[oldest]


class Backoffs:
    """Until when which peers are not grafted, by topic; `max_entries` for each topic."""

    def __init__(self, *, max_entries: int) -> None:
        self._max = max_entries
        self._until: dict[str, dict[PeerId, float]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._until.values()))

    def add(self, topic: str, peer: PeerId, until: float) -> None:
        """Don't graft `peer` until then; an earlier word for longer holds."""
        peers = self._until.setdefault(topic, {})
        until = max(until, peers.pop(peer, until))
        peers[peer] = until
        if len(peers) > self._max:
            del peers[next(iter(peers))]

    def until(self, topic: str, peer: PeerId) -> float:
        """When the back-off ends; -inf where there is none."""
        return self._until.get(topic, {}).get(peer, -inf)

    def clear_expired(self, now: float) -> None:
        """Forget those that are over."""
        for topic, peers in list(self._until.items()):
            for peer in [peer for peer, until in peers.items() if until <= now]:
                del peers[peer]
            if not peers:
                del self._until[topic]


class Promises:
    """Messages that peers have promised to send: of each IWANT one, chosen by the caller, must come in time."""

    def __init__(self, *, followup: float) -> None:
        self._followup = followup
        self._due: dict[bytes, dict[PeerId, float]] = {}

    def __len__(self) -> int:
        return len(self._due)

    def add(self, mid: bytes, peer: PeerId, now: float) -> None:
        """`peer` must bring the message; a promise that it has made before keeps its time."""
        self._due.setdefault(mid, {}).setdefault(peer, now + self._followup)

    def kept(self, mid: bytes) -> None:
        """The message is here, whoever brought it."""
        self._due.pop(mid, None)

    def forget(self, peers: Iterable[PeerId]) -> None:
        """These are gone, and so are their promises."""
        gone = set(peers)
        for mid, due in list(self._due.items()):
            for peer in gone.intersection(due):
                del due[peer]
            if not due:
                del self._due[mid]

    def broken(self, now: float) -> dict[PeerId, int]:
        """How many promises each peer has broken; they are forgotten with this."""
        counts: dict[PeerId, int] = {}
        for mid, due in list(self._due.items()):
            for peer in [peer for peer, when in due.items() if when < now]:
                counts[peer] = counts.get(peer, 0) + 1
                del due[peer]
            if not due:
                del self._due[mid]
        return counts
