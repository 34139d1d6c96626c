"""Pubsub between hosts: topics, publishing, validators, slow readers, reconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from libp2p.connection import StreamErrorCode
from libp2p.errors import InvalidInput, LocalProtocolError, MessageTooLarge
from libp2p.protocols.pubsub import (
    GOSSIPSUB_10,
    GossipSubConfig,
    Message,
    PeerEnteredTopic,
    PubSub,
    PubSubConfig,
    ScoreThresholds,
    SignaturePolicy,
    SlowSubscriber,
    TopicConfig,
    Verdict,
)

Nodes = Callable[..., AbstractAsyncContextManager[list[PubSub]]]


async def connect(a: PubSub, b: PubSub) -> None:
    await a.host.connect(b.host.addrs[0])


async def test_a_message_arrives_once_with_what_is_known_of_it(nodes: Nodes) -> None:
    async with nodes(None, None) as (alice, bob):
        await connect(alice, bob)
        news = await bob.subscribe("news")
        assert await alice.wait_for_peers("news") == [bob.host.id]
        assert await alice.publish("news", b"steak") == 1
        message = await news.next()
        assert (message.topic, message.data) == ("news", b"steak")
        assert message.sender == message.received_from == alice.host.id
        assert message.id == alice.host.id.to_bytes() + message.wire.seqno
        await asyncio.sleep(10)
        assert not len(news)


@pytest.mark.parametrize("config", [None, PubSubConfig(), GossipSubConfig(protocols=(GOSSIPSUB_10,))])
async def test_it_goes_through_who_is_between(nodes: Nodes, config: PubSubConfig | None) -> None:
    async with nodes(config, config, config) as (alice, middle, bob):
        await connect(alice, middle)
        await connect(middle, bob)
        topics = [await node.subscribe("news") for node in (alice, middle, bob)]
        for topic in topics:
            await topic.wait_for_peers()
        for n in range(20):
            await topics[0].publish(b"%d" % n)
        got = [(await topics[2].next()).data for _ in range(20)]
        assert sorted(got) == sorted(b"%d" % n for n in range(20))
        assert not len(topics[0])


async def test_no_sleep_between_subscribe_and_publish(nodes: Nodes) -> None:
    """What is published before the other side's subscription is here arrives all the same."""
    async with nodes(None, None) as (alice, bob):
        await connect(alice, bob)
        news = await bob.subscribe("news")
        assert await alice.publish("news", b"early") == 0
        assert (await news.next()).data == b"early"


async def test_relaying_without_subscribing(nodes: Nodes) -> None:
    async with nodes(None, None, None) as (alice, middle, bob):
        await connect(alice, middle)
        await connect(middle, bob)
        stop = await middle.relay("news")
        news = await bob.subscribe("news")
        await alice.wait_for_peers("news")
        await middle.wait_for_peers("news")
        await alice.publish("news", b"steak")
        assert (await news.next()).data == b"steak"
        stop()
        stop()
        assert middle.topics == []


async def test_leaving_is_told(nodes: Nodes) -> None:
    async with nodes(None, None) as (alice, bob):
        await connect(alice, bob)
        first, second = await bob.subscribe("news"), await bob.subscribe("news")
        await alice.wait_for_peers("news")
        await first.close()
        assert bob.topics == ["news"]
        await second.close()
        await second.close()
        await asyncio.sleep(1)
        assert (bob.topics, alice.peers("news")) == ([], [])
        with pytest.raises(StopAsyncIteration):
            await second.next()


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("verdict", list(Verdict)[:3])
async def test_a_validator_is_called_once_for_each_message(nodes: Nodes, slow: bool, verdict: Verdict) -> None:
    async with nodes(None, None, None) as (alice, bob, carol):
        for a, b in ((alice, bob), (bob, carol), (carol, alice)):
            await connect(a, b)
        judged: list[bytes] = []

        async def slowly(message: Message) -> Verdict:
            judged.append(message.data)
            await asyncio.sleep(1)
            return verdict

        def quickly(message: Message) -> Verdict:
            judged.append(message.data)
            return verdict

        topics = [await node.subscribe("news") for node in (alice, bob, carol)]
        await alice.wait_for_peers("news", 2)
        bob.add_validator("news", slowly if slow else quickly)
        await alice.publish("news", b"steak")
        assert (await topics[2].next()).data == b"steak"
        await asyncio.sleep(5)
        assert judged == [b"steak"]
        assert len(topics[1]) == (verdict is Verdict.ACCEPT)


async def test_validators_have_limits(nodes: Nodes) -> None:
    config = GossipSubConfig(validator_concurrency=2, validator_queue=3, validator_timeout=5)
    async with nodes(None, config) as (alice, bob):
        await connect(alice, bob)
        news = await bob.subscribe("news")
        await alice.wait_for_peers("news")
        judged = 0

        async def endless(_: Message) -> Verdict:
            nonlocal judged
            judged += 1
            if judged > 2:
                return Verdict.ACCEPT
            await asyncio.sleep(3600)
            return Verdict.ACCEPT

        bob.add_validator("news", endless)
        for n in range(10):
            await alice.publish("news", b"%d" % n)
        await asyncio.sleep(60)
        assert (judged, len(news)) == (5, 3)  # two took too long, three waited, five found no room


async def test_a_validator_that_fails_has_ignored_the_message(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    async with nodes(None, None) as (alice, bob):
        await connect(alice, bob)
        news = await bob.subscribe("news")
        await alice.wait_for_peers("news")
        remove = bob.add_validator("news", lambda message: Verdict.ACCEPT if message.data > b"a" else 1 / 0)  # type: ignore[return-value]
        await alice.publish("news", b"B")
        await alice.publish("news", b"b")
        assert (await news.next()).data == b"b"
        assert "failed" in caplog.text
        remove()
        await alice.publish("news", b"B")
        assert (await news.next()).data == b"B"


async def test_our_own_validators_judge_what_we_publish(nodes: Nodes) -> None:
    async with nodes(None) as (alice,):
        alice.add_validator("news", lambda _: Verdict.REJECT)
        with pytest.raises(InvalidInput, match="reject"):
            await alice.publish("news", b"spam")


async def test_a_reader_that_lags_loses_the_oldest_and_is_told(nodes: Nodes) -> None:
    async with nodes(None, None) as (alice, bob):
        await connect(alice, bob)
        news = await bob.subscribe("news", capacity=10)
        told = bob.host.events.subscribe(SlowSubscriber)
        await alice.wait_for_peers("news")
        for n in range(25):
            await alice.publish("news", b"%02d" % n)
        await asyncio.sleep(3)
        assert [(await news.next()).data for _ in range(10)] == [b"%02d" % n for n in range(15, 25)]
        assert news.dropped == sum([event.dropped async for event in _now(told)]) == 15


async def _now(events):  # type: ignore[no-untyped-def]
    while len(events):
        yield await anext(events)


@pytest.mark.parametrize("policy", list(SignaturePolicy))
async def test_every_signature_policy(nodes: Nodes, policy: SignaturePolicy) -> None:
    topic = TopicConfig(policy) if policy.signs else TopicConfig(policy, lambda wire, _: wire.data or b"")
    async with nodes(GossipSubConfig(topic=topic), GossipSubConfig(topic=topic)) as (alice, bob):
        await connect(alice, bob)
        news = await bob.subscribe("news")
        await alice.wait_for_peers("news")
        await alice.publish("news", b"steak")
        message = await news.next()
        assert message.data == b"steak"
        assert (message.wire.signature is not None) == policy.signs
        assert (message.sender is None) == (policy is SignaturePolicy.STRICT_NO_SIGN)


async def test_another_policy_is_refused(nodes: Nodes) -> None:
    lax = TopicConfig(SignaturePolicy.STRICT_NO_SIGN, lambda wire, _: wire.data or b"")
    async with nodes(GossipSubConfig(topic=lax), None) as (alice, bob):
        await connect(alice, bob)
        news = await bob.subscribe("news")
        await alice.wait_for_peers("news")
        await alice.publish("news", b"steak")
        await asyncio.sleep(10)
        assert not len(news)


async def test_batch(nodes: Nodes) -> None:
    async with nodes(None, None, None) as (alice, bob, carol):
        await connect(alice, bob)
        await connect(alice, carol)
        topics = [await node.subscribe("news") for node in (bob, carol)]
        await alice.wait_for_peers("news", 2)
        batch = [b"%d" % n for n in range(30)]
        assert await alice.publish_batch("news", batch) == [2] * 30
        orders = [[(await topic.next()).data for _ in batch] for topic in topics]
        assert sorted(orders[0]) == sorted(orders[1]) == sorted(batch)
        assert orders[0] != orders[1]


async def test_what_is_too_large_is_not_published(nodes: Nodes) -> None:
    async with nodes(None) as (alice,):
        with pytest.raises(MessageTooLarge):
            await alice.publish("news", bytes(1 << 20))


async def test_allowed_topics(nodes: Nodes) -> None:
    async with nodes(GossipSubConfig(allowed_topics=frozenset({"news"})), None) as (alice, bob):
        await connect(alice, bob)
        await bob.subscribe("weather")
        await bob.subscribe("news")
        await alice.wait_for_peers("news")
        assert list(alice.router.state.topics) == ["news"]
        with pytest.raises(InvalidInput, match="weather"):
            await alice.subscribe("weather")


async def test_blocked_peers(nodes: Nodes) -> None:
    async with nodes(None, None) as (alice, bob):
        await connect(alice, bob)
        news = await bob.subscribe("news")
        await alice.wait_for_peers("news")
        bob.block(alice.host.id)
        await alice.publish("news", b"steak")
        await asyncio.sleep(10)
        assert not len(news)
        bob.unblock(alice.host.id)
        await asyncio.sleep(120)
        await alice.publish("news", b"again")
        assert (await news.next()).data == b"again"


async def test_a_peer_that_starts_pubsub_later_is_found(nodes: Nodes) -> None:
    from libp2p.protocols.pubsub import GossipSub

    async with nodes(None, None, identify=True) as (alice, bob):
        await bob.close()
        await connect(alice, bob)
        await asyncio.sleep(5)
        assert alice.peers() == []
        async with GossipSub(bob.host) as later:
            news = await later.subscribe("news")
            await alice.wait_for_peers("news")
            await alice.publish("news", b"steak")
            assert (await news.next()).data == b"steak"
            with pytest.raises(LocalProtocolError):
                await bob.publish("news", b"over")


async def test_the_end_sends_what_waits(nodes: Nodes) -> None:
    async with nodes(None, None) as (alice, bob):
        await connect(alice, bob)
        news = await bob.subscribe("news")
        await alice.wait_for_peers("news")
        for n in range(50):
            await alice.publish("news", bytes(50_000) + b"%d" % n)
        await alice.close()
        await asyncio.sleep(20)
        assert len(news) == 50


async def test_two_connections_to_a_peer_are_one_peer(nodes: Nodes) -> None:
    async with nodes(None, None) as (alice, bob):
        entered = alice.host.events.subscribe(PeerEnteredTopic)
        await asyncio.gather(connect(alice, bob), connect(bob, alice))
        news = await bob.subscribe("news")
        await alice.wait_for_peers("news")
        await asyncio.sleep(3)
        for connection in alice.host.connections[:-1]:
            await connection.close()
        await asyncio.sleep(10)
        await alice.publish("news", b"steak")
        assert (await news.next()).data == b"steak"
        await asyncio.sleep(3)
        assert not len(news)
        assert len(entered) >= 1


@pytest.mark.parametrize("record", [True, False])
async def test_who_is_offered_by_a_neighbour_is_connected_to(nodes: Nodes, record: bool) -> None:
    """In a private network, too: a peer of the same network may lead us to its addresses."""
    bootstrap = GossipSubConfig(d=0, d_low=0, d_high=0, d_score=0, d_out=0, peer_exchange=True)
    taking = GossipSubConfig(thresholds=ScoreThresholds(accept_px=0))
    async with nodes(bootstrap, taking, taking, identify=record) as (middle, alice, bob):
        await middle.subscribe("news")
        for node in (alice, bob):
            await connect(node, middle)
            await node.subscribe("news")
            await asyncio.sleep(1)
        await asyncio.sleep(1)
        assert bool(alice.host.connections_to(bob.host.id)) is record  # without identify nobody has a record of them


async def test_a_stream_that_is_reset_comes_back(nodes: Nodes) -> None:
    async with nodes(None, None) as (alice, bob):
        await connect(alice, bob)
        news = await bob.subscribe("news")
        await alice.wait_for_peers("news")
        for stream in alice.host.connections[0].streams:
            stream.reset(StreamErrorCode.NONE)
        await asyncio.sleep(10)
        await alice.wait_for_peers("news")
        await alice.publish("news", b"steak")
        assert (await news.next()).data == b"steak"


async def test_publishing_ends_with_the_service_even_while_a_validator_works(nodes: Nodes) -> None:
    async with nodes(None) as (alice,):

        async def endless(_: Message) -> Verdict:
            await asyncio.sleep(20)
            return Verdict.ACCEPT

        alice.add_validator("news", endless)
        cancelled = asyncio.create_task(alice.publish("news", b"1"))
        publishing = asyncio.create_task(alice.publish("news", b"2"))
        await asyncio.sleep(1)
        cancelled.cancel()
        await alice.close()
        with pytest.raises(InvalidInput, match="throttled"):
            await publishing


async def test_who_grafts_us_first_is_in_the_mesh(nodes: Nodes) -> None:
    """Both sides graft at once, whoever's stream is open first: the mesh holds both ways."""
    async with nodes(None, None) as (alice, bob):
        topics = [await node.subscribe("news") for node in (alice, bob)]
        await connect(alice, bob)
        await asyncio.sleep(3)
        assert [topic.mesh for topic in topics] == [[bob.host.id], [alice.host.id]]


async def test_messages_in_parts(nodes: Nodes) -> None:
    config = GossipSubConfig(partial_messages=True)
    async with nodes(config, config, None) as (alice, bob, carol):
        await connect(alice, bob)
        await connect(alice, carol)
        await alice.subscribe("news", parts="send")
        whole = [await bob.subscribe("news", parts="want"), await carol.subscribe("news")]
        await alice.wait_for_peers("news", 2)
        await asyncio.sleep(1)
        assert alice.partial.peers("news") == [bob.host.id]
        assert (bob.partial.peers("news"), carol.partial.peers("news")) == ([alice.host.id], [])
        got: list[tuple[object, ...]] = []
        stop = bob.partial.on("news", lambda peer, part: got.append((peer, part.group, part.message, part.parts)))
        assert await alice.publish("news", b"whole") == 1  # to carol: bob wants parts
        assert alice.partial.send(bob.host.id, "news", b"group", message=b"part 1", parts=b"\x01")
        await asyncio.sleep(1)
        assert got == [(alice.host.id, b"group", b"part 1", b"\x01")]
        assert [len(topic) for topic in whole] == [0, 1]
        stop()
        assert alice.partial.send(bob.host.id, "news", b"group", message=b"part 2")
        await asyncio.sleep(1)
        assert len(got) == 1
        with pytest.raises(InvalidInput, match="no parts"):
            alice.partial.send(carol.host.id, "news", b"group")
        with pytest.raises(MessageTooLarge):
            alice.partial.send(bob.host.id, "news", b"group", message=bytes(1 << 20))
        with pytest.raises(InvalidInput, match="not offered"):
            carol.partial.on("news", lambda *_: None)
