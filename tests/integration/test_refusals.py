"""A protocol that the listener does not support: the dialer learns just that, whatever the two ends do meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from libp2p import Host, ProtocolNotSupported, Stream, StreamReset
from libp2p.connection import Connection, StreamErrorCode, Transport
from libp2p.multiaddr import Multiaddr
from libp2p.testing.conformance.tools import ends
from libp2p.testing.conformance.transports import LISTENER, Reports
from libp2p.testing.network import Link, Network, Node
from libp2p.testing.transports import context
from libp2p.transports.quic import Quic

NO = "/no/1.0.0"
REFUSAL = b"\x13/multistream/1.0.0\n\x03na\n"
BAD = Link(latency=0.002, jitter=0.002, loss=0.05)


def quic(node: Node) -> tuple[Transport, str]:
    return Quic(open_socket=node.udp()), f"/ip4/{node.ips[0]}/udp/4001/quic-v1"


def streams(node: Node) -> tuple[Transport, str]:
    return node.transport(), f"/ip4/{node.ips[0]}/tcp/4001"


@asynccontextmanager
async def meeting(kind: Callable[[Node], tuple[Transport, str]], link: Link) -> AsyncIterator[tuple[Host, Connection]]:
    network = Network(seed=11, link=link)
    async with network:
        near, _ = kind(network.node("10.0.0.1"))
        far, addr = kind(network.node("10.0.0.2"))
        async with Host(LISTENER, transports=[far], listen_addrs=[addr]) as listener, Host(transports=[near]) as dialer:
            yield dialer, await dialer.connect(listener.addrs[0])


async def read(stream: Stream) -> None:
    await stream.read()


async def end_and_read(stream: Stream) -> None:
    await stream.close_write()
    await stream.read()


async def write_a_little_and_read(stream: Stream) -> None:
    await stream.write(b"\xff" * 100)
    await stream.close_write()
    await stream.readexactly(1)


async def write_much(stream: Stream) -> None:
    while True:
        await stream.write(bytes(100_000))


async def only_ask(stream: Stream) -> None:
    await stream.agreed()


USES = [read, end_and_read, write_a_little_and_read, write_much, only_ask]


@pytest.mark.parametrize("kind", [quic, streams])
@pytest.mark.parametrize("use", USES)
async def test_a_refusal_is_seen_as_one(use: Callable[[Stream], Awaitable[None]], kind: object) -> None:
    assert callable(kind)
    link = BAD if kind is quic else Link(latency=0.002)
    async with meeting(kind, link) as (dialer, connection):
        for _ in range(40):
            stream = await ends(dialer.new_stream(connection, NO))
            with pytest.raises(ProtocolNotSupported) as caught:
                await ends(use(stream))
            assert caught.value.offered == (NO,)
        assert not connection.is_closed


async def test_several_that_are_refused() -> None:
    async with meeting(quic, BAD) as (dialer, connection):
        for _ in range(40):
            with pytest.raises(ProtocolNotSupported) as caught:
                await ends(dialer.new_stream(connection, NO, "/no/2.0.0"))
            assert caught.value.offered == (NO, "/no/2.0.0")


CODE = StreamErrorCode.PROTOCOL_NEGOTIATION_FAILED


@pytest.mark.parametrize("protocols", [(NO,), (NO, "/no/2.0.0")], ids=["one", "two"])
@pytest.mark.parametrize("answer", [REFUSAL, b""], ids=["na", "silent"])
async def test_a_peer_that_resets_behind_its_refusal(answer: bytes, protocols: tuple[str, ...]) -> None:
    """As go-libp2p does: the reset overtakes the answer, which then never comes."""
    network = Network(seed=11, link=Link(latency=0.002))
    async with network:
        far = Quic(open_socket=network.node("10.0.0.2").udp()).use(context(LISTENER))
        reports = Reports()
        listener = await far.listen(Multiaddr("/ip4/10.0.0.2/udp/4001/quic-v1"), reports)
        async with Host(transports=[Quic(open_socket=network.node("10.0.0.1").udp())]) as dialer:
            connection = await dialer.connect(listener.addrs[0].with_peer(str(LISTENER.public_key.peer_id)))
            accepted = await ends(reports.opened.get())
            tasks: list[asyncio.Task[None]] = []

            async def refuse(stream: Stream) -> None:
                if answer:
                    await stream.write(answer)
                stream.reset(CODE)

            accepted.serve(lambda stream: tasks.append(asyncio.ensure_future(refuse(stream))), lambda reason: None)
            for use in USES:
                with pytest.raises(ProtocolNotSupported):
                    await ends(use(await ends(dialer.new_stream(connection, *protocols))))
            await asyncio.gather(*tasks)
            await accepted.close()
        await listener.close()


async def test_other_resets_are_no_refusals() -> None:
    async with meeting(quic, Link(latency=0.002)) as (dialer, connection):
        stream = await ends(dialer.new_stream(connection, "/ipfs/ping/1.0.0"))
        await ends(stream.agreed())
        stream._incoming.set_error(StreamReset(CODE, by="remote"))
        with pytest.raises(StreamReset):
            await ends(stream.read())
