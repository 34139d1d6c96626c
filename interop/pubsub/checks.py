"""What must hold between us and nodes of another implementation. Each check makes its own nodes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from typing import TypeVar

from interop.build import Command
from libp2p.protocols.pubsub import (
    FLOODSUB,
    GOSSIPSUB_10,
    GOSSIPSUB_11,
    GOSSIPSUB_12,
    GossipSubConfig,
    Message,
    ScoreThresholds,
    Topic,
    TopicConfig,
    Verdict,
)
from libp2p.protocols.pubsub.ids import sha256_of_data
from libp2p.protocols.pubsub.wire import Partial

from .nodes import Failed, Them, Us, check_counts, number_of, them, us

T = TypeVar("T")

TOPIC = "interop"
MESSAGES = 1000
TWO_HEARTBEATS = 2 * 1.0 + 0.5  # seconds; the half is for the ways there and back, and for processes that start to work
LARGE = 4096  # bytes of a message of which all say that they have it

NO_MESH = GossipSubConfig(d=0, d_low=0, d_high=0, d_score=0, d_out=0, flood_publish=False)


@dataclass(frozen=True, slots=True)
class World:
    """Makes the nodes of one check."""

    implementation: str
    command: Command
    transport: str
    stack: AsyncExitStack

    async def them(self, **options: bool | int) -> Them:
        """A node of the others, in the topic; all nodes have the same ids, as far as they can be told to."""
        node = await self._enter(them(self.command, self.transport, HashIDs=True, **options))
        await node.do("subscribe", Topic=TOPIC)
        return node

    async def us(self, config: GossipSubConfig | None = None) -> Us:
        config = config or GossipSubConfig()
        if self.implementation != "py":  # its gossip knows no ids but the default's
            config = replace(config, topic=TopicConfig(message_id=sha256_of_data))
        return await self._enter(us(self.transport, config))

    async def subscribed(self, config: GossipSubConfig | None = None) -> tuple[Us, Topic]:
        node = await self.us(config)
        return node, await node.pubsub.subscribe(TOPIC, capacity=4 * MESSAGES)

    async def _enter(self, node: AbstractAsyncContextManager[T]) -> T:
        return await self.stack.enter_async_context(node)


async def expect(topic: Topic, count: int) -> None:
    """Wait for messages 0 to `count` - 1, each once."""
    got: Counter[str] = Counter()
    try:
        async with asyncio.timeout(20):
            while got.total() < count:
                got[number_of(await topic.next())] += 1
    except TimeoutError:
        raise Failed(f"{got.total()} of {count} messages came within 20 s") from None
    check_counts(got, count)


async def until(holds: Callable[[], object], what: str, limit: float = 20) -> None:
    """Wait until something holds of our own nodes."""
    try:
        async with asyncio.timeout(limit):
            while not holds():  # noqa: ASYNC110 - nothing tells of a change
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise Failed(f"{what}: not within {limit:g} s") from None


async def to_them(world: World) -> None:
    """We publish at once: nothing waits for their subscription to be here."""
    node, ours = await world.them(), await world.us()
    await ours.connect(node)
    await ours.publish(TOPIC, MESSAGES)
    await node.expect(TOPIC, MESSAGES)


async def from_them(world: World) -> None:
    """They publish at once when they know of our subscription."""
    node = await world.them()
    ours, topic = await world.subscribed()
    await ours.connect(node)
    await node.wait_for_peers(TOPIC)
    await node.publish(TOPIC, MESSAGES)
    await expect(topic, MESSAGES)


async def we_between(world: World) -> None:
    """Two of them, which know only us: from each all reaches the other."""
    first, last, ours = await world.them(), await world.them(), await world.us()
    await ours.pubsub.relay(TOPIC)
    for node in (first, last):
        await ours.connect(node)
    for node in (first, last):
        await node.wait_for_peers(TOPIC)
    await ours.pubsub.wait_for_peers(TOPIC, 2)
    await first.publish(TOPIC, MESSAGES)
    await last.expect(TOPIC, MESSAGES)
    await last.publish(TOPIC, MESSAGES, first=MESSAGES)
    await first.until(lambda: len(first.got.get(TOPIC, ())) >= MESSAGES, f"{MESSAGES} messages back")


async def they_between(world: World) -> None:
    """Two of us, which know only one of them."""
    node = await world.them()
    first, its_topic = await world.subscribed()
    last, topic = await world.subscribed()
    for ours in (first, last):
        await ours.connect(node)
    await node.wait_for_peers(TOPIC, 2)
    for ours in (first, last):
        await until(lambda ours=ours: ours.pubsub.mesh(TOPIC), "a mesh with them")
    await first.publish(TOPIC, MESSAGES)
    await expect(topic, MESSAGES)
    assert not len(its_topic)


async def their_gossip(world: World) -> None:
    """Who is in no mesh of theirs asks for what they tell of: IHAVE to us, IWANT to them, within two heartbeats."""
    node = await world.them()
    ours, topic = await world.subscribed(NO_MESH)
    source = await world.us()
    await node.do("connect", Addr=ours.addr)  # so they are inbound: we refuse their GRAFT
    await source.connect(node)
    await until(lambda: any(rpc.prune for _, rpc in ours.watch.said), "our refusal of their GRAFT")
    await source.pubsub.wait_for_peers(TOPIC)
    await source.publish(TOPIC, 1)
    try:
        async with asyncio.timeout(TWO_HEARTBEATS):
            await topic.next()
    except TimeoutError:
        raise Failed("no message within two heartbeats") from None
    if not any(rpc.iwant for _, rpc in ours.watch.said):
        raise Failed("the message came, but we did not ask for it")


async def our_gossip(world: World) -> None:
    """Who is in no mesh of ours asks for what we tell of, within two heartbeats."""
    node = await world.them()
    ours, _ = await world.subscribed(NO_MESH)
    await node.do("connect", Addr=ours.addr)  # so they are inbound: with such we have no mesh
    await ours.pubsub.wait_for_peers(None)
    await until(lambda: ours.pubsub.peers(TOPIC), "they are in the topic")
    await until(lambda: not ours.pubsub.mesh(TOPIC), "no mesh with them")
    await ours.publish(TOPIC, 1)
    await node.until(lambda: bool(node.got.get(TOPIC)), "the message", TWO_HEARTBEATS)
    if not any(rpc.iwant for _, rpc in ours.watch.heard):
        raise Failed("the message came, but they did not ask for it")


async def idontwant(world: World) -> None:
    """What is large, and has come from another side, they don't send us; and they tell us that they have it.

    They validate for 0.3 s, and so have passed on nothing before; we do for longer, so that no copy of ours tells them.
    """

    async def slowly(_: Message) -> Verdict:
        await asyncio.sleep(0.8)
        return Verdict.ACCEPT

    node = await world.them(Delay=300)
    source, _ = await world.subscribed()
    ours, topic = await world.subscribed()
    for a, b in ((source, node), (ours, node), (source, ours)):
        await a.connect(b)
    await node.wait_for_peers(TOPIC, 2)
    for one in (source, ours):
        await until(lambda one=one: len(one.pubsub.mesh(TOPIC)) == 2, "a mesh of all three")
    ours.pubsub.add_validator(TOPIC, slowly)
    await source.publish(TOPIC, 10)
    await node.expect(TOPIC, 10)
    await until(lambda: ours.watch.copies[node.id] == 10, "they send copies of what is small")
    await source.publish(TOPIC, 10, first=10, size=LARGE)
    await node.until(lambda: len(node.got[TOPIC]) == 20, "the large messages")
    await asyncio.sleep(1)  # a copy would come behind their validation
    if copies := ours.watch.copies[node.id] - 10:
        raise Failed(f"they sent {copies} copies of what we said that we don't want")
    if not any(rpc.idontwant for peer, rpc in ours.watch.heard if peer == node.id):
        raise Failed("they did not say IDONTWANT")
    await expect(topic, 20)


PX = ScoreThresholds(accept_px=0)


async def their_offers(world: World) -> None:
    """They prune two of us, and offer each the other, with its signed record: these connect."""
    node = await world.them(NoMesh=True, PX=True)
    first, _ = await world.subscribed(GossipSubConfig(thresholds=PX))
    await first.connect(node)
    await node.wait_for_peers(TOPIC)
    second, _ = await world.subscribed(GossipSubConfig(thresholds=PX))
    await second.connect(node)
    await until(lambda: first.host.connections_to(second.host.id), "our nodes find each other")
    offers = [px for one in (first, second) for _, rpc in one.watch.heard for prune in rpc.prune for px in prune.peers]
    if not any(px.record for px in offers):
        raise Failed("no offer had a signed record")


async def our_offers(world: World) -> None:
    """We prune two of them, and offer each the other: what one publishes then comes to the other directly."""
    ours, _ = await world.subscribed(replace(NO_MESH, peer_exchange=True))
    first, second = await world.them(), await world.them()
    for node in (first, second):
        await node.do("connect", Addr=ours.addr)
        await node.wait_for_peers(TOPIC)
        await until(lambda: len(ours.pubsub.peers(TOPIC)) >= 1, "they are in the topic")
    for node in (first, second):
        await node.wait_for_peers(TOPIC, 2)
    for number in range(20):  # their mesh waits for a heartbeat; until then gossip of ours brings what they publish
        await first.publish(TOPIC, 1, first=number)
        await asyncio.sleep(0.2)
        if any(source == first.id for _, source in second.got.get(TOPIC, ())):
            return
    raise Failed("no message came from its author")


async def partial(world: World) -> None:
    """A part each way, and word of which parts there are."""
    node = await world.them(Partial=True)
    ours = await world.us(GossipSubConfig(partial_messages=True))
    got: list[Partial] = []
    ours.pubsub.partial.on(TOPIC, lambda _, part: got.append(part))
    await ours.pubsub.subscribe(TOPIC, parts="want")
    await ours.connect(node)
    await node.wait_for_peers(TOPIC)
    await until(lambda: ours.pubsub.partial.peers(TOPIC) and ours.pubsub.mesh(TOPIC), "parts are exchanged")
    [peer] = ours.pubsub.partial.peers(TOPIC)
    ours.pubsub.partial.send(peer, TOPIC, b"block 7", message=b"\x01\x02", parts=b"\x03")
    await node.until(lambda: bool(node.parts), "our part")
    said = {name: node.parts[0][name] for name in ("part", "group", "from", "message", "parts")}
    if said != {"part": TOPIC, "group": "block 7", "from": ours.id, "message": "0102", "parts": "03"}:
        raise Failed(f"they took {said}")
    await node.do("part", Topic=TOPIC, Group="block 8", Message="0a0b", Parts="0c")
    await until(lambda: any(part.group == b"block 8" and part.message for part in got), "their part")
    if Partial(TOPIC, b"block 8", b"\x0a\x0b", b"\x0c") not in got:
        raise Failed(f"we took {got}")


async def versions(world: World) -> None:
    """What we speak no newer version than; floodsub at last."""
    for protocol in (GOSSIPSUB_12, GOSSIPSUB_11, GOSSIPSUB_10, FLOODSUB):
        async with AsyncExitStack() as stack:
            inner = replace(world, stack=stack)
            node = await inner.them()
            ours, topic = await inner.subscribed(GossipSubConfig(protocols=(protocol,)))
            await ours.connect(node)
            await node.wait_for_peers(TOPIC)
            await ours.publish(TOPIC, 10)
            try:
                await node.expect(TOPIC, 10)
                await node.publish(TOPIC, 10, first=10)
                for _ in range(10):
                    await asyncio.wait_for(topic.next(), 20)
            except (Failed, TimeoutError) as failed:
                raise Failed(f"{protocol}: {failed!r}") from None


Check = Callable[[World], Awaitable[None]]

CHECKS: dict[str, Check] = {
    "to-them": to_them,
    "from-them": from_them,
    "we-between": we_between,
    "they-between": they_between,
    "their-gossip": their_gossip,
    "our-gossip": our_gossip,
    "idontwant": idontwant,
    "their-offers": their_offers,
    "our-offers": our_offers,
    "partial": partial,
    "versions": versions,
}
