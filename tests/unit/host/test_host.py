"""The host: opening streams, reusing and losing connections, events, and the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libp2p.connection import Connection, Direction, Stream, StreamErrorCode
from libp2p.errors import (
    ConnectionClosed,
    DialError,
    InvalidMultiaddr,
    InvalidPeerId,
    ListenError,
    PeerIdMismatch,
    ProtocolNotSupported,
    StageTimeout,
    StreamReset,
)
from libp2p.host import Host, HostConfig
from libp2p.host.identify import IdentifyConfig
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.swarm import (
    ConnectionLost,
    ConnectionOpened,
    DialFailed,
    InboundFailed,
    ListenAddrAdded,
    ListenAddrRemoved,
    StreamEnded,
    StreamStarted,
)
from libp2p.testing.network import Link, Network

QUIET = HostConfig(negotiation_timeout=3, identify=IdentifyConfig(automatic=False))


async def echo(stream: Stream) -> None:
    async for chunk in stream:
        await stream.write(chunk)


class Lan:
    """Hosts on a simulated network, each on a machine of its own."""

    def __init__(self, **link: Any) -> None:
        self.network = Network(link=Link(latency=0.05, **link))
        self.hosts: list[Host] = []
        self.nodes: list[Any] = []

    async def host(self, *, listen: bool = True, config: HostConfig = QUIET) -> Host:
        ip = f"10.0.0.{len(self.hosts) + 1}"
        self.nodes.append(self.network.node(ip))
        addrs = [f"/ip4/{ip}/tcp/4001"] if listen else []
        host = Host(listen_addrs=addrs, transports=[self.nodes[-1].transport()], config=config)
        host.handle("/echo/1.0.0", "/echo/0.9.0")(echo)
        self.hosts.append(await host.__aenter__())
        return host

    async def __aenter__(self) -> Lan:
        return self

    async def __aexit__(self, *_: object) -> None:
        for host in self.hosts:
            await host.close()
            assert not host.connections
            assert not host.listen_addrs
        async with self.network:
            pass


def now() -> float:
    return asyncio.get_running_loop().time()


# Opening streams


async def test_one_protocol_costs_no_round_trip_several_cost_one_and_none_fits() -> None:
    async with Lan() as lan:
        a, b = await lan.host(), await lan.host()
        await b.connect(a.addrs[0])
        for offered, agreed, seconds in (
            (["/echo/1.0.0"], "/echo/1.0.0", 0.0),
            (["/echo/1.0.0", "/echo/0.9.0"], "/echo/1.0.0", 0.1),
            (["/echo/0.9.0", "/echo/1.0.0"], "/echo/0.9.0", 0.1),
            (["/nope", "/echo/1.0.0"], "/echo/1.0.0", 0.2),
        ):
            start = now()
            stream = await b.new_stream(a.id, *offered)
            assert now() - start == pytest.approx(seconds)
            assert stream.protocol == agreed
            start = now()
            await stream.write(b"hello")
            assert await stream.readexactly(5) == b"hello"
            assert now() - start == pytest.approx(0.1), "the offer and the data go together"
            await stream.close()


async def test_what_is_not_supported_is_named() -> None:
    async with Lan() as lan:
        a, b = await lan.host(), await lan.host()
        with pytest.raises(ProtocolNotSupported) as caught:
            await b.new_stream(a.addrs[0], "/x", "/y")
        assert caught.value.offered == ("/x", "/y")
        assert caught.value.peer == a.id
        assert str(a.id) in str(caught.value)
        for call in (
            lambda stream: stream.agreed(),
            lambda stream: stream.read(),
            lambda stream: stream.readexactly(1),
            lambda stream: stream.readuntil(),
            lambda stream: stream.write(bytes(1_000_000)),
        ):
            stream = await b.new_stream(a.id, "/x")
            for _ in range(2):
                with pytest.raises((ProtocolNotSupported, StreamReset)) as refused:
                    await call(stream)
            assert "/x" in str(refused.value) or isinstance(refused.value, StreamReset)
        stream = await b.new_stream(a.id, "/x")
        with pytest.raises(ProtocolNotSupported):
            async for _ in stream:
                pass
        await asyncio.sleep(1)
        assert not b.connections[0].streams
        await asyncio.sleep(10)
        assert not a.connections[0].streams
        with pytest.raises(ValueError, match="at least one protocol"):
            await b.new_stream(a.id)


async def test_a_peer_that_negotiates_for_ever_is_given_up() -> None:
    async with Lan() as lan:
        a, b = await lan.host(), await lan.host()
        connection = await b.connect(a.addrs[0])
        (inbound,) = await _until(lambda: a.connections)
        inbound._on_stream = lambda _: None  # answers nothing
        start = now()
        with pytest.raises(StageTimeout):
            await b.new_stream(a.id, "/x", "/y")
        assert now() - start == pytest.approx(3)
        stream = await inbound.open_stream()
        with pytest.raises(StreamReset) as caught:
            await stream.read()
        assert caught.value.code == StreamErrorCode.PROTOCOL_NEGOTIATION_FAILED
        assert not connection.is_closed


async def _until(what: Any) -> Any:
    for _ in range(100):
        if result := what():
            return result
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


# Connections


async def test_one_connection_serves_all_streams_both_ways() -> None:
    async with Lan() as lan:
        a, b = await lan.host(), await lan.host()
        streams = await asyncio.gather(*(b.new_stream(a.addrs[0], "/echo/1.0.0") for _ in range(20)))
        assert len({id(stream.connection) for stream in streams}) == 1
        assert await b.connect(a.id) is streams[0].connection
        assert await b.connect(streams[0].connection) is streams[0].connection
        (inbound,) = await _until(lambda: a.connections_to(b.id))
        assert (await a.new_stream(b.id, "/echo/1.0.0")).connection is inbound
        assert (len(a.connections), len(b.connections)) == (1, 1)


@pytest.mark.parametrize("end", ["close", "abort", "peer closes", "cable", "goodbye"])
async def test_a_connection_that_ended_is_replaced(end: str) -> None:
    async with Lan() as lan:
        a, b = await lan.host(), await lan.host()
        first = await b.new_stream(a.addrs[0], "/echo/1.0.0")
        connection: Any = first.connection
        await first.agreed()
        match end:
            case "close":
                await connection.close()
            case "abort":
                connection.abort()
            case "peer closes":
                await a.connections[0].close()
                await asyncio.sleep(0.06)
            case "cable":
                lan.network.cut(*lan.nodes, reset=True)
                await asyncio.sleep(1)
                lan.network.heal(*lan.nodes)
            case "goodbye":
                inbound: Any = a.connections[0]
                inbound._session.go_away(0)
                inbound._flush()
                await asyncio.sleep(0.06)
                assert not connection.close_reason
        second = await b.new_stream(a.id, "/echo/1.0.0")
        await second.write(b"x")
        assert await second.readexactly(1) == b"x"
        assert second.connection is not connection
        if end != "goodbye":
            with pytest.raises(ConnectionClosed):
                await first.read()
            with pytest.raises(ConnectionClosed):
                await b.new_stream(connection, "/echo/1.0.0")


async def test_both_dial_at_the_same_time() -> None:
    async with Lan() as lan:
        a, b = await lan.host(), await lan.host()
        both = await asyncio.gather(
            a.new_stream(b.addrs[0], "/echo/1.0.0"), b.new_stream(a.addrs[0], "/echo/1.0.0"), return_exceptions=True
        )
        for stream in both:
            assert isinstance(stream, Stream), stream
            await stream.write(b"x")
            assert await stream.readexactly(1) == b"x"
        await asyncio.sleep(1)
        assert len(a.connections) == len(b.connections) <= 2


async def test_peers_are_found_through_the_peer_store() -> None:
    async with Lan() as lan:
        a, b = await lan.host(), await lan.host()
        with pytest.raises(DialError, match="no addresses known"):
            await b.connect(a.id)
        b.peerstore.add_addrs(a.id, [Multiaddr("/ip4/10.0.0.1/tcp/9"), a.addrs[0]], 100)
        connection = await b.connect(str(a.id))
        assert connection.remote_addr == a.listen_addrs[0]
        assert b.peerstore.key(a.id) == a.key.public_key


async def test_somebody_else_answers() -> None:
    async with Lan() as lan:
        a, b = await lan.host(), await lan.host()
        stranger = PrivateKey.generate().public_key.peer_id
        failed: list[Any] = []
        a.events.on(InboundFailed, failed.append)
        with pytest.raises(DialError) as caught:
            await b.connect(a.listen_addrs[0].with_peer(str(stranger)))
        (error,) = caught.value.attempts.values()
        assert isinstance(error, PeerIdMismatch)
        assert (error.expected, error.actual) == (stranger, a.id)
        await asyncio.sleep(1)
        assert len(failed) == 1
        assert not a.connections + b.connections


async def test_targets_that_are_none() -> None:
    async with Lan() as lan:
        b = await lan.host(listen=False)
        for target, error in (
            ("/ip4/10.0.0.300/tcp/1", InvalidMultiaddr),
            ("Qm", InvalidPeerId),
            ("", InvalidPeerId),
            (b.id, DialError),
            ("/ip4/10.0.0.1/tcp/1", DialError),
            ("/ip4/10.0.0.99/tcp/1", DialError),
            ("/ip4/10.0.0.1/udp/1/quic-v1", DialError),
        ):
            with pytest.raises(error):
                await b.new_stream(target, "/x")


# Events


async def test_events_tell_the_story_in_order() -> None:
    async with Lan() as lan:
        a, b = await lan.host(), await lan.host()
        story: dict[Host, list[Any]] = {a: [], b: []}
        kinds = (ConnectionOpened, ConnectionLost, StreamStarted, StreamEnded, DialFailed, ListenAddrRemoved)
        for host, told in story.items():
            for kind in kinds:
                host.events.on(kind, told.append)
        stream = await b.new_stream(a.addrs[0], "/echo/1.0.0")
        await stream.write(b"x")
        await stream.close_write()
        assert await stream.read() == b"x"
        await b.new_stream(a.id, "/echo/1.0.0")
        await asyncio.sleep(1)
        await b.connections[0].close("enough")
        await asyncio.sleep(1)
        wanted = [ConnectionOpened, StreamStarted, StreamEnded, StreamStarted, StreamEnded, ConnectionLost]
        for told in story.values():
            assert [type(event) for event in told] == wanted
        assert story[b][0].connection.direction is Direction.OUTBOUND
        assert story[b][1].stream is stream
        assert (story[b][-1].reason.reason, story[b][-1].reason.by) == ("enough", "local")
        assert story[a][-1].reason.by == "remote"
        await a.close()
        assert type(story[a][-1]) is ListenAddrRemoved
        with pytest.raises(DialError):
            await b.connect(a.addrs[0] if a.addrs else "/ip4/10.0.0.1/tcp/4001")
        assert type(story[b][-1]) is DialFailed


async def test_listen_addresses_are_told() -> None:
    host = Host(listen_addrs=["/memory/0", "/memory/0"])
    told: list[Any] = []
    host.events.on(ListenAddrAdded, told.append)
    async with host:
        assert [event.addr for event in told] == host.listen_addrs
        assert [str(addr) for addr in host.addrs] == [f"{addr}/p2p/{host.id}" for addr in host.listen_addrs]
        taken = host.listen_addrs[0]
        with pytest.raises(ListenError, match="in use"):
            async with Host(listen_addrs=["/memory/0", taken]):
                pass


# The end


async def test_closing_amid_streams_tells_both_sides_why() -> None:
    async with Lan() as lan:
        a, b = await lan.host(), await lan.host()
        streams = [await b.new_stream(a.addrs[0], "/echo/1.0.0") for _ in range(3)]
        for stream in streams:
            await stream.agreed()
        reading = asyncio.ensure_future(streams[0].read())
        writing = asyncio.ensure_future(streams[1].write(bytes(50_000_000)))
        await asyncio.sleep(1)
        own = await b.new_stream(a.id, "/nobody-serves-it")
        closed = asyncio.ensure_future(streams[0].connection.wait_closed())
        await a.close()
        reason = await closed
        assert (reason.by, reason.code) == ("remote", 0)
        for call in (reading, writing, streams[2].read()):
            with pytest.raises(StreamReset) as caught:
                await call
            assert (caught.value.by, caught.value.code) == ("remote", StreamErrorCode.SHUTDOWN)
        with pytest.raises((StreamReset, ConnectionClosed)):
            await own.read()
        await a.close()
        await asyncio.gather(a.close(), a.close())
        with pytest.raises(DialError, match="closed"):
            await a.connect(b.addrs[0])
        assert a.spawn(asyncio.sleep(1), name="late") is None


async def test_background_tasks_end_with_the_host() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append("work")

    async with Host() as host:
        assert host.spawn(work(), name="work") is not None
        await asyncio.sleep(1)
    assert ended == ["work"]


async def test_a_handler_may_close_its_host() -> None:
    async with Lan() as lan:
        a, b = await lan.host(), await lan.host()

        @a.handle("/stop")
        async def stop(stream: Stream) -> None:
            await a.close()

        stream = await b.new_stream(a.addrs[0], "/stop")
        with pytest.raises((ConnectionClosed, StreamReset)):
            await asyncio.wait_for(stream.read(), 10)
        assert not a.connections


async def test_a_connection_is_a_plain_object_for_its_owner() -> None:
    async with Lan() as lan:
        a, b = await lan.host(), await lan.host()
        connection = await b.connect(a.addrs[0])
        assert isinstance(connection, Connection)
        assert (connection.security, connection.muxer) == ("/noise", "/yamux/1.0.0")
        assert connection.local_peer == b.id
        await asyncio.sleep(1)
        assert connection.rtt == pytest.approx(0.1)
        assert str(a.id) in repr(connection)
