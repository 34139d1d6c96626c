"""Rendezvous: the registry by itself, golden bytes, then clients and a point over a network."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from libp2p.connection import Stream
from libp2p.errors import IncompleteRead, RemoteProtocolError, RoutingError, StreamReset
from libp2p.host import Host
from libp2p.identity import PeerId
from libp2p.protocols.rendezvous import (
    PROTOCOL_ID,
    Refused,
    RendezvousClient,
    RendezvousConfig,
    RendezvousPoint,
    Status,
)
from libp2p.protocols.rendezvous.core import Registry
from libp2p.protocols.rendezvous.service import open_record
from libp2p.protocols.rendezvous.wire import Discover, Discovered, Register, Registered, Unregister, decode, encode
from libp2p.records import PeerRecord, RecordForm
from libp2p.routing import Discovery, PeerDiscovered

HOUR = 3600


def peer(n: int) -> PeerId:
    return PeerId.from_bytes(b"\x12\x20" + n.to_bytes(32, "big"))


def registry(**limits: int) -> Registry:
    return Registry(RendezvousConfig(**limits), b"lifetime")


def refused(status: Status) -> object:
    return pytest.raises(Refused, match=status.name)


# The registry


def test_registrations_come_in_order_and_go_with_their_time() -> None:
    some = registry()
    for n in range(3):
        assert some.register(peer(n), "app", b"record", None, n * HOUR) == 2 * HOUR
    found, _ = some.discover("app", b"", None, HOUR)
    assert [one.peer for one in found] == [peer(n) for n in range(3)]
    assert [one.ttl(HOUR) for one in found] == [HOUR, 2 * HOUR, 3 * HOUR]
    found, _ = some.discover("app", b"", None, 3 * HOUR)
    assert [one.peer for one in found] == [peer(2)]
    assert some.expire(3 * HOUR) == 2
    assert len(some) == 1


def test_a_cookie_leads_to_what_came_since() -> None:
    some = registry()
    for n in range(5):
        some.register(peer(n), "app", b"", None, 0)
        some.register(peer(n), "other", b"", None, 0)
    pages, cookie = [], b""
    while (page := some.discover("app", cookie, 2, 0))[0]:
        pages.append([one.peer for one in page[0]])
        cookie = page[1]
    assert pages == [[peer(0), peer(1)], [peer(2), peer(3)], [peer(4)]]
    some.register(peer(1), "app", b"new", None, 0)
    found, _ = some.discover("app", cookie, None, 0)
    assert [(one.peer, one.record) for one in found] == [(peer(1), b"new")]
    assert len(some.discover("", b"", None, 0)[0]) == 10


def test_cookies_of_others_are_refused() -> None:
    some = registry()
    _, cookie = some.discover("app", b"", None, 0)
    with refused(Status.INVALID_COOKIE):
        some.discover("other", cookie, None, 0)
    with refused(Status.INVALID_COOKIE):
        Registry(RendezvousConfig(), b"another!").discover("app", cookie, None, 0)
    with refused(Status.INVALID_COOKIE):
        some.discover("app", b"x", None, 0)


@pytest.mark.parametrize("ttl", [0, 2 * HOUR - 1, 72 * HOUR + 1, 2**63])
def test_times_to_live(ttl: int) -> None:
    with refused(Status.INVALID_TTL):
        registry().register(peer(0), "app", b"", ttl, 0)


@pytest.mark.parametrize("namespace", ["", "x" * 256, "é" * 128])
def test_namespaces(namespace: str) -> None:
    with refused(Status.INVALID_NAMESPACE):
        registry().register(peer(0), namespace, b"", None, 0)


def test_a_point_is_bounded() -> None:
    some = registry(max_registrations=4, max_registrations_per_peer=2, max_registrations_per_namespace=3)
    for n in range(2):
        some.register(peer(0), f"app {n}", b"", None, 0)
    with refused(Status.NOT_AUTHORIZED):
        some.register(peer(0), "app 2", b"", None, 0)
    some.register(peer(0), "app 0", b"", None, 0)  # a renewal
    some.register(peer(1), "app 0", b"", 3 * HOUR, 0)
    some.register(peer(2), "app 0", b"", 3 * HOUR, 0)
    with refused(Status.UNAVAILABLE):
        some.register(peer(3), "app 1", b"", None, 0)
    some.register(peer(3), "app 1", b"", None, 2 * HOUR)  # others have ended by then
    some.unregister(peer(9), "app 1")
    some.unregister(peer(3), "app 1")
    assert len(some) == 2


def test_answers_are_bounded() -> None:
    some = registry(max_answer_size=1000, max_discovered=20)
    for n in range(100):
        some.register(peer(n), "app", bytes(100), None, 0)
    found, cookie = some.discover("app", b"", 50, 0)
    assert 5 < len(found) < 10
    assert some.discover("app", cookie, 1, 0)[0][0].peer == peer(len(found))


# Messages

GOLDEN = [
    (Register("app", b"rec", 7200), "0800120d0a03617070120372656318a038"),
    (Registered(0, 7200), "08011a05080018a038"),
    (Registered(102, text="no"), "08011a06086612026e6f"),
    (Unregister("app"), "080222050a03617070"),
    (Discover("app", 5, b"c"), "08032a0a0a0361707010051a0163"),
    (Discover(""), "08032a00"),
    (Discovered(0, (Register("a", b"r", 1),), b"c"), "0804320f0a080a016112017218011201631800"),
]


@pytest.mark.parametrize(("message", "encoded"), GOLDEN)
def test_golden_bytes(message: Register, encoded: str) -> None:
    assert encode(message).hex() == encoded
    assert decode(bytes.fromhex(encoded)) == message


@pytest.mark.parametrize("data", ["", "0800", "0805", "ff", "080012030a01ff"])
def test_what_is_no_message(data: str) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(bytes.fromhex(data))


# Over a network


@asynccontextmanager
async def meeting(
    count: int, config: RendezvousConfig | None = None
) -> AsyncIterator[tuple[Host, list[RendezvousClient]]]:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        point = await stack.enter_async_context(Host(listen_addrs=["/memory/0"]))
        await stack.enter_async_context(RendezvousPoint(point, config, clock=loop.time))
        clients = []
        for _ in range(count):
            host = await stack.enter_async_context(Host(listen_addrs=["/memory/0"]))
            clients.append(await stack.enter_async_context(RendezvousClient(host, point.addrs[0])))
        yield point, clients


async def test_peers_meet() -> None:
    async with meeting(4) as (_, (one, two, three, four)):
        assert isinstance(one, Discovery)
        events: list[PeerDiscovered] = []
        four.host.events.on(PeerDiscovered, events.append)
        assert await one.register("app") == 2 * HOUR
        await two.register("app", ttl=3 * HOUR)
        await three.register("other")
        infos, cookie = await four.discover("app")
        assert {info.peer for info in infos} == {one.host.id, two.host.id}
        assert [event.info for event in events] == infos
        await four.host.connect(one.host.id)  # its address is known by now
        assert len((await four.discover())[0]) == 3
        assert (await four.discover("app", cookie=cookie))[0] == []
        await one.unregister("app")
        await asyncio.sleep(1)
        assert [info.peer async for info in four.find_peers("app")] == [two.host.id]
        assert [info.peer async for info in two.find_peers("app")] == []  # it is there alone


async def test_registrations_are_renewed() -> None:
    async with meeting(2) as (_, (one, two)):
        assert await one.advertise("app") < 2 * HOUR
        await asyncio.sleep(10 * HOUR)
        assert len((await two.discover("app"))[0]) == 1
        await one.close()
        await asyncio.sleep(2 * HOUR)
        assert (await two.discover("app"))[0] == []


async def test_refusals_reach_the_client() -> None:
    async with meeting(1) as (_, (one,)):
        with pytest.raises(Refused, match="INVALID_TTL"):
            await one.register("app", ttl=5)
        with pytest.raises(Refused, match="INVALID_NAMESPACE"):
            await one.register("x" * 300)
        with pytest.raises(Refused, match="INVALID_COOKIE"):
            await one.discover("app", cookie=b"x")


async def test_nobody_registers_others() -> None:
    async with meeting(2) as (point, (one, two)):
        mine = PeerRecord(two.host.id, time.time_ns(), tuple(two.host.listen_addrs)).seal(two.host.key).to_bytes()
        stream = await one.host.new_stream(point.addrs[0], PROTOCOL_ID)
        for record in (mine, b"", b"nonsense", bytes(5000)):
            await stream.write_message(encode(Register("app", record)))
            answer = decode(await stream.read_message(limit=9999))
            assert isinstance(answer, Registered)
            assert answer.status == Status.INVALID_SIGNED_PEER_RECORD
        await stream.write_message(encode(Registered(0)))
        with pytest.raises(StreamReset):
            await stream.read()


@pytest.mark.parametrize("ends_the_stream", [False, True])
async def test_a_point_that_reads_another_form_is_told_that(ends_the_stream: bool) -> None:
    """As those of rust-libp2p, which end the stream where they can't read a record, or say so."""
    came: list[RecordForm] = []

    async def serve(stream: Stream) -> None:
        request = decode(await stream.read_message(limit=9999))
        assert isinstance(request, Register)
        came.append(open_record(request.record)[1])
        if came[-1] is RecordForm.RUST:
            await stream.write_message(encode(Registered(0, 7200)))
        elif not ends_the_stream:
            await stream.write_message(encode(Registered(Status.INVALID_SIGNED_PEER_RECORD)))

    async with Host(listen_addrs=["/memory/0"]) as point, Host(listen_addrs=["/memory/0"]) as host:
        point.handle(PROTOCOL_ID)(serve)
        async with RendezvousClient(host, point.addrs[0]) as client:
            assert await client.register("app") == 2 * HOUR
            await client.register("app")
        assert came == [RecordForm.STANDARD, RecordForm.RUST, RecordForm.RUST]
        async with RendezvousClient(host, point.addrs[0], forms=[RecordForm.STANDARD]) as client:
            with pytest.raises(Refused if not ends_the_stream else IncompleteRead):
                await client.register("app")


async def test_records_in_the_form_of_rust_are_believed_as_far_as_they_are_signed() -> None:
    async with meeting(2) as (point, (one, two)):
        async with RendezvousClient(one.host, point.addrs[0], forms=[RecordForm.RUST]) as client:
            await client.register("app")
            assert [info.addrs async for info in two.find_peers("app")] == [tuple(one.host.listen_addrs)]
            await two.host.connect(one.host.id)
        forged = PeerRecord(two.host.id, 1, ()).seal(two.host.key, RecordForm.RUST).to_bytes()[:-1] + b"x"
        stream = await two.host.new_stream(point.addrs[0], PROTOCOL_ID)
        await stream.write_message(encode(Register("app", forged)))
        answer = decode(await stream.read_message(limit=9999))
        assert isinstance(answer, Registered)
        assert answer.status == Status.INVALID_SIGNED_PEER_RECORD


async def test_who_listens_nowhere_can_not_register() -> None:
    async with meeting(0) as (point, _), Host() as host, RendezvousClient(host, point.addrs[0]) as client:
        with pytest.raises(RoutingError, match="no address"):
            await client.register("app")
        assert await client.discover("app") is not None


async def test_streams_of_a_peer_are_bounded() -> None:
    async with meeting(0) as (point, _), Host() as host:
        streams = [await host.new_stream(point.addrs[0], PROTOCOL_ID) for _ in range(5)]
        with pytest.raises(StreamReset):
            await streams[4].read()
        await asyncio.sleep(61)
        with pytest.raises(StreamReset):
            await streams[0].read()
