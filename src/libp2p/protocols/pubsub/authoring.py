"""Makes our own messages, and has our own validators judge them."""

from __future__ import annotations

import asyncio

from ...connection.service import ServiceHost
from ...errors import InvalidInput, MessageTooLarge
from .config import GossipSubConfig
from .message import Message
from .signing import author_message
from .validation import Validation, Verdict


class Author:
    """Writes messages of the host's peer, numbered from `first_seqno` on."""

    def __init__(self, host: ServiceHost, config: GossipSubConfig, validation: Validation, *, first_seqno: int) -> None:
        self._host = host
        self._config = config
        self._validation = validation
        self._seqno = first_seqno

    def make(self, topic: str, data: bytes) -> Message:
        """A message, as the topic's settings want it. Raises `MessageTooLarge`."""
        settings = self._config.for_topic(topic)
        self._seqno += 1
        wire = author_message(
            topic,
            settings.transform.encode(data) if settings.transform is not None else data,
            author=self._host.id,
            key=self._host.key,
            seqno=self._seqno,
            policy=settings.signature_policy,
        )
        message = Message.of(wire, settings.message_id(wire, data), self._host.id, data)
        if message.size > self._config.max_message_size:
            raise MessageTooLarge(f"message of {topic!r}", limit=self._config.max_message_size, size=message.size)
        return message

    async def check(self, message: Message) -> None:
        """Raise `InvalidInput` where our own validators refuse the message."""
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._validation.judge(message, lambda said: None if verdict.done() else verdict.set_result(said))
        if (said := await verdict) is not Verdict.ACCEPT:
            raise InvalidInput(f"a validator of {message.topic!r} says {said.value!r} of our own message")
