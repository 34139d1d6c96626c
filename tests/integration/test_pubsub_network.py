"""Pubsub on whole networks, in virtual time: everything arrives everywhere; and hostile peers against one host."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random
from typing import Any

import pytest

from libp2p.connection import Stream
from libp2p.errors import ConnectionClosed, StreamReset
from libp2p.host import Host, HostConfig
from libp2p.host.identify import IdentifyConfig
from libp2p.identity import PeerId, PrivateKey
from libp2p.protocols.pubsub import (
    FLOODSUB,
    GOSSIPSUB_11,
    GOSSIPSUB_12,
    GossipSub,
    GossipSubConfig,
    Message,
    PeerGaterParams,
    PubSub,
    ScoreParams,
    SlowPeer,
    Tracer,
)
from libp2p.protocols.pubsub.signing import SignaturePolicy, author_message
from libp2p.protocols.pubsub.wire import IHave, Prune, PxPeer, Rpc, SubOpts, WireMessage, encode_rpc, frame
from libp2p.testing.cheap import CheapTransport
from libp2p.testing.network import Link, Network


class Counting(Tracer):
    def __init__(self) -> None:
        self.duplicates = 0
        self.gossip = 0

    def duplicate(self, peer: PeerId, topic: str, mid: bytes) -> None:
        self.duplicates += 1

    def received(self, peer: PeerId, rpc: Rpc) -> None:
        self.gossip += sum(len(have.ids) for have in rpc.ihave)


@asynccontextmanager
async def swarm(count: int, config: GossipSubConfig, *, link: Link, seed: int = 1) -> AsyncIterator[list[PubSub]]:
    """Hosts with pubsub, not connected yet; host n's dice are of seed n."""
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(seed=seed, link=link))
        nodes: list[PubSub] = []
        for n in range(count):
            ip = f"10.{n // 62500}.{n // 250 % 250}.{n % 250 + 1}"
            host = Host(
                transports=[CheapTransport(network.node(ip))],
                listen_addrs=[f"/ip4/{ip}/tcp/4001"],
                config=HostConfig(identify=IdentifyConfig(automatic=False)),
            )
            await stack.enter_async_context(host)
            nodes.append(await stack.enter_async_context(GossipSub(host, config, dice=Random(n), tracer=Counting())))
        yield nodes


async def connect_at_random(nodes: list[PubSub], degree: int, dice: Random) -> None:
    for n, node in enumerate(nodes):
        others = dice.sample([k for k in range(len(nodes)) if k != n], degree // 2)
        for other in others:
            await node.host.connect(nodes[other].host.addrs[0])


async def test_fifty_nodes() -> None:
    """All of 200 messages arrive at all of 50 nodes, once, within a few hops; with few copies, and little gossip."""
    config = GossipSubConfig(d=6, d_low=5, d_high=12, flood_publish=False)
    async with swarm(50, config, link=Link(latency=0.025)) as nodes:
        dice = Random(7)
        await connect_at_random(nodes, 10, dice)
        topics = [await node.subscribe("news", capacity=1000) for node in nodes]
        for topic in topics:
            await topic.wait_for_peers()
        await asyncio.sleep(5)
        assert all(5 <= len(topic.mesh) <= 12 for topic in topics)
        loop = asyncio.get_running_loop()
        sent: dict[bytes, float] = {}
        delays: list[float] = []

        async def read(n: int) -> None:
            for _ in range(200 - len(range(n, 200, 50))):
                message = await topics[n].next()
                delays.append(loop.time() - sent[message.data])

        async with asyncio.TaskGroup() as tasks:
            for n in range(50):
                tasks.create_task(read(n))
            for n in range(200):
                data = b"message %d" % n
                sent[data] = loop.time()
                await topics[n % 50].publish(data)
                await asyncio.sleep(0.05)
        await asyncio.sleep(5)
        assert not any(len(topic) for topic in topics)
        assert len(delays) == 200 * 49
        assert statistics.quantiles(delays, n=100)[98] <= 6 * 0.025
        degree = statistics.mean(len(topic.mesh) for topic in topics)
        tracers = [node._tracer for node in nodes]
        duplicates = sum(tracer.duplicates for tracer in tracers if isinstance(tracer, Counting)) / (200 * 50)
        assert duplicates <= degree - 1


async def test_the_same_seeds_give_the_same_run() -> None:
    async def run() -> list[int]:
        async with swarm(12, GossipSubConfig(), link=Link(latency=0.02)) as nodes:
            await connect_at_random(nodes, 6, Random(3))
            topics = [await node.subscribe("news") for node in nodes]
            await asyncio.sleep(5)
            for n in range(10):
                await topics[n].publish(b"%d" % n)
            await asyncio.sleep(5)
            return [len(topic.mesh) for topic in topics]

    assert await run() == await run()


async def test_gossip_brings_what_the_mesh_missed() -> None:
    """A peer outside of the publisher's mesh gets it by IHAVE and IWANT, within two heartbeats."""
    config = GossipSubConfig(d=0, d_low=0, d_high=0, d_score=0, d_out=0, flood_publish=False)
    async with swarm(3, config, link=Link(latency=0.01)) as (alice, bob, carol):
        await alice.host.connect(bob.host.addrs[0])
        await bob.host.connect(carol.host.addrs[0])
        topics = [await node.subscribe("news") for node in (alice, bob, carol)]
        await asyncio.sleep(3)
        assert not any(topic.mesh for topic in topics)
        await topics[0].publish(b"steak")
        async with asyncio.timeout(2.1):
            assert (await topics[1].next()).data == b"steak"
        async with asyncio.timeout(2.1):
            assert (await topics[2].next()).data == b"steak"


# One hostile peer, which speaks bytes


@asynccontextmanager
async def victim(config: GossipSubConfig | None = None, **kwargs: Any) -> AsyncIterator[tuple[PubSub, Host]]:
    async with Network(link=Link(latency=0.001)) as network:

        def host(ip: str) -> Host:
            return Host(
                transports=[CheapTransport(network.node(ip))],
                listen_addrs=[f"/ip4/{ip}/tcp/4001"],
                config=HostConfig(identify=IdentifyConfig(automatic=False)),
            )

        async with host("10.0.0.1") as ours, host("10.0.0.2") as theirs, GossipSub(ours, config, **kwargs) as pubsub:
            await theirs.connect(ours.addrs[0])
            yield pubsub, theirs


async def open_to(pubsub: PubSub, host: Host, protocol: str = GOSSIPSUB_12) -> Stream:
    return await host.new_stream(pubsub.host.id, protocol)


def said(**parts: Any) -> bytes:
    return frame(encode_rpc(Rpc(**parts)))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 20,
        b"\x80\x80\x80\x01",  # 2 MiB announced
        b"\x01\x0a",
        b"\x80\x80\x40" + b"\x0a\x00" * (1 << 19),
        b"\x80\x80\x40" + b"\x12\x00" * (1 << 19),
        *(
            b"\x84\x80\x40" + b"\x1a\x80\x80\x40" + bytes([kind, 0]) * (1 << 19)
            for kind in (0x0A, 0x12, 0x1A, 0x22, 0x2A)
        ),
        *(
            b"\x88\x80\x40" + b"\x1a\x84\x80\x40" + bytes([kind]) + b"\x80\x80\x40" + inner * (1 << 19)
            for kind, inner in ((0x0A, b"\x12\x00"), (0x12, b"\x0a\x00"), (0x22, b"\x12\x00"), (0x2A, b"\x0a\x00"))
        ),
    ],
    ids=[
        "length",
        "too large",
        "malformed",
        "empty subscriptions",
        "empty messages",
        *(f"empty {name}" for name in ("ihaves", "iwants", "grafts", "prunes", "idontwants")),
        *(f"empty {name}" for name in ("ihave ids", "iwant ids", "px peers", "idontwant ids")),
    ],
)
async def test_malformed_rpcs_end_the_stream_and_leave_nothing(data: bytes) -> None:
    async with victim() as (pubsub, host):
        await pubsub.subscribe("news")
        stream = await open_to(pubsub, host)
        with suppress(StreamReset):
            await stream.write(data)
        with pytest.raises(StreamReset):
            await stream.read(1)
        await asyncio.sleep(1)
        assert len(pubsub._links) == 0
        assert not pubsub.router.state.peers
        assert host.connections  # nothing else is harmed
        again = await open_to(pubsub, host)
        await again.write(said(subscriptions=[SubOpts("news")]))
        await asyncio.sleep(1)
        assert list(pubsub.router.state.topics) == ["news"]


async def read_all(stream: Stream) -> None:
    """Take what is said, and answer nothing."""
    async for _ in stream:
        pass


EMPTY = {
    "subscriptions": [SubOpts("")] * 5000,
    "messages": [WireMessage("", None)] * 5000,
    "ihave": [IHave("", ())] * 5000,
    "iwant": [b""] * 5000,
    "graft": [""] * 5000,
    "prune": [Prune("", None, (PxPeer(b""),))] * 5000,
    "idontwant": [b""] * 5000,
}


@pytest.mark.parametrize("kind", list(EMPTY))
async def test_as_many_empty_entries_as_are_taken_leave_nothing(kind: str) -> None:
    """Each a list that is just short enough; thirty of them."""
    async with victim(GossipSubConfig(gater=PeerGaterParams(), score=ScoreParams())) as (pubsub, host):
        await pubsub.subscribe("news")
        host.handle(GOSSIPSUB_12)(read_all)
        stream = await open_to(pubsub, host)
        for _ in range(30):
            await stream.write(said(**{kind: EMPTY[kind]}))
        await asyncio.sleep(3)
        assert pubsub.host.connections
        [peer] = pubsub.router.state.peers.values()
        assert list(peer.topics) == [""][: kind == "subscriptions"]
        assert len(peer.unwanted) <= 1
        router = pubsub.router
        assert (
            len(router.seen)
            == len(router.gossip.promises)
            == len(router.state.backoffs)
            == len(router.state.outbox)
            == 0
        )
        await host.connections[0].close()
        await asyncio.sleep(1)
        assert not router.state.peers
        assert not router.state.topics
        assert not router.take_offers()


async def test_many_streams_of_a_peer_are_one() -> None:
    async with victim() as (pubsub, host):
        for _ in range(1000):
            stream = await open_to(pubsub, host)
            await stream.write(said(subscriptions=[SubOpts("news")]))
        await asyncio.sleep(1)
        [connection] = pubsub.host.connections
        assert len(connection.streams) == 1
        assert len(pubsub._links) == len(pubsub.router.state.peers) == 1
        stream.reset()
        await asyncio.sleep(1)
        assert len(pubsub._links) == len(pubsub.router.state.peers) == len(pubsub.router.state.topics) == 0


async def test_reconnects_leave_nothing() -> None:
    """Thousands of them, of a peer with a score and a record at the gater; the router alone is tested with more."""
    config = GossipSubConfig(gater=PeerGaterParams(), score=ScoreParams(retain_score=60.0))
    async with victim(config) as (pubsub, host):
        await pubsub.subscribe("news")
        host.handle(GOSSIPSUB_11)(read_all)
        await host.connections[0].close()
        for _ in range(1000):
            connection = await host.connect(pubsub.host.addrs[0])
            stream = await host.new_stream(connection, GOSSIPSUB_11)
            await stream.write(said(subscriptions=[SubOpts("news")], graft=["news"], ihave=[IHave("news", (b"x",))]))
            await asyncio.sleep(0.03)
            await connection.close()
            await asyncio.sleep(0.03)
        state = pubsub.router.state
        assert len(pubsub.router.scores._peers) == 1
        await asyncio.sleep(120)
        assert len(pubsub.router.scores._peers) == len(state.backoffs) == 0
        assert len(pubsub.router.gater._sources) == 1  # that of its address, which is kept for hours
        assert len(pubsub._links) == len(state.peers) == len(state.topics) == len(state.outbox) == 0
        assert state.mesh == {"news": {}}


async def test_a_reader_that_never_reads_costs_a_bound_and_slows_nobody() -> None:
    config = GossipSubConfig(max_queue_size=200_000)
    async with victim(config) as (pubsub, host):
        frozen = asyncio.Event()

        @host.handle(GOSSIPSUB_12)
        async def never_reads(_: Stream) -> None:
            await frozen.wait()

        await asyncio.sleep(3)
        stream = await open_to(pubsub, host)
        await stream.write(said(subscriptions=[SubOpts("news")]))
        await pubsub.wait_for_peers("news")
        slow = pubsub.host.events.subscribe(SlowPeer, capacity=10_000)
        taken = 0
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _ in range(1000):
            taken += await pubsub.publish("news", bytes(10_000))
            await asyncio.sleep(0.001)
        assert loop.time() - started < 1.1  # nobody waited
        await asyncio.sleep(2)
        link = pubsub._links.get(host.id)
        assert link is not None
        assert link.queue is not None
        assert 150_000 < link.queue.size <= 200_000
        assert 0 < taken < 1000
        told = 0
        while len(slow):
            event = await anext(slow)
            assert (event.peer, event.topic) == (host.id, "news")
            told += event.dropped
        assert told == 1000 - taken
        frozen.set()


async def test_who_makes_us_answer_and_reads_nothing_is_let_go() -> None:
    config = GossipSubConfig(max_control_queue_size=2000, direct_peers=frozenset())
    async with victim(config) as (pubsub, host):

        @host.handle(GOSSIPSUB_12)
        async def never_reads(stream: Stream) -> None:
            await asyncio.sleep(3600)

        await pubsub.subscribe("news")
        await asyncio.sleep(3)
        stream = await open_to(pubsub, host)
        await stream.write(said(subscriptions=[SubOpts("news")], prune=[Prune("news", 3600)]))

        async def flood() -> None:
            for _ in range(500_000):  # each is answered by a PRUNE
                await stream.write(said(graft=["news"]) * 200)

        with pytest.raises((StreamReset, ConnectionClosed)):
            await flood()


async def test_a_forged_copy_does_not_suppress_the_true_message() -> None:
    async with victim() as (pubsub, host):
        news = await pubsub.subscribe("news")
        key = PrivateKey.generate()
        true = author_message("news", b"true", author=key.peer_id, key=key, seqno=1, policy=SignaturePolicy.STRICT_SIGN)
        forged = author_message(
            "news", b"false", author=key.peer_id, key=host.key, seqno=1, policy=SignaturePolicy.STRICT_SIGN
        )
        stream = await open_to(pubsub, host)
        await stream.write(said(messages=[forged]))
        await stream.write(said(messages=[true, forged, true]))
        assert (await news.next()).data == b"true"
        await asyncio.sleep(1)
        assert not len(news)


async def test_our_own_messages_do_not_come_back() -> None:
    async with victim() as (pubsub, host):
        news = await pubsub.subscribe("news")
        echo = author_message(
            "news", b"x", author=pubsub.host.id, key=pubsub.host.key, seqno=1, policy=SignaturePolicy.STRICT_SIGN
        )
        stream = await open_to(pubsub, host)
        await stream.write(said(messages=[echo]))
        await asyncio.sleep(1)
        assert not len(news)


async def test_a_flood_of_ids_is_cut() -> None:
    async with victim() as (pubsub, host):
        await pubsub.subscribe("news")
        asked = 0

        @host.handle(GOSSIPSUB_12)
        async def count(stream: Stream) -> None:
            nonlocal asked
            async for chunk in stream:
                asked += len(chunk)

        await asyncio.sleep(3)
        stream = await open_to(pubsub, host)
        await stream.write(said(subscriptions=[SubOpts("news")]))
        for n in range(100):
            ids = tuple(b"%010d %05d" % (n, k) for k in range(1000))
            await stream.write(said(ihave=[IHave("news", ids)]))
        await asyncio.sleep(0.5)
        assert 5000 * 16 < asked < 2 * 5000 * 20  # 5,000 ids in a heartbeat; two may have passed
        assert len(pubsub.router.gossip.promises) <= 20


async def test_an_inspector_refuses_rpcs() -> None:
    async with victim(inspect=lambda _, rpc: not rpc.graft) as (pubsub, host):
        stream = await open_to(pubsub, host, FLOODSUB)
        await stream.write(said(subscriptions=[SubOpts("bad")], graft=["bad"]))
        await stream.write(said(subscriptions=[SubOpts("good")]))
        await asyncio.sleep(1)
        assert list(pubsub.router.state.topics) == ["good"]


async def test_messages_of_topics_that_we_are_not_in_are_dropped() -> None:
    class Seen(Tracer):
        def delivered(self, message: Message) -> None:
            raise AssertionError

    async with victim(tracer=Seen()) as (pubsub, host):
        key = PrivateKey.generate()
        wire = author_message("x", b"", author=key.peer_id, key=key, seqno=1, policy=SignaturePolicy.STRICT_SIGN)
        stream = await open_to(pubsub, host)
        await stream.write(said(messages=[wire]))
        await asyncio.sleep(1)
        assert len(pubsub.router.seen) == 0
