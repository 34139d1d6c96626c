"""Whole hosts over real TCP: addresses, refusals, and that an end in order loses nothing."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from typing import Any

import pytest

from libp2p.connection import Stream
from libp2p.errors import ConnectionClosed, DialError, ListenError
from libp2p.host import Host, HostConfig
from libp2p.host.identify import IdentifyConfig
from libp2p.multiaddr import Multiaddr, host_port
from libp2p.swarm import ConnectionLost

pytestmark = pytest.mark.real

QUIET = HostConfig(identify=IdentifyConfig(automatic=False))
DATA = bytes(range(256)) * 20_000  # 5 MB
LOCAL = ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0", "/ip4/127.0.0.1/tcp/0"]


async def echo(stream: Stream) -> None:
    async for chunk in stream:
        await stream.write(chunk)


async def test_several_addresses_at_once() -> None:
    async with Host(listen_addrs=[*LOCAL, "/ip4/0.0.0.0/tcp/0"]) as a, Host() as b:
        a.handle("/echo")(echo)
        assert len(set(a.listen_addrs)) >= 4
        for addr in a.listen_addrs:
            if str(addr).startswith(("/ip4/127.0.0.1/", "/ip6/::1/")):
                stream = await b.new_stream(addr, "/echo")
                await stream.write(b"x")
                assert await stream.readexactly(1) == b"x"
                assert stream.connection.remote_addr == addr
        for connection in [*a.connections, *b.connections]:
            transport: Any = connection._channel._raw._transport  # type: ignore[attr-defined]
            assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_dialed_peer_can_dial_back_where_it_was_dialed_from() -> None:
    async with Host(listen_addrs=LOCAL[:1]) as a, Host(listen_addrs=LOCAL[:1]) as b:
        await b.connect(a.addrs[0])
        (inbound,) = await _until(lambda: a.connections_to(b.id))
        assert inbound.remote_addr == b.listen_addrs[0]


async def test_what_cannot_be_had_is_named() -> None:
    async with Host(listen_addrs=LOCAL[:1]) as a:
        with pytest.raises(ListenError, match="in use") as taken:
            async with Host(listen_addrs=[LOCAL[0], a.listen_addrs[0]]):
                pass
        assert taken.value.address == a.listen_addrs[0]
        addr = a.addrs[0]
    async with Host() as b:
        with pytest.raises(DialError) as refused:
            await b.connect(addr)
        assert "ConnectionRefusedError" in str(refused.value)
        assert list(refused.value.attempts) == [addr.without_peer()]
    async with Host(listen_addrs=[addr.without_peer()]) as c:  # the port is free again
        assert c.listen_addrs == [addr.without_peer()]


@pytest.mark.parametrize("end", ["close", "leave"])
async def test_closing_right_behind_writing_delivers_every_byte(end: str) -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    async with Host(listen_addrs=LOCAL[:1], config=QUIET) as a:

        @a.handle("/sink")
        async def sink(stream: Stream) -> None:
            got.set_result(hashlib.sha256(await stream.read()).digest())

        async with Host(config=QUIET) as b:
            stream = await b.new_stream(a.addrs[0], "/sink")
            await stream.write(DATA)
            await (stream.close() if end == "close" else stream.close_write())
        assert await asyncio.wait_for(got, 10) == hashlib.sha256(DATA).digest()
        await _until(lambda: not a.connections)


async def test_what_a_handler_sent_last_arrives_though_its_host_closes() -> None:
    a = Host(listen_addrs=LOCAL[:1], config=QUIET)
    sent = asyncio.Event()

    @a.handle("/source")
    async def source(stream: Stream) -> None:
        await stream.write(DATA)
        await stream.close()
        sent.set()

    async with a, Host(config=QUIET) as b:
        stream = await b.new_stream(a.addrs[0], "/source")
        reading = asyncio.ensure_future(stream.read())
        await sent.wait()
        await a.close()
        assert await reading == DATA


async def test_an_abrupt_end_is_told_to_every_call() -> None:
    async with Host(listen_addrs=LOCAL[:1], config=QUIET) as a, Host(config=QUIET) as b:
        a.handle("/echo")(echo)
        lost: list[Any] = []
        b.events.on(ConnectionLost, lost.append)
        stream, other = [await b.new_stream(a.addrs[0], "/echo") for _ in range(2)]
        await stream.agreed()
        calls = [asyncio.ensure_future(call) for call in (stream.read(), other.write(bytes(50_000_000)))]
        await asyncio.sleep(0.05)
        transport: Any = a.connections[0]._channel._raw._transport  # type: ignore[attr-defined]
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, as of a crashed process
        a.connections[0].abort()
        for call in calls:
            with pytest.raises(ConnectionClosed) as caught:
                await call
            assert caught.value.by == "remote"
        assert [event.reason.by for event in lost] == ["remote"]


async def test_many_hosts_meet_at_once() -> None:
    async with Host(listen_addrs=LOCAL[:1], config=QUIET) as a:
        a.handle("/echo")(echo)

        async def visit() -> None:
            async with Host(config=QUIET) as visitor:
                stream = await visitor.new_stream(a.addrs[0], "/echo")
                await stream.write(DATA[:100_000])
                assert await stream.readexactly(100_000) == DATA[:100_000]

        await asyncio.gather(*(visit() for _ in range(30)))
        await _until(lambda: not a.connections)


async def test_ports_of_a_wildcard_are_one() -> None:
    async with Host(listen_addrs=["/ip4/0.0.0.0/tcp/0"]) as a:
        (port,) = {host_port(addr).port for addr in a.listen_addrs}
        assert Multiaddr(f"/ip4/127.0.0.1/tcp/{port}") in a.listen_addrs
        assert not any("0.0.0.0" in str(addr) for addr in a.listen_addrs)


async def _until(what: Any) -> Any:
    async with asyncio.timeout(5):
        while not (result := what()):  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.005)
        return result
