"""A peer that takes no more streams does not hold `new_stream` for ever."""

import asyncio

import pytest

from libp2p.connection import Stream
from libp2p.errors import StageTimeout
from libp2p.host import Host
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
