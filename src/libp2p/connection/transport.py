"""Ways to reach other machines: what they hand out are finished connections."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, Self

from ..identity import PeerId
from ..multiaddr import Multiaddr
from .streams import Connection

if TYPE_CHECKING:
    from ..upgrader import Upgrader


class Listener(ABC):
    """A place where a transport accepts connections."""

    @property
    @abstractmethod
    def addrs(self) -> Sequence[Multiaddr]:
        """Where it really listens: no port 0, no wildcard host; without a peer id."""

    @abstractmethod
    async def close(self) -> None:
        """Accept no more, and end the connections that are not finished yet. Idempotent."""


class Accept(Protocol):
    """What a listener reports to."""

    def connection_opened(self, connection: Connection) -> None:
        """A peer has connected, and is proven to be who it says."""

    def connection_failed(self, local_addr: Multiaddr, remote_addr: Multiaddr, error: Exception) -> None:
        """Somebody connected, but it came to nothing."""


class Transport(ABC):
    """Dials and listens on the addresses it understands. What it hands out is a finished `Connection`."""

    def use(self, upgrader: Upgrader) -> Self:  # noqa: ARG002
        """Called by the host that the transport is for, before anything else: `upgrader` makes raw connections finished
        ones, with the host's key. A transport that is secure and muxed from birth needs the key at most.
        """
        return self

    @abstractmethod
    def can_dial(self, addr: Multiaddr) -> bool:
        """Whether `addr` (with or without /p2p) is one that this transport dials. Names are resolved by the swarm."""

    @abstractmethod
    def can_listen(self, addr: Multiaddr) -> bool:
        """Whether `addr` is one that this transport listens on."""

    @abstractmethod
    async def dial(self, addr: Multiaddr, peer: PeerId | None) -> Connection:
        """Connect to `addr` and prove that `peer` is there (None: whoever it is). Raises `OSError`, `StageTimeout`,
        `HandshakeError` and the other errors of an upgrade.
        """

    @abstractmethod
    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        """Accept connections on `addr` until the listener is closed. Raises `ListenError`."""
