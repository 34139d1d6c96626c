"""Identify and identify push between two hosts."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace

import pytest

from libp2p.connection import Connection, Stream, StreamErrorCode
from libp2p.errors import (
    LocalProtocolError,
    MessageTooLarge,
    ProtocolNotSupported,
    RemoteProtocolError,
    StageTimeout,
    StreamReset,
)
from libp2p.host import Host, HostConfig
from libp2p.host.addrs import AddrSource
from libp2p.host.identify import (
    ID,
    PUSH_ID,
    IdentifyConfig,
    IdentifyFailed,
    IdentifyInfo,
    PeerIdentified,
    PeerProtocolsChanged,
    PeerUpdated,
)
from libp2p.host.identify.wire import encode
from libp2p.host.ping import ping
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.peerstore import CONNECTED_ADDR_TTL, MemoryPeerStore
from libp2p.records import PeerRecord
from libp2p.swarm import StreamStarted

Pair = Callable[..., AbstractAsyncContextManager[tuple[Host, Host, Connection]]]
MANUAL = HostConfig(identify=IdentifyConfig(automatic=False))
ADDR = Multiaddr("/ip4/192.0.2.1/tcp/4001")


def answering(answer: Callable[[Host], bytes]) -> Callable[[Host], None]:
    """Makes a listener answer identify with other bytes."""

    def prepare(host: Host) -> None:
        async def handler(stream: Stream) -> None:
            await stream.write(answer(host))

        host.remove_handler(ID)
        host.handle(ID)(handler)

    return prepare


async def push(host: Host, connection: Connection, data: bytes) -> None:
    async with await host.new_stream(connection, PUSH_ID) as stream:
        await stream.write(data)
        await stream.close_write()
        await stream.read()


def says(host: Host, **changes: object) -> bytes:
    return encode(replace(IdentifyInfo(host.id, host.key.public_key), **changes))  # type: ignore[arg-type]


async def test_each_new_connection_is_identified_by_both_sides() -> None:
    async with Host(listen_addrs=["/memory/0"]) as listener, Host() as dialer:
        with listener.events.subscribe(PeerIdentified) as heard, dialer.events.subscribe(PeerIdentified) as learned:
            connection = await dialer.connect(listener.addrs[0])
            event = await anext(learned)
            assert (await anext(heard)).info.peer == dialer.id
    info = event.info
    assert event.connection is connection
    assert dialer.identify.info(connection) is info
    assert info.peer == listener.id
    assert info.public_key == listener.key.public_key
    assert info.agent_version.startswith("py-libp2p")
    assert info.protocol_version == "ipfs/0.1.0"
    assert info.listen_addrs == (connection.remote_addr,)
    assert info.observed_addr == connection.local_addr
    assert {ID, PUSH_ID, "/ipfs/ping/1.0.0"} <= set(info.protocols)
    assert info.signed_peer_record is not None
    assert PeerRecord.open(info.signed_peer_record, expected_peer=listener.id).addrs == info.listen_addrs
    assert dialer.peerstore.protocols(listener.id) == info.protocols
    assert dialer.peerstore.metadata(listener.id)["agent"] == info.agent_version
    assert dialer.peerstore.peer_record(listener.id) == info.signed_peer_record
    assert dialer.peerstore.certified_addrs(listener.id) == list(info.listen_addrs)


async def test_identify_is_not_run_when_it_is_off(pair: Pair) -> None:
    async with pair(MANUAL) as (_, dialer, connection):
        await asyncio.sleep(60)
        assert dialer.identify.info(connection) is None


BAD_ANSWERS: list[tuple[Callable[[Host], bytes], type[Exception]]] = [
    (lambda _: b"", RemoteProtocolError),
    (lambda _: b"\x05abc", RemoteProtocolError),
    (lambda _: b"\x03\xff\xff\xff", RemoteProtocolError),
    (lambda _: b"\xff\x7f" + bytes(100_000), MessageTooLarge),
    (lambda _: encode(IdentifyInfo((k := PrivateKey.generate().public_key).peer_id, k)), RemoteProtocolError),
]


@pytest.mark.parametrize(("answer", "error"), BAD_ANSWERS)
async def test_a_bad_answer_is_refused_and_harms_nothing_else(
    pair: Pair, answer: Callable[[Host], bytes], error: type[Exception]
) -> None:
    async with pair(MANUAL, prepare=answering(answer)) as (listener, dialer, connection):
        with dialer.events.subscribe(IdentifyFailed) as failures:
            with pytest.raises(error, match=str(listener.id)) as raised:
                await dialer.identify.identify(connection)
            failed = (await anext(failures)).error
            assert (type(failed), str(failed)) == (type(raised.value), str(raised.value))
        assert dialer.identify.info(connection) is None
        assert dialer.peerstore.protocols(listener.id) == ()
        assert await ping(dialer, connection)
        assert not connection.is_closed


async def test_no_answer_is_a_timeout(pair: Pair) -> None:
    async def stall(stream: Stream) -> None:
        await stream.write(b"\x05a")
        await asyncio.sleep(1000)

    def prepare(host: Host) -> None:
        host.remove_handler(ID)
        host.handle(ID)(stall)

    config = HostConfig(identify=IdentifyConfig(automatic=False, timeout=3))
    async with pair(config, prepare=prepare) as (_, dialer, connection):
        started = asyncio.get_running_loop().time()
        with pytest.raises(StageTimeout, match="identify took more than 3 s"):
            await dialer.identify.identify(connection)
        assert asyncio.get_running_loop().time() - started == 3
        assert not any(stream.protocol == ID for stream in connection.streams)


async def test_a_peer_without_identify(pair: Pair) -> None:
    async with pair(MANUAL, prepare=lambda host: host.remove_handler(ID)) as (_, dialer, connection):
        with pytest.raises(ProtocolNotSupported):
            await dialer.identify.identify(connection)


async def test_a_record_of_another_peer_is_dropped_the_rest_is_taken(pair: Pair) -> None:
    other = PrivateKey.generate()
    forged = PeerRecord(other.peer_id, 1, (Multiaddr("/ip4/192.0.2.66/tcp/1"),)).seal(other).to_bytes()
    records = [forged, forged[:-1] + bytes([forged[-1] ^ 1]), b"garbage"]

    def answer(host: Host) -> bytes:
        return says(host, listen_addrs=(ADDR,), signed_peer_record=records.pop())

    async with pair(MANUAL, prepare=answering(answer)) as (listener, dialer, connection):
        while records:
            info = await dialer.identify.identify(connection)
            assert info.signed_peer_record is None
            assert ADDR in dialer.peerstore.addrs(listener.id)
            assert dialer.peerstore.peer_record(listener.id) is None
        assert dialer.peerstore.addrs(other.peer_id) == []


async def test_changes_are_pushed_in_a_while_and_together(pair: Pair) -> None:
    async with pair() as (listener, dialer, connection):
        await asyncio.sleep(1)
        with dialer.events.subscribe(PeerUpdated) as updates:
            listener.handle("/new/1")(ignore)
            listener.handle("/new/2")(ignore)
            info = (await anext(updates)).info
            assert {"/new/1", "/new/2"} <= set(info.protocols)
            assert dialer.identify.info(connection) is info
            assert "/new/2" in dialer.peerstore.protocols(listener.id)
            listener.handle("/gone/1")(ignore)
            listener.remove_handler("/gone/1")
            await asyncio.sleep(60)
            assert len(updates) == 0
            await listener.swarm.listen(Multiaddr("/memory/0"))
            assert len((await anext(updates)).info.listen_addrs) == 2
            await listener.identify.push()
            await asyncio.sleep(60)
            assert len(updates) == 0


async def ignore(_: Stream) -> None:
    pass


async def test_a_change_reaches_every_peer_that_takes_pushes() -> None:
    config = HostConfig(identify=IdentifyConfig(max_pushes=2))
    async with Host(listen_addrs=["/memory/0"], config=config) as listener:
        dialers = [Host() for _ in range(5)]
        for dialer in dialers:
            await dialer.__aenter__()
        dialers[0].remove_handler(PUSH_ID)
        for dialer in dialers:
            await dialer.connect(listener.addrs[0])
        await asyncio.sleep(1)
        with listener.events.subscribe(StreamStarted) as opened:
            listener.handle("/new/1")(ignore)
            await asyncio.sleep(1)
        assert len(opened) == 4
        known = ["/new/1" in dialer.peerstore.protocols(listener.id) for dialer in dialers]
        assert known == [False, True, True, True, True]
        for dialer in dialers:
            await dialer.close()


async def test_a_partial_push_changes_what_it_speaks_of(pair: Pair) -> None:
    async with pair() as (listener, dialer, connection):
        await asyncio.sleep(1)
        before = dialer.identify.info(connection)
        addrs = dialer.peerstore.addrs(listener.id)
        assert before is not None
        await push(listener, listener.connections[0], b"\x08\x32\x06new/42")
        after = dialer.identify.info(connection)
        assert after == replace(before, agent_version="new/42")
        assert dialer.peerstore.metadata(listener.id)["agent"] == "new/42"
        assert dialer.peerstore.addrs(listener.id) == addrs


async def test_a_malformed_push_resets_its_stream_only(pair: Pair) -> None:
    async with pair() as (listener, dialer, connection):
        await asyncio.sleep(1)
        before = dialer.identify.info(connection)
        with pytest.raises(StreamReset):
            await push(listener, listener.connections[0], b"\x03\xff\xff\xff")
        assert dialer.identify.info(connection) == before
        assert not connection.is_closed


async def test_one_stream_too_many_of_a_peer_is_reset(pair: Pair) -> None:
    async with pair() as (listener, dialer, connection):
        await asyncio.sleep(1)
        streams = [await dialer.new_stream(connection, PUSH_ID) for _ in range(9)]
        with pytest.raises(StreamReset) as reset:
            await streams[8].read()
        assert reset.value.code == StreamErrorCode.RESOURCE_LIMIT_EXCEEDED
        for stream in streams[:8]:
            stream.reset()
        await asyncio.sleep(1)
        await push(dialer, connection, says(dialer, agent_version="again/1"))
        assert listener.peerstore.metadata(dialer.id)["agent"] == "again/1"


async def test_how_long_addresses_live() -> None:
    loop = asyncio.get_running_loop()
    store = MemoryPeerStore(clock=loop.time)
    async with Host(listen_addrs=["/memory/0"]) as listener, Host(peerstore=store) as dialer:
        connection = await dialer.connect(listener.addrs[0])
        await asyncio.sleep(1)
        first = listener.listen_addrs[0]
        await push(listener, listener.connections[0], says(listener, listen_addrs=(ADDR,)))
        await push(listener, listener.connections[0], says(listener, listen_addrs=(first,)))
        assert set(store.addrs(listener.id)) == {first, ADDR}
        await asyncio.sleep(121)  # no longer named
        assert store.addrs(listener.id) == [first]
        await asyncio.sleep(100_000)
        assert store.addrs(listener.id) == [first]
        await connection.close()
        await asyncio.sleep(899)
        assert store.addrs(listener.id) == [first]
        await asyncio.sleep(2)
        assert store.addrs(listener.id) == []


async def test_no_address_counts_as_connected_when_the_connection_has_ended_meanwhile(pair: Pair) -> None:
    answer = answering(lambda host: says(host, listen_addrs=(ADDR,)))
    async with pair(MANUAL, prepare=answer) as (listener, dialer, connection):
        read = dialer.identify._read

        async def read_then_close(stream: Stream) -> bytes:
            data = await read(stream)
            await connection.close()
            return data

        dialer.identify._read = read_then_close  # type: ignore[method-assign]
        await dialer.identify.identify(connection)
        dialer.peerstore.update_addrs(listener.id, CONNECTED_ADDR_TTL, 0)
        assert ADDR in dialer.peerstore.addrs(listener.id)


async def test_the_record_is_sealed_once_per_change_with_a_rising_seq(pair: Pair) -> None:
    async with pair(MANUAL) as (listener, dialer, connection):
        listener.identify._own._wall_clock = lambda: 5
        records = []
        for n in range(3):
            info = await dialer.identify.identify(connection)
            again = await dialer.identify.identify(connection)
            assert info.signed_peer_record == again.signed_peer_record
            records.append(PeerRecord.open(info.signed_peer_record or b"").seq)
            await listener.swarm.listen(Multiaddr("/memory/0"))
            assert len(info.listen_addrs) == n + 1
        assert records[0] < records[1] < records[2]


async def test_asked_at_once_the_exchange_under_way_is_joined() -> None:
    """js-libp2p refuses a second stream of identify."""
    async with Host(listen_addrs=["/memory/0"]) as listener, Host() as dialer:
        served = 0

        async def answer(stream: Stream) -> None:
            nonlocal served
            served += 1
            await stream.write(says(listener, agent_version="once/1"))

        listener.remove_handler(ID)
        listener.handle(ID)(answer)
        connection = await dialer.connect(listener.addrs[0])
        first, second = await asyncio.gather(*(dialer.identify.identify(connection) for _ in range(2)))
        assert first is second
        assert (served, first.agent_version) == (1, "once/1")
        await dialer.identify.identify(connection)  # the exchange is over: this is another one
        assert served == 2


async def test_all_who_joined_get_an_error_of_their_own(pair: Pair) -> None:
    async with pair(MANUAL, prepare=answering(lambda _: b"\x05a")) as (_, dialer, connection):
        outcomes = await asyncio.gather(
            *(dialer.identify.identify(connection) for _ in range(3)), return_exceptions=True
        )
        assert [type(error) for error in outcomes] == [RemoteProtocolError] * 3
        assert len({id(error) for error in outcomes}) == 3
        assert len({str(error) for error in outcomes}) == 1


@pytest.mark.parametrize("automatic", [True, False])
async def test_an_exchange_ends_with_the_last_who_waits_for_it(automatic: bool) -> None:
    async def stall(stream: Stream) -> None:
        await stream.read()

    config = HostConfig(identify=IdentifyConfig(automatic=automatic))
    async with Host(listen_addrs=["/memory/0"]) as listener, Host(config=config) as dialer:
        listener.remove_handler(ID)
        listener.handle(ID)(stall)
        connection = await dialer.connect(listener.addrs[0])
        waiting = [asyncio.ensure_future(dialer.identify.identify(connection)) for _ in range(2)]
        await asyncio.sleep(1)
        waiting[0].cancel()
        await asyncio.sleep(1)
        assert len(connection.streams) == 1
        waiting[1].cancel()
        await asyncio.sleep(1)
        assert len(connection.streams) == int(automatic)  # which the service itself waits for
        await dialer.identify.close()
        with pytest.raises(LocalProtocolError, match="ended"):
            await dialer.identify.identify(connection)


async def test_what_a_peer_speaks_is_told_when_it_changes(pair: Pair) -> None:
    async with Host(listen_addrs=["/memory/0"]) as listener, Host() as dialer:
        changes: list[PeerProtocolsChanged] = []
        dialer.events.on(PeerProtocolsChanged, changes.append)
        await dialer.connect(listener.addrs[0])
        await asyncio.sleep(1)
        assert [(set(change.added), change.removed) for change in changes] == [(set(listener.protocols), ())]
        listener.handle("/new/1")(ignore)
        await asyncio.sleep(1)
        listener.remove_handler("/new/1")
        await asyncio.sleep(1)
        assert changes[1:] == [
            PeerProtocolsChanged(listener.id, ("/new/1",), ()),
            PeerProtocolsChanged(listener.id, (), ("/new/1",)),
        ]


async def test_where_a_peer_sees_us_has_no_peer_id_at_its_end(pair: Pair) -> None:
    """js, rust and litep2p libp2p put ours there."""
    seen = Multiaddr("/ip4/192.0.2.9/tcp/5")
    async with Host() as dialer:
        answer = answering(lambda host: says(host, observed_addr=seen.with_peer(str(dialer.id))))
        async with Host(listen_addrs=["/memory/0"]) as listener:
            answer(listener)
            info = await dialer.identify.identify(await dialer.connect(listener.addrs[0]))
            assert info.observed_addr == seen


async def test_changes_that_follow_each_other_closely_are_one_push(pair: Pair) -> None:
    async with pair() as (listener, dialer, _):
        await asyncio.sleep(1)
        with dialer.events.subscribe(PeerUpdated) as updates:
            for number in range(3):
                listener.handle(f"/new/{number}")(ignore)
                await asyncio.sleep(0.05)
            await asyncio.sleep(1)
            assert len(updates) == 1
            assert "/new/2" in (await anext(updates)).info.protocols


async def test_a_change_that_a_peer_is_not_told_of_is_not_pushed_to_it(pair: Pair) -> None:
    """Each peer is compared with what it was told itself: no address of the loopback goes to one on the Internet."""
    home, out = Multiaddr("/ip4/127.0.0.1/tcp/1"), Multiaddr("/ip4/8.8.4.4/tcp/4001")
    async with pair() as (listener, dialer, _):
        await asyncio.sleep(1)
        (near,) = listener.connections
        with dialer.events.subscribe(PeerUpdated) as updates:
            near.remote_addr = Multiaddr("/ip4/1.1.1.1/tcp/9")  # the peer is far away from now on
            listener.own_addrs.set(AddrSource.MAPPED, [out], by="router")
            await asyncio.sleep(1)
            assert (await anext(updates)).info.listen_addrs == (out,)
            listener.own_addrs.set(AddrSource.OBSERVED, [home], by="us")
            await asyncio.sleep(1)
            assert len(updates) == 0


async def test_a_peer_that_asks_in_a_loop_is_slowed_down(pair: Pair) -> None:
    async with pair() as (listener, dialer, connection):
        answered = 0
        for _ in range(300):
            stream = await dialer.new_stream(connection, ID)
            with suppress(StreamReset):
                answered += bool(await stream.read())
        assert answered == 63  # the connection's own was the first
        await asyncio.sleep(2)
        assert (await dialer.identify.identify(connection)).peer == listener.id
        connection.abort()
        await asyncio.sleep(1)
        assert not listener.identify._rates
