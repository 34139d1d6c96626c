"""Fetch: values of keys by prefix, limits, and what misbehaving peers get."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libp2p.connection import Stream
from libp2p.errors import MessageTooLarge, ProtocolNotSupported, RemoteProtocolError, StageTimeout, StreamReset
from libp2p.host import Host
from libp2p.protocols.fetch import PROTOCOL_ID, Fetch, FetchConfig


@asynccontextmanager
async def pair(config: FetchConfig | None = None) -> AsyncIterator[tuple[Fetch, Fetch]]:
    async with (
        Host(listen_addrs=["/memory/0"]) as one,
        Host() as two,
        Fetch(one, config) as server,
        Fetch(two, config) as client,
    ):
        await two.connect(one.addrs[0])
        yield server, client


async def values(key: bytes) -> bytes | None:
    return {b"/v/a": b"1", b"/v/empty": b"", b"/v/large": bytes(2 * 1024 * 1024)}.get(key)


async def fails(key: bytes) -> bytes | None:
    raise ValueError("no")


async def sleeps(key: bytes) -> bytes | None:
    await asyncio.sleep(11)
    return b""


async def test_fetch() -> None:
    async with pair() as (server, client):
        server.register("/v/", values)
        server.register("/v/x/", fails)
        peer = server.host.id
        assert await client.fetch(peer, "/v/a") == b"1"
        assert await client.fetch(peer, b"/v/empty") == b""
        assert await client.fetch(peer, "/v/b") is None
        assert await client.fetch(peer, "/w/a") is None
        with pytest.raises(ValueError, match="already"):
            server.register(b"/v/", values)
        server.unregister("/v/")
        assert await client.fetch(peer, "/v/a") is None


async def test_a_lookup_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    async with pair() as (server, client):
        server.register("/v/", values)
        server.register("/f/", fails)
        server.register("/s/", sleeps)
        for key in ("/f/a", "/v/large"):
            with pytest.raises(RemoteProtocolError, match="could not look up"):
                await client.fetch(server.host.id, key)
        with pytest.raises((StageTimeout, StreamReset)):
            await client.fetch(server.host.id, "/s/a")
        assert await client.fetch(server.host.id, "/v/a") == b"1"


async def test_bounds() -> None:
    async with pair(FetchConfig(max_streams_per_peer=2)) as (server, client):
        server.register("", values)
        with pytest.raises(StreamReset):
            await client.fetch(server.host.id, bytes(2000))
        streams = [await client.host.new_stream(server.host.id, PROTOCOL_ID) for _ in range(3)]
        with pytest.raises(StreamReset):
            await streams[2].read()
        await asyncio.sleep(11)
        for stream in streams[:2]:
            with pytest.raises(StreamReset):
                await stream.read()
        stream = await client.host.new_stream(server.host.id, PROTOCOL_ID)
        await stream.write_message(b"\xff")
        with pytest.raises(StreamReset):
            await stream.read()


async def test_answers_are_bounded_and_checked() -> None:
    answers = [b"\x12\xe4\x80\x40" + bytes(1024 * 1024 + 100), b"\xff", b"\x08\x07"]

    async def serve(stream: Stream) -> None:
        await stream.read_message(limit=99)
        await stream.write_message(answers.pop(0))

    async with Host(listen_addrs=["/memory/0"]) as one, Host() as two, Fetch(two) as client:
        one.handle(PROTOCOL_ID)(serve)
        for error in (MessageTooLarge, RemoteProtocolError, RemoteProtocolError):
            with pytest.raises(error):
                await client.fetch(one.addrs[0], "a")


async def test_behind_its_end_nothing_is_served() -> None:
    async with Host(listen_addrs=["/memory/0"]) as one, Host() as two, Fetch(two) as client:
        async with Fetch(one):
            pass
        with pytest.raises(ProtocolNotSupported):
            await client.fetch(one.addrs[0], "a")
