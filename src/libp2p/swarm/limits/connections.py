"""How many connections there may be: counted from the first packet to the end. Pure: time comes in as `now`.

    admit ---------> pending ---- identified ----> established -- release
    (who connects)      '- release     (of their peer)
    establish (what was dialed) ------------------------^

Rules:
- A connection counts from the moment at which it may cost something; what is granted is a grant, released once.
- Who may come in is asked twice: before a handshake, when only addresses are known, and when the peer is proven.
- What is cheapest to ask is asked first: a flood of connections must not be able to make the host count all it has.
- Where all is full, the prefix with the most loses one, for who comes from a prefix that has less: of the handshakes
  its oldest, which is the least likely to come to anything; of the finished connections its youngest idle one, and
  its youngest busy one where it has a quarter of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ...connection import Direction, Holder
from ...errors import LimitExceeded
from ...identity import PeerId
from ...multiaddr import Multiaddr, is_relayed
from .config import SwarmConfig
from .gater import Gater, ask
from .pace import Pace
from .refusals import Refusals
from .sources import Source, Sources

_GREEDY = 4
"""A prefix that has more than this part of the inbound connections loses busy ones too."""


_FRESH = 0.05
"""Seconds for which the prefix with the most is taken to be so: to look at all of them takes its time."""


class ConnectionLimits:
    """Counts connections, and asks the gater. `clock` tells the time in seconds."""

    def __init__(
        self,
        config: SwarmConfig,
        gater: Gater,
        refusals: Refusals,
        clock: Callable[[], float],
        later: Callable[[float, Callable[[], None]], None],
    ) -> None:
        self._config = config
        self._later = later
        self._pace: Pace | None = None  # made when somebody connects: a host may be made before its loop runs
        self._gater = gater
        self._refusals = refusals
        self._clock = clock
        self.sources = Sources(config)
        self._pending: dict[Grant, None] = {}  # inbound, the oldest first
        self._established: dict[Grant, None] = {}
        self._of_peer: Counter[PeerId] = Counter()
        self._inbound = 0  # of the established ones
        self._busiest: tuple[Source | None, float] = None, 0.0  # at that time
        self.descriptors = 0
        """Descriptors that inbound connections take, finished or not."""

    @property
    def pending(self) -> int:
        """Inbound handshakes under way."""
        return len(self._pending)

    @property
    def inbound(self) -> int:
        """Finished inbound connections."""
        return self._inbound

    @property
    def established(self) -> int:
        """Finished connections."""
        return len(self._established)

    @property
    def of_peer(self) -> Counter[PeerId]:
        """Finished connections by peer."""
        return self._of_peer

    def check_room(self) -> None:
        """Raise `LimitExceeded` where there is room for no connection at all."""
        if len(self._established) >= (limit := self._config.max_connections):
            raise LimitExceeded("max_connections", scope="host", value=limit)

    def admit(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> Grant:
        """Somebody connects. Raises `LimitExceeded`, and what the gater does."""
        now = self._clock()
        source = self.sources.of(remote_addr, now)
        try:
            ask(lambda: self._gater.check_accept(local_addr, remote_addr))
            self.sources.check(source, now)
            self._check_descriptors(source, remote_addr)
            self._check_pending(source)
            if not source.is_allowed and not self._config.allowed_peers and self._is_full() and not self._spare(source):
                raise self._full()
        except LimitExceeded as error:
            self._refusals.refused(error, now, used=source.pending)
            raise
        self.sources.take(source)
        grant = Grant(self, Direction.INBOUND, remote_addr, source)
        self._pending[grant] = None
        source.count(pending=1)
        self.descriptors += grant.takes_descriptor
        return grant

    def check_chance(self, remote_addr: Multiaddr) -> None:
        """Whether who comes from there may be admitted: a cheap question, for floods. Raises `LimitExceeded`."""
        now = self._clock()
        source = self.sources.of(remote_addr, now)
        try:
            self.sources.check(source, now)
            if self._is_out_of_descriptors(remote_addr) and self._greediest(source) is None:
                raise self._no_descriptors()
        except LimitExceeded as error:
            self._refusals.refused(error, now, used=source.pending)
            raise

    def establish(self, peer: PeerId, remote_addr: Multiaddr) -> Grant:
        """We have dialed `peer`. Raises the same."""
        grant = Grant(self, Direction.OUTBOUND, remote_addr, None)
        grant.identified(peer)
        return grant

    def count(self, grant: Grant, peer: PeerId) -> None:
        """What was pending is a connection of `peer`."""
        try:
            ask(lambda: self._gater.check_peer(peer, grant.direction, grant.remote_addr))
            self._check_peer(grant, peer)
        except LimitExceeded as error:
            self._refusals.refused(error, self._clock(), used=self._of_peer[peer])
            raise
        if grant.source is not None:
            del self._pending[grant]
            grant.source.count(pending=-1, established=1)
            self._inbound += 1
        self._established[grant] = None
        self._of_peer[peer] += 1

    def give_back(self, grant: Grant) -> None:
        """A grant is released."""
        if grant.source is not None and (grant in self._pending or grant in self._established):
            self.descriptors -= grant.takes_descriptor
        if grant in self._pending:
            del self._pending[grant]
            assert grant.source is not None
            grant.source.count(pending=-1)
        elif grant in self._established:
            assert grant.peer is not None
            del self._established[grant]
            if grant.source is not None:
                grant.source.count(established=-1)
                self._inbound -= 1
            self._of_peer[grant.peer] -= 1
            if not self._of_peer[grant.peer]:
                del self._of_peer[grant.peer]

    @property
    def pace(self) -> Pace:
        """How fast handshakes go."""
        if self._pace is None:
            rate, burst = self._config.max_handshakes_per_second, self._config.max_handshake_burst
            self._pace = Pace(rate, burst, self._clock, self._later)
        return self._pace

    @property
    def upgrade_timeout(self) -> float:
        """Seconds that an inbound connection may take to be finished."""
        return self._config.upgrade_timeout

    # Who has to go

    def _check_pending(self, source: Source) -> None:
        """Room for one more handshake of `source`; maybe another one ends for it."""
        if len(self._pending) < (limit := self._config.max_pending_inbound):
            return
        error = LimitExceeded("max_pending_inbound", scope="host", value=limit)
        oldest = max(self._pending, key=lambda grant: grant.weight(pending=True), default=None)
        if oldest is None or oldest.source is None or oldest.weight(pending=True) <= _share(source, pending=True):
            raise error
        self._refusals.refused(error, self._clock(), used=len(self._pending))
        oldest.evict(error)

    def _is_out_of_descriptors(self, addr: Multiaddr) -> bool:
        limit = self._config.descriptors
        return limit is not None and self.descriptors >= limit and takes_descriptor(addr)

    def _no_descriptors(self) -> LimitExceeded:
        return LimitExceeded("max_inbound_descriptors", scope="host", value=self._config.descriptors or 0)

    def _greediest(self, source: Source) -> Source | None:
        """The prefix with the most connections, where that has more than `source`; nobody else has to give any."""
        now, (found, since) = self._clock(), self._busiest
        if found is None or now - since > _FRESH:
            found = next(iter(self.sources.busiest(1)), None)
            self._busiest = found, now
        if found is None or source.is_allowed:
            return found
        own = source.widest.pending + source.widest.established
        return found if found.pending + found.established > own + 1 else None

    def _check_descriptors(self, source: Source, addr: Multiaddr) -> None:
        """A descriptor for one of `source`; maybe another one ends for it."""
        if not self._is_out_of_descriptors(addr):
            return
        greediest, spare = self._greediest(source), None
        if greediest is not None:
            of_it = [grant for grant in self._pending if grant.is_of(greediest)]
            of_it += [grant for grant in reversed(self._established) if grant.is_of(greediest) and grant.is_idle]
            spare = next((grant for grant in of_it if grant.takes_descriptor and not grant.is_kept), None)
        if spare is None:
            raise self._no_descriptors()
        self._refusals.refused(self._no_descriptors(), self._clock(), used=self.descriptors)
        spare.evict(self._no_descriptors())

    def _check_peer(self, grant: Grant, peer: PeerId) -> None:
        if self._of_peer[peer] >= (limit := self._config.max_connections_per_peer):
            raise LimitExceeded("max_connections_per_peer", scope=f"peer {peer}", value=limit)
        source = grant.source
        if source is None:
            self.check_room()
            return
        if source.is_allowed or peer in self._config.allowed_peers or not self._is_full():
            return
        spare = self._spare(source)
        if spare is None:
            raise self._full()
        self._refusals.refused(self._full(), self._clock(), used=len(self._established))
        spare.evict(self._full())

    def _is_full(self) -> bool:
        return self._inbound >= self._config.inbound or len(self._established) >= self._config.max_connections

    def _full(self) -> LimitExceeded:
        if len(self._established) >= (limit := self._config.max_connections):
            return LimitExceeded("max_connections", scope="host", value=limit)
        return LimitExceeded("max_inbound_connections", scope="host", value=self._config.inbound)

    def _spare(self, source: Source) -> Grant | None:
        """The inbound connection that goes for one of `source`: see the module's rules."""
        share, many = _share(source, pending=False), self._config.inbound // _GREEDY
        ranked = sorted(
            (grant for grant in reversed(self._established) if grant.weight(pending=False) > share),
            key=lambda grant: (grant.weight(pending=False), grant.is_idle),
            reverse=True,
        )
        for grant in ranked:
            is_free = not grant.is_kept and grant.peer not in self._config.allowed_peers
            if is_free and (grant.is_idle or grant.weight(pending=False) > many):
                return grant
        return None


class Grant:
    """What one connection takes of the limits: a `Scope`. `source` is where it comes from; None: it was dialed."""

    __slots__ = (
        "_has_begun",
        "_holder",
        "_limits",
        "_released",
        "direction",
        "peer",
        "remote_addr",
        "source",
        "takes_descriptor",
    )

    def __init__(
        self, limits: ConnectionLimits, direction: Direction, remote_addr: Multiaddr, source: Source | None
    ) -> None:
        self._limits = limits
        self._released: LimitExceeded | bool = False
        self._holder: Holder | None = None
        self._has_begun = False  # whether its first step was asked for
        self.direction = direction
        self.remote_addr = remote_addr
        self.source = source
        self.takes_descriptor = takes_descriptor(remote_addr)
        self.peer: PeerId | None = None
        """Who is there, once that is proven."""

    @property
    def upgrade_timeout(self) -> float:
        """See `Scope`."""
        return self._limits.upgrade_timeout

    def when_due(self, step: Callable[[], bool]) -> None:
        """See `Scope`."""
        is_first, self._has_begun = not self._has_begun, True
        name = "" if self.source is None else self.source.widest.name
        self._limits.pace.enter(name, lambda: not self._released and step(), is_first=is_first)

    def held_by(self, holder: Holder) -> None:
        """See `Scope`."""
        self._holder = holder

    def identified(self, peer: PeerId) -> None:
        """See `Scope`. A second call with the same peer does nothing."""
        if isinstance(self._released, LimitExceeded):
            raise self._released
        if self.peer is None:
            self._limits.count(self, peer)
            self.peer = peer
        assert self.peer == peer

    def release(self) -> None:
        """See `Scope`."""
        if not self._released:
            self._released = True
            self._limits.give_back(self)
            self._holder = None

    def evict(self, error: LimitExceeded) -> None:
        """Somebody else needs the room: released at once, its holder ends it."""
        holder = self._holder
        self.release()
        self._released = error
        if holder is not None:
            holder.evict(error)

    @property
    def is_idle(self) -> bool:
        """Whether it may be ended for another."""
        return self._holder is not None and self._holder.is_idle

    @property
    def is_kept(self) -> bool:
        """Whether it must not be ended for another."""
        return self._holder is None or self._holder.is_kept

    def is_of(self, source: Source) -> bool:
        """Whether it comes from there, and may have to go."""
        return self.source is not None and not self.source.is_allowed and source in self.source.chain()

    def weight(self, *, pending: bool) -> int:
        """How much its prefix has; nothing, where it must not go."""
        return 0 if self.source is None or self.source.is_allowed else _share(self.source, pending=pending)


def takes_descriptor(addr: Multiaddr) -> bool:
    """Whether a connection from `addr` is a descriptor of its own: a TCP or Unix socket, and no stream of another."""
    return not is_relayed(addr) and any(component.name in {"tcp", "unix"} for component in addr.components)


def _share(source: Source, *, pending: bool) -> int:
    return source.widest.pending if pending else source.widest.established
