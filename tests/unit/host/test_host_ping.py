"""Ping: echo, round-trip times, limits, misbehaving peers."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from libp2p.connection import Connection, Stream, StreamErrorCode
from libp2p.errors import LocalProtocolError, ProtocolNotSupported, RemoteProtocolError, StageTimeout, StreamReset
from libp2p.host import Host
from libp2p.host.ping import PROTOCOL_ID, Ping, PingConfig, PingService, ping

Pair = Callable[..., AbstractAsyncContextManager[tuple[Host, Host, Connection]]]


def pinger(host: Host, config: PingConfig | None = None) -> PingService:
    """The host's ping service, with other settings and the loop's clock."""
    host.remove_handler(PROTOCOL_ID)
    host.ping = PingService(host, config, clock=asyncio.get_running_loop().time)
    return host.ping


def serve(host: Host, delay: float = 0.0, twist: bytes = b"") -> list[Stream]:
    """Answer pings after `delay` seconds, with `twist` in place of their first bytes; the streams that came."""
    streams: list[Stream] = []

    async def answer(stream: Stream) -> None:
        streams.append(stream)
        while payload := await stream.read(32):
            await asyncio.sleep(delay)
            await stream.write(twist + payload[len(twist) :])

    host.remove_handler(PROTOCOL_ID)
    host.handle(PROTOCOL_ID)(answer)
    return streams


def ping_streams(connection: Connection) -> int:
    return sum(stream.protocol == PROTOCOL_ID for stream in connection.streams)


async def test_round_trip_times(pair: Pair) -> None:
    async with pair() as (listener, dialer, connection):
        streams = serve(listener, delay=0.25)
        pinger(dialer)
        started = asyncio.get_running_loop().time()
        assert await ping(dialer, listener.addrs[0], count=3, interval=2) == [0.25] * 3
        assert asyncio.get_running_loop().time() - started == 3 * 0.25 + 2 * 2
        assert len(streams) == 1
        await asyncio.sleep(1)
        assert ping_streams(connection) == 0


async def test_the_listener_echoes_until_the_dialer_ends(pair: Pair) -> None:
    async with pair() as (_, dialer, connection):
        stream = await dialer.new_stream(connection, PROTOCOL_ID)
        for payload in (bytes(range(32)), b"x" * 32):
            await stream.write(payload[:7])
            await stream.write(payload[7:])
            assert await stream.readexactly(32) == payload
        await stream.close_write()
        assert await stream.read() == b""


async def test_a_ping_cut_short_is_reset(pair: Pair) -> None:
    async with pair() as (_, dialer, connection):
        stream = await dialer.new_stream(connection, PROTOCOL_ID)
        await stream.write(b"x" * 31)
        await stream.close_write()
        with pytest.raises(StreamReset):
            await stream.read()


async def test_a_third_stream_of_a_peer_is_reset(pair: Pair) -> None:
    async with pair() as (_, dialer, connection):
        streams = [await dialer.new_stream(connection, PROTOCOL_ID) for _ in range(3)]
        with pytest.raises(StreamReset) as reset:
            await streams[2].read()
        assert reset.value.code == StreamErrorCode.RESOURCE_LIMIT_EXCEEDED
        for stream in streams[:2]:
            await stream.close()
        await asyncio.sleep(1)
        assert await ping(dialer, connection)


async def test_an_idle_stream_is_reset(pair: Pair) -> None:
    async with pair() as (_, dialer, connection):
        stream = await dialer.new_stream(connection, PROTOCOL_ID)
        for _ in range(3):
            await asyncio.sleep(59)
            await stream.write(bytes(32))
            await stream.readexactly(32)
        with pytest.raises(StreamReset) as reset:
            await stream.readexactly(1)
        assert reset.value.code == StreamErrorCode.GARBAGE_COLLECTED


async def test_after_a_wrong_answer_the_next_ping_starts_over(pair: Pair) -> None:
    async with pair() as (listener, dialer, connection):
        streams = serve(listener, twist=b"no")
        async with dialer.ping.open(connection) as session:
            for _ in range(2):
                with pytest.raises(RemoteProtocolError, match=str(listener.id)):
                    await session.ping()
        assert len(streams) == 2
        await asyncio.sleep(1)
        assert ping_streams(connection) == 0


async def test_no_answer_is_a_timeout(pair: Pair) -> None:
    async with pair() as (listener, dialer, connection):
        serve(listener, delay=5)
        async with pinger(dialer, PingConfig(timeout=4)).open(connection) as session:
            with pytest.raises(StageTimeout, match=f"ping of {listener.id} took more than 4 s"):
                await session.ping()
            await asyncio.sleep(0)
            assert ping_streams(connection) == 0
            serve(listener, delay=3)
            assert await session.ping() == 3


async def test_one_outbound_stream_per_peer(pair: Pair) -> None:
    async with pair() as (listener, dialer, connection):
        streams = serve(listener, delay=1)
        most = 0

        async def count() -> None:
            nonlocal most
            for _ in range(40):
                most = max(most, ping_streams(connection))
                await asyncio.sleep(0.25)

        await asyncio.gather(count(), *(ping(dialer, connection, count=1) for _ in range(5)))
        assert len(streams) == 5
        assert most == 1


async def test_pings_of_several_tasks_take_turns(pair: Pair) -> None:
    async with pair() as (listener, dialer, connection):
        serve(listener, delay=1)
        async with pinger(dialer).open(connection) as session:
            assert await asyncio.gather(session.ping(), session.ping()) == [1, 1]


@pytest.mark.parametrize(("interval", "streams"), [(1, 3), (9, 6)])
async def test_streams_are_replaced_before_other_implementations_end_them(
    pair: Pair, interval: float, streams: int
) -> None:
    async with pair() as (listener, dialer, connection):
        seen = serve(listener)
        pinger(dialer)
        async with dialer.ping.open(connection) as session:
            for _ in range(54 // int(interval)):
                await session.ping()
                await asyncio.sleep(interval)
        assert len(seen) == streams


async def test_cancelling_leaves_nothing_behind(pair: Pair) -> None:
    async with pair() as (listener, dialer, connection):
        serve(listener, delay=100)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await ping(dialer, connection)
        await asyncio.sleep(1)
        assert ping_streams(connection) == 0
        serve(listener)
        await ping(dialer, connection)


async def test_what_cannot_be_pinged(pair: Pair) -> None:
    async with pair() as (listener, dialer, connection):
        session = dialer.ping.open(connection)
        with pytest.raises(LocalProtocolError):
            await session.ping()
        listener.remove_handler(PROTOCOL_ID)
        for _ in range(2):
            with pytest.raises(ProtocolNotSupported):
                await ping(dialer, connection)
        assert isinstance(session, Ping)
