"""Every public call, cancelled after k steps of the loop, for every k up to its end: nothing is left, all goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from libp2p.connection import Stream
from libp2p.host import Host, HostConfig
from libp2p.host.identify import IdentifyConfig
from libp2p.host.ping import ping
from libp2p.multiaddr import Multiaddr

QUIET = HostConfig(identify=IdentifyConfig(automatic=False))
MOST_STEPS = 400


class Scene:
    """Two hosts; on a connection, where the call needs one."""

    def __init__(self) -> None:
        self.listener = Host(listen_addrs=["/memory/0"], config=QUIET)
        self.dialer = Host(config=QUIET)
        self.addr = Multiaddr("/memory/0")
        self.stream: Any = None

        @self.listener.handle("/echo")
        async def echo(stream: Stream) -> None:
            async for chunk in stream:
                await stream.write(chunk)

        @self.listener.handle("/deaf")
        async def deaf(stream: Stream) -> None:
            await asyncio.sleep(3600)

    async def start(self, protocol: str | None) -> None:
        await self.listener.__aenter__()
        self.addr = self.listener.addrs[0]
        if protocol is not None:
            self.stream = await self.dialer.new_stream(self.addr, protocol)
            await self.stream.agreed()

    async def check_and_end(self) -> None:
        """The listener still serves, a connection still works, and no stream or connection is left over."""
        if self.listener.listen_addrs:
            stream = await self.dialer.new_stream(self.addr, "/echo")
            await stream.write(b"alive")
            assert await stream.readexactly(5) == b"alive"
            await stream.close()
        if self.stream is not None:
            self.stream.reset()
        await asyncio.sleep(0.1)
        for host in (self.dialer, self.listener):
            for connection in host.connections:
                assert not connection.streams, host
        assert len(self.dialer.connections) == len(self.listener.connections) <= 2
        await self.dialer.close()
        await asyncio.sleep(0.1)
        assert not self.listener.connections
        await self.listener.close()


async def write_then_read(scene: Scene) -> None:
    await scene.stream.write(b"12345\n")
    await scene.stream.readexactly(3)
    await scene.stream.readuntil()


async def read_all(scene: Scene) -> None:
    await scene.stream.write(bytes(200_000))
    await scene.stream.close_write()
    await scene.stream.read()


async def listen(scene: Scene) -> None:
    await scene.dialer.swarm.stop_listening(await scene.dialer.swarm.listen(Multiaddr("/memory/0")))


async def enter(scene: Scene) -> None:
    async with Host(listen_addrs=["/memory/0", "/memory/0"], config=QUIET) as host:
        await host.connect(scene.addr)


async def within(scene: Scene) -> None:
    async with await scene.dialer.new_stream(scene.addr, "/echo") as stream:
        await stream.write(b"x")
        await stream.readexactly(1)


Call = Callable[[Scene], Awaitable[Any]]
CALLS: dict[str, tuple[str | None, Call]] = {
    "connect": (None, lambda scene: scene.dialer.connect(scene.addr)),
    "connect to whoever": (None, lambda scene: scene.dialer.connect(scene.addr.without_peer())),
    "new_stream, dialing": (None, within),
    "new_stream, one": ("/echo", within),
    "new_stream, several": ("/echo", lambda scene: scene.dialer.new_stream(scene.addr, "/x", "/y", "/echo")),
    "read and write": ("/echo", write_then_read),
    "read all": ("/echo", read_all),
    "write to a deaf peer": ("/deaf", lambda scene: scene.stream.write(bytes(1_000_000))),
    "close": ("/deaf", lambda scene: scene.stream.close()),
    "connection.close": ("/deaf", lambda scene: scene.stream.connection.close()),
    "ping": (None, lambda scene: ping(scene.dialer, scene.addr)),
    "identify": ("/echo", lambda scene: scene.dialer.identify.identify(scene.stream.connection)),
    "listen": (None, listen),
    "entering and leaving": (None, enter),
    "host.close": ("/deaf", lambda scene: scene.dialer.close()),
    "host.close, the other's": ("/deaf", lambda scene: scene.listener.close()),
}


@pytest.mark.parametrize("name", CALLS)
async def test_cancelled_after_k_steps(name: str) -> None:
    protocol, call = CALLS[name]
    for k in range(MOST_STEPS):
        scene = Scene()
        await scene.start(protocol)
        others = asyncio.all_tasks()
        task = asyncio.ensure_future(call(scene))
        for _ in range(k):
            await asyncio.sleep(0)
        ended = task.done()
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and isinstance(result := task.result(), Stream):
            result.reset()
        assert task.cancelled() or task.exception() is None
        if name.startswith("host.close") or name == "connection.close":
            await asyncio.gather(scene.dialer.close(), scene.listener.close())
        else:
            await scene.check_and_end()
        left = {one for one in asyncio.all_tasks() - others if not one.done()}
        assert not left, f"after {k} steps: {left}"
        if ended:
            assert k, "it never waited at all"
            return
        if k > 60 and name == "write to a deaf peer":
            return
    pytest.fail(f"not done after {MOST_STEPS} steps")
