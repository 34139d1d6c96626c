"""What happens to a message that a peer brings, up to the verdict on it.

    fields by policy -> transform, id -> seen? copy: dropped -> signature -> seen, IDONTWANT -> validators -> verdict

Rules:
- Nothing that suppresses a message (seen, IDONTWANT) is done before its signature is checked: a forged copy with
  the same id could suppress the true one otherwise.
- A copy costs an id and a look-up, no signature.
- What the transform decoded is decoded once: copies are known by the bytes that travelled.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from ...errors import InvalidInput
from ...identity import PeerId
from .config import GossipSubConfig, TopicConfig
from .events import Tracer
from .message import Message
from .router import Router
from .score import Rejection
from .signing import check_fields, check_signature
from .validation import Validation, Verdict
from .wire import WireMessage

_REMEMBERED = 1024
"""Transformed messages whose ids are remembered by what travelled."""

_REJECTIONS = {
    Verdict.REJECT: Rejection.INVALID,
    Verdict.IGNORE: Rejection.IGNORED,
    Verdict.THROTTLED: Rejection.THROTTLED,
}


class Intake:
    """Takes messages from peers; `deliver` gets those that are new and valid, with the time."""

    def __init__(
        self,
        own: PeerId,
        config: GossipSubConfig,
        router: Router,
        validation: Validation,
        tracer: Tracer,
        clock: Callable[[], float],
        deliver: Callable[[Message, float], None],
    ) -> None:
        self._own = own.to_bytes()
        self._config = config
        self._router = router
        self._validation = validation
        self._tracer = tracer
        self._clock = clock
        self._deliver = deliver
        self._ids: dict[bytes, bytes] = {}
        self.blocked: set[bytes] = set()
        """Authors whose messages are dropped."""

    def take(self, wire: WireMessage, peer: PeerId, now: float) -> None:
        """A peer brought this."""
        settings = self._config.for_topic(wire.topic)
        if (fault := check_fields(wire, settings.signature_policy)) is not None:
            self._invalid(wire, peer, fault)
            return
        if wire.sender is not None and (wire.sender in self.blocked or wire.sender == self._own):
            # Our own, come back, is a copy, or from before a restart: nobody is blamed for it.
            self._tracer.rejected(peer, wire.topic, "our own" if wire.sender == self._own else "blocked author")
            return
        mid, data = self._identify(wire, settings)
        router = self._router
        if mid in router.seen:
            self._duplicate(mid, wire.topic, peer, now)
            return
        if (fault := check_signature(wire)) is not None:
            self._invalid(wire, peer, fault)
            return
        router.seen.add(mid, now)
        router.scores.validating(mid, now)
        router.gater.validating()
        router.gossip.arrived(mid, wire.topic, len(wire.data or b""), peer)
        if data is None:
            self._judged(Message.of(wire, mid, peer, b""), Verdict.REJECT)
            return
        message = Message.of(wire, mid, peer, data)
        self._validation.judge(message, lambda verdict: self._judged(message, verdict))

    def _identify(self, wire: WireMessage, settings: TopicConfig) -> tuple[bytes, bytes | None]:
        """The message's id, and its data behind the transform: None where that refuses it."""
        raw = wire.data or b""
        if settings.transform is None:
            return settings.message_id(wire, raw), raw
        key = sha256(wire.encode()).digest()
        if (known := self._ids.get(key)) is not None and known in self._router.seen:
            return known, None  # a copy: its data is not looked at
        data: bytes | None
        try:
            data = settings.transform.decode(raw)
        except InvalidInput:
            data = None
        mid = settings.message_id(wire, data)
        self._ids[key] = mid
        if len(self._ids) > _REMEMBERED:
            del self._ids[next(iter(self._ids))]
        return mid, data

    def _judged(self, message: Message, verdict: Verdict) -> None:
        now, peer = self._clock(), message.received_from
        if verdict is Verdict.ACCEPT:
            self._router.scores.delivered(message.id, message.topic, peer, now)
            self._router.gater.delivered(peer, message.topic)
            self._tracer.delivered(message)
            self._deliver(message, now)
            return
        self._router.scores.rejected(message.id, message.topic, peer, _REJECTIONS[verdict], now)
        self._router.gater.rejected(peer, _REJECTIONS[verdict], now)
        self._tracer.rejected(peer, message.topic, verdict.value)

    def _duplicate(self, mid: bytes, topic: str, peer: PeerId, now: float) -> None:
        self._router.scores.duplicate(mid, topic, peer, now)
        self._router.gater.duplicate(peer)
        self._tracer.duplicate(peer, topic, mid)

    def _invalid(self, wire: WireMessage, peer: PeerId, why: str) -> None:
        self._router.scores.invalid(peer, wire.topic)
        self._router.gater.rejected(peer, Rejection.INVALID, self._clock())
        self._tracer.rejected(peer, wire.topic, why)
