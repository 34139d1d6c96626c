"""AutoNAT v1, for old peers, in a simulated network."""

from __future__ import annotations

import asyncio

from libp2p.host.addrs import AddrSource
from libp2p.host.events import Reachability, ReachabilityChanged
from libp2p.io import read_protobuf, write_protobuf
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.autonat import AutoNatV1Server
from libp2p.protocols.autonat.autonat_v1_pb2 import Message
from libp2p.protocols.autonat.v1 import PROTOCOL_ID, StatusV1, check_v1
from libp2p.testing.nat import Nat

from .test_autonat import World, world

HERE = Multiaddr("/ip4/30.0.0.1/tcp/4001")


async def old_servers(some: World, count: int) -> list[Multiaddr]:
    """Addresses of hosts that speak v1 only."""
    found = []
    for n in range(count):
        host = await some.host(some.network.node(f"20.{n}.0.1"))
        await some.stack.enter_async_context(AutoNatV1Server(host))
        found.append(host.addrs[0])
    return found


async def test_old_servers_are_asked_where_there_are_no_others() -> None:
    async with world() as some:
        public = await some.host(some.network.node("30.0.0.1"))
        private = await some.host(Nat(some.network, "31.0.0.1").node("192.168.0.2"))
        private.own_addrs.set(AddrSource.OBSERVED, [Multiaddr("/ip4/31.0.0.1/tcp/20001")], by="test")
        states = [await some.client(public), await some.client(private)]
        for addr in await old_servers(some, 3):
            await public.connect(addr)
            await private.connect(addr)
        await asyncio.sleep(120)
        assert states[0].state == ReachabilityChanged(Reachability.PUBLIC, (HERE,))
        assert states[1].state == ReachabilityChanged(Reachability.PRIVATE)


async def test_a_failure_is_answered_late_and_success_names_the_address() -> None:
    async with world() as some:
        host = await some.host(some.network.node("30.0.0.1"))
        (addr,) = await old_servers(some, 1)
        connection = await host.connect(addr)
        closed = Multiaddr("/ip4/30.0.0.1/tcp/9")
        start = asyncio.get_running_loop().time()
        assert await check_v1(host, connection, [closed], timeout=30) == {closed: False}
        assert asyncio.get_running_loop().time() - start >= 15
        assert await check_v1(host, connection, [closed, HERE], timeout=30) == {HERE: True}


async def test_no_other_ip_is_dialed_and_no_other_peer() -> None:
    async with world() as some:
        host = await some.host(some.network.node("30.0.0.1"))
        (addr,) = await old_servers(some, 1)
        connection = await host.connect(addr)
        statuses = []
        for peer, text in (
            (host.id, "/ip4/40.0.0.1/tcp/1"),
            (host.id, "/ip4/192.168.0.1/tcp/1"),
            (connection.remote_peer, str(HERE)),
            *((host.id, str(HERE)) for _ in range(4)),
        ):
            stream = await host.new_stream(connection, PROTOCOL_ID)
            info = Message.PeerInfo(id=peer.to_bytes(), addrs=[Multiaddr(text).to_bytes()])
            await write_protobuf(stream, Message(type=0, dial=Message.Dial(peer=info)))
            statuses.append((await read_protobuf(stream, Message, limit=8192)).dialResponse.status)
        assert statuses == [
            StatusV1.E_DIAL_REFUSED,
            StatusV1.E_DIAL_REFUSED,
            StatusV1.E_BAD_REQUEST,
            *[StatusV1.OK] * 3,
            StatusV1.E_DIAL_REFUSED,
        ]


def test_messages_to_the_byte() -> None:
    info = Message.PeerInfo(id=b"id", addrs=[HERE.to_bytes()])
    message = Message(type=0, dial=Message.Dial(peer=info))
    assert message.SerializeToString().hex() == "080012100a0e0a0269641208041e000001060fa1"
    response = Message.DialResponse(status=0, addr=HERE.to_bytes())
    answer = Message(type=1, dialResponse=response)
    assert answer.SerializeToString().hex() == "08011a0c08001a08041e000001060fa1"
