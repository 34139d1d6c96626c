"""The topics that the program is in, and why: who reads them, and for whom they are passed on.

a topic is entered with its first subscription or relay, and left behind the last
message -> the subscriptions of its topic, each a queue of its own
"""

from __future__ import annotations

from collections.abc import Callable

from .events import SlowSubscriber
from .message import Message
from .subscription import Topic


class Memberships:
    """Counts subscriptions and relays; `left` is called for a topic behind the last of them."""

    def __init__(self, left: Callable[[str], None]) -> None:
        self._left = left
        self._topics: dict[str, list[Topic]] = {}
        self._relayed: dict[str, int] = {}

    def subscribe(self, subscription: Topic) -> None:
        """The program reads this topic."""
        self._topics.setdefault(subscription.name, []).append(subscription)

    def unsubscribe(self, subscription: Topic) -> None:
        """It does not any more."""
        self._topics[subscription.name].remove(subscription)
        self._leave_if_done(subscription.name)

    def relay(self, topic: str) -> Callable[[], None]:
        """The topic is passed on; the function that ends this, which is idempotent."""
        self._relayed[topic] = self._relayed.get(topic, 0) + 1
        active = True

        def stop() -> None:
            nonlocal active
            if active:
                active = False
                self._relayed[topic] -= 1
                self._leave_if_done(topic)

        return stop

    def hand_out(self, message: Message) -> None:
        """Give a message to all who read its topic."""
        for subscription in self._topics.get(message.topic, ()):
            subscription.push(message)

    def take_drops(self) -> list[SlowSubscriber]:
        """What was lost since the last call, because nobody read it in time."""
        drops = []
        for subscription in [one for topic in self._topics.values() for one in topic if one.untold]:
            drops.append(SlowSubscriber(subscription.name, subscription.untold))
            subscription.untold = 0
        return drops

    def end(self) -> None:
        """End all subscriptions, behind what waits in them."""
        for subscription in [one for topic in self._topics.values() for one in topic]:
            subscription.end()

    def _leave_if_done(self, topic: str) -> None:
        if not self._topics.get(topic) and not self._relayed.get(topic):
            self._topics.pop(topic, None)
            self._relayed.pop(topic, None)
            self._left(topic)
