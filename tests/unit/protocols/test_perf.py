"""Perf: amounts, limits, timing, misbehaving peers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libp2p.connection import Connection, Stream, StreamErrorCode
from libp2p.errors import InvalidInput, ProtocolNotSupported, RemoteProtocolError, StreamReset
from libp2p.host import Host
from libp2p.protocols.perf import PROTOCOL_ID, Perf, PerfConfig, PerfResult, measure

MB = 1_000_000


@asynccontextmanager
async def served(config: PerfConfig | None = None) -> AsyncIterator[tuple[Host, Host, Connection]]:
    async with Host(listen_addrs=["/memory/0"]) as server, Host() as client, Perf(server, config):
        yield server, client, await client.connect(server.addrs[0])


@pytest.mark.parametrize(
    ("upload", "download"), [(0, 0), (1, 0), (0, 1), (3 * MB + 7, 0), (0, 3 * MB + 7), (2 * MB, 1024 * 1024)]
)
async def test_amounts(upload: int, download: int) -> None:
    async with served() as (_, client, connection):
        done = {"upload": 0, "download": 0}

        def progress(direction: str, amount: int) -> None:
            assert amount > done[direction]
            done[direction] = amount

        result = await measure(client, connection, upload=upload, download=download, progress=progress)
        assert (result.upload_bytes, result.download_bytes) == (upload, download)
        assert done == {"upload": upload, "download": download}
        assert (result.upload_seconds > 0) == (upload > 0)
        assert (result.download_seconds > 0) == (download > 0)


async def test_the_server_follows_the_spec_byte_by_byte() -> None:
    async with served() as (_, client, connection):
        stream = await client.new_stream(connection, PROTOCOL_ID)
        await stream.write((5).to_bytes(8, "big"))
        await stream.write(b"upload")
        with pytest.raises(TimeoutError):  # "MUST NOT be run concurrently"
            async with asyncio.timeout(10):
                await stream.read(1)
        await stream.close_write()
        assert await stream.read() == bytes(5)


async def test_an_upload_is_timed_until_the_peer_has_it_and_a_download_to_its_end() -> None:
    async with Host(listen_addrs=["/memory/0"]) as server, Host() as client:

        @server.handle(PROTOCOL_ID)
        async def slow(stream: Stream) -> None:
            wanted = int.from_bytes(await stream.readexactly(8), "big")
            await stream.read()
            await asyncio.sleep(4)  # the upload is taken
            for _ in range(wanted):
                await stream.write(b"x")
                await asyncio.sleep(1)

        clock = asyncio.get_running_loop().time
        target = server.addrs[0]
        assert await measure(client, target, upload=9, download=0, clock=clock) == PerfResult(9, 4, 0, 0)
        assert await measure(client, target, upload=9, download=3, clock=clock) == PerfResult(9, 4, 3, 3)
        assert await measure(client, target, upload=0, download=3, clock=clock) == PerfResult(0, 0, 3, 7)


@pytest.mark.parametrize(("sent", "asked"), [(0, 1), (9, 10), (11, 10), (5 * MB, 10)])
async def test_another_amount_than_asked_for_is_an_error(sent: int, asked: int) -> None:
    async with Host(listen_addrs=["/memory/0"]) as server, Host() as client:

        @server.handle(PROTOCOL_ID)
        async def lie(stream: Stream) -> None:
            await stream.read()
            await stream.write(bytes(sent))

        with pytest.raises(RemoteProtocolError, match=str(server.id)):
            await measure(client, server.addrs[0], upload=0, download=asked)


async def test_a_peer_that_sends_without_end_is_stopped() -> None:
    async with Host(listen_addrs=["/memory/0"]) as server, Host() as client:

        @server.handle(PROTOCOL_ID)
        async def flood(stream: Stream) -> None:
            while True:
                await stream.write(bytes(100_000))

        with pytest.raises(RemoteProtocolError, match="more than the 10 bytes asked for"):
            await measure(client, server.addrs[0], upload=0, download=10)


@pytest.mark.parametrize(("upload", "download"), [(1001, 0), (0, 1001), (5 * MB, 0), (0, 2**64 - 1)])
async def test_more_than_the_limit_is_reset(upload: int, download: int) -> None:
    async with served(PerfConfig(max_bytes=1000)) as (_, client, connection):
        with pytest.raises(StreamReset) as reset:
            await measure(client, connection, upload=upload, download=download)
        assert reset.value.code == StreamErrorCode.RESOURCE_LIMIT_EXCEEDED
        assert (await measure(client, connection, upload=1000, download=1000)).download_bytes == 1000


async def test_one_stream_too_many_of_a_peer_is_reset() -> None:
    async with served(PerfConfig(max_streams_per_peer=1)) as (_, client, connection):
        first = await client.new_stream(connection, PROTOCOL_ID)
        with pytest.raises(StreamReset) as reset:
            await measure(client, connection, upload=1, download=1)
        assert reset.value.code == StreamErrorCode.RESOURCE_LIMIT_EXCEEDED
        first.reset()
        await asyncio.sleep(1)
        await measure(client, connection, upload=1, download=1)


async def test_an_endless_download_ends_with_the_client() -> None:
    async with served() as (_, client, connection):
        with pytest.raises(StopAsyncIteration):
            await measure(client, connection, upload=0, download=2**64 - 1, progress=stop_at_5_mb)
        await asyncio.sleep(1)
        assert not connection.streams


def stop_at_5_mb(_: str, amount: int) -> None:
    if amount > 5 * MB:
        raise StopAsyncIteration


async def test_perf_is_served_only_while_it_is_entered() -> None:
    async with Host(listen_addrs=["/memory/0"]) as server, Host() as client:
        async with Perf(server):
            await measure(client, server.addrs[0], upload=1, download=1)
        with pytest.raises(ProtocolNotSupported):
            await measure(client, server.addrs[0], upload=1, download=1)


@pytest.mark.parametrize(("upload", "download"), [(-1, 0), (0, -1), (2**64, 0), (0, 2**64)])
async def test_impossible_amounts(upload: int, download: int) -> None:
    async with served() as (_, client, connection):
        with pytest.raises(InvalidInput):
            await measure(client, connection, upload=upload, download=download)
