"""Whole simulated networks: what happens among many hosts is the same on cheap connections and on the full stack."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from libp2p.connection import Stream
from libp2p.errors import Libp2pError, StreamReset
from libp2p.host import Host
from libp2p.swarm import ConnectionLost
from libp2p.testing.links import Link
from libp2p.testing.loop import run
from libp2p.testing.simulation import Simulation, Stack
from libp2p.testing.topology import Pairs, complete, regular, ring, star

FLOOD = "/test/flood/1"


class Flood:
    """Tells every peer each message that is new, on a stream of its own. A message of one letter is refused."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.seen: set[bytes] = set()
        self.refused: list[int] = []
        self.lost = 0
        host.events.on(ConnectionLost, self._count)
        host.handle(FLOOD)(self._receive)
        self._tasks: set[asyncio.Task[None]] = set()

    def _count(self, _: ConnectionLost) -> None:
        self.lost += 1

    async def _receive(self, stream: Stream) -> None:
        message = await stream.read()
        if len(message) == 1:
            stream.reset(0x1004)
        else:
            self.publish(message)

    def publish(self, message: bytes) -> None:
        if message not in self.seen:
            self.seen.add(message)
            for connection in self.host.connections:
                task = asyncio.ensure_future(self.tell(connection.remote_peer, message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def tell(self, peer: object, message: bytes) -> None:
        with suppress(Libp2pError):
            stream = await self.host.new_stream(peer, FLOOD)  # type: ignore[arg-type]
            await stream.write(message)
            await stream.close_write()
            try:
                await stream.read()
            except StreamReset as error:
                self.refused.append(error.code)
            await stream.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def flood(host: Host) -> AsyncIterator[Flood]:
    service = Flood(host)
    try:
        yield service
    finally:
        await service.close()


async def scenario(stack: Stack) -> dict[str, object]:
    """Messages among 50 hosts: large and small, refused, over a network that parts, heals, and loses members."""
    half, other = range(25), range(25, 50)
    async with Simulation(50, flood, seed=7, link=Link(latency=0.05, bandwidth=1_000_000), stack=stack) as sim:
        pairs = regular(50, 6, sim.dice)
        for a, b in pairs:
            link = Link(latency=sim.dice.uniform(0.01, 0.2), bandwidth=1_000_000, loss=0.01)
            sim.network.set_link(sim.nodes[a], sim.nodes[b], link)
        await sim.connect(pairs)
        flood_of = sim.services
        flood_of[0].publish(b"first")
        flood_of[1].publish(bytes(200_000))
        await sim.until(lambda: all(len(one.seen) == 2 for one in flood_of), within=60)
        await flood_of[2].tell(sim.hosts[3].addrs[0], b"x")
        sim.part(half, other)
        flood_of[0].publish(b"parted")
        await asyncio.sleep(300)
        reached = [b"parted" in one.seen for one in flood_of]
        sim.join(half, other)
        lost = [one.lost for one in flood_of]
        await sim.connect(pairs)
        flood_of[30].publish(b"healed")
        await sim.until(lambda: all(b"healed" in one.seen for one in flood_of), within=60)
        for host in sim.hosts[:5]:
            await host.close()
        await asyncio.sleep(5)
        number = {host.id: place for place, host in enumerate(sim.hosts)}
        return {
            "seen": [sorted(one.seen) for one in flood_of],
            "reached": reached,
            "lost while parted": lost,
            "lost": [one.lost for one in flood_of],
            "refused": [one.refused for one in flood_of],
            "connections": [sorted(number[one.remote_peer] for one in host.connections) for host in sim.hosts],
            "streams": [sum(len(one.streams) for one in host.connections) for host in sim.hosts],
            "known": [sorted(number[peer] for peer in host.peerstore.peers()) for host in sim.hosts],
        }


def test_fifty_hosts_end_equally_on_cheap_connections_and_on_the_full_stack() -> None:
    cheap, full = run(scenario(Stack.CHEAP)), run(scenario(Stack.FULL))
    assert cheap == full
    assert cheap["reached"] == [place < 25 for place in range(50)]
    assert cheap["refused"] == [[0x1004] if place == 2 else [] for place in range(50)]
    assert sum(cheap["lost while parted"]) > 50  # type: ignore[arg-type]
    assert cheap == run(scenario(Stack.CHEAP)), "the same seed, the same run"


@pytest.mark.parametrize("stack", Stack)
async def test_what_fails_to_enter_is_undone(stack: Stack) -> None:
    class Bad:
        def __init__(self, host: Host) -> None:
            self.host = host

        async def __aenter__(self) -> None:
            if str(self.host.listen_addrs[0]).startswith("/ip4/10.0.0.3/"):
                raise RuntimeError("the third")

        async def __aexit__(self, *_: object) -> None:
            entered.append(self.host)

    entered: list[Host] = []
    sim = Simulation(5, Bad, stack=stack)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="the third"):
        async with sim:
            pass
    assert len(entered) == 2
    assert not any(host.listen_addrs for host in sim.hosts)


async def test_until_tells_how_long_it_took() -> None:
    async with Simulation(2, link=Link(latency=1)) as sim:
        await sim.connect([(0, 1)])
        sim.part([0], [1])
        assert await sim.until(lambda: not sim.hosts[0].connections, within=100) == pytest.approx(60, abs=0.1)
        with pytest.raises(TimeoutError):
            await sim.until(lambda: False, within=1)


def test_the_example_of_the_docs_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    exec(page.split("```python\n")[1].split("```")[0], {})
    assert capsys.readouterr().out == "noticed after 60 s\n"


def degrees(pairs: Pairs, count: int) -> list[int]:
    assert all(0 <= a < b < count for a, b in pairs)
    assert len(set(pairs)) == len(pairs)
    return [sum(place in pair for pair in pairs) for place in range(count)]


def test_topologies() -> None:
    assert degrees(ring(5), 5) == [2] * 5
    assert degrees(ring(2), 2) == [1, 1]
    assert degrees(star(5), 5) == [4, 1, 1, 1, 1]
    assert degrees(complete(5), 5) == [4] * 5
    some = degrees(regular(100, 10, random.Random(1)), 100)
    assert 9.5 < sum(some) / 100 <= 10
    assert min(some) >= 7
    assert regular(30, 4, random.Random(2)) == regular(30, 4, random.Random(2))
    for degree in (3, 0, 30):
        with pytest.raises(ValueError, match="degree"):
            regular(30, degree, random.Random(1))
