"""AutoNAT v2: clients and servers in a simulated network, with NATs, liars and those who ask too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from libp2p.connection import DialOptions, LocalPort, Stream
from libp2p.errors import RemoteProtocolError, StreamReset
from libp2p.host import Host
from libp2p.host.addrs import AddrSource
from libp2p.host.events import Reachability, ReachabilityChanged
from libp2p.identity import PrivateKey
from libp2p.io import read_protobuf, write_protobuf
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.autonat import (
    BACK_ID,
    REQUEST_ID,
    AutoNat,
    AutoNatConfig,
    AutoNatServer,
    Checked,
    DialStatus,
    ResponseStatus,
)
from libp2p.protocols.autonat.autonat_pb2 import (
    DialBack,
    DialBackResponse,
    DialDataRequest,
    DialDataResponse,
    DialRequest,
    DialResponse,
    Message,
)
from libp2p.protocols.autonat.core import Confidence
from libp2p.security.noise import Noise
from libp2p.testing.nat import Nat
from libp2p.testing.network import Link, Network, Node

QUIET = AutoNatConfig(delay=1e6)
"""Asks nothing by itself."""


class World:
    def __init__(self, stack: AsyncExitStack, network: Network) -> None:
        self.stack = stack
        self.network = network

    async def host(self, node: Node) -> Host:
        """A host on `node`."""
        host = Host(PrivateKey.generate(), ["/ip4/0.0.0.0/tcp/4001"], transports=[node.transport()], security=[Noise()])
        return await self.stack.enter_async_context(host)

    async def servers(self, count: int) -> list[tuple[Host, AutoNatServer]]:
        """Hosts that dial back, each in a network of its own."""
        found = []
        for n in range(count):
            host = await self.host(self.network.node(f"20.{n}.0.1"))
            found.append((host, await self.stack.enter_async_context(AutoNatServer(host))))
        return found

    async def client(self, host: Host, config: AutoNatConfig | None = None) -> AutoNat:
        """What asks for `host`."""
        return await self.stack.enter_async_context(AutoNat(host, config))


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(stack, await stack.enter_async_context(Network(link=Link(latency=0.02))))


async def test_a_public_host_learns_that_it_is_public() -> None:
    async with world() as some:
        host = await some.host(some.network.node("30.0.0.1"))
        told: list[ReachabilityChanged] = []
        host.events.on(ReachabilityChanged, told.append)
        client = await some.client(host)
        for server, _ in await some.servers(3):
            await host.connect(server.addrs[0])
        await asyncio.sleep(60)
        assert told == [ReachabilityChanged(Reachability.PUBLIC, (Multiaddr("/ip4/30.0.0.1/tcp/4001"),))]
        assert client.state == told[0]


async def test_a_host_behind_a_nat_learns_that_it_is_private() -> None:
    async with world() as some:
        host = await some.host(Nat(some.network, "30.0.0.1").node("192.168.0.2"))
        host.own_addrs.set(AddrSource.OBSERVED, [Multiaddr("/ip4/30.0.0.1/tcp/20001")], by="test")
        client = await some.client(host)
        for server, _ in await some.servers(3):
            await host.connect(server.addrs[0])
        await asyncio.sleep(120)
        assert client.state == ReachabilityChanged(Reachability.PRIVATE)


async def test_one_server_decides_nothing() -> None:
    async with world() as some:
        host = await some.host(some.network.node("30.0.0.1"))
        client = await some.client(host)
        ((server, _),) = await some.servers(1)
        await host.connect(server.addrs[0])
        await asyncio.sleep(3600)
        assert client.state.reachability is Reachability.UNKNOWN


async def test_another_ip_costs_more_than_the_dial_of_it() -> None:
    """Amplification below 1: what the asker sends is more than the server sends to the third."""
    async with world() as some:
        node = some.network.node("30.0.0.1", "30.0.0.2")
        host = await some.host(node)
        client = await some.client(host, QUIET)
        ((server, _),) = await some.servers(1)
        connection = await host.connect(server.addrs[0])
        before = connection.bytes_written
        checked = await client.check(connection, [Multiaddr("/ip4/30.0.0.1/tcp/4001")])
        assert checked == Checked(Multiaddr("/ip4/30.0.0.1/tcp/4001"), reached=True)
        assert connection.bytes_written - before < 1000
        checked = await client.check(connection, [Multiaddr("/ip4/30.0.0.2/tcp/4001")])
        assert checked == Checked(Multiaddr("/ip4/30.0.0.2/tcp/4001"), reached=True)
        assert 30_000 < connection.bytes_written - before < 110_000


@pytest.mark.parametrize(
    "addr", ["/ip4/192.168.0.1/tcp/22", "/ip4/127.0.0.1/tcp/22", "/ip4/30.0.0.1/udp/1", "/dns4/example.com/tcp/1"]
)
async def test_what_is_not_dialed(addr: str) -> None:
    async with world() as some:
        host = await some.host(some.network.node("30.0.0.1"))
        ((server, _),) = await some.servers(1)
        stream = await host.new_stream(server.addrs[0], REQUEST_ID)
        await ask(stream, addr)
        answer = await read_protobuf(stream, Message, limit=8192)
        assert answer.dialResponse.status == ResponseStatus.E_DIAL_REFUSED


async def test_only_the_first_address_that_can_be_dialed_is() -> None:
    async with world() as some:
        host = await some.host(some.network.node("30.0.0.1"))
        client = await some.client(host, QUIET)
        ((server, _),) = await some.servers(1)
        connection = await host.connect(server.addrs[0])
        addrs = [
            Multiaddr("/ip4/10.0.0.1/tcp/1"),
            Multiaddr("/ip4/30.0.0.1/tcp/9"),
            Multiaddr("/ip4/30.0.0.1/tcp/4001"),
        ]
        assert await client.check(connection, addrs) == Checked(addrs[1], reached=False)


async def test_who_asks_too_often_is_rejected() -> None:
    async with world() as some:
        host = await some.host(some.network.node("30.0.0.1"))
        ((server, _),) = await some.servers(1)
        connection = await host.connect(server.addrs[0])
        statuses = []
        for _ in range(15):
            stream = await host.new_stream(connection, REQUEST_ID)
            await ask(stream, "/ip4/10.0.0.1/tcp/1")
            statuses.append((await read_protobuf(stream, Message, limit=8192)).dialResponse.status)
        assert statuses == [ResponseStatus.E_DIAL_REFUSED] * 12 + [ResponseStatus.E_REQUEST_REJECTED] * 3


async def test_crumbs_of_data_are_refused() -> None:
    async with world() as some:
        host = await some.host(some.network.node("30.0.0.1"))
        ((server, _),) = await some.servers(1)
        stream = await host.new_stream(server.addrs[0], REQUEST_ID)
        await ask(stream, "/ip4/40.0.0.1/tcp/1")
        demand = (await read_protobuf(stream, Message, limit=8192)).dialDataRequest
        assert 30_000 <= demand.numBytes <= 100_000
        await write_protobuf(stream, Message(dialDataResponse=DialDataResponse(data=b"crumb")))
        with pytest.raises(StreamReset):
            await stream.read()


async def test_liars_are_not_believed() -> None:
    """Who says that it has dialed, and has not: or hands over the nonce on the connection that there was."""
    async with world() as some:
        host, liar = await some.host(some.network.node("30.0.0.1")), await some.host(some.network.node("40.0.0.1"))
        client = await some.client(host, QUIET)
        addr = Multiaddr("/ip4/30.0.0.1/tcp/4001")
        refused = []

        @liar.handle(REQUEST_ID)
        async def lie(stream: Stream) -> None:
            request = (await read_protobuf(stream, Message, limit=8192)).dialRequest
            for nonce, connection in ((request.nonce, stream.connection), (request.nonce ^ 1, None)):
                back = await liar.new_stream(connection or host.id, BACK_ID)
                await write_protobuf(back, DialBack(nonce=nonce))
                try:
                    await read_protobuf(back, DialBackResponse, limit=100)
                except StreamReset as error:
                    refused.append(error)
            answer = DialResponse(status=ResponseStatus.OK, addrIdx=0, dialStatus=DialStatus.OK)
            await write_protobuf(stream, Message(dialResponse=answer))

        connection = await host.connect(liar.addrs[0])
        assert await client.check(connection, [addr]) is None
        assert len(refused) == 2


@pytest.mark.parametrize(
    "demand", [DialDataRequest(addrIdx=0, numBytes=100_001), DialDataRequest(addrIdx=1, numBytes=1)]
)
async def test_a_server_that_demands_too_much_gets_nothing(demand: DialDataRequest) -> None:
    async with world() as some:
        host, greedy = await some.host(some.network.node("30.0.0.1")), await some.host(some.network.node("40.0.0.1"))
        client = await some.client(host, QUIET)

        @greedy.handle(REQUEST_ID)
        async def demand_much(stream: Stream) -> None:
            await read_protobuf(stream, Message, limit=8192)
            await write_protobuf(stream, Message(dialDataRequest=demand))
            await stream.read()

        connection = await host.connect(greedy.addrs[0])
        with pytest.raises(RemoteProtocolError, match="demanded"):
            await client.check(connection, [Multiaddr("/ip4/30.0.0.1/tcp/4001")])


def test_messages_to_the_byte() -> None:
    request = Message(
        dialRequest=DialRequest(addrs=[Multiaddr("/ip4/192.0.2.1/tcp/1").to_bytes()], nonce=0x0102030405060708)
    )
    assert request.SerializeToString().hex() == "0a130a0804c00002010600011108070605040302 01".replace(" ", "")
    response = Message(dialResponse=DialResponse(status=200, addrIdx=1, dialStatus=100))
    assert response.SerializeToString().hex() == "120708c80110011864"
    assert DialBack(nonce=1).SerializeToString().hex() == "090100000000000000"


def test_confidence() -> None:
    config, a, b = AutoNatConfig(), Multiaddr("/ip4/30.0.0.1/tcp/1"), Multiaddr("/ip4/30.0.0.1/tcp/2")
    some = Confidence(config)
    some.set_addrs([a, b])
    for _ in range(10):
        some.answered(a, "one", True, 0.0)
    assert some.reachability is Reachability.UNKNOWN
    some.answered(a, "two", True, 1.0)
    assert (some.public, some.reachability) == ((a,), Reachability.PUBLIC)
    assert some.due(2.0) == [b]
    assert some.due(3601.0) == [b, a]
    for n in range(3):  # it was reached from few, and is from most no more
        some.answered(a, f"later {n}", False, 3601.0)
    assert some.public == (a,)
    some.answered(a, "one", False, 3602.0)
    some.answered(a, "two", False, 3602.0)
    assert some.public == ()
    for n in range(2):
        some.answered(b, f"{n}", False, 3602.0)
    assert some.reachability is Reachability.PRIVATE
    some.set_addrs([])
    some.answered(a, "one", True, 0.0)
    assert some.reachability is Reachability.UNKNOWN


async def ask(stream: Stream, *addrs: str) -> None:
    request = DialRequest(addrs=[Multiaddr(addr).to_bytes() for addr in addrs], nonce=7)
    await write_protobuf(stream, Message(dialRequest=request))


async def test_slow_data_is_cut_off_and_nobody_is_dialed() -> None:
    async with world() as some:
        ((server, _),) = await some.servers(1)
        host, third = await some.host(some.network.node("30.0.0.1")), await some.host(some.network.node("40.0.0.1"))
        connection = await host.connect(server.addrs[0])
        begun = asyncio.get_running_loop().time()
        async with await host.new_stream(connection, REQUEST_ID) as stream:
            await write_protobuf(
                stream, Message(dialRequest=DialRequest(addrs=[third.listen_addrs[0].to_bytes()], nonce=1))
            )
            assert (await read_protobuf(stream, Message, limit=8192)).WhichOneof("msg") == "dialDataRequest"
            with pytest.raises(StreamReset):
                await _trickle(stream)
        assert 14 <= asyncio.get_running_loop().time() - begun <= 17
        await asyncio.sleep(60)
        assert not third.connections


async def test_a_nonce_that_comes_twice_counts_once() -> None:
    async with world() as some:
        host, eager = await some.host(some.network.node("30.0.0.1")), await some.host(some.network.node("40.0.0.1"))
        client = await some.client(host, QUIET)
        addr = Multiaddr("/ip4/30.0.0.1/tcp/4001")

        @eager.handle(REQUEST_ID)
        async def answer_twice(stream: Stream) -> None:
            request = (await read_protobuf(stream, Message, limit=8192)).dialRequest
            options = DialOptions(local_port=LocalPort.FRESH, new_connection=True, only_given=True)
            back = await eager.swarm.connect(host.id, [addr], options)
            for _ in range(2):
                one = await eager.new_stream(back, BACK_ID)
                await write_protobuf(one, DialBack(nonce=request.nonce))
                await read_protobuf(one, DialBackResponse, limit=100)
            answer = DialResponse(status=ResponseStatus.OK, addrIdx=0, dialStatus=DialStatus.OK)
            for _ in range(2):
                await write_protobuf(stream, Message(dialResponse=answer))

        assert await client.check(await host.connect(eager.addrs[0]), [addr]) == Checked(addr, reached=True)
        assert not client._dialed


async def _trickle(stream: Stream) -> None:
    """Data, as slowly as a server may take it for enough."""
    while True:
        await write_protobuf(stream, Message(dialDataResponse=DialDataResponse(data=bytes(200))))
        await asyncio.sleep(1)
