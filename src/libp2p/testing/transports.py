"""Stand-ins for what surrounds a transport: the host's context, an upgrader that upgrades nothing, and who accepts.

transport = Tcp().use(context(upgrader=RawUpgrader()))      # hands out its raw connections
listener = await transport.listen(addr, AcceptAll())
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..connection import (
    Connection,
    ConnectionUpgrader,
    Direction,
    Holder,
    Listener,
    RawConnection,
    Role,
    Scope,
    TransportContext,
)
from ..errors import Libp2pError
from ..identity import PeerId, PrivateKey
from ..multiaddr import Multiaddr
from ..muxers.yamux import Yamux
from ..security.noise import Noise
from ..upgrader import Upgrader


def context(key: PrivateKey | None = None, upgrader: ConnectionUpgrader | None = None) -> TransportContext:
    """What a host with `key` (None: a fresh one) gives its transports; by default it upgrades by Noise and yamux."""
    key = key or PrivateKey.generate()
    return TransportContext(key, upgrader or Upgrader(key, security=[Noise()], muxers=[Yamux()]))


class RawUpgrader:
    """A `ConnectionUpgrader` that hands out the raw connections as they are."""

    async def upgrade(
        self,
        raw: RawConnection,
        direction: Direction,  # noqa: ARG002
        *,
        role: Role | None = None,  # noqa: ARG002
        peer: PeerId | None = None,  # noqa: ARG002
        scope: Scope | None = None,  # noqa: ARG002
    ) -> Any:
        """See `ConnectionUpgrader`."""
        return raw


class CountedScope:
    """A `Scope` that grants everything, unless told otherwise, and knows what became of it."""

    upgrade_timeout = 3600.0

    def __init__(self) -> None:
        self.peer: PeerId | None = None
        self.holder: Holder | None = None
        self.released = 0
        self.refuse_with: Libp2pError | None = None
        """What `identified` raises."""

    def when_due(self, step: Callable[[], bool]) -> None:
        """See `Scope`."""
        step()

    def held_by(self, holder: Holder) -> None:
        """See `Scope`."""
        self.holder = holder

    def identified(self, peer: PeerId) -> None:
        """See `Scope`."""
        if self.refuse_with is not None:
            raise self.refuse_with
        self.peer = peer

    def release(self) -> None:
        """See `Scope`."""
        self.released += 1


class AcceptAll:
    """An `Accept` that admits everybody, and keeps what it granted. What is reported goes nowhere: for subclasses."""

    def __init__(self) -> None:
        self.scopes: list[CountedScope] = []

    def might_admit(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> bool:  # noqa: ARG002
        """See `Accept`."""
        return True

    def admit(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> Scope:  # noqa: ARG002
        """See `Accept`."""
        self.scopes.append(CountedScope())
        return self.scopes[-1]

    def connection_opened(self, connection: Connection, scope: Scope) -> None:
        """See `Accept`."""

    def connection_failed(self, local_addr: Multiaddr, remote_addr: Multiaddr, error: Exception) -> None:
        """See `Accept`."""

    def addrs_changed(self, listener: Listener) -> None:
        """See `Accept`."""

    def listener_died(self, listener: Listener, error: Exception) -> None:
        """See `Accept`."""
