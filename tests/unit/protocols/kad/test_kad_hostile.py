"""What misbehaving peers can do to a DHT node: nothing much."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest

from libp2p.cid import Cid
from libp2p.connection import Connection, Stream
from libp2p.errors import RoutingError, StreamReset
from libp2p.host import Host
from libp2p.identity import PeerId
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.kad import KadConfig, KadDht, Mode, ServerConfig
from libp2p.protocols.kad.keys import peer_position, position
from libp2p.protocols.kad.wire import Message, MessageType, Record, decode, encode
from libp2p.routing import PeerInfo
from libp2p.varint import decode_varint, encode_varint

Nodes = Callable[..., AbstractAsyncContextManager[Any]]
Reply = Callable[[Stream, Message], Awaitable[None]]
PROTOCOL = "/test/kad/1.0.0"
CID = Cid.of(b"content")


@pytest.fixture
def nodes(full_nodes: Nodes) -> Nodes:
    return full_nodes


def stranger(n: int = 0) -> PeerId:
    return PeerId.from_bytes(b"\x12\x20" + n.to_bytes(32, "big"))


async def liar(network: Any, reply: Reply, ip: str | None = None) -> Host:
    """A peer that serves the protocol with `reply`; the first honest node has it in its table."""
    host: Host = await network.stack.enter_async_context(network.host(ip))

    @host.handle(PROTOCOL)
    async def serve(stream: Stream) -> None:
        while True:
            await reply(stream, decode(await stream.read_message(limit=1 << 20)))

    first: Host = network.made[0][0]
    await host.connect(first.addrs[0])
    await asyncio.sleep(1)
    return host


async def say(stream: Stream, message: Message) -> None:
    await stream.write_message(encode(message))


async def ask(connection: Connection, host: Host, *messages: Message) -> list[Message]:
    """Send requests on one stream, then end it; what was answered."""
    stream = await host.new_stream(connection, PROTOCOL)
    for message in messages:
        await say(stream, message)
    await stream.close_write()
    answers = []
    data = await stream.read()
    while data:
        size, offset = decode_varint(data)
        answers.append(decode(data[offset : offset + size]))
        data = data[offset + size :]
    return answers


async def client(network: Any) -> tuple[Host, Connection]:
    """A peer without a DHT, connected to the first node."""
    host: Host = await network.stack.enter_async_context(network.host())
    return host, await host.connect(network.made[0][0].addrs[0])


async def provider_of(network: Any, cid: Cid = CID) -> list[PeerId]:
    dht: KadDht = network.made[0][1]
    return [record.peer for record in await dht._node.store.providers(cid.multihash, 1_750_000_000.0)]


# Requests


async def test_add_provider_is_not_answered_and_speaks_for_its_sender_only(nodes: Nodes) -> None:
    async with nodes(1) as network:
        host, connection = await client(network)
        mine = PeerInfo(host.id, (Multiaddr("/ip4/9.9.9.9/tcp/1"), Multiaddr("/ip4/127.0.0.1/tcp/1")))
        announce = Message(MessageType.ADD_PROVIDER, CID.multihash, providers=(PeerInfo(stranger()), mine))
        ping = Message(MessageType.PING)
        answers = await ask(connection, host, announce, ping, announce)
        assert answers == [ping]
        assert await provider_of(network) == [host.id]
        got = (await ask(connection, host, Message(MessageType.GET_PROVIDERS, CID.multihash)))[0]
        assert got.providers == (PeerInfo(host.id, mine.addrs[:1]),)  # no loopback address to or from afar
        with pytest.raises(StreamReset):
            await ask(connection, host, replace(announce, providers=(PeerInfo(stranger()),)))
        assert await provider_of(network) == [host.id]


@pytest.mark.parametrize(
    "request_",
    [
        Message(MessageType.FIND_NODE),
        Message(MessageType.GET_PROVIDERS, bytes(81)),
        Message(MessageType.PUT_VALUE, b"/v/a"),
        Message(MessageType.PUT_VALUE, b"/v/a", Record(b"/v/b", b"1")),
        Message(MessageType.PUT_VALUE, b"/v/a", Record(b"/v/a", b"x")),
        Message(MessageType.PUT_VALUE, b"/w/a", Record(b"/w/a", b"1")),
        Message(MessageType.PUT_VALUE, b"/v/a", Record(b"/v/a", bytes(65537))),
        Message(MessageType.ADD_PROVIDER, CID.multihash),
    ],
)
async def test_nonsense_costs_its_stream_only(nodes: Nodes, request_: Message) -> None:
    async with nodes(1) as network:
        host, connection = await client(network)
        with pytest.raises(StreamReset):
            await ask(connection, host, request_)
        assert await ask(connection, host, Message(MessageType.PING)) == [Message(MessageType.PING)]
        assert await network.made[0][1]._node.store.counts() == (0, 0)


async def test_an_older_value_never_replaces_a_newer_one(nodes: Nodes) -> None:
    async with nodes(1) as network:
        host, connection = await client(network)
        new, old = (Message(MessageType.PUT_VALUE, b"/v/a", Record(b"/v/a", value)) for value in (b"2", b"1"))
        assert await ask(connection, host, new) == [new]
        with pytest.raises(StreamReset):
            await ask(connection, host, old)
        got = (await ask(connection, host, Message(MessageType.GET_VALUE, b"/v/a")))[0]
        assert got.record is not None
        assert got.record.value == b"2"
        assert got.record.time_received.startswith("2025-")


async def test_two_puts_at_once_keep_the_better(nodes: Nodes) -> None:
    async with nodes(1) as network:
        server = network.made[0][1]._node.server
        await asyncio.gather(*(server.keep(b"/v/a", b"%d" % n) for n in (3, 9, 1, 5)), return_exceptions=True)
        assert (await server._store.value(b"/v/a", 1_750_000_000.0)).value == b"9"


async def test_a_request_that_is_too_large_is_not_read(nodes: Nodes) -> None:
    async with nodes(1) as network:
        host, connection = await client(network)
        stream = await host.new_stream(connection, PROTOCOL)
        await stream.write(encode_varint(128 * 1024 + 1) + bytes(1000))
        with pytest.raises(StreamReset):
            await stream.read()


async def test_streams_of_a_peer_are_bounded_and_idle_ones_end(nodes: Nodes, config: KadConfig) -> None:
    limits = replace(config, server=ServerConfig(max_streams_per_peer=3))
    async with nodes(1, limits) as network:
        host, connection = await client(network)
        streams = [await host.new_stream(connection, PROTOCOL) for _ in range(4)]
        with pytest.raises(StreamReset):
            await streams[3].read()
        await asyncio.sleep(59)
        await say(streams[0], Message(MessageType.PING))
        await streams[0].read_message(limit=99)
        await asyncio.sleep(2)
        for stream in streams[1:3]:
            with pytest.raises(StreamReset):
                await stream.read()
        await say(streams[0], Message(MessageType.PING))
        await streams[0].read_message(limit=99)


async def test_many_requests_wait_their_turn(nodes: Nodes, config: KadConfig) -> None:
    limits = replace(config, server=ServerConfig(rate=10.0, burst=20))
    async with nodes(1, limits) as network:
        host, connection = await client(network)
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert len(await ask(connection, host, *[Message(MessageType.PING)] * 50)) == 50
        assert 3.0 <= loop.time() - started < 3.5


async def test_find_node_leaves_out_who_asks_and_us(nodes: Nodes) -> None:
    async with nodes(4) as network:
        (first, dht), (second, _) = network.made[:2]
        connection = second.connections_to(first.id)[0]
        others = {host.id for host, _ in network.made[2:]}
        answer = (await ask(connection, second, Message(MessageType.FIND_NODE, b"any key")))[0]
        assert {info.peer for info in answer.closer} == others
        for target in (first.id, stranger()):
            answer = (await ask(connection, second, Message(MessageType.FIND_NODE, target.to_bytes())))[0]
            assert {info.peer for info in answer.closer} == others | ({first.id} if target == first.id else set())
        assert len(dht.table) == 3


# Answers


async def test_forged_values_are_never_returned(nodes: Nodes) -> None:
    async def lie(stream: Stream, request: Message) -> None:
        await say(stream, Message(request.type, request.key, Record(request.key, b"x 999")))

    async with nodes(3) as network:
        for _ in range(3):
            await liar(network, lie)
        seeker = network.made[0][1]
        assert len(seeker.table) == 5
        with pytest.raises(RoutingError, match="no value"):
            await seeker.get_value(b"/v/a", quorum=1)
        await network.made[1][1].put_value(b"/v/a", b"1")
        assert await network.made[2][1].get_value(b"/v/a", quorum=2) == b"1"


async def test_a_value_under_another_key_is_no_value(nodes: Nodes) -> None:
    async def lie(stream: Stream, request: Message) -> None:
        await say(stream, Message(request.type, request.key, Record(b"/v/other", b"9")))

    async with nodes(1) as network:
        await liar(network, lie)
        with pytest.raises(RoutingError, match="no value"):
            await network.made[0][1].get_value(b"/v/a")


async def test_a_silent_peer_holds_up_nobody(nodes: Nodes) -> None:
    async def silence(stream: Stream, request: Message) -> None:
        if request.key != network.made[0][0].id.to_bytes():  # it passes the check
            await asyncio.sleep(1e6)
        await say(stream, Message(request.type))

    async with nodes(8) as network:
        for _ in range(4):
            await liar(network, silence)
        first = network.made[0][1]
        assert len(first.table) == 11
        loop = asyncio.get_running_loop()
        started = loop.time()
        closest = await first.closest_peers(b"key")
        assert len(closest) == 7
        assert loop.time() - started < 1.0
        await asyncio.sleep(first.config.request_time.max_limit)
        assert len(first.table) == 7  # their requests went on, and have failed
        await network.made[7][1].provide(CID)


async def test_large_and_slow_answers_leave_honest_ones_unhurt(nodes: Nodes) -> None:
    """Peers that drip an answer of 4 MiB: few are read at a time, and the lookup ends without them."""

    async def drip(stream: Stream, request: Message) -> None:
        if request.key == network.made[0][0].id.to_bytes():
            await say(stream, Message(request.type))
            return
        await stream.write(encode_varint(4 * 1024 * 1024))
        for _ in range(10_000):
            await stream.write(bytes(64))
            await asyncio.sleep(0.1)

    async def flood(stream: Stream, request: Message) -> None:
        if request.key == network.made[0][0].id.to_bytes():
            await say(stream, Message(request.type))
            return
        await stream.write(encode_varint(4 * 1024 * 1024 + 1))

    async with nodes(6) as network:
        for reply in (drip, drip, drip, drip, drip, flood):
            await liar(network, reply)
        first = network.made[0][1]
        assert len(first.table) == 11
        assert len(await first.closest_peers(b"key")) == 5
        await network.made[5][1].put_value(b"/v/a", b"1")
        assert await first.get_value(b"/v/a") == b"1"


async def test_endless_lists_of_dead_peers_end(nodes: Nodes) -> None:
    """Each answer names peers nearer than before, whom nobody reaches."""

    async def invent(stream: Stream, request: Message) -> None:
        invented = sorted((stranger(n) for n in range(2000)), key=lambda one: peer_position(one) ^ position(b"key"))
        closer = tuple(
            PeerInfo(one, (Multiaddr(f"/ip4/{30 + n}.{n}.0.1/tcp/1"),)) for n, one in enumerate(invented[:40])
        )
        await say(stream, Message(request.type, closer=closer))

    async with nodes(5) as network:
        await liar(network, invent)
        first = network.made[0][1]
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert len(await first.closest_peers(b"key")) == 5
        assert loop.time() - started < 60
        assert len(first.table) == 5


async def test_an_answer_that_crowds_one_group_is_not_followed(nodes: Nodes) -> None:
    asked: list[str] = []

    async def steer(stream: Stream, request: Message) -> None:
        closer = tuple(PeerInfo(stranger(n), (Multiaddr(f"/ip4/66.6.0.{n}/tcp/1"),)) for n in range(4))
        await say(stream, Message(request.type, closer=closer))

    async with nodes(2) as network:
        await liar(network, steer)
        first: KadDht = network.made[0][1]
        await first.closest_peers(b"key", progress=lambda step: asked.append(str(step.peer)))
        assert not {str(stranger(n)) for n in range(4)} & set(asked)


async def test_a_wrong_address_hides_nobody(nodes: Nodes) -> None:
    """Liars name a peer at wrong addresses first: it is found at the right one."""
    async with nodes(4) as network:
        first, target = network.made[0], network.made[3]

        async def poison(stream: Stream, request: Message) -> None:
            wrong = tuple(Multiaddr(f"/ip4/77.7.0.{n}/tcp/4001") for n in range(30))
            await say(stream, Message(request.type, closer=(PeerInfo(target[0].id, wrong),)))

        seeker = await network.stack.enter_async_context(network.host())
        await liar(network, poison)
        config = replace(first[1].config, mode=Mode.CLIENT, bootstrap=(first[0].addrs[0],))
        async with KadDht(seeker, config) as dht:
            await dht.ready()
            for connection in seeker.connections_to(target[0].id):
                await connection.close()
            seeker.peerstore.remove(target[0].id)
            dht.table.remove(target[0].id)
            info = await dht.find_peer(target[0].id)
            assert target[0].listen_addrs[0] in info.addrs


async def test_a_thousand_identities_of_one_16_hold_three_places(nodes: Nodes) -> None:
    """The attack over the network, with fewer identities: the table's own test has a thousand."""

    async def polite(stream: Stream, request: Message) -> None:
        await say(stream, Message(request.type))

    async with nodes(3) as network:
        for n in range(12):
            await liar(network, polite, ip=f"66.6.{n}.1")
        groups = [host.id for host, _ in network.made[1:]]
        table = network.made[0][1].table
        assert len(table) <= 2 + 3
        assert all(one in table for one in groups)


async def test_who_says_that_it_serves_but_does_not_is_not_taken(nodes: Nodes) -> None:
    async def mute(stream: Stream, request: Message) -> None:
        stream.reset()

    async def wrong(stream: Stream, request: Message) -> None:
        await say(stream, Message(MessageType.PING))

    async with nodes(2) as network:
        for reply in (mute, wrong):
            await liar(network, reply)
        assert len(network.made[0][1].table) == 1


async def test_echoes_of_add_provider_are_not_taken_for_answers(nodes: Nodes) -> None:
    """Older implementations answer ADD_PROVIDER: what comes next must still be understood."""
    seen: list[MessageType] = []

    async def echo(stream: Stream, request: Message) -> None:
        seen.append(request.type)
        await say(stream, Message(request.type, request.key))

    async with nodes(1) as network:
        await liar(network, echo)
        first = network.made[0][1]
        for _ in range(3):
            await first.provide(CID)
        assert seen.count(MessageType.ADD_PROVIDER) == 3
        assert len(first.table) == 1


async def test_a_closed_dht_asks_nobody(nodes: Nodes) -> None:
    async with nodes(2) as network:
        host = await network.stack.enter_async_context(network.host())
        config = replace(network.made[0][1].config, bootstrap=(network.made[0][0].addrs[0],))
        async with KadDht(host, config) as dht:
            await dht.ready()
            searching = asyncio.create_task(dht.closest_peers(b"key"))
            await asyncio.sleep(0)
        with pytest.raises(RoutingError):
            await dht.closest_peers(b"key")
        await asyncio.wait([searching])
        searching.exception()
