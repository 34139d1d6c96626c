"""Dialing a peer: its names looked up, its addresses ranked and tried side by side; the first connection wins.

Dials of one peer that overlap are one dial, whose result all callers share; it is cancelled when the last of them is.
What is tried, and when, `plan.py` decides, and `race.py` carries out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ..connection import Connection, DialOptions, Role, Transport
from ..errors import DialError, Libp2pError
from ..identity import PeerId
from ..io import time_limit
from ..multiaddr import Multiaddr, Reach, Resolver, ip_of, is_relayed, may_share
from .backoff import Backoff
from .plan import DialPlan, Obstacle, Origin
from .race import DialerConfig, Race

logger = logging.getLogger(__name__)


Finish = Callable[[Connection], Connection]
"""Gets a new connection once, however many callers wait for it; what it returns they get."""


class _Shared:
    """A dial under way: the addresses that its first caller gave, and how many callers wait for it."""

    def __init__(self, task: asyncio.Task[Connection], given: frozenset[Multiaddr]) -> None:
        self.task = task
        self.given = given
        self.waiting = 0


class Dialer:
    """Finds a connection to a peer. What it returns is new, and not served yet.

    `transports` may grow. `told_over` says from how far away the peer store was told of an address; `forbidden` what
    else speaks against dialing an address of a peer, if anything does.
    """

    def __init__(
        self,
        transports: Sequence[Transport],
        resolver: Resolver,
        config: DialerConfig,
        *,
        own_addrs: Callable[[], Iterable[Multiaddr]],
        told_over: Callable[[PeerId, Multiaddr], Reach | None],
        forbidden: Callable[[PeerId | None, Multiaddr], Exception | None] = lambda _peer, _addr: None,
    ) -> None:
        self._transports = transports
        self._resolver = resolver
        self._config = config
        self._own_addrs = own_addrs
        self._told_over = told_over
        self._forbidden = forbidden
        self._backoff = Backoff()
        self._under_way: dict[object, _Shared] = {}
        self._tasks: dict[asyncio.Task[Connection], None] = {}  # those under way, and those being cancelled
        self._closed = False

    async def dial(
        self,
        peer: PeerId | None,
        known: Sequence[Multiaddr],
        given: Sequence[Multiaddr],
        finish: Finish,
        options: DialOptions = DialOptions(),
    ) -> Connection:
        """Dial `peer` at its `known` addresses, as far as they are not resting after failures, and at those `given` by
        the caller. Raises `DialError`, and what `finish` does.
        """
        key: object = peer if peer is not None else frozenset(given)
        if options.new_connection or options.role is not Role.INITIATOR:
            key = object()  # a dial that nobody joins
        while True:
            joined = self._under_way.get(key)
            shared = joined or self._start(key, peer, known, given, finish, options)
            try:
                return await self._result(key, shared, peer)
            except DialError:
                if joined is None or self._closed or shared.given.issuperset(given):
                    raise  # else the dial that was joined did not try what this caller gave

    def abort(self) -> None:
        """Cancel all dials, their callers get a `DialError`; later ones fail at once. Idempotent."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """The same, and wait until they have ended."""
        self.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _start(
        self,
        key: object,
        peer: PeerId | None,
        known: Sequence[Multiaddr],
        given: Sequence[Multiaddr],
        finish: Finish,
        options: DialOptions,
    ) -> _Shared:
        if self._closed:
            raise _closed(peer)
        config = self._config
        plan = DialPlan(
            peer,
            given,
            known,
            max_addrs=config.max_addrs,
            max_parallel=config.max_parallel,
            max_lookups=config.max_lookups,
        )
        task = asyncio.get_running_loop().create_task(self._run(peer, plan, finish, options), name=f"dial {peer}")
        shared = self._under_way[key] = _Shared(task, frozenset(given))
        self._tasks[task] = None
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
        self._tasks.pop(shared.task, None)
        if not shared.task.cancelled():
            shared.task.exception()  # seen, even where the last caller has just been cancelled

    def _forget(self, key: object, shared: _Shared) -> None:
        if self._under_way.get(key) is shared:
            del self._under_way[key]

    async def _run(self, peer: PeerId | None, plan: DialPlan, finish: Finish, options: DialOptions) -> Connection:
        race = Race(
            peer,
            plan,
            obstacles=lambda now: self._obstacles(peer, options, now),
            attempt=lambda addr, host_name, limit: self._attempt(
                peer, addr, replace(options, host_name=host_name) if host_name else options, limit
            ),
            resolver=self._resolver,
            config=self._config,
        )
        return finish(await race.run())

    # What a race asks

    def _obstacles(self, peer: PeerId | None, options: DialOptions, now: float) -> Obstacle:
        """What speaks at this moment against dialing an address."""
        own = {addr for addr in self._own_addrs() if not is_relayed(addr)}  # a relay's leads to others, too
        own_ips = {ip for addr in own if (ip := ip_of(addr)) is not None}

        def obstacle(addr: Multiaddr, origin: Origin) -> Exception | None:
            if addr in own:
                return Libp2pError("this host itself listens there")
            told = None if peer is None or origin.is_given else self._told_over(peer, origin.addr)
            if told is not None and not may_share(addr, told, own=own_ips):
                return Libp2pError(f"a {told.name.lower()} peer named {origin.addr}: it must not lead us there")
            if _is_path(addr) and not _is_path(origin.addr):
                return Libp2pError(f"{origin.addr} resolves to it: names lead to hosts, not into this machine")
            if self._transport_for(addr) is None:
                return Libp2pError("no transport of this host dials it")
            heeds = options.heed_backoff and not origin.is_given
            until = self._backoff.rests_until((peer, addr), now, first=options.is_urgent) if heeds else None
            if until is not None:
                return Libp2pError(f"failed before, rests for another {until - now:.1f} s")
            return self._forbidden(peer, addr)

        return obstacle

    def _transport_for(self, addr: Multiaddr) -> Transport | None:
        """The first transport that dials `addr`."""
        return next((transport for transport in self._transports if transport.can_dial(addr)), None)

    async def _attempt(self, peer: PeerId | None, addr: Multiaddr, options: DialOptions, limit: float) -> Connection:
        """Dial one address within `limit` seconds, and remember for later dials how that went."""
        transport = self._transport_for(addr)
        assert transport is not None
        try:
            async with time_limit(f"dialing {addr}", limit):
                connection = await transport.dial(addr, peer, options)
        except Exception as error:
            if not isinstance(error, Libp2pError | OSError):
                logger.exception("dialing %s failed", addr)
            if options.remember:
                self._backoff.failed((peer, addr), asyncio.get_running_loop().time())
            raise
        if options.remember:
            self._backoff.succeeded((peer, addr))
        return connection


def _is_path(addr: Multiaddr) -> bool:
    return addr.head is not None and addr.head.name in ("unix", "memory")


def _closed(peer: PeerId | None) -> DialError:
    return DialError(peer, {}, reason="the host is closed")
