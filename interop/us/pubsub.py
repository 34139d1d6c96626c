"""Pubsub of our peer: what it serves, and what it checks."""

from __future__ import annotations

from collections import Counter

from libp2p.protocols.pubsub import PubSub

UP = "interop/up"  # the dialer publishes, the listener takes
DOWN = "interop/down"  # the listener sends each message back on
MESSAGES = 1000


async def serve_pubsub(pubsub: PubSub) -> None:
    """Send what comes on one topic back on the other, to the end."""
    up = await pubsub.subscribe(UP, capacity=4 * MESSAGES)
    async for message in up:
        await pubsub.publish(DOWN, message.data)


async def check_pubsub(pubsub: PubSub) -> str:
    """Publish, without a pause, and want each message back once; what is wrong, "" if nothing."""
    down = await pubsub.subscribe(DOWN, capacity=4 * MESSAGES)
    await pubsub.wait_for_peers(UP)
    sent = [f"message {n}".encode() for n in range(MESSAGES)]
    for data in sent:
        if not await pubsub.publish(UP, data):
            return f"nobody took {data!r}"
    got: Counter[bytes] = Counter()
    while len(got) < MESSAGES:
        got[(await down.next()).data] += 1
    if got != Counter(sent):
        return f"{len(got)} of {MESSAGES} messages came back, in {got.total()} copies"
    return ""
