"""The dialer: joined dials, the race of the addresses, cancellation, and what is told of failures."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libp2p.connection import Connection, DialOptions
from libp2p.errors import DialError, HandshakeError, Libp2pError, ResolveError, StageTimeout
from libp2p.multiaddr import Multiaddr, Resolver
from libp2p.swarm.dialer import Dialer
from libp2p.swarm.race import DialerConfig

A, B, C = (Multiaddr(f"/ip4/8.8.8.{n}/tcp/1") for n in (1, 2, 3))
SIX = Multiaddr("/ip6/2606:4700::1/tcp/1")
OTHER = Multiaddr("/memory/5")


class Lookup:
    """Names that are known."""

    async def addresses(self, name: str, family: Any) -> list[str]:
        if name == "broken.example":
            raise ResolveError("cannot look up broken.example")
        return ["8.8.8.1", "8.8.8.2"] if name == "two.example" else []

    async def texts(self, name: str) -> list[str]:
        return []


class Dials:
    """A dialer over a fake transport; what it made is checked at the end: one connection per dial is handed out."""

    def __init__(self, fake: Any, plans: dict[Multiaddr, Any], own: tuple[Multiaddr, ...] = (), **config: Any) -> None:
        self.transport = fake.transport({str(addr): plan for addr, plan in plans.items()})
        self.dialer = Dialer(
            [self.transport],
            Resolver(lookup=Lookup()),
            DialerConfig(**config),
            own_addrs=lambda: own,
            told_over=lambda *_: None,
        )
        self.peer = fake.key.public_key.peer_id
        self.finished: list[Connection] = []

    async def __call__(self, *given: Multiaddr, known: tuple[Multiaddr, ...] = ()) -> Connection:
        return await self.dialer.dial(self.peer, known, given, self.finish)

    def finish(self, connection: Connection) -> Connection:
        self.finished.append(connection)
        return connection

    @property
    def open(self) -> list[Connection]:
        return [connection for connection in self.transport.made if not connection.is_closed]


def now() -> float:
    return asyncio.get_running_loop().time()


async def steps(n: int) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def test_overlapping_dials_of_a_peer_are_one(fake: Any) -> None:
    dials = Dials(fake, {A: fake.plan(1)})
    tasks = [asyncio.ensure_future(dials(A)) for _ in range(10)]
    await asyncio.sleep(0.5)
    tasks[0].cancel()
    connections = await asyncio.gather(*tasks[1:], dials(A))
    assert len(set(map(id, connections))) == len(dials.finished) == len(dials.transport.log) == 1
    assert tasks[0].cancelled()
    await dials(A)
    assert len(dials.finished) == 2, "a dial after the end of another is a new one"


async def test_a_joined_dial_still_tries_the_addresses_of_its_own_caller(fake: Any) -> None:
    dials = Dials(fake, {A: fake.plan(1, OSError("no")), B: fake.plan()})
    first = asyncio.ensure_future(dials(A))
    await asyncio.sleep(0.5)
    assert (await dials(B)).remote_addr == B
    with pytest.raises(DialError):
        await first


async def test_the_dial_ends_with_its_last_caller(fake: Any) -> None:
    dials = Dials(fake, {A: fake.plan(60)})
    tasks = [asyncio.ensure_future(dials(A)) for _ in range(3)]
    await asyncio.sleep(1)
    for running, task in zip((1, 1, 0), tasks, strict=True):
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert dials.transport.running == running
    assert not dials.finished


async def test_who_comes_while_a_dial_is_being_cancelled_gets_a_new_one(fake: Any) -> None:
    dials = Dials(fake, {A: fake.plan(1, stubborn=1)})
    first = asyncio.ensure_future(dials(A))
    await asyncio.sleep(0.5)
    first.cancel()
    await asyncio.sleep(0.1)
    assert await dials(A) in dials.finished
    assert len(dials.open) == 1


async def test_closing_the_dialer_ends_dials_with_an_error_not_by_cancelling_the_caller(fake: Any) -> None:
    dials = Dials(fake, {A: fake.plan(60)})
    task = asyncio.ensure_future(dials(A))
    await asyncio.sleep(1)
    await dials.dialer.close()
    with pytest.raises(DialError, match="clos"):
        await task
    assert not dials.transport.running


@pytest.mark.parametrize("deaf", [False, True])
@pytest.mark.parametrize("stubborn", [0, 1])
async def test_the_first_connection_wins_and_the_others_are_gone(fake: Any, deaf: bool, stubborn: float) -> None:
    slow = fake.plan(5, deaf=deaf, stubborn=stubborn)
    dials = Dials(fake, {A: slow, B: fake.plan(0.1), C: slow})
    assert (await dials(A, B, C)).remote_addr == B
    assert dials.open == dials.finished
    assert dials.transport.running == 0


@pytest.mark.parametrize("when", [0.05, 0.3, 0.4, 0.6])
async def test_a_dial_cancelled_while_it_tidies_up_leaks_no_connection(fake: Any, when: float) -> None:
    """B wins 0.35 s after the start; cancelled, A takes another second to end, and is a connection then."""
    dials = Dials(fake, {A: fake.plan(60, stubborn=1, deaf=True), B: fake.plan(0.1)})
    task = asyncio.ensure_future(dials(A, B))
    await asyncio.sleep(when)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(5)
    assert task.cancelled()
    assert not dials.open


async def test_cancelled_at_any_step_nothing_leaks(fake: Any) -> None:
    for k in range(25):
        dials = Dials(fake, {A: fake.plan(0, deaf=True), B: fake.plan(0)})
        task = asyncio.ensure_future(dials(A, B))
        await steps(k)
        task.cancel()
        await asyncio.wait([task])
        await steps(10)
        assert dials.open == dials.finished, f"after {k} steps"


async def test_attempts_start_by_rank_or_when_none_is_under_way(fake: Any) -> None:
    dials = Dials(fake, {A: fake.plan(5), SIX: fake.plan(5), B: fake.plan(5), C: fake.plan(5)})
    start = now()
    await dials(A, SIX, B, C)
    begun = [(pytest.approx(when - start), addr) for when, addr in dials.transport.log]
    assert begun == [(0, str(SIX)), (0.25, str(A)), (0.5, str(B)), (0.5, str(C))]
    assert now() - start == pytest.approx(5)

    dials = Dials(fake, {SIX: fake.plan(0.01, OSError("no")), A: fake.plan(0.01, OSError("no"))})
    start = now()
    await dials(A, SIX, B)
    assert now() - start == pytest.approx(0.02), "an address that fails lets the next one start at once"


async def test_at_most_so_many_attempts_at_a_time(fake: Any) -> None:
    addrs = [Multiaddr(f"/ip4/8.8.4.{n}/tcp/1") for n in range(20)]
    dials = Dials(fake, {addr: fake.plan(5, OSError("no")) for addr in addrs}, max_parallel=3, max_addrs=10)
    with pytest.raises(DialError) as caught:
        await dials(*addrs)
    assert dials.transport.most == 3
    assert len(dials.transport.log) == len(caught.value.attempts) == 10


async def test_the_error_names_what_became_of_every_address(fake: Any) -> None:
    plans = {A: fake.plan(0, ConnectionRefusedError("refused")), B: fake.plan(1, HandshakeError("bad"))}
    dials = Dials(fake, {**plans, C: fake.plan(100)}, own=(SIX,), attempt_timeout=15)
    nameless, broken = Multiaddr("/dns4/none.example/tcp/1"), Multiaddr("/dns4/broken.example/tcp/1")
    with pytest.raises(DialError) as caught:
        await dials(A, B, C, SIX, OTHER, nameless, broken)
    kinds = {addr: type(error) for addr, error in caught.value.attempts.items()}
    assert kinds == {
        A: ConnectionRefusedError,
        B: HandshakeError,
        C: StageTimeout,
        SIX: Libp2pError,
        OTHER: Libp2pError,
        nameless: ResolveError,
        broken: ResolveError,
    }
    assert "itself" in str(caught.value.attempts[SIX])
    assert "no transport" in str(caught.value.attempts[OTHER])
    assert all(str(addr) in str(caught.value) for addr in kinds)
    with pytest.raises(DialError, match="no addresses known"):
        await dials()


async def test_names_are_resolved_and_duplicates_dialed_once(fake: Any) -> None:
    dials = Dials(fake, {A: fake.plan(0, OSError("no"))})
    name = Multiaddr("/dns4/two.example/tcp/1")
    assert (await dials(name, A, B, name)).remote_addr == B
    assert sorted(addr for _, addr in dials.transport.log) == [str(A), str(B)]


async def test_known_addresses_rest_after_failures_but_given_ones_do_not(fake: Any) -> None:
    dials = Dials(fake, {A: fake.plan(0, OSError("no"))})
    for given, known, attempts in (((), (A,), 1), ((), (A,), 1), ((A,), (), 2), ((A,), (A,), 3)):
        with pytest.raises(DialError) as caught:
            await dials(*given, known=known)
        assert len(dials.transport.log) == attempts
        assert A in caught.value.attempts
    await asyncio.sleep(60)
    dials.transport.plans.clear()
    await dials(known=(A,))
    dials.transport.plans[str(A)] = fake.plan(0, OSError("no"))
    with pytest.raises(DialError):
        await dials(known=(A,))
    assert len(dials.transport.log) == 5, "a success ends the rest"


@pytest.mark.parametrize("beside", [(), (B,)])
async def test_an_unforeseen_error_is_one_of_its_address_and_said_once(
    fake: Any, caplog: pytest.LogCaptureFixture, beside: tuple[Multiaddr, ...]
) -> None:
    """A fault in a transport, or in what it uses, ends neither the race nor, unnamed, the caller's `connect`."""
    dials = Dials(fake, {A: fake.plan(0, ZeroDivisionError()), B: fake.plan(5, OSError("no"))})
    with pytest.raises(DialError) as caught:
        await dials(A, *beside)
    assert isinstance(caught.value.attempts[A], ZeroDivisionError)
    assert [record.getMessage() for record in caplog.records] == [f"dialing {A} failed"]
    assert isinstance(caplog.records[0].exc_info, tuple)
    if beside:
        dials.transport.plans[str(B)] = fake.plan(1)
        assert (await dials(A, B)).remote_addr == B


@pytest.mark.parametrize("beside", [(), (B,)])
async def test_an_attempt_that_is_cancelled_from_within_has_failed(fake: Any, beside: tuple[Multiaddr, ...]) -> None:
    dials = Dials(fake, {A: fake.plan(0, asyncio.CancelledError()), B: fake.plan(5, OSError("no"))})
    with pytest.raises(DialError, match="cancelled from within"):
        await dials(A, *beside)


class Never:
    """A resolver of names that never answers, and counts who waits."""

    def __init__(self) -> None:
        self.waiting = 0
        self.most = 0

    async def addresses(self, name: str, family: Any) -> list[str]:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.waiting -= 1
        raise AssertionError

    async def texts(self, name: str) -> list[str]:
        return await self.addresses(name, "")


NAMES = tuple(Multiaddr(f"/dns4/x{n}.example/tcp/1") for n in range(63))


async def test_dead_names_keep_no_address_waiting(fake: Any) -> None:
    dials, lookup = Dials(fake, {}), Never()
    dials.dialer._resolver = Resolver(lookup=lookup)
    start = now()
    assert (await dials(A, known=NAMES)).remote_addr == A
    assert now() == start
    assert (await dials(known=(*NAMES, B))).remote_addr == B
    assert now() == start
    assert lookup.most == 8
    assert not lookup.waiting, "lookups end with the dial"


async def test_one_limit_spans_the_whole_dial(fake: Any) -> None:
    addrs = [Multiaddr(f"/ip4/8.8.4.{n}/tcp/1") for n in range(60)]
    dials = Dials(fake, {addr: fake.plan(100) for addr in addrs}, max_parallel=3)
    dials.dialer._resolver = Resolver(lookup=Never())
    start = now()
    with pytest.raises(DialError) as caught:
        await dials(*addrs, *NAMES)
    assert now() - start == 60
    assert set(caught.value.attempts) == {*addrs, *NAMES}
    assert "limit of 60 s" in str(caught.value.attempts[addrs[-1]])
    assert isinstance(caught.value.attempts[addrs[0]], StageTimeout)
    assert not dials.transport.running


async def test_what_a_name_leads_to_is_ranked_with_what_is_there(fake: Any) -> None:
    """It comes late, and is due by then: it starts beside what is under way."""

    class Slow(Lookup):
        async def addresses(self, name: str, family: Any) -> list[str]:
            await asyncio.sleep(2)
            return await super().addresses(name, family)

    dials = Dials(fake, {C: fake.plan(100)})
    dials.dialer._resolver = Resolver(lookup=Slow())
    start = now()
    assert (await dials(C, Multiaddr("/dns4/two.example/tcp/1"))).remote_addr == A
    assert now() - start == pytest.approx(2)
    assert not dials.transport.running


async def test_own_addresses_and_rests_are_judged_when_an_address_is_tried(fake: Any) -> None:
    """Not when the dial began: what has become our own meanwhile is left alone."""
    dials = Dials(fake, {A: fake.plan(5, OSError("no")), SIX: fake.plan(5, OSError("no"))})
    own: list[Multiaddr] = []
    dials.dialer._own_addrs = lambda: own
    task = asyncio.ensure_future(dials(SIX, A))
    await asyncio.sleep(0.1)
    own.append(A)
    with pytest.raises(DialError) as caught:
        await task
    assert [addr for _, addr in dials.transport.log] == [str(SIX)]
    assert "itself" in str(caught.value.attempts[A])


async def test_options_of_a_dial(fake: Any) -> None:
    dials = Dials(fake, {A: fake.plan(1, OSError("no"))})
    dial = dials.dialer.dial
    for _ in range(2):
        with pytest.raises(DialError):
            await dial(dials.peer, (A,), (), dials.finish, DialOptions(remember=False))
    assert len(dials.transport.log) == 2, "nothing is remembered, so nothing rests"
    with pytest.raises(DialError):
        await dials(known=(A,))
    with pytest.raises(DialError, match="rests"):
        await dials(known=(A,))
    with pytest.raises(DialError):
        await dial(dials.peer, (A,), (), dials.finish, DialOptions(heed_backoff=False))
    assert len(dials.transport.log) == 4
    dials.transport.plans[str(A)] = fake.plan(1)
    fresh = [dial(dials.peer, (), (A,), dials.finish, DialOptions(new_connection=True)) for _ in range(2)]
    first, second = await asyncio.gather(*fresh)
    assert first is not second


async def test_who_may_not_be_dialed_is_not(fake: Any) -> None:
    dials = Dials(fake, {})
    dials.dialer._forbidden = lambda peer, addr: Libp2pError("not there") if addr == A else None
    assert (await dials(A, B)).remote_addr == B
    with pytest.raises(DialError, match="not there"):
        await dials(A)


async def test_an_ipv4_address_mapped_into_ipv6_is_dialed_as_what_it_is(fake: Any) -> None:
    dials = Dials(fake, {})
    await dials(Multiaddr("/ip6/::ffff:8.8.8.1/tcp/1"), A)
    assert [addr for _, addr in dials.transport.log] == [str(A)]


async def test_a_transport_hears_the_name_that_an_address_was_looked_up_by(fake: Any) -> None:
    dials = Dials(fake, {A: fake.plan(), B: fake.plan()})
    heard: list[tuple[Multiaddr, str]] = []
    dial = dials.transport.dial

    async def listening(addr: Multiaddr, peer: Any, options: DialOptions = DialOptions()) -> Connection:
        heard.append((addr, options.host_name))
        connection: Connection = await dial(addr, peer, options)
        return connection

    dials.transport.dial = listening
    await dials(A)
    await dials(Multiaddr("/dns4/two.example/tcp/1"))
    assert heard == [(A, ""), (A, "two.example")]
