"""Dialing a peer: its addresses resolved, ranked, tried side by side; the first connection wins.

Dials of one peer that overlap are one dial, whose result all callers share; it is cancelled when the last of them is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..connection import Connection, Transport
from ..errors import DialError, InvalidMultiaddr, Libp2pError, ResolveError
from ..identity import PeerId
from ..io import time_limit
from ..multiaddr import Multiaddr, Resolver
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
    """A dial under way, and how many callers wait for it."""

    def __init__(self, task: asyncio.Task[Connection]) -> None:
        self.task = task
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
    ) -> None:
        self._transports = transports
        self._resolver = resolver
        self._config = config
        self._own_addrs = own_addrs
        self._backoff = Backoff()
        self._under_way: dict[object, _Shared] = {}

    async def dial(
        self,
        peer: PeerId | None,
        known: Sequence[Multiaddr],
        given: Sequence[Multiaddr],
        finish: Callable[[Connection], Connection],
    ) -> Connection:
        """Dial `peer` at its `known` addresses, as far as they are not resting after failures, and at those `given`
        by the caller. `finish` gets the connection once, however many callers wait. Raises `DialError`.
        """
        key: object = peer if peer is not None else frozenset(given)
        shared = self._under_way.get(key)
        if shared is None:
            task = asyncio.get_running_loop().create_task(self._run(peer, known, given, finish), name=f"dial {peer}")
            shared = self._under_way[key] = _Shared(task)
            task.add_done_callback(lambda done: self._ended(key, done))
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            if not shared.waiting and not shared.task.done():
                shared.task.cancel()
                with suppress(asyncio.CancelledError, Libp2pError):
                    await shared.task

    async def close(self) -> None:
        """Cancel all dials."""
        tasks = [shared.task for shared in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: object, task: asyncio.Task[Connection]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # seen, even where the last caller has just been cancelled

    async def _run(
        self,
        peer: PeerId | None,
        known: Sequence[Multiaddr],
        given: Sequence[Multiaddr],
        finish: Callable[[Connection], Connection],
    ) -> Connection:
        errors: dict[Multiaddr, Exception] = {}
        now = asyncio.get_running_loop().time()
        wanted = list(given)
        for addr in known:
            if (until := self._backoff.rests_until((peer, addr.without_peer()), now)) is not None:
                errors[addr] = Libp2pError(f"failed before, rests for another {until - now:.1f} s")
            else:
                wanted.append(addr)
        candidates = await self._resolve(peer, wanted, errors)
        return finish(await _Race(self, peer, rank(candidates), errors).run())

    async def _resolve(
        self, peer: PeerId | None, addrs: Sequence[Multiaddr], errors: dict[Multiaddr, Exception]
    ) -> list[Multiaddr]:
        """The addresses to dial: names resolved, without those that no transport dials or that are our own."""
        resolved: dict[Multiaddr, None] = {}
        own = set(self._own_addrs())
        for addr in dict.fromkeys(addrs):
            try:
                found = await self._resolver.resolve(addr, peer_id_text=str(peer) if peer else None)
            except (ResolveError, InvalidMultiaddr) as error:
                errors[addr] = error
                continue
            for candidate in found:
                bare = candidate.without_peer()
                if bare in own:
                    errors[candidate] = Libp2pError("this host itself listens there")
                elif self.transport_for(bare) is None:
                    errors[candidate] = Libp2pError("no transport of this host dials it")
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
        try:
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
        finally:
            await self._stop()

    def _start_due(self) -> float | None:
        """Start the attempts that are due; return the seconds until the next one is."""
        elapsed = self._loop.time() - self._start
        while self._waiting and len(self._running) < self._dialer.max_parallel:
            delay, addr = self._waiting[0]
            if self._running and delay > elapsed:
                return delay - elapsed
            self._waiting.popleft()
            task = self._loop.create_task(self._dialer.attempt(self._peer, addr), name=f"dial {addr}")
            self._running[task] = addr
        return None

    async def _stop(self) -> None:
        """Cancel what still runs; a connection that was just made is not needed."""
        for task in self._running:
            task.cancel()
        for outcome in await asyncio.gather(*self._running, return_exceptions=True):
            if isinstance(outcome, Connection):
                outcome.abort("another address was faster")
