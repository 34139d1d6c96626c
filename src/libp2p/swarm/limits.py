"""How many connections there may be: counted from the first packet to the end. No asyncio.

    admit ---------> pending ---- identified ----> established -- release
    (who connects)      '- release     (of their peer)
    establish (what was dialed) ------------------------^

Rules:
- A connection counts from the moment at which it may cost something; what is granted is a grant, released once.
- Who may come in is asked twice: before a handshake, when only addresses are known, and when the peer is proven.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..connection import Direction
from ..errors import LimitExceeded
from ..identity import PeerId
from ..multiaddr import Multiaddr
from .race import DialerConfig


@dataclass(frozen=True, slots=True)
class SwarmConfig:
    """Limits of the table of connections."""

    max_connections: int = 4096
    """Connections at a time, in all. Inbound ones above it are closed; dials raise `LimitExceeded`."""
    max_connections_per_peer: int = 8
    """Connections to one peer at a time. Inbound ones above it are closed; dials raise `LimitExceeded`."""
    max_pending_inbound: int = 1024
    """Inbound connections of all listeners that may be in the handshake at a time; more are closed at once."""
    duplicate_grace: float = 5.0
    """Seconds between looks at a peer that has several connections with us: those that both sides hold to be too many
    are closed once they carry no stream."""
    dialer: DialerConfig = field(default_factory=DialerConfig)
    """Limits of dialing."""


class Gater:
    """Who may connect, and be dialed: everybody, unless a subclass raises a `Libp2pError` that says why not."""

    def check_dial(self, peer: PeerId | None, addr: Multiaddr) -> None:
        """May `peer` (None: whoever is there) be dialed at `addr`?"""

    def check_accept(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> None:
        """May who connects from `remote_addr` begin a handshake?"""

    def check_peer(self, peer: PeerId, direction: Direction, remote_addr: Multiaddr) -> None:
        """May `peer`, which is proven, be connected?"""


class ConnectionLimits:
    """Counts connections, and asks the gater."""

    def __init__(self, config: SwarmConfig, gater: Gater) -> None:
        self._config = config
        self._gater = gater
        self._pending = 0
        self._established = 0
        self._of_peer: Counter[PeerId] = Counter()

    def check_room(self) -> None:
        """Raise `LimitExceeded` where there is room for no connection at all."""
        if self._established >= (limit := self._config.max_connections):
            raise LimitExceeded("max_connections", scope="host", value=limit)

    def admit(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> Grant:
        """Somebody connects. Raises `LimitExceeded`, and what the gater does."""
        self._gater.check_accept(local_addr, remote_addr)
        self.check_room()
        if self._pending >= (limit := self._config.max_pending_inbound):
            raise LimitExceeded("max_pending_inbound", scope="host", value=limit)
        self._pending += 1
        return Grant(self, Direction.INBOUND, remote_addr)

    def establish(self, peer: PeerId, remote_addr: Multiaddr) -> Grant:
        """We have dialed `peer`. Raises the same."""
        self._pending += 1
        grant = Grant(self, Direction.OUTBOUND, remote_addr)
        try:
            grant.identified(peer)
        except BaseException:
            grant.release()
            raise
        return grant

    def count(self, grant: Grant, peer: PeerId) -> None:
        """What was pending is a connection of `peer`."""
        self._gater.check_peer(peer, grant.direction, grant.remote_addr)
        self.check_room()
        if self._of_peer[peer] >= (limit := self._config.max_connections_per_peer):
            raise LimitExceeded("max_connections_per_peer", scope=f"peer {peer}", value=limit)
        self._pending -= 1
        self._established += 1
        self._of_peer[peer] += 1

    def give_back(self, peer: PeerId | None) -> None:
        """A grant is released; `peer` is its peer, where that was proven."""
        if peer is None:
            self._pending -= 1
            return
        self._established -= 1
        self._of_peer[peer] -= 1
        if not self._of_peer[peer]:
            del self._of_peer[peer]


class Grant:
    """What one connection takes of the limits: a `Scope`."""

    __slots__ = ("_limits", "_released", "direction", "peer", "remote_addr")

    def __init__(self, limits: ConnectionLimits, direction: Direction, remote_addr: Multiaddr) -> None:
        self._limits = limits
        self._released = False
        self.direction = direction
        self.remote_addr = remote_addr
        self.peer: PeerId | None = None
        """Who is there, once that is proven."""

    def identified(self, peer: PeerId) -> None:
        """See `Scope`. A second call with the same peer does nothing."""
        if self.peer is None:
            self._limits.count(self, peer)
            self.peer = peer
        assert self.peer == peer

    def release(self) -> None:
        """See `Scope`."""
        if not self._released:
            self._released = True
            self._limits.give_back(self.peer)
