"""MemoryAccount: who is counted where, who pays, and that everything comes back."""

from __future__ import annotations

import asyncio
import gc

import pytest

from libp2p.errors import StreamReset
from libp2p.io import HostMemory, MemoryAccount, MemoryConfig, ReceiveBuffer
from libp2p.io.memory import machine_memory


class Holder:
    """Holds pieces, and gives up the largest when it is told to."""

    def __init__(self, account: MemoryAccount) -> None:
        self.account = account
        self.pieces: list[int] = []
        self.told: list[str] = []
        account.reclaim = self.reclaim

    def hold(self, n: int) -> None:
        self.pieces.append(n)
        self.account.hold(n)

    def reclaim(self, scope: MemoryAccount) -> bool:
        if not self.pieces:
            return False
        self.told.append(scope.name)
        largest = max(self.pieces)
        self.pieces.remove(largest)
        self.account.release(largest)
        return True


def host(limit: int = 1000, *, peer: int = 500, connection: int = 200) -> HostMemory:
    return HostMemory(MemoryConfig(max_per_host=limit, max_per_peer=peer, max_per_connection=connection))


def test_what_a_connection_holds_counts_for_its_peer_and_the_host() -> None:
    memory = host()
    root = memory.account
    a, b = (memory.of_connection("ann") for _ in range(2))
    c = memory.of_connection("bob")
    a.hold(30)
    b.hold(40)
    assert c.draw(50)
    ann = root.child("peer", 0, key="ann")
    assert (a.used, b.used, c.used, ann.used, root.used) == (30, 40, 50, 70, 120)
    a.release(10)
    a.close(keep=5)
    assert (ann.used, root.used) == (45, 95)
    a.release(5)
    b.close()
    c.close()
    assert root.used == 0
    assert root.child("peer", 7, key="ann").limit == 7, "a peer without a connection has no account"


def test_windows_grow_up_to_half_of_each_limit() -> None:
    memory = host(limit=260)
    root = memory.account
    a, b, other = (memory.of_connection(peer) for peer in ("ann", "ann", "bob"))
    assert not a.draw(101), "more than half of the connection's"
    assert a.draw(100)
    assert not other.draw(31), "more than half of the host's"
    assert other.draw(30)
    a.release(60)
    b.hold(100)
    assert not b.draw(1)
    b.close()
    assert not b.draw(1)
    assert a.draw(60)
    assert root.used == 130


def test_the_largest_holder_pays_until_all_is_within_the_limits() -> None:
    memory = host(limit=350)
    root = memory.account
    small, large = (Holder(memory.of_connection(peer)) for peer in ("ann", "bob"))
    for n in (10, 60, 20):
        small.hold(n)
    for n in (90, 80):
        large.hold(n)
    assert (small.told, large.told) == ([], [])
    small.hold(100)
    assert (small.pieces, large.pieces) == ([10, 60, 20], [90, 80])
    assert small.told == ["host"]
    large.hold(25)
    large.hold(30)
    assert large.told == ["connection"]
    assert large.pieces == [80, 25, 30]
    assert root.used == 225


def test_a_holder_with_nothing_to_give_up_is_passed_over() -> None:
    memory = host(limit=100)
    root = memory.account
    idle = memory.of_connection("ann")
    assert idle.draw(50)
    payer = Holder(memory.of_connection("bob"))
    payer.hold(40)
    payer.hold(20)
    assert payer.pieces == [20]
    idle.hold(60)  # nobody can pay for that any more but `payer`, who does; then it stays above the limit
    assert payer.pieces == []
    assert root.used == 110


def test_the_host_has_an_eighth_of_the_machine() -> None:
    assert HostMemory().account.limit == machine_memory() // 8
    assert machine_memory() >= 64 * 1024 * 1024


def buffer(limit: int = 10**9) -> tuple[ReceiveBuffer, MemoryAccount]:
    account = MemoryAccount("connection", limit)
    return ReceiveBuffer(account=account), account


async def test_a_buffer_counts_what_is_unread() -> None:
    incoming, account = buffer()
    incoming.feed(bytes(100_000))
    assert account.used == 100_000
    await incoming.readexactly(60_000)
    assert account.used == 40_000
    await incoming.readexactly(100)  # too little to tell
    assert account.used == 40_000
    incoming.feed(bytes(50))
    assert account.used == 40_000
    incoming.feed_eof()
    assert account.used == 39_950
    await incoming.read()
    assert account.used == 0


async def test_what_a_task_waits_for_is_not_counted() -> None:
    """A message that the caller asked for may be larger than any limit of what comes unasked."""
    incoming, account = buffer(limit=1000)
    account.reclaim = lambda _: False
    reading = asyncio.ensure_future(incoming.readexactly(1_000_000))
    for _ in range(20):
        await asyncio.sleep(0)
        incoming.feed(bytes(50_000))
        await asyncio.sleep(0)
    assert len(await reading) == 1_000_000
    assert account.used == 0


async def test_a_window_s_growth_pays_for_the_bytes_in_it() -> None:
    incoming, account = buffer()
    assert account.draw(10_000)
    incoming.prepay(10_000)
    incoming.feed(bytes(10_000))
    assert account.used == 10_000
    incoming.feed(bytes(500))
    assert account.used == 10_500
    await incoming.readexactly(10_500)
    assert account.used == 10_500, "too little to tell"
    incoming.feed(bytes(300))
    incoming.feed_eof()
    assert account.used == 300, "nothing more comes: the window is no more"
    incoming.discard()
    assert account.used == 0


async def test_dropping_a_buffer_s_content_ends_it_by_the_error() -> None:
    incoming, account = buffer()
    incoming.feed(b"the beginning")
    incoming.feed_eof()
    incoming.drop(StreamReset(7, by="local"))
    assert account.used == 0
    with pytest.raises(StreamReset, match="code 0x7"):
        await incoming.read()


def test_a_buffer_that_is_forgotten_gives_back_what_it_held() -> None:
    incoming, account = buffer()
    incoming.feed(bytes(1000))
    del incoming
    gc.collect()
    assert account.used == 1000, "a finalizer may run in any thread: nothing is counted there"
    account.child("connection", 1)
    assert account.used == 0


def test_what_an_account_does_not_count_is_bounded() -> None:
    account = MemoryAccount("connection", 1_000_000)
    buffer = ReceiveBuffer(account=account)
    buffer.feed(bytes(256))
    assert account.used == 0, "counting it would cost more than holding it"
    buffer.feed(b"x")
    assert account.used == 257, "now all of it"
    buffer.discard()
    assert account.used <= 4096
    buffer.feed_eof()
    assert account.used == 0
