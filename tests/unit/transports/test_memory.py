"""The /memory transport: names, refusals, and who closes what. The pipe itself runs the conformance suite."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libp2p.connection import Direction, RawConnection
from libp2p.errors import HandshakeError, InvalidMultiaddr, ListenError
from libp2p.multiaddr import Multiaddr
from libp2p.testing.transports import AcceptAll, RawUpgrader, context
from libp2p.transports.memory import MAX_PENDING_INBOUND, MemoryRegistry, MemoryTransport, pipe

ANY = Multiaddr("/memory/0")


class Accepted(AcceptAll):
    def __init__(self) -> None:
        super().__init__()
        self.opened: list[Any] = []
        self.failed: list[tuple[Multiaddr, Multiaddr, Exception]] = []

    def connection_opened(self, connection: Any, scope: Any) -> None:
        self.opened.append(connection)

    def connection_failed(self, local_addr: Multiaddr, remote_addr: Multiaddr, error: Exception) -> None:
        self.failed.append((local_addr, remote_addr, error))


def transport(upgrader: Any = None, registry: MemoryRegistry | None = None) -> Any:
    return MemoryTransport(registry=registry or MemoryRegistry()).use(context(upgrader=upgrader or RawUpgrader()))


@pytest.mark.parametrize(
    ("addr", "ours"),
    [
        ("/memory/7", True),
        ("/memory/7/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC", True),
        ("/memory/7/tcp/1", False),
        ("/ip4/127.0.0.1/tcp/7", False),
    ],
)
async def test_it_knows_its_addresses(addr: str, ours: bool) -> None:
    subject, parsed = transport(), Multiaddr(addr)
    assert subject.can_dial(parsed) is ours
    assert subject.can_listen(parsed) is ours
    if not ours:
        with pytest.raises(InvalidMultiaddr):
            await subject.dial(parsed, None)
        with pytest.raises(ListenError):
            await subject.listen(parsed, Accepted())


async def test_dialer_and_listener_meet_and_know_their_addresses() -> None:
    subject, accepted = transport(), Accepted()
    listener = await subject.listen(ANY, accepted)
    (addr,) = listener.addrs
    dialed = await subject.dial(addr, None)
    await asyncio.sleep(0)
    (inbound,) = accepted.opened
    assert dialed.remote_addr == inbound.local_addr == addr
    assert dialed.local_addr == inbound.remote_addr != addr
    await dialed.write(b"hi")
    assert await inbound.readexactly(2) == b"hi"
    await listener.close()
    await dialed.close()
    assert await inbound.read(1) == b"", "a connection outlives its listener"
    await inbound.close()


async def test_free_numbers_differ_and_taken_ones_are_refused() -> None:
    registry = MemoryRegistry()
    subject = transport(registry=registry)
    listeners = [await subject.listen(addr, Accepted()) for addr in (Multiaddr("/memory/2"), ANY, ANY)]
    assert len({listener.addrs[0] for listener in listeners}) == 3
    with pytest.raises(ListenError, match="in use"):
        await transport(registry=registry).listen(Multiaddr("/memory/2"), Accepted())
    for listener in listeners:
        await listener.close()
        await listener.close()
        assert listener.addrs == ()
    await (await subject.listen(Multiaddr("/memory/2"), Accepted())).close()


async def test_nobody_there_is_refused() -> None:
    subject = transport()
    listener = await subject.listen(ANY, Accepted())
    (addr,) = listener.addrs
    await listener.close()
    with pytest.raises(ConnectionRefusedError, match=str(addr)):
        await subject.dial(addr, None)
    other = transport()
    with pytest.raises(ConnectionRefusedError):
        await other.dial(addr, None)


async def test_failed_upgrades_are_reported() -> None:
    class Failing(RawUpgrader):
        async def upgrade(self, raw: RawConnection, direction: Direction, **_: Any) -> Any:
            if direction is Direction.OUTBOUND:
                return raw
            raw.abort()
            raise HandshakeError("no")

    subject, accepted = transport(Failing()), Accepted()
    listener = await subject.listen(ANY, accepted)
    dialed = await subject.dial(listener.addrs[0], None)
    with pytest.raises(ConnectionResetError):
        await dialed.read(1)
    assert [(local, str(error)) for local, _, error in accepted.failed] == [(listener.addrs[0], "no")]
    assert not accepted.opened
    await listener.close()


class Stuck(RawUpgrader):
    async def upgrade(self, raw: RawConnection, direction: Direction, **_: Any) -> Any:
        if direction is Direction.INBOUND:
            await asyncio.Event().wait()
        return raw


@pytest.mark.parametrize("turns", [0, 3])
async def test_closing_a_listener_ends_unfinished_upgrades(turns: int) -> None:
    subject, accepted = transport(Stuck()), Accepted()
    listener = await subject.listen(ANY, accepted)
    dialed = await subject.dial(listener.addrs[0], None)
    for _ in range(turns):
        await asyncio.sleep(0)
    await listener.close()
    with pytest.raises(ConnectionResetError):
        await dialed.read(1)
    assert not accepted.opened
    assert not accepted.failed


async def test_unfinished_upgrades_are_bounded() -> None:
    subject = transport(Stuck())
    listener = await subject.listen(ANY, Accepted())
    waiting = [await subject.dial(listener.addrs[0], None) for _ in range(MAX_PENDING_INBOUND)]
    refused = await subject.dial(listener.addrs[0], None)
    with pytest.raises(ConnectionResetError):
        await refused.read(1)
    await waiting[0].write(b"still there")
    await listener.close()


async def test_a_pipe_that_is_not_closed_warns() -> None:
    ends = pipe()
    ends[0].abort()
    for end in ends:
        await end.close()
    (forgotten, peer) = pipe()
    with pytest.warns(ResourceWarning, match="never closed"):
        forgotten.__del__()
    forgotten.abort()
    await peer.close()


async def test_window_and_segments_bound_what_is_under_way() -> None:
    carried: list[Any] = []
    left, right = pipe(there=lambda size, arrive: carried.append((size, arrive)), window=100, segment=30)
    left.send((bytes(1000),))
    assert [size for size, _ in carried] == [30, 30, 30, 10]
    assert left.unsent == 1000
    carried[0][1]()
    await asyncio.sleep(0)
    assert [size for size, _ in carried[4:]] == [30]
    assert len(await right.read(1000)) == 30
    left.abort()
    right.abort()
