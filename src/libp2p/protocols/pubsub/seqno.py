"""A validator against replays: of each author only messages with a higher number than before are taken.

`seen` forgets ids after two minutes; an old message that comes back later is new to it. With this validator it is not,
as long as its author is remembered. Authors must count upwards, behind a restart too: ours and go-libp2p's do.
"""

from __future__ import annotations

from .message import Message
from .validation import Verdict


class SeqnoValidator:
    """`pubsub.add_validator(topic, SeqnoValidator())`. Remembers `max_authors`; the one longest silent goes."""

    def __init__(self, *, max_authors: int = 100_000) -> None:
        self._max = max_authors
        self._highest: dict[bytes, int] = {}

    def __call__(self, message: Message) -> Verdict:
        """Ignore what is not newer than the author's last; anonymous messages are accepted."""
        author, seqno = message.wire.sender, message.seqno
        if author is None or seqno is None:
            return Verdict.ACCEPT
        if seqno <= self._highest.get(author, -1):
            return Verdict.IGNORE
        self._highest.pop(author, None)
        self._highest[author] = seqno
        if len(self._highest) > self._max:
            del self._highest[next(iter(self._highest))]
        return Verdict.ACCEPT
