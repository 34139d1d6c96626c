"""Bytes per protocol."""

from typing import Any

from libp2p.connection import Stream
from libp2p.host import ping
from libp2p.host.traffic import MAX_PROTOCOLS, Traffic


async def test_bytes_of_each_protocol_of_open_streams_and_of_ended_ones(pair: Any) -> None:
    async with pair() as (listener, dialer, connection):

        @listener.handle("/echo")
        async def echo(stream: Stream) -> None:
            async for data in stream:
                await stream.write(data)

        before = listener.traffic.get("/echo", Traffic())
        assert before == Traffic()
        stream = await dialer.new_stream(connection, "/echo")
        await stream.write(bytes(10_000))
        await stream.readexactly(10_000)
        while_open = listener.traffic["/echo"], dialer.traffic["/echo"]
        await stream.close_write()
        assert await stream.read() == b""
        await ping.ping(dialer, connection)
        for mine, theirs in (while_open, (listener.traffic["/echo"], dialer.traffic["/echo"])):
            assert mine == Traffic(theirs.bytes_written, theirs.bytes_read)
            assert 10_000 < mine.bytes_read < 10_100
        assert dialer.traffic["/ipfs/ping/1.0.0"].bytes_written > 32
        assert dialer.traffic["/ipfs/id/1.0.0"].bytes_read > 100


async def test_names_that_peers_make_up_are_bounded(pair: Any) -> None:
    async with pair() as (listener, dialer, connection):

        @listener.handle(match=lambda protocol: protocol.startswith("/made-up/"))
        async def take(stream: Stream) -> None: ...

        for number in range(MAX_PROTOCOLS + 100):
            async with await dialer.new_stream(connection, f"/made-up/{number}") as stream:
                await stream.read()
        assert len(listener.traffic) <= MAX_PROTOCOLS + 1
        assert listener.traffic[""].bytes_read > 100 * len("/made-up/1000")
