"""Dialing a peer: its addresses resolved, ranked, tried side by side; the first connection wins.

Dials of one peer that overlap are one dial, whose result all callers share; it is cancelled when the last of them is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..connection import Connection, Transport
from ..errors import DialError, InvalidMultiaddr, Libp2pError, ResolveError
from ..identity import PeerId
from ..io import time_limit
from ..multiaddr import Multiaddr, Reach, Resolver, ip_of, may_share
from .backoff import Backoff
from .ranking import Ranked, rank


@dataclass(frozen=True, slots=True)
class DialerConfig:
    """Limits of dialing."""

    dial_timeout: float = 15.0
    """Seconds for one address, from the first packet to the finished connection."""
    max_addrs: int = 64
    """Addresses of one peer that are tried; the rest is left out."""
    max_parallel: int = 8
    """Addresses of one peer that are tried at the same time."""


class _Shared:
    """A dial under way: the addresses that its first caller gave, and how many callers wait for it."""

    def __init__(self, task: asyncio.Task[Connection], given: frozenset[Multiaddr]) -> None:
        self.task = task
        self.given = given
        self.waiting = 0


class Dialer:
    """Finds a connection to a peer. What it returns is new, and not served yet."""

    def __init__(
        self,
        transports: Sequence[Transport],
        resolver: Resolver,
        config: DialerConfig,
        *,
        own_addrs: Callable[[], Iterable[Multiaddr]],
        told_over: Callable[[PeerId, Multiaddr], Reach | None],
    ) -> None:
        self._transports = transports
        self._resolver = resolver
        self._config = config
        self._own_addrs = own_addrs
        self._told_over = told_over
        self._backoff = Backoff()
        self._under_way: dict[object, _Shared] = {}
        self._tasks: set[asyncio.Task[Connection]] = set()  # those under way, and those being cancelled
        self._closed = False

    async def dial(
        self,
        peer: PeerId | None,
        known: Sequence[Multiaddr],
        given: Sequence[Multiaddr],
        finish: Callable[[Connection], Connection],
    ) -> Connection:
        """Dial `peer` at its `known` addresses, as far as they are not resting after failures, and at those `given` by
        the caller. `finish` gets the connection once, however many callers wait. Raises `DialError`, and what `finish`
        does.
        """
        key: object = peer if peer is not None else frozenset(given)
        while True:
            joined = self._under_way.get(key)
            shared = joined or self._start(key, peer, known, given, finish)
            try:
                return await self._result(key, shared, peer)
            except DialError:
                if joined is None or self._closed or shared.given.issuperset(given):
                    raise  # else the dial that was joined did not try what this caller gave

    async def close(self) -> None:
        """Cancel all dials, their callers get a `DialError`; later ones fail at once."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _start(
        self,
        key: object,
        peer: PeerId | None,
        known: Sequence[Multiaddr],
        given: Sequence[Multiaddr],
        finish: Callable[[Connection], Connection],
    ) -> _Shared:
        if self._closed:
            raise _closed(peer)
        task = asyncio.get_running_loop().create_task(self._run(peer, known, given, finish), name=f"dial {peer}")
        shared = self._under_way[key] = _Shared(task, frozenset(given))
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._ended(key, shared))
        return shared

    async def _result(self, key: object, shared: _Shared, peer: PeerId | None) -> Connection:
        """Wait for the dial; cancel it where this is the last caller, and is cancelled."""
        shared.waiting += 1
        try:
            await asyncio.wait({shared.task})
        finally:
            shared.waiting -= 1
            if not shared.waiting and not shared.task.done():
                self._forget(key, shared)  # who comes now starts a new one
                shared.task.cancel()
                await asyncio.wait({shared.task})
        if shared.task.cancelled():
            raise _closed(peer)
        return shared.task.result()

    def _ended(self, key: object, shared: _Shared) -> None:
        self._forget(key, shared)
        self._tasks.discard(shared.task)
        if not shared.task.cancelled():
            shared.task.exception()  # seen, even where the last caller has just been cancelled

    def _forget(self, key: object, shared: _Shared) -> None:
        if self._under_way.get(key) is shared:
            del self._under_way[key]

    async def _run(
        self,
        peer: PeerId | None,
        known: Sequence[Multiaddr],
        given: Sequence[Multiaddr],
        finish: Callable[[Connection], Connection],
    ) -> Connection:
        errors: dict[Multiaddr, Exception] = {}
        candidates = await self._resolve(peer, known, given, errors)
        return finish(await _Race(self, peer, rank(candidates), errors).run())

    async def _resolve(
        self,
        peer: PeerId | None,
        known: Sequence[Multiaddr],
        given: Sequence[Multiaddr],
        errors: dict[Multiaddr, Exception],
    ) -> list[Multiaddr]:
        """The addresses to dial: names resolved, without those that no transport dials, that are our own, that a peer
        must not lead us to, or that rest (those given by the caller never do).
        """
        resolved: dict[Multiaddr, None] = {}
        own, wanted = set(self._own_addrs()), set(given)
        own_ips = {ip for addr in own if (ip := ip_of(addr)) is not None}
        for addr in dict.fromkeys([*given, *known]):
            try:
                found = await self._resolver.resolve(addr, peer_id_text=str(peer) if peer else None)
            except (ResolveError, InvalidMultiaddr) as error:
                errors[addr] = error
                continue
            now = asyncio.get_running_loop().time()
            told = None if peer is None or addr in wanted else self._told_over(peer, addr)
            for candidate in found:
                bare = candidate.without_peer()
                if bare in own:
                    errors[candidate] = Libp2pError("this host itself listens there")
                elif told is not None and not may_share(candidate, told, own=own_ips):
                    errors[candidate] = Libp2pError(
                        f"a {told.name.lower()} peer named {addr}: it must not lead us there"
                    )
                elif _is_path(candidate) and not _is_path(addr):
                    errors[candidate] = Libp2pError(
                        f"{addr} resolves to it: names lead to hosts, not into this machine"
                    )
                elif self.transport_for(bare) is None:
                    errors[candidate] = Libp2pError("no transport of this host dials it")
                elif addr not in wanted and (until := self._backoff.rests_until((peer, bare), now)) is not None:
                    errors[candidate] = Libp2pError(f"failed before, rests for another {until - now:.1f} s")
                elif len(resolved) < self._config.max_addrs:
                    resolved[bare] = None
        return list(resolved)

    def transport_for(self, addr: Multiaddr) -> Transport | None:
        """The first transport that dials `addr`."""
        return next((transport for transport in self._transports if transport.can_dial(addr)), None)

    async def attempt(self, peer: PeerId | None, addr: Multiaddr) -> Connection:
        """Dial one address, and remember for later dials how that went."""
        transport = self.transport_for(addr)
        assert transport is not None
        try:
            async with time_limit(f"dialing {addr}", self._config.dial_timeout):
                connection = await transport.dial(addr, peer)
        except (Libp2pError, OSError):
            self._backoff.failed((peer, addr), asyncio.get_running_loop().time())
            raise
        self._backoff.succeeded((peer, addr))
        return connection

    @property
    def max_parallel(self) -> int:
        """Addresses of one peer that are tried at the same time."""
        return self._config.max_parallel


def _is_path(addr: Multiaddr) -> bool:
    return addr.head is not None and addr.head.name in ("unix", "memory")


class _Race:
    """The attempts at one peer's addresses. Each starts when its delay is over, or as soon as no other is under way."""

    def __init__(
        self, dialer: Dialer, peer: PeerId | None, ranked: Sequence[Ranked], errors: dict[Multiaddr, Exception]
    ) -> None:
        self._dialer = dialer
        self._peer = peer
        self._waiting = deque(ranked)
        self._errors = errors
        self._running: dict[asyncio.Task[Connection], Multiaddr] = {}
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()

    async def run(self) -> Connection:
        """The first connection. Raises `DialError` with the error of every address."""
        winner: Connection | None = None
        try:
            winner = await self._first()
            return winner
        finally:
            try:
                await self._stop()
            except asyncio.CancelledError:
                if winner is not None:
                    winner.abort("the dial was cancelled")
                raise

    async def _first(self) -> Connection:
        if len(self._waiting) == 1:
            return await self._only(self._waiting.popleft().addr)
        while self._waiting or self._running:
            pause = self._start_due()
            done, _ = await asyncio.wait(self._running, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                addr = self._running.pop(task)
                try:
                    return task.result()
                except (Libp2pError, OSError) as error:
                    self._errors[addr] = error
        raise DialError(self._peer, self._errors)

    async def _only(self, addr: Multiaddr) -> Connection:
        """What the race comes to with one address: no task of its own is needed."""
        try:
            return await self._dialer.attempt(self._peer, addr)
        except (Libp2pError, OSError) as error:
            self._errors[addr] = error
            raise DialError(self._peer, self._errors) from error

    def _start_due(self) -> float | None:
        """Start the attempts that are due; return the seconds until the next one is."""
        now = self._loop.time()
        while self._waiting and len(self._running) < self._dialer.max_parallel:
            delay, addr = self._waiting[0]
            if self._running and (due := self._start + delay) > now:
                return due - now
            self._waiting.popleft()
            task = self._loop.create_task(self._dialer.attempt(self._peer, addr), name=f"dial {addr}")
            self._running[task] = addr
        return None

    async def _stop(self) -> None:
        """Cancel what still runs; a connection that was just made is not needed."""
        for task in self._running:
            task.add_done_callback(_not_needed)
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)


def _not_needed(task: asyncio.Task[Connection]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort("another address was faster")


def _closed(peer: PeerId | None) -> DialError:
    return DialError(peer, {}, reason="the host is closed")
