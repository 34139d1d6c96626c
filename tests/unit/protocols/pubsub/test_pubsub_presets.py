"""Presets, snappy, the validator against replays, discovery of a topic's peers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libp2p.errors import InvalidInput, LimitExceeded
from libp2p.identity import PrivateKey
from libp2p.protocols.pubsub import GossipSubConfig, Message, PubSub, Verdict
from libp2p.protocols.pubsub.discovery import namespace_of
from libp2p.protocols.pubsub.presets import (
    ETHEREUM,
    FILECOIN,
    SMALL_PRIVATE_NETWORK,
    ethereum_topics,
    filecoin_gater,
    filecoin_topics,
)
from libp2p.protocols.pubsub.seqno import SeqnoValidator
from libp2p.protocols.pubsub.snappy import compress, compress_in_python, decompress, decompress_in_python
from libp2p.protocols.pubsub.wire import WireMessage
from libp2p.routing import PeerInfo

Nodes = Callable[..., AbstractAsyncContextManager[list[PubSub]]]


class Decoder(Protocol):
    def __call__(self, block: bytes, *, limit: int) -> bytes: ...


@pytest.mark.parametrize("preset", [ETHEREUM, FILECOIN, SMALL_PRIVATE_NETWORK], ids=["eth", "fil", "small"])
async def test_presets_carry_messages(nodes: Nodes, preset: object) -> None:
    async with nodes(preset, preset) as (alice, bob):
        await alice.host.connect(bob.host.addrs[0])
        news = await bob.subscribe("news")
        await alice.wait_for_peers("news")
        await alice.publish("news", b"steak" * 1000)
        message = await news.next()
        assert message.data == b"steak" * 1000
        if preset is ETHEREUM:
            assert message.size < 1000
            assert (len(message.id), message.sender) == (20, None)
        await asyncio.sleep(5)
        assert not len(news)


def test_filecoin_topics_go_with_its_preset() -> None:
    assert FILECOIN.score is not None
    assert FILECOIN.gater == replace(filecoin_gater("testnetnet"), topic_weights={})
    assert set(filecoin_topics("testnetnet", "8990e7a9")) == set(filecoin_gater("testnetnet", "8990e7a9").topic_weights)
    config = replace(FILECOIN, score=replace(FILECOIN.score, topics=filecoin_topics("testnetnet")))
    assert config.score is not None
    assert config.score.for_topic("/fil/blocks/testnetnet") is not None


def test_ethereum_weights_are_what_lighthouse_computes() -> None:
    """By hand after gossipsub_scoring_parameters.rs, for 16,384 validators: 4 committees a slot, of 128 members."""
    topics = ethereum_topics("b5303f2a", 16_384)
    assert len(topics) == 69
    score = ETHEREUM.score
    assert score is not None
    assert (score.topic_score_cap, score.ip_colocation_weight) == (53.75, -53.75)
    assert score.behaviour_penalty_weight == pytest.approx(-15.879, abs=1e-3)
    block = topics["/eth2/b5303f2a/beacon_block/ssz_snappy"]
    assert block.time_in_mesh_weight == pytest.approx(0.033333, abs=1e-6)
    assert block.first_message_deliveries_cap == pytest.approx(34.8687, abs=1e-3)
    assert block.mesh_message_deliveries_threshold == pytest.approx(0.68492, abs=1e-4)
    assert block.mesh_message_deliveries_cap == pytest.approx(2.05476, abs=1e-3)
    assert (block.mesh_message_deliveries_weight, block.invalid_message_deliveries_weight) == (-0.5, -215.0)
    aggregates = topics["/eth2/b5303f2a/beacon_aggregate_and_proof/ssz_snappy"]
    assert aggregates.first_message_deliveries_weight == pytest.approx(40 * (1 - 0.01 ** (1 / 32)) / (2 * 64 / 8))
    attestation = topics["/eth2/b5303f2a/beacon_attestation_63/ssz_snappy"]
    assert attestation.topic_weight == 1 / 64
    assert attestation.mesh_message_deliveries_activation == 17 * 12
    exit_ = topics["/eth2/b5303f2a/voluntary_exit/ssz_snappy"]
    assert exit_.mesh_message_deliveries_weight == 0
    few = ethereum_topics("b5303f2a", 4096)["/eth2/b5303f2a/beacon_attestation_0/ssz_snappy"]
    assert few.mesh_message_deliveries_activation == 3 * 32 * 12
    assert score.for_topic("anything") is None


async def test_what_can_not_be_decompressed_is_rejected_once(nodes: Nodes) -> None:
    async with nodes(ETHEREUM, replace(ETHEREUM, topic=replace(ETHEREUM.topic, transform=None))) as (alice, bob):
        await alice.host.connect(bob.host.addrs[0])
        news = await alice.subscribe("news")
        await bob.wait_for_peers("news")
        await bob.publish("news", b"\x05no")
        await asyncio.sleep(3)
        assert not len(news)
        assert len(alice.router.seen) == 1


DECODERS = [decompress, decompress_in_python]  # the first is cramjam's, which the tests' environment has


@given(st.binary(max_size=3000), st.sampled_from([compress, compress_in_python]), st.sampled_from(DECODERS))
def test_snappy_of_anything(data: bytes, encode: Callable[[bytes], bytes], decode: Decoder) -> None:
    assert decode(encode(data), limit=len(data)) == data


@given(st.lists(st.sampled_from([b"abc", b"steak recipes", bytes(70), b"x"]), max_size=300))
def test_snappy_of_what_repeats(parts: list[bytes]) -> None:
    data = b"".join(parts)
    block = compress_in_python(data)
    assert decompress(block, limit=len(data)) == decompress_in_python(block, limit=len(data)) == data
    assert len(block) <= len(data) + len(data) // 6 + 32


@pytest.mark.parametrize("decode", DECODERS)
def test_snappy_of_others(decode: Decoder) -> None:
    """Blocks written by hand from the format's description: each kind of element, and a copy that repeats itself."""
    assert decode(b"\x05\x10steak", limit=5) == b"steak"
    assert decode(b"\x09\x00a" + b"\x11\x01", limit=9) == b"a" * 9
    assert decode(b"\x06\x08abc" + b"\x0a\x03\x00", limit=6) == b"abcabc"
    assert decode(b"\x06\x08abc" + b"\x0b\x03\x00\x00\x00", limit=6) == b"abcabc"
    assert decode(b"\x46\xf0\x45" + b"z" * 70, limit=70) == b"z" * 70
    assert decode(b"\x00", limit=0) == b""


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize(
    "block",
    [b"", b"\xff" * 12, b"\x06\x10steak", b"\x05\x14steak", b"\x05\xf0", b"\x05\x08abc\x0a\x09\x00", b"\x05\x0a\x00",
     b"\x05\x08abc\x0a\x00\x00", b"\x02\x08abc", b"\x0b\x28hello world"],
)  # fmt: skip
def test_malformed_snappy(block: bytes, decode: Decoder) -> None:
    with pytest.raises(InvalidInput, match="snappy"):
        decode(block, limit=10)


@given(st.binary(max_size=50))
def test_any_bytes_are_snappy_or_an_error(block: bytes) -> None:
    """And the same to both decoders."""
    results: list[bytes | None] = []
    for decode in DECODERS:
        try:
            results.append(decode(block, limit=100))
        except InvalidInput:
            results.append(None)
    assert results[0] == results[1]
    assert len(results[0] or b"") <= 100


def test_replays_are_ignored() -> None:
    me = PrivateKey.generate().peer_id
    validate = SeqnoValidator(max_authors=2)

    def judge(author: bytes | None, seqno: int) -> Verdict:
        wire = WireMessage("a", b"", author, seqno.to_bytes(8, "big"))
        return validate(Message.of(wire, b"", me, b""))

    assert [judge(b"x", n) for n in (5, 5, 4, 6)] == [Verdict.ACCEPT, Verdict.IGNORE, Verdict.IGNORE, Verdict.ACCEPT]
    assert judge(None, 1) is judge(None, 1) is Verdict.ACCEPT
    for author in (b"y", b"z"):
        assert judge(author, 1) is Verdict.ACCEPT
    assert judge(b"x", 6) is Verdict.ACCEPT  # forgotten: two others came behind it
    assert judge(b"z", 1) is Verdict.IGNORE


async def test_peers_of_a_topic_are_found(nodes: Nodes) -> None:
    known: dict[str, list[PeerInfo]] = {}
    advertised: list[str] = []

    class Table:
        async def advertise(self, namespace: str) -> float:
            advertised.append(namespace)
            if len(advertised) == 1:
                raise LimitExceeded("for now", scope="a test", value=0)
            return 100.0

        async def find_peers(self, namespace: str, *, limit: int = 20) -> AsyncIterator[PeerInfo]:
            for info in known.get(namespace, ()):
                yield info
            if advertised == [namespace]:
                raise LimitExceeded("for now", scope="a test", value=0)

    async with nodes(None, None, discovery=Table()) as (alice, bob):
        known[namespace_of("news")] = [PeerInfo(node.host.id, tuple(node.host.listen_addrs)) for node in (alice, bob)]
        news = await alice.subscribe("news")
        await bob.subscribe("other")
        await asyncio.sleep(1)
        assert [connection.remote_peer for connection in alice.host.connections] == [bob.host.id]
        await asyncio.sleep(120)
        assert advertised.count("floodsub:news") == 2  # at once, which failed, and 30 s later
        await news.close()
        await asyncio.sleep(300)
        assert advertised.count("floodsub:news") == 2
        assert advertised.count("floodsub:other") > 2


async def test_peers_are_searched_for_as_soon_as_there_are_too_few(nodes: Nodes) -> None:
    searched: list[float] = []
    loop = asyncio.get_running_loop()

    class Table:
        async def advertise(self, namespace: str) -> float:
            return 1000.0

        async def find_peers(self, namespace: str, *, limit: int = 20) -> AsyncIterator[PeerInfo]:
            searched.append(loop.time())
            for info in ():
                yield info

    config = GossipSubConfig(d=1, d_low=1, d_out=0, d_score=1)
    async with nodes(config, config, discovery=Table()) as (alice, bob):
        await bob.host.connect(alice.host.addrs[0])
        theirs = await bob.subscribe("news")
        await alice.wait_for_peers("news")
        await asyncio.sleep(40)
        searched.clear()
        await alice.subscribe("news")
        await asyncio.sleep(45)
        assert searched == []  # there is one, which is enough
        await theirs.close()
        left = loop.time()
        await asyncio.sleep(1)
        assert len(searched) == 1
        assert searched[0] - left < 0.5
