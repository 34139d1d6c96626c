"""What a handler hears of its peer over QUIC, where the two directions of a stream end apart from each other."""

import asyncio

import pytest

from libp2p.connection import Stream
from libp2p.host import Host
from libp2p.testing.network import Network
from libp2p.transports.quic import Quic


@pytest.mark.parametrize("gives_up", [True, False])
async def test_a_peer_that_gives_up_behind_its_half_close_cancels_and_one_that_closes_does_not(gives_up: bool) -> None:
    async with Network(seed=3) as network:
        near, far = network.node("10.0.0.1"), network.node("10.0.0.2")
        async with (
            Host(transports=[Quic(open_socket=far.udp())], listen_addrs=["/ip4/10.0.0.2/udp/4001/quic-v1"]) as listener,
            Host(transports=[Quic(open_socket=near.udp())]) as dialer,
        ):
            ended: list[str] = []

            @listener.handle("/work")
            async def work(stream: Stream) -> None:
                question = await stream.read()
                try:
                    await asyncio.sleep(100)
                    ended.append(question.decode())
                except asyncio.CancelledError:
                    ended.append("cancelled")
                    raise

            async def ask() -> None:
                async with await dialer.new_stream(listener.addrs[0], "/work") as stream:
                    await stream.write(b"question")
                    await stream.close_write()
                    if gives_up:
                        await stream.read()

            try:
                async with asyncio.timeout(5):
                    await ask()
            except TimeoutError:
                assert gives_up
            await asyncio.sleep(10)
            assert ended == (["cancelled"] if gives_up else [])
            await asyncio.sleep(100)
            assert ended == (["cancelled"] if gives_up else ["question"])
