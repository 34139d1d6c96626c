"""Carrying out lookups: the asking half of `lookup`.

Rules: each request is a task of its own, so that none waits for another. What is still under way at the end goes on
without the lookup where `keep` takes it (see `stragglers`), and is cancelled otherwise. A lookup ends at its time limit
with what it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ...connection import Connection
from ...errors import Libp2pError
from ...identity import PeerId
from ...multiaddr import Reach, reach_of_remote
from ...routing import PeerInfo
from .config import KadConfig
from .diversity import without_crowds
from .lookup import Lookup
from .messenger import Answer, Messenger, Told
from .peer_map import PeerMap

logger = logging.getLogger(__name__)

_MAX_TOLD = 4
"""Peers whose word on the addresses of one peer is remembered, so that one liar can't hide it."""


@dataclass(frozen=True, slots=True)
class LookupProgress:
    """How far a lookup is: after each answer and each failure."""

    asked: int
    """Peers asked so far."""
    peer: PeerId
    """Who has answered, or failed."""
    answered: bool
    distance_left: int
    """Bits of the distance to the nearest peer that has answered."""
    seconds: float
    """Since the lookup began."""


Progress = Callable[[LookupProgress], None]
OnAnswer = Callable[[PeerId, Answer], Awaitable[bool]]
"""Sees each answer; whether the lookup is done."""
OnPeer = Callable[[PeerId, Connection | None], None]
"""Told of each peer that has answered (over a connection) or has not (None)."""


@dataclass(slots=True)
class Query:
    """One lookup, carried out. `addrs` collects what was said of where peers are."""

    lookup: Lookup
    messenger: Messenger
    config: KadConfig
    ask: Callable[[PeerId, tuple[Told, ...]], Awaitable[Answer]]
    on_answer: OnAnswer | None = None
    on_peer: OnPeer | None = None
    progress: Progress | None = None
    until: Callable[[], bool] | None = None
    """Whether what is looked for was found otherwise: looked at after each answer and failure."""
    keep: Callable[[PeerId, asyncio.Task[Answer]], bool] | None = None
    """Offered each request that is under way at the end; whether it is taken."""
    addrs: dict[PeerId, dict[Told, None]] = field(default_factory=dict)
    stopped: bool = False

    async def run(self) -> Lookup:
        """Ask until the lookup is finished, `on_answer` says that it is, or time is up."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        running: dict[asyncio.Task[Answer], PeerId] = {}
        try:
            async with asyncio.timeout(self.config.query_timeout):
                while not self._is_over():
                    for peer in self.lookup.ask(loop.time(), self.messenger.patience):
                        task = loop.create_task(self._one(peer), name=f"DHT request to {peer.short}")
                        running[task] = peer
                    if self.lookup.finished or not running:
                        break
                    impatient = self.lookup.next_impatience
                    pause = None if impatient is None else max(0.0, impatient - loop.time())
                    done, _ = await asyncio.wait(running, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        await self._done(running.pop(task), task, started)
        except TimeoutError:
            logger.debug("a lookup took more than %g s", self.config.query_timeout)
        finally:
            left = [task for task, peer in running.items() if self.keep is None or not self.keep(peer, task)]
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)
        return self.lookup

    def _is_over(self) -> bool:
        self.stopped = self.stopped or (self.until is not None and self.until())
        return self.stopped

    def hear(self, other: Query) -> None:
        """Hear of all that another lookup has heard of, and where they are said to be."""
        self.lookup.hear(other.lookup)
        for peer, told in other.addrs.items():
            if self.lookup.state(peer) is not None:
                known = self.addrs.setdefault(peer, {})
                known.update(dict.fromkeys([*told][: _MAX_TOLD - len(known)]))

    def begin_with(self, peers: PeerMap) -> None:
        """Take from a map where the peers are that the lookup has heard of."""
        for peer in self.lookup.heard():
            if (told := peers.told(peer)) is not None:
                self.addrs[peer] = {told: None}

    def told(self, peer: PeerId) -> tuple[Told, ...]:
        """What was said of where `peer` is."""
        return tuple(self.addrs.get(peer, ()))

    async def _one(self, peer: PeerId) -> Answer:
        return await self.ask(peer, self.told(peer))

    async def _done(self, peer: PeerId, task: asyncio.Task[Answer], started: float) -> None:
        try:
            answer = task.result()
        except (Libp2pError, OSError) as error:
            logger.debug("%s did not answer a DHT request: %s", peer, error)
            self.lookup.failed(peer)
            if self.on_peer is not None:
                self.on_peer(peer, None)
            self._report(peer, started, answered=False)
            return
        closer, reach = self._usable(answer)
        self.lookup.answered(peer, [info.peer for info in closer])
        for info in closer:
            if info.addrs and self.lookup.state(info.peer) is not None:  # it was not dropped
                told = self.addrs.setdefault(info.peer, {})
                if len(told) < _MAX_TOLD:
                    told[Told(info.addrs, reach)] = None
        if self.on_peer is not None:
            self.on_peer(peer, answer.connection)
        self._report(peer, started, answered=True)
        if self.on_answer is not None and not self.stopped:
            self.stopped = await self.on_answer(peer, answer)

    def _usable(self, answer: Answer) -> tuple[list[PeerInfo], Reach]:
        """The closer peers of an answer that can be followed, and how far away is who named them."""
        reach = reach_of_remote(answer.connection.remote_addr)
        scope = self.config.scope
        usable = [PeerInfo(info.peer, scope.filter(info.addrs, reach)) for info in answer.message.closer]
        limit = self.config.max_peers_per_group_in_answer
        return without_crowds(usable, lambda info: info.addrs, limit), reach

    def _report(self, peer: PeerId, started: float, *, answered: bool) -> None:
        if self.progress is not None:
            lookup, now = self.lookup, asyncio.get_running_loop().time()
            self.progress(LookupProgress(lookup.requests, peer, answered, lookup.distance_left, now - started))
