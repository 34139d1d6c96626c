"""A peer that takes no more streams does not hold `new_stream` for ever."""

import asyncio

import pytest

from libp2p.connection import Stream
from libp2p.errors import StageTimeout
from libp2p.host import Host
from libp2p.muxers.yamux import Yamux, YamuxConfig
from libp2p.testing.network import Network
from libp2p.transports.quic import Quic, QuicConfig

ECHO = "/echo/1"


@pytest.mark.parametrize("protocols", [(ECHO,), (ECHO, "/other/1")])
async def test_one_stream_more_than_the_peer_takes(protocols: tuple[str, ...]) -> None:
    async with Network(seed=3) as network:
        near, far = network.node("10.0.0.1"), network.node("10.0.0.2")
        few = Quic(QuicConfig(max_streams=8), open_socket=far.udp())
        async with (
            Host(transports=[few], listen_addrs=["/ip4/10.0.0.2/udp/4001/quic-v1"]) as listener,
            Host(transports=[Quic(open_socket=near.udp())]) as dialer,
        ):

            @listener.handle(ECHO)
            async def hold(stream: Stream) -> None:
                await stream.read()

            connection = await dialer.connect(listener.addrs[0])
            held = [await dialer.new_stream(connection, ECHO) for _ in range(8 - len(connection.streams))]
            await asyncio.sleep(5)  # identify has ended, and its stream been given back
            while len(connection.streams) < 8:
                held.append(await dialer.new_stream(connection, ECHO))
            loop = asyncio.get_running_loop()
            started = loop.time()
            with pytest.raises(StageTimeout, match="opening a stream took more than 10 s"):
                await dialer.new_stream(connection, *protocols)
            assert loop.time() - started == pytest.approx(10)
            held[0].reset()
            await asyncio.sleep(1)
            await (await dialer.new_stream(connection, *protocols)).agreed()


@pytest.mark.parametrize("protocols", [(ECHO,), (ECHO, "/other/1")])
async def test_three_thousand_calls_at_once(protocols: tuple[str, ...]) -> None:
    async with Host(listen_addrs=["/memory/0"]) as listener, Host() as dialer:

        @listener.handle(ECHO)
        async def echo(stream: Stream) -> None:
            question = await stream.read()
            await asyncio.sleep(1)
            await stream.write(question)

        connection = await dialer.connect(listener.addrs[0])

        async def ask(number: int) -> None:
            async with await dialer.new_stream(connection, *protocols) as stream:
                await stream.write(b"%d" % number)
                await stream.close_write()
                assert await stream.read() == b"%d" % number

        async with asyncio.TaskGroup() as group:
            for number in range(3000):
                group.create_task(ask(number))
        assert listener.traffic[ECHO].bytes_read > 3000


async def test_opening_above_the_peers_limit_is_given_up_in_the_end() -> None:
    async with (
        Host(muxers=[Yamux(YamuxConfig(max_inbound_streams=8, ack_backlog=4))], listen_addrs=["/memory/0"]) as listener,
        Host(muxers=[Yamux(YamuxConfig(ack_backlog=4))]) as dialer,
    ):
        served: list[Stream] = []

        @listener.handle(ECHO)
        async def hold(stream: Stream) -> None:
            served.append(stream)
            await stream.read()

        connection = await dialer.connect(listener.addrs[0])
        await asyncio.sleep(5)
        held = [await dialer.new_stream(connection, ECHO) for _ in range(12)]
        with pytest.raises(StageTimeout, match="opening a stream took more than 10 s"):
            await dialer.new_stream(connection, ECHO)
        assert len(served) == 8
        held[8].reset()  # one of those that wait
        held[0].reset()
        await asyncio.sleep(1)
        assert len(served) == 9
        for stream in (held[9], await dialer.new_stream(connection, ECHO)):
            stream.reset()
        assert not connection.is_closed
