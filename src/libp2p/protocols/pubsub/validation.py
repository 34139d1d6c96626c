"""Judging messages: functions of the program say whether a message is passed on and delivered.

        copies dropped -> signature -> synchronous validators, at once -> asynchronous ones, bounded -> accepted
                                       |
        REJECT: it is wrong, and who brought it is to blame     IGNORE: not wanted, nobody is to blame

Rules:
- One call for each message, however many copies come: copies are dropped before, while validators work, too.
- Nothing waits for validators but their message. Each topic has a bound on how many messages they look at, and on how
  many wait; beyond that messages are dropped, and nobody is blamed.
- A validator that fails, or takes too long, has ignored the message.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias, cast

from ...callbacks import is_async
from .message import Message

logger = logging.getLogger(__name__)


class Verdict(Enum):
    """What a validator says of a message."""

    ACCEPT = "accept"
    """It is delivered, and passed on."""
    REJECT = "reject"
    """It is wrong: who brought it should have known, and scores less for it."""
    IGNORE = "ignore"
    """It is neither delivered nor passed on, and nobody is to blame."""
    THROTTLED = "throttled"
    """There was no room for it; said by us, not by validators."""


Validator: TypeAlias = Callable[[Message], Verdict | Awaitable[Verdict]]
"""A function, called at once, which must be quick; or an `async def`, called when there is room."""

Done: TypeAlias = Callable[[Verdict], None]


@dataclass(slots=True)
class _Topic:
    """The validators of a topic, and the messages that they look at."""

    quick: list[Validator] = field(default_factory=list)
    slow: list[Validator] = field(default_factory=list)
    running: int = 0
    waiting: deque[tuple[Message, Done]] = field(default_factory=deque)


class Validation:
    """Judges messages. `spawn` runs a task that ends with the service."""

    def __init__(
        self,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        *,
        queue: int,
        concurrency: int,
        timeout: float,
    ) -> None:
        self._spawn = spawn
        self._queue = queue
        self._concurrency = concurrency
        self._timeout = timeout
        self._topics: dict[str, _Topic] = {}

    def add(self, topic: str, validator: Validator) -> Callable[[], None]:
        """Let `validator` judge a topic's messages from now on; the function that ends this."""
        entry = self._topics.setdefault(topic, _Topic())
        validators = entry.slow if is_async(validator) else entry.quick
        validators.append(validator)

        def remove() -> None:
            if validator in validators:
                validators.remove(validator)
            if not (entry.quick or entry.slow or entry.running or entry.waiting):
                self._topics.pop(topic, None)

        return remove

    def judge(self, message: Message, done: Done) -> None:
        """Call `done` with the verdict: at once, where no validator is asynchronous."""
        entry = self._topics.get(message.topic)
        if entry is None:
            done(Verdict.ACCEPT)
            return
        verdict = Verdict.ACCEPT
        for validator in entry.quick:
            verdict = _worse(verdict, _ask(validator, message))
            if verdict is Verdict.REJECT:
                break
        if verdict is not Verdict.ACCEPT or not entry.slow:
            done(verdict)
        elif entry.running < self._concurrency:
            entry.running += 1
            self._spawn(self._work(entry, message, done))
        elif len(entry.waiting) < self._queue:
            entry.waiting.append((message, done))
        else:
            done(Verdict.THROTTLED)

    async def _work(self, entry: _Topic, message: Message, done: Done) -> None:
        """Judge a message, then those that wait."""
        try:
            while True:
                done(await self._judge_slowly(entry, message))
                if not entry.waiting:
                    return
                message, done = entry.waiting.popleft()
        except asyncio.CancelledError:  # the service ends: who waits for a verdict must not wait for ever
            for dropped in (done, *(waiting for _, waiting in entry.waiting)):
                dropped(Verdict.THROTTLED)
            entry.waiting.clear()
            raise
        finally:
            entry.running -= 1

    async def _judge_slowly(self, entry: _Topic, message: Message) -> Verdict:
        verdict = Verdict.ACCEPT
        for validator in list(entry.slow):
            try:
                async with asyncio.timeout(self._timeout):
                    verdict = _worse(verdict, await cast(Awaitable[Verdict], validator(message)))
            except TimeoutError:
                logger.warning("a validator of %r took more than %g s", message.topic, self._timeout)
                verdict = Verdict.IGNORE
            except Exception:
                logger.exception("a validator of %r failed", message.topic)
                verdict = Verdict.IGNORE
            if verdict is not Verdict.ACCEPT:
                break
        return verdict


def _ask(validator: Validator, message: Message) -> Verdict:
    try:
        verdict = validator(message)
    except Exception:
        logger.exception("a validator of %r failed", message.topic)
        return Verdict.IGNORE
    if isinstance(verdict, Verdict):
        return verdict
    if inspect.iscoroutine(verdict):
        verdict.close()
    logger.error("a validator of %r returned %r, not a Verdict", message.topic, verdict)
    return Verdict.IGNORE


def _worse(a: Verdict, b: Verdict) -> Verdict:
    if Verdict.REJECT in (a, b):
        return Verdict.REJECT
    return a if b is Verdict.ACCEPT else b
