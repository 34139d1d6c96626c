"""What `make netns` tries, and what counts as met. Times are judged only beside go-libp2p's, in the same run."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median

from interop.build import BuildError
from interop.relay.parts import PartFailed

from .nat import FULL_CONE, PORT_RESTRICTED, RESTRICTED, SYMMETRIC, Nat
from .punches import Punch, Stage, stage
from .world import World, behind_firewalls, behind_nats

TRANSPORTS = ("tcp", "quic-v1")
RTTS = (0.015, 0.03, 0.05, 0.07, 0.1)
TRIES = 60
TIMED = 20
TIMED_RTT = 0.03
FIRST_ATTEMPT = 0.95
LOSS = 0.05
AS_FAST = 1.5
PEERS = ("go", "rust")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: what was tried, what must hold, what came out."""

    what: str
    criterion: str
    figure: str
    met: bool


@dataclass(slots=True)
class Table:
    """Rows under a title. `say` is told of each as it comes."""

    title: str
    say: Callable[[str], None]
    rows: list[Row] = field(default_factory=list)

    def add(self, what: str, criterion: str, figure: str, *, met: bool) -> None:
        """One more row."""
        self.rows.append(Row(what, criterion, figure, met))
        self.say(f"{'ok  ' if met else 'FAIL'}  {what}: {figure}")

    async def attempt(self, what: str, criterion: str, figure: Callable[[], Awaitable[tuple[str, bool]]]) -> None:
        """A row of what `figure` finds; what it raises is its figure."""
        try:
            text, met = await figure()
        except (PartFailed, BuildError, RuntimeError) as error:
            text, met = f"{type(error).__name__}: {error}", False
        self.add(what, criterion, text.replace("|", "/").replace("\n", " "), met=met)


KINDS: tuple[tuple[Nat | None, Nat | None, bool], ...] = (
    (None, PORT_RESTRICTED, True),
    (PORT_RESTRICTED, PORT_RESTRICTED, True),
    (SYMMETRIC, FULL_CONE, True),
    (SYMMETRIC, RESTRICTED, True),
    (FULL_CONE, SYMMETRIC, True),
    (RESTRICTED, SYMMETRIC, True),
    (SYMMETRIC, SYMMETRIC, False),
)
"""By the dialer's NAT and the listener's: whether they meet."""


def _name(nat: Nat | None) -> str:
    return nat.name if nat is not None else "public"


async def kinds(table: Table) -> None:
    """Which NATs can be passed."""
    for transport in TRANSPORTS:
        for dialer, listener, passes in KINDS:
            for refuses in (False, True):
                silent = "refusing" if refuses else "silent"
                await table.attempt(
                    f"{transport}, {_name(dialer)} dials {_name(listener)}, {silent}",
                    "direct" if passes else "stays relayed, and says why",
                    lambda a=dialer, b=listener, r=refuses, t=transport, p=passes: _once(  # type: ignore[misc]
                        behind_nats(a, b, refuses=r), t, 4, passes=p
                    ),
                )
        for translates in (False, True):
            await table.attempt(
                f"{transport}, IPv6, {'NAT66' if translates else 'stateful firewalls'}",
                "direct",
                lambda n=translates, t=transport: _once(behind_firewalls(translates=n), t, 6),  # type: ignore[misc]
            )


async def _once(
    place: AbstractContextManager[World], transport: str, version: int, *, passes: bool = True
) -> tuple[str, bool]:
    with place as world:
        world.set_link(TIMED_RTT)
        async with stage(world, transport, "us", version=version) as set_up:
            punch = await set_up.punch("us")
    if punch.direct:
        return f"direct, attempt {punch.attempts}", passes
    return f"relayed: {punch.words}", not passes and "attempt" in punch.words


def pairs(peers: Sequence[str]) -> list[tuple[str, str]]:
    """Who dials whom: we with ourselves, and with each of `peers` in both roles."""
    return [("us", "us"), *((a, b) for peer in peers for a, b in (("us", peer), (peer, "us")))]


async def first_attempts(table: Table, tries: int, peers: Sequence[str]) -> None:
    """How often the first attempt is enough, at round trips of 15 to 100 ms, through NATs that answer a reset."""
    for transport in TRANSPORTS:
        for dialer, listener in pairs(peers):
            await table.attempt(
                f"{transport}, {dialer} dials {listener}, {tries} tries",
                f"{FIRST_ATTEMPT:.0%} at the first attempt",
                lambda t=transport, d=dialer, n=listener: _rate(t, d, n, tries, loss=0.0),  # type: ignore[misc]
            )


async def lossy(table: Table, tries: int, peers: Sequence[str]) -> None:
    """The same where one frame in twenty is lost."""
    for transport in TRANSPORTS:
        for dialer, listener in pairs(peers):
            await table.attempt(
                f"{transport}, {dialer} dials {listener}, {LOSS:.0%} loss, {tries} tries",
                "all within three attempts",
                lambda t=transport, d=dialer, n=listener: _rate(t, d, n, tries, loss=LOSS),  # type: ignore[misc]
            )


async def _rate(transport: str, dialer: str, listener: str, tries: int, *, loss: float) -> tuple[str, bool]:
    punches: list[Punch] = []
    failed: list[str] = []
    with behind_nats(PORT_RESTRICTED, PORT_RESTRICTED, refuses=True) as world:
        done = 0
        while done < tries:
            world.set_link(RTTS[0])
            async with stage(world, transport, listener) as set_up:  # a relay bounds how often a peer is connected to
                for _ in range(min(10, tries - done)):
                    world.set_link(RTTS[done % len(RTTS)], loss)
                    done += 1
                    await _try(set_up, dialer, punches, failed)
    direct = [punch for punch in punches if punch.direct]
    first = sum(punch.attempts == 1 for punch in direct)
    text = f"{first} of {tries} at the first attempt, {len(direct)} in all"
    if failed or len(direct) < len(punches):
        text += "; " + (failed or [punch.words for punch in punches if not punch.direct])[0]
    needed = tries if loss else math.ceil(FIRST_ATTEMPT * tries)
    return text, (len(direct) if loss else first) >= needed


async def _try(set_up: Stage, dialer: str, punches: list[Punch], failed: list[str]) -> None:
    try:
        punches.append(await set_up.punch(dialer))
    except PartFailed as error:
        failed.append(str(error))


async def times(table: Table, tries: int, peers: Sequence[str]) -> None:
    """From the relayed connection to the direct one, beside go-libp2p's in the same topology."""
    for transport in TRANSPORTS:
        theirs = await _median(transport, "go", "go", tries)
        for dialer, listener in pairs(peers):
            await table.attempt(
                f"{transport}, {dialer} dials {listener}, median of {tries}, {TIMED_RTT * 1000:.0f} ms round trips",
                f"at most {AS_FAST} times go's with itself ({theirs:.0f} ms)",
                lambda t=transport, d=dialer, n=listener, w=theirs: _timed(t, d, n, tries, w),  # type: ignore[misc]
            )


async def _timed(transport: str, dialer: str, listener: str, tries: int, theirs: float) -> tuple[str, bool]:
    ours = await _median(transport, dialer, listener, tries)
    return f"{ours:.0f} ms", ours <= AS_FAST * theirs


async def _median(transport: str, dialer: str, listener: str, tries: int) -> float:
    punches: list[Punch] = []
    failed: list[str] = []
    with behind_nats(PORT_RESTRICTED, PORT_RESTRICTED, refuses=True) as world:
        world.set_link(TIMED_RTT)
        for _ in range(0, tries, 10):
            async with stage(world, transport, listener) as set_up:
                for _ in range(min(10, tries)):
                    await _try(set_up, dialer, punches, failed)
    taken = [punch.milliseconds for punch in punches if punch.milliseconds is not None]
    if not taken:
        raise PartFailed((failed or [punch.words for punch in punches])[0])
    return median(taken)


async def quick(table: Table) -> None:
    """Two punches: what `.ci/run` has time for."""
    for transport in TRANSPORTS:
        await table.attempt(
            f"{transport}, port-restricted dials port-restricted",
            "direct",
            lambda t=transport: _once(behind_nats(PORT_RESTRICTED, PORT_RESTRICTED), t, 4),  # type: ignore[misc]
        )
