"""What one peer can make a connection hold, and who pays when it is too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libp2p.connection import Direction, MemoryLimitReached, Muxer, Stream, StreamErrorCode
from libp2p.errors import StreamReset
from libp2p.identity import PrivateKey
from libp2p.io import HostMemory, MemoryAccount, MemoryConfig
from libp2p.muxers.mplex import Mplex
from libp2p.muxers.yamux import Yamux
from libp2p.testing.conformance.channel import clear_channels
from libp2p.testing.conformance.connections import Side
from libp2p.transports.memory import pipe

MIB = 1024 * 1024
WINDOW = 256 * 1024
KEYS = PrivateKey.generate(), PrivateKey.generate()


@asynccontextmanager
async def hosts(
    *, count: int = 1, config: MemoryConfig | None = None, muxer: Muxer | None = None
) -> AsyncIterator[tuple[MemoryAccount, list[tuple[Side, Side]], list[MemoryLimitReached]]]:
    """`count` connections of one peer to a host with a memory limit: its account, the pairs of dialer and listener."""
    muxer = muxer or Yamux()
    of_host = HostMemory(config)
    account = of_host.account
    told: list[MemoryLimitReached] = []
    pipes, pairs = [], []
    for _ in range(count):
        raw = pipe()
        here, there = clear_channels(*raw, *KEYS)
        dialer = Side(muxer.connect(here, Direction.OUTBOUND))
        memory = of_host.of_connection(dialer.connection.local_peer)
        listener = Side(muxer.connect(there, Direction.INBOUND, memory=memory))
        listener.connection.serve(listener.accepted.put_nowait, listener.closed.append, on_memory_limit=told.append)
        pipes.append(raw)
        pairs.append((dialer, listener))
    try:
        yield account, pairs, told
    finally:
        for sides in pairs:
            for side in sides:
                side.connection.abort()
        for raw in pipes:
            for end in raw:
                await end.close()


async def test_a_connection_holds_no_more_than_its_limit() -> None:
    """400 streams are filled, and nobody reads: 100 MiB that the peer may send. The fullest streams pay."""
    async with hosts() as (account, [(dialer, listener)], told):
        streams: list[Stream] = []
        for _ in range(400):
            ours, theirs = await dialer.stream_to(listener)
            writing = asyncio.ensure_future(ours.write(bytes(250 * 1024)))
            streams.append(theirs)
            await asyncio.sleep(0)
            await asyncio.wait({writing})
            if not writing.cancelled():
                writing.exception()
        await asyncio.sleep(1)
        held = sum(stream.unread for stream in streams)  # type: ignore[attr-defined]
        assert 31 * MIB < held <= 32 * MIB
        assert abs(account.used - held) < 400 * 4096
        assert len(told) == 400 - len(listener.connection.streams)
        event = told[0]
        assert (event.connection, event.scope, event.limit) == (listener.connection, "connection", 32 * MIB)
        with pytest.raises(StreamReset, match="memory limit of the connection, 33554432 bytes") as caught:
            await event.stream.read(1)
        assert (caught.value.by, caught.value.code) == ("local", StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
        for stream in listener.connection.streams:
            assert len(await stream.readexactly(250 * 1024)) == 250 * 1024
        assert account.used < len(streams) * 4096
        dialer.connection.abort()
        await asyncio.sleep(1)
        assert account.used == 0


async def test_connections_of_a_peer_share_a_limit() -> None:
    config = MemoryConfig(max_per_peer=MIB)
    async with hosts(count=5, config=config) as (account, pairs, told):
        for dialer, listener in pairs:
            ours, _ = await dialer.stream_to(listener)
            await ours.write(bytes(250_000))
            await asyncio.sleep(0.1)
        assert [event.scope for event in told] == ["peer"]
        assert account.used <= MIB


async def test_streams_that_are_over_still_count_and_pay() -> None:
    """Their end has come, in order, and the handler has ended its direction: what it did not read is still held."""
    config = MemoryConfig(max_per_connection=MIB)
    async with hosts(config=config) as (account, [(dialer, listener)], told):
        kept = []
        for _ in range(6):
            ours, theirs = await dialer.stream_to(listener)
            await ours.write(bytes(250_000))
            await ours.close_write()
            await theirs.close_write()
            kept.append(theirs)
        await asyncio.sleep(1)
        assert not listener.connection.streams
        assert len(told) == 2
        assert 750_000 <= account.used <= MIB
        with pytest.raises(StreamReset, match="memory limit"):
            await told[0].stream.read()
        dialer.connection.abort()
        await asyncio.sleep(1)
        assert 750_000 <= account.used <= MIB, "also when the connection has ended"
        rest = [stream for stream in kept if stream not in [event.stream for event in told]]
        assert [len(await stream.read()) for stream in rest] == [250_000] * 4
        assert account.used == 0


async def test_a_thousand_requests_in_flight_reset_nobody() -> None:
    async with hosts() as (account, [(dialer, listener)], told):
        streams = [await dialer.connection.open_stream() for _ in range(200)]
        for stream in streams:
            await stream.write(bytes(10_000))
        accepted = [await listener.accepted.get() for _ in streams]
        for _ in range(800):
            ours, theirs = await dialer.stream_to(listener)
            streams.append(ours)
            accepted.append(theirs)
            await ours.write(bytes(10_000))
        await asyncio.sleep(1)
        assert account.used >= 9_990_000, "some bytes of the last piece are not counted"
        for stream in accepted:
            assert len(await stream.readexactly(10_000)) == 10_000
            await stream.write(b"answer")
        for stream in streams:
            assert await stream.readexactly(6) == b"answer"
        assert told == []


async def test_windows_grow_until_half_of_the_limit_and_give_it_back() -> None:
    config = MemoryConfig(max_per_connection=8 * WINDOW)
    async with hosts(config=config) as (account, [(dialer, listener)], told):
        # A round-trip time is needed for growth; the pipe has none, so the session is told of one.
        listener.connection._session._keepalive.rtt = 0.1  # type: ignore[attr-defined]
        pairs = [await dialer.stream_to(listener) for _ in range(4)]
        for ours, theirs in pairs:
            for _ in range(40):
                await asyncio.gather(ours.write(bytes(WINDOW)), theirs.readexactly(WINDOW))
        assert 3 * WINDOW <= account.used <= 4 * WINDOW
        for ours, theirs in pairs:
            await ours.close()
            await theirs.close()
        await asyncio.sleep(1)
        assert account.used == 0
        assert told == []


async def test_a_slow_reader_of_a_grown_window_is_no_reason_to_reset() -> None:
    """The bytes in a window that has grown were paid for when it grew."""
    async with hosts() as (account, [(dialer, listener)], told):
        listener.connection._session._keepalive.rtt = 0.1  # type: ignore[attr-defined]
        ours, theirs = await dialer.stream_to(listener)
        for _ in range(400):
            await asyncio.gather(ours.write(bytes(WINDOW)), theirs.readexactly(WINDOW))
        writing = asyncio.ensure_future(ours.write(bytes(20 * MIB)))
        await asyncio.sleep(60)
        assert theirs.unread > 8 * MIB  # type: ignore[attr-defined]
        assert account.used <= 16 * MIB
        assert len(await theirs.readexactly(20 * MIB)) == 20 * MIB
        await writing
        assert told == []


async def test_mplex_is_counted_too() -> None:
    config = MemoryConfig(max_per_connection=100_000)
    async with hosts(config=config, muxer=Mplex()) as (account, [(dialer, listener)], told):
        for _ in range(3):
            ours, _ = await dialer.stream_to(listener)
            await ours.write(bytes(40_000))
        await asyncio.sleep(1)
        assert len(told) == 1
        assert account.used <= 100_000
