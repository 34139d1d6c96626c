"""Carries out the plan of one dial: looks up, dials, waits, and tidies up. The first connection wins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from ..connection import Connection
from ..errors import DialError, Libp2pError
from ..identity import PeerId
from ..multiaddr import Multiaddr, Resolver
from .plan import DialPlan, Obstacle, unfinished

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DialerConfig:
    """Limits of dialing."""

    dial_timeout: float = 60.0
    """Seconds for a whole dial, looking up names included."""
    attempt_timeout: float = 15.0
    """Seconds for one address, from the first packet to the finished connection."""
    max_addrs: int = 64
    """Addresses of one peer that are tried; the rest is left out."""
    max_parallel: int = 8
    """Addresses of one peer that are tried at the same time."""
    max_lookups: int = 8
    """Names of one peer that are looked up at the same time."""


class Race:
    """One dial. `obstacles` tells what speaks against addresses now, `attempt` dials one, which has that host
    name, within so many seconds."""

    def __init__(
        self,
        peer: PeerId | None,
        plan: DialPlan,
        *,
        obstacles: Callable[[float], Obstacle],
        attempt: Callable[[Multiaddr, str, float], Coroutine[Any, Any, Connection]],
        resolver: Resolver,
        config: DialerConfig,
    ) -> None:
        self._peer = peer
        self._plan = plan
        self._obstacles = obstacles
        self._attempt = attempt
        self._resolver = resolver
        self._config = config
        self._attempts: dict[asyncio.Task[Connection], Multiaddr] = {}
        self._lookups: dict[asyncio.Task[dict[Multiaddr, str]], Multiaddr] = {}
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + config.dial_timeout

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
        while (now := self._loop.time()) < self._deadline:
            step = self._plan.step(now, self._obstacles(now))
            if self._plan.is_over:
                raise DialError(self._peer, self._plan.errors)
            if self._plan.is_alone and step.dial:
                return await self._only(step.dial[0], now)
            for name in step.look_up:
                self._lookups[self._start(self._look_up(name), f"look up {name}")] = name
            for addr in step.dial:
                self._attempts[self._start(self._try(addr, now), f"dial {addr}")] = addr
            pause = self._deadline - now if step.wait is None else min(step.wait, self._deadline - now)
            tasks = {*self._attempts, *self._lookups}
            done, _ = await asyncio.wait(tasks, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            if (winner := self._take(done)) is not None:
                return winner
        self._plan.out_of_time(unfinished(self._config.dial_timeout))
        raise DialError(self._peer, self._plan.errors)

    async def _only(self, addr: Multiaddr, now: float) -> Connection:
        """What the race comes to with one address: no task of its own is needed."""
        try:
            return await self._try(addr, now)
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            self._plan.failed(addr, _cancelled_within())
            raise DialError(self._peer, self._plan.errors) from error
        except Exception as error:
            self._plan.failed(addr, error)
            raise DialError(self._peer, self._plan.errors) from error

    def _try(self, addr: Multiaddr, now: float) -> Coroutine[Any, Any, Connection]:
        limit = min(self._config.attempt_timeout, self._deadline - now)
        return self._attempt(addr, self._plan.host_name(addr), limit)

    def _start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        return self._loop.create_task(work, name=name)

    def _look_up(self, name: Multiaddr) -> Coroutine[Any, Any, dict[Multiaddr, str]]:
        return self._resolver.resolve_with_names(name, peer_id_text=str(self._peer) if self._peer else None)

    def _take(self, done: set[asyncio.Task[Any]]) -> Connection | None:
        """Tell the plan what has come to nothing, and which names are resolved; return the winner, if there is one."""
        winner: Connection | None = None
        tasks: list[asyncio.Task[Any]] = [*self._lookups, *self._attempts]  # in the order of their start
        for task in filter(done.__contains__, tasks):
            outcome = _outcome(task)
            if (name := self._lookups.pop(task, None)) is not None:
                self._plan.resolved(name, outcome)
            elif isinstance(outcome, Exception):
                self._plan.failed(self._attempts.pop(task), outcome)
            elif winner is None:
                self._attempts.pop(task)
                winner = outcome  # of two at once the other one is let go by `_stop`
        return winner

    async def _stop(self) -> None:
        """Cancel what still runs; a connection that was just made is not needed."""
        for attempt in self._attempts:
            attempt.add_done_callback(_not_needed)
        tasks: set[asyncio.Task[Any]] = {*self._attempts, *self._lookups}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _outcome(task: asyncio.Task[Any]) -> Any:
    """What came of `task`: its result, or its error. Raises what is no `Exception`."""
    if task.cancelled():
        return _cancelled_within()
    error = task.exception()
    if error is None or isinstance(error, Exception):
        return error or task.result()
    raise error


def _cancelled_within() -> Libp2pError:
    return Libp2pError("it was cancelled from within: by what it called, not by us")


def _not_needed(task: asyncio.Task[Connection]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort("another address was faster")
