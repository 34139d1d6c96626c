"""The simulated network: delays, order, loss, partitions, refusals; all in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libp2p.errors import ListenError, StageTimeout
from libp2p.multiaddr import Multiaddr
from libp2p.testing.conformance.one_end import Transcript
from libp2p.testing.loop import run
from libp2p.testing.network import Link, Network, Node
from libp2p.testing.transports import AcceptAll, RawUpgrader, context


class Accepted(AcceptAll):
    def __init__(self) -> None:
        super().__init__()
        self.opened: asyncio.Queue[Any] = asyncio.Queue()

    def connection_opened(self, connection: Any, scope: Any) -> None:
        self.opened.put_nowait(connection)

    def connection_failed(self, local_addr: Multiaddr, remote_addr: Multiaddr, error: Exception) -> None:
        raise error


async def join(dialer: Node, target: Node) -> tuple[Any, Any]:
    """A raw connection between two machines, both ends."""
    accepted = Accepted()
    listener = await transport(target).listen(Multiaddr("/ip4/0.0.0.0/tcp/0"), accepted)
    dialed = await transport(dialer).dial(listener.addrs[0], None)
    inbound = await accepted.opened.get()
    await listener.close()
    return dialed, inbound


def transport(node: Node) -> Any:
    return node.transport().use(context(upgrader=RawUpgrader()))


def now() -> float:
    return asyncio.get_running_loop().time()


def end(*connections: Any) -> None:
    for connection in connections:
        connection.abort()


async def test_latency_and_bandwidth_take_their_time() -> None:
    async with Network(link=Link(latency=0.1, bandwidth=100_000)) as network:
        start = now()
        a, b = await join(network.node("10.0.0.1"), network.node("10.0.0.2"))
        assert now() - start == pytest.approx(0.2, abs=0.01), "connecting takes a round trip"
        start = now()
        a.send((b"x",))
        await b.readexactly(1)
        assert now() - start == pytest.approx(0.1, abs=0.01)
        start = now()
        writing = asyncio.ensure_future(a.write(bytes(1_000_000)))
        await b.readexactly(1_000_000)
        assert now() - start == pytest.approx(10.1, rel=0.02)
        await writing
        end(a, b)


async def test_connections_share_the_bandwidth_of_a_link() -> None:
    async with Network(link=Link(bandwidth=100_000)) as network:
        left, right = network.node("10.0.0.1"), network.node("10.0.0.2")
        pairs = [await join(left, right) for _ in range(2)]
        start = now()
        for a, _ in pairs:
            a.send((bytes(500_000),))
        await asyncio.gather(*(b.readexactly(500_000) for _, b in pairs))
        assert now() - start == pytest.approx(10, rel=0.02)
        end(*pairs[0], *pairs[1])


async def _transfer_with_loss(loss: float) -> tuple[bytes, float]:
    async with Network(seed=3, link=Link(latency=0.05, loss=loss)) as network:
        a, b = await join(network.node("10.0.0.1"), network.node("10.0.0.2"))
        start = now()
        data = bytes(range(256)) * 4000
        a.send((data,))
        assert await b.readexactly(len(data)) == data
        end(a, b)
        return data, now() - start


def test_loss_delays_but_keeps_order_and_is_repeatable() -> None:
    without, some = run(_transfer_with_loss(0))[1], run(_transfer_with_loss(0.02))[1]
    assert without == pytest.approx(0.05)
    assert some >= without + 0.2
    assert some == run(_transfer_with_loss(0.02))[1]


async def test_a_cut_is_silence_until_it_heals() -> None:
    async with Network(link=Link(latency=0.1)) as network:
        left, right, third = (network.node(f"10.0.0.{n}") for n in (1, 2, 3))
        a, b = await join(left, right)
        a.send((b"under way",))
        network.cut(left, right)
        a.send((b", and later",))
        reading = asyncio.ensure_future(b.readexactly(20))
        await asyncio.sleep(3600)
        assert not reading.done()
        with pytest.raises(StageTimeout, match="5 s"):
            await join(left, right)
        end(*await join(left, third))
        network.heal(left, right)
        healed = now()
        assert await reading == b"under way, and later"
        assert now() - healed == pytest.approx(0.1)
        end(a, b)


async def test_a_cut_may_reset() -> None:
    async with Network() as network:
        left, right, third = (network.node(f"10.0.0.{n}") for n in (1, 2, 3))
        a, b = await join(left, right)
        c, d = await join(left, third)
        network.cut(left, right, reset=True)
        for raw in (a, b):
            with pytest.raises(ConnectionResetError):
                await raw.read(1)
        await c.write(b"x")
        assert await d.readexactly(1) == b"x"
        end(c, d)


async def test_refused_unreachable_and_taken() -> None:
    async with Network(link=Link(latency=0.1)) as network:
        left, right = network.node("10.0.0.1"), network.node("10.0.0.2", "fd00::2")
        start = now()
        with pytest.raises(ConnectionRefusedError):
            await transport(left).dial(Multiaddr("/ip4/10.0.0.2/tcp/9"), None)
        assert now() - start == pytest.approx(0.2)
        with pytest.raises(StageTimeout):
            await transport(left).dial(Multiaddr("/ip4/10.9.9.9/tcp/9"), None)
        with pytest.raises(OSError, match="no IPv6"):
            await transport(left).dial(Multiaddr("/ip6/fd00::2/tcp/9"), None)
        with pytest.raises(ListenError, match="no address of"):
            await transport(left).listen(Multiaddr("/ip4/10.0.0.2/tcp/9"), Accepted())
        listener = await transport(right).listen(Multiaddr("/ip6/::/tcp/9"), Accepted())
        assert listener.addrs == (Multiaddr("/ip6/fd00::2/tcp/9"),)
        with pytest.raises(ListenError, match="in use"):
            await transport(right).listen(Multiaddr("/ip4/10.0.0.2/tcp/9"), Accepted())
        with pytest.raises(ValueError, match="addresses of its own"):
            network.node("10.0.0.2")
        await listener.close()


async def test_the_end_of_the_network_leaves_no_timer() -> None:
    async with Network(link=Link(latency=2)) as network:
        a, b = await join(network.node("10.0.0.1"), network.node("10.0.0.2"))
        a.send((b"never arrives",))
        await a.close()
        b.abort()


async def test_order_survives_cuts() -> None:
    async with Network(link=Link(latency=1)) as network:
        left, right = network.node("10.0.0.1"), network.node("10.0.0.2")
        a, b = await join(left, right)
        start = now()
        for step, text in enumerate((b"before ", b"while cut ", b"while healing ", b"cut again ", b"healed")):
            if step in (1, 3):
                network.cut(left, right)
            elif step:
                network.heal(left, right)
            await asyncio.sleep(0.3)
            a.send((text,))
            await asyncio.sleep(0.1)
        assert await b.readexactly(47) == b"before while cut while healing cut again healed"
        assert now() - start == pytest.approx(4 * 0.4 + 0.3 + 1), "all but the first are sent again at the last healing"
        end(a, b)


async def test_nothing_arrives_within_the_call_that_sends_or_answers_it() -> None:
    async with Network() as network:
        a, b = await join(network.node("10.0.0.1"), network.node("10.0.0.2"))
        told: list[str] = []

        class Echo(Transcript):
            def data_received(self, data: memoryview) -> None:
                told.append("arrived")
                b.send((data,))
                told.append("answered")

        b.attach(Echo())
        a.send((b"x",))
        assert not told
        asyncio.get_running_loop().call_soon(told.append, "a turn")
        assert await a.readexactly(1) == b"x"
        assert told == ["a turn", "arrived", "answered"]
        end(a, b)


async def test_a_link_can_change() -> None:
    async with Network(link=Link(latency=1)) as network:
        left, right = network.node("10.0.0.1"), network.node("10.0.0.2")
        a, b = await join(left, right)
        a.send((b"slow",))
        network.set_link(left, right, Link(latency=0.1))
        a.send((b"fast",))
        start = now()
        assert await b.readexactly(8) == b"slowfast"
        assert now() - start == pytest.approx(1), "order is kept"
        end(a, b)
