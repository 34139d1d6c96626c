"""Datagrams on the simulated network: lost, late, doubled, overtaken, too large, too many; sockets, NATs, taps."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence

import pytest

from libp2p.multiaddr import Multiaddr
from libp2p.testing.loop import run
from libp2p.testing.network import Link, Network, Node
from libp2p.transports.quic.datagrams import DatagramSocket, Received, SocketAddress

A, B = ("10.0.0.1", 1000), ("10.0.0.2", 2000)


class Inbox:
    """Keeps what a socket receives."""

    def __init__(self, node: Node, socket: DatagramSocket) -> None:
        self.node = node
        self.socket = socket
        self.batches: list[Received] = []
        self.log: list[tuple[float, bytes]] = []
        self.calls = 0
        socket.attach(self)

    def datagrams_received(self, batch: Sequence[Received]) -> None:
        self.calls += 1
        self.batches.extend(batch)
        for data, size, _, _ in batch:
            cuts = range(0, len(data), size) if data else [0]
            self.log.extend((now(), data[cut : cut + size]) for cut in cuts)

    def writable(self) -> None:
        raise AssertionError("a simulated socket never blocks")

    @property
    def data(self) -> list[bytes]:
        return [data for _, data in self.log]

    def clear(self) -> None:
        self.batches.clear()
        self.log.clear()
        self.calls = 0


def now() -> float:
    return asyncio.get_running_loop().time()


def numbered(count: int, size: int = 100) -> list[bytes]:
    return [number.to_bytes(4, "big") * (size // 4) for number in range(count)]


async def bind(node: Node, addr: SocketAddress) -> Inbox:
    return Inbox(node, await node.udp()(addr))


async def join(network: Network) -> tuple[Inbox, Inbox]:
    """A socket on each of two machines, at A and B."""
    return await bind(network.node(A[0]), A), await bind(network.node(B[0]), B)


async def transfer(link: Link, datagrams: list[bytes], seed: int = 0) -> tuple[float, Inbox]:
    """Send them all at once over `link`; when that was, and what arrived."""
    async with Network(seed=seed, link=link) as network:
        a, b = await join(network)
        start = now()
        for data in datagrams:
            assert a.socket.send([data], B)
        await asyncio.sleep(100)
        return start, b


async def test_a_batch_arrives_in_order_after_the_latency() -> None:
    sent = numbered(200)
    start, b = await transfer(Link(latency=0.1), sent)
    assert b.data == sent
    assert {when for when, _ in b.log} == {start + 0.1}
    assert b.calls == 1
    assert [len(batch.data) for batch in b.batches] == [6400, 6400, 6400, 800], "64 datagrams at most in a batch"
    assert {batch[1:] for batch in b.batches} == {(100, A, None)}


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([100, 100, 50], [[100, 100, 50]]),
        ([100, 50, 50], [[100, 50], [50]]),
        ([50, 100, 100], [[50], [100, 100]]),
        ([100, 0, 0, 100], [[100], [0], [0], [100]]),
        ([1400] * 50, [[1400] * 46, [1400] * 4]),
    ],
)
async def test_what_is_put_together(sizes: list[int], batches: list[list[int]]) -> None:
    _, b = await transfer(Link(), [bytes(size) for size in sizes])
    assert [(batch.size, len(batch.data)) for batch in b.batches] == [(want[0], sum(want)) for want in batches]
    assert [len(data) for data in b.data] == sizes


async def test_senders_are_not_mixed_in_a_batch() -> None:
    async with Network() as network:
        a, b = await join(network)
        other = await bind(a.node, (A[0], 0))
        for sender in (a, other, a):
            sender.socket.send([b"x", b"x"], B)
        await asyncio.sleep(1)
        assert [(batch.data, batch.addr) for batch in b.batches] == [
            (b"xx", A),
            (b"xx", other.socket.addr),
            (b"xx", A),
        ]


async def test_a_batch_to_send_is_of_one_size() -> None:
    async with Network() as network:
        a, b = await join(network)
        assert a.socket.send([], B)
        assert a.socket.send([b"12", b"34", b"5"], B)
        for wrong in ([b"12", b"3", b"45"], [b"1", b"23"]):
            with pytest.raises(ValueError, match="not of one size"):
                a.socket.send(wrong, B)
        await asyncio.sleep(1)
        assert b.batches == [Received(b"12345", 2, A, None)]


async def test_loss() -> None:
    sent = numbered(5000)
    _, b = await transfer(Link(loss=0.1), sent)
    assert 4350 < len(b.data) < 4650
    assert b.data == [data for data in sent if data in set(b.data)], "the rest is in order"
    _, b = await transfer(Link(loss=1.0), sent)
    assert not b.data


async def test_jitter_makes_datagrams_overtake_each_other() -> None:
    sent = numbered(500)
    start, b = await transfer(Link(latency=0.1, jitter=0.05), sent)
    assert sorted(b.data) == sent != b.data
    delays = [when - start for when, _ in b.log]
    assert delays == sorted(delays)
    assert 0.1 <= delays[0] < 0.105
    assert 0.145 < delays[-1] <= 0.15


async def test_duplicates() -> None:
    sent = numbered(2000)
    _, b = await transfer(Link(duplicate=0.2), sent)
    assert 2300 < len(b.data) < 2500
    assert sorted(set(b.data)) == sent
    _, b = await transfer(Link(duplicate=1.0, jitter=1.0), sent[:50])
    assert sorted(b.data) == sorted(sent[:50] * 2)


@pytest.mark.parametrize(("ips", "most"), [(("10.0.0.1", "10.0.0.2"), 1252), (("fd00::1", "fd00::2"), 1232)])
async def test_what_is_larger_than_the_mtu_vanishes(ips: tuple[str, str], most: int) -> None:
    async with Network(link=Link(mtu=1280)) as network:
        a, b = [await bind(network.node(ip), (ip, 9)) for ip in ips]
        for size in (most + 1, most):
            a.socket.send([bytes(size)], b.socket.addr)
        await asyncio.sleep(1)
        assert [len(data) for data in b.data] == [most]


async def test_a_narrow_link_delays_and_then_drops() -> None:
    link = Link(latency=0.1, bandwidth=100_000, queue=0.5)
    sent = numbered(1000, 1000)
    start, b = await transfer(link, sent)
    assert b.data == sent[:51], "half a second of bandwidth is 50,000 bytes"
    assert [when - start for when, _ in b.log] == pytest.approx([0.11 + 0.01 * number for number in range(51)])
    assert b.calls == 51

    async with Network(link=link) as network:
        a, b = await join(network)
        for _ in range(2):  # what waited is gone after a while, and there is room again
            a.socket.send(sent[:60], B)
            await asyncio.sleep(1)
        assert b.data == sent[:51] * 2


async def test_even_a_link_without_a_queue_takes_one_datagram_at_a_time() -> None:
    _, b = await transfer(Link(bandwidth=10, queue=0.0), numbered(3))
    assert b.data == numbered(1)


async def test_a_cut_loses_datagrams() -> None:
    async with Network(link=Link(latency=0.1)) as network:
        a, b = await join(network)
        a.socket.send([b"under way"], B)
        await asyncio.sleep(0.05)
        network.cut(a.node, b.node)
        a.socket.send([b"sent meanwhile"], B)
        await asyncio.sleep(1)
        network.heal(a.node, b.node)
        await asyncio.sleep(1)
        assert not b.data
        a.socket.send([b"later"], B)
        b.socket.send([b"back"], A)
        await asyncio.sleep(1)
        assert (a.data, b.data) == ([b"back"], [b"later"])


async def test_a_link_can_be_changed_under_way() -> None:
    async with Network(link=Link(latency=1.0)) as network:
        a, b = await join(network)
        a.socket.send([b"slow"], B)
        network.set_link(a.node, b.node, Link(latency=0.1))
        start = now()
        a.socket.send([b"fast"], B)
        await asyncio.sleep(2)
        assert [(round(when - start, 3), data) for when, data in b.log] == [(0.1, b"fast"), (1.0, b"slow")]


async def test_a_wildcard_socket_has_all_addresses_of_its_kind() -> None:
    async with Network() as network:
        server = network.node("10.0.0.1", "10.0.0.2", "fd00::1")
        client = network.node("10.0.0.9", "fd00::9")
        wild4, wild6 = await bind(server, ("0.0.0.0", 443)), await bind(server, ("::", 443))
        mine4, mine6 = await bind(client, ("10.0.0.9", 1)), await bind(client, ("fd00::9", 1))
        assert (wild4.socket.addr, wild6.socket.addr) == (("0.0.0.0", 443), ("::", 443, 0, 0))
        mine4.socket.send([b"one"], ("10.0.0.1", 443))
        mine4.socket.send([b"two"], ("10.0.0.2", 443))
        mine6.socket.send([b"six"], ("fd00::1", 443))
        await asyncio.sleep(1)
        assert [batch[2:] for batch in wild4.batches] == [(("10.0.0.9", 1), ip) for ip in ("10.0.0.1", "10.0.0.2")]
        assert wild6.batches == [Received(b"six", 3, ("fd00::9", 1, 0, 0), "fd00::1")]

        for local_ip in (None, "10.0.0.2", "10.0.0.3", "fd00::1"):  # the last two can't be sent
            assert wild4.socket.send([b"answer"], ("10.0.0.9", 1), local_ip)
        assert wild4.socket.send([b"of the other kind"], ("fd00::9", 1))
        await asyncio.sleep(1)
        assert [batch.addr for batch in mine4.batches] == [("10.0.0.1", 443), ("10.0.0.2", 443)]
        assert {batch.local_ip for batch in mine4.batches} == {None}
        assert not mine6.batches


@pytest.mark.parametrize(
    ("first", "second", "error"),
    [
        (("10.0.0.1", 5), ("10.0.0.1", 5), errno.EADDRINUSE),
        (("10.0.0.1", 5), ("0.0.0.0", 5), errno.EADDRINUSE),
        (("0.0.0.0", 5), ("10.0.0.1", 5), errno.EADDRINUSE),
        (("::", 5), ("fd00::1", 5), errno.EADDRINUSE),
        (("10.0.0.1", 5), ("10.0.0.2", 5), None),
        (("0.0.0.0", 5), ("::", 5), None),
        (("::", 5), ("10.0.0.1", 5), None),
        (("10.0.0.1", 5), ("10.0.0.7", 6), errno.EADDRNOTAVAIL),
    ],
)
async def test_who_may_bind_where(first: SocketAddress, second: SocketAddress, error: int | None) -> None:
    async with Network() as network:
        node = network.node("10.0.0.1", "10.0.0.2", "fd00::1")
        socket = await node.udp()(first)
        if error is None:
            await node.udp()(second)
            return
        with pytest.raises(OSError, match="is") as caught:
            await node.udp()(second)
        assert caught.value.errno == error
        socket.close()
        socket.close()
        if error == errno.EADDRINUSE:
            await node.udp()(second)


async def test_port_0_is_any_free_port() -> None:
    async with Network() as network:
        node = network.node("10.0.0.1")
        with pytest.raises(OSError, match="no address"):
            await node.udp()(("::", 0))
        await node.udp()(("10.0.0.1", 49153))
        ports = [(await node.udp()((ip, 0))).addr[1] for ip in ("10.0.0.1", "0.0.0.0", "10.0.0.1")]
        assert len({*ports, 49153}) == 4
        assert all(port >= 49152 for port in ports)
        (last := await node.udp()(("10.0.0.1", 0))).close()
        assert (await node.udp()(("10.0.0.1", 0))).addr != last.addr, "a port is not used again at once"


async def test_what_is_sent_to_nobody_vanishes() -> None:
    async with Network() as network:
        a, b = await join(network)
        for target in (("10.0.0.3", 2000), ("10.0.0.2", 2001)):
            assert a.socket.send([b"x"], target)
        a.socket.send([b"x"], B)
        b.socket.close()
        assert b.socket.send([b"from a closed socket"], A)
        await asyncio.sleep(1)
        assert not a.data
        assert not b.data
        node = network.node("10.0.0.4")
        silent = await node.udp()(("10.0.0.4", 1))
        a.socket.send([b"nobody is attached"], silent.addr)
        await asyncio.sleep(1)
        assert not Inbox(node, silent).data


async def test_a_machine_talks_to_itself_at_once() -> None:
    async with Network(link=Link(latency=1.0, loss=0.9)) as network:
        a, _ = await join(network)
        a.socket.send(numbered(10), A)
        assert not a.data, "not within the call"
        await asyncio.sleep(0.001)
        assert a.data == numbered(10)


async def test_rebinding_changes_the_port_that_others_see() -> None:
    async with Network() as network:
        a, b = await join(network)
        other = await bind(a.node, ("0.0.0.0", 1001))
        a.node.rebind(a.socket)
        for socket in (a.socket, other.socket):
            socket.send([b"hello"], B)
        await asyncio.sleep(1)
        moved, stayed = (batch.addr for batch in b.batches)
        assert moved[0] == A[0]
        assert moved[1] != A[1]
        assert stayed == (A[0], 1001)
        assert a.socket.addr == A, "the socket does not notice"
        b.socket.send([b"old"], A)
        b.socket.send([b"new"], moved)
        await asyncio.sleep(1)
        assert a.data == [b"new"]

        b.clear()
        a.node.rebind()
        for socket in (a.socket, other.socket):
            socket.send([b"hello"], B)
        await asyncio.sleep(1)
        assert len({moved, stayed, *(batch.addr for batch in b.batches)}) == 4
        with pytest.raises(OSError, match="in use"):
            await a.node.udp()(A)
        a.socket.close()
        await a.node.udp()(A)


async def test_a_tap_sees_and_drops_what_is_sent() -> None:
    async with Network(link=Link(loss=1.0)) as network:
        a, b = await join(network)
        seen: list[tuple[bytes, SocketAddress, SocketAddress]] = []

        def tap(data: bytes, source: SocketAddress, target: SocketAddress) -> bool:
            seen.append((data, source, target))
            return data != b"drop"

        network.on_datagram = tap
        a.socket.send([b"lost"], B)
        network.set_link(a.node, b.node, Link())
        a.socket.send([b"drop", b"keep"], B)
        a.socket.send([b"vanishes"], ("10.0.0.3", 1))
        await asyncio.sleep(1)
        assert b.data == [b"keep"]
        assert seen == [(b"lost", A, B), (b"drop", A, B), (b"keep", A, B), (b"vanishes", A, ("10.0.0.3", 1))]


async def test_a_datagram_can_be_injected() -> None:
    async with Network(link=Link(loss=1.0)) as network:
        a, b = await join(network)
        network.on_datagram = lambda *_: False
        network.inject(bytes(9000), ("1.2.3.4", 5), B)
        network.inject(b"replayed", A, B)
        network.inject(b"to nobody", A, ("10.0.0.3", 1))
        await asyncio.sleep(0.001)
        assert [(len(batch.data), batch.addr) for batch in b.batches] == [(9000, ("1.2.3.4", 5)), (8, A)]
        assert not a.data


@pytest.mark.parametrize("seed", [1, 2])
def test_the_seed_decides(seed: int) -> None:
    link = Link(latency=0.01, loss=0.2, jitter=0.1, duplicate=0.2, bandwidth=1_000_000, queue=0.01)
    logs = []
    for used in (seed, seed, seed + 1):
        start, b = run(transfer(link, numbered(500), used))
        logs.append([(when - start, data) for when, data in b.log])
    assert logs[0] == logs[1] != logs[2]


async def test_at_the_end_nothing_is_left() -> None:
    """The virtual loop would report timers that are left over."""
    async with Network(link=Link(latency=5.0, jitter=1.0)) as network:
        a, b = await join(network)
        a.socket.send(numbered(100), B)
        b.socket.send(numbered(100), A)
        network.inject(b"x", A, B)
    await asyncio.sleep(10)
    assert not a.data
    assert not b.data
    assert a.socket.send([b"late"], B)
    network.inject(b"late", A, B)


async def test_connections_and_datagrams_share_the_bandwidth() -> None:
    async with Network(link=Link(bandwidth=40, queue=100.0)) as network:
        a, b = await join(network)
        start = now()
        a.socket.send([bytes(80)], B)
        with pytest.raises(ConnectionRefusedError):  # asking takes 40 bytes there, and 40 back
            await network.connect(a.node, Multiaddr("/ip4/10.0.0.2/tcp/1"))
        assert now() - start == pytest.approx(2.0 + 1.0 + 1.0)

        b.clear()
        start = now()
        asking = asyncio.ensure_future(network.connect(a.node, Multiaddr("/ip4/10.0.0.2/tcp/1")))
        await asyncio.sleep(0)
        a.socket.send([bytes(80)], B)
        await asyncio.wait([asking])
        assert isinstance(asking.exception(), ConnectionRefusedError)
        await asyncio.sleep(10)
        assert b.log[0][0] - start == pytest.approx(1.0 + 2.0)
