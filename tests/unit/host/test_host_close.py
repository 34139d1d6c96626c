"""A host that is closed has ended, whatever becomes of the call."""

import asyncio

import pytest

from libp2p.connection import Stream
from libp2p.errors import ConnectionClosed, DialError, StreamReset
from libp2p.host import Host
from libp2p.multiaddr import Multiaddr
from libp2p.security.noise import Noise
from libp2p.transports.memory import MemoryTransport

MOST_STEPS = 60
BUSY = "/busy/1"


class Scene:
    """A host with a handler and a task that take five seconds to clean up, and a peer that is connected to it."""

    def __init__(self) -> None:
        self.host = Host(transports=[MemoryTransport()], security=[Noise()], listen_addrs=["/memory/0"])
        self.peer = Host(transports=[MemoryTransport()], security=[Noise()])
        self.cleaned: list[str] = []

    async def start(self) -> None:
        await self.host.__aenter__()
        await self.peer.__aenter__()
        self.host.handle(BUSY)(self.serve)
        self.addr: Multiaddr = self.host.addrs[0]
        self.stream = await self.peer.new_stream(self.addr, BUSY)
        await self.stream.agreed()
        self.host.spawn(self.work("task"), name="work")
        await asyncio.sleep(1)

    async def serve(self, _: Stream) -> None:
        await self.work("handler")

    async def work(self, name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(5)  # such as writing a file
            self.cleaned.append(name)

    async def check(self) -> None:
        """Nothing is left of the host, though nobody closes it again."""
        assert self.host.listen_addrs == self.host.addrs == self.host.connections == []
        with pytest.raises((ConnectionClosed, StreamReset)):
            await self.stream.read()
        with pytest.raises(DialError):
            await self.peer.connect(self.addr)
        with pytest.raises(DialError):
            await self.host.connect(self.addr.without_peer())
        assert self.host.spawn(self.work("late"), name="late") is None
        await asyncio.sleep(10)
        assert sorted(self.cleaned) == ["handler", "task"]  # which went on: they were cancelled once
        await self.peer.close()


async def test_a_close_that_is_cancelled_at_any_step_has_ended_the_host() -> None:
    for k in range(MOST_STEPS):
        scene = Scene()
        others = asyncio.all_tasks()
        await scene.start()
        closing = asyncio.ensure_future(scene.host.close())
        for _ in range(k):
            await asyncio.sleep(0)
        cut_off = not closing.done()
        if k:  # a task that is cancelled before its first step never runs
            closing.cancel()
        await asyncio.wait([closing])
        await scene.check()
        assert asyncio.all_tasks() == others
        if not cut_off:
            return


@pytest.mark.parametrize("seconds", [0.5, 4.999, 5.0])
async def test_a_host_that_is_given_up_while_it_closes_has_ended(seconds: float) -> None:
    scene = Scene()
    await scene.start()
    try:
        async with asyncio.timeout(seconds):
            await scene.host.close()
    except TimeoutError:
        pass
    await scene.check()
