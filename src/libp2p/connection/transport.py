"""Ways to reach other machines: what they hand out are finished connections.

    who listens:  Accept.admit -> Scope -> handshakes -> Scope.identified -> Accept.connection_opened(connection, scope)
                                               '- Scope.release, Accept.connection_failed
    who dials:    Transport.dial(addr, peer, options) -> a finished connection

Rules:
- Before a handshake costs anything `Accept` is asked. What it grants is a `Scope`: the listener's until it hands over
  the connection, which the scope then goes with; who owns it releases it, whatever happens.
- Direction is who made the raw connection; role is who begins in the handshakes. They differ where both sides dial
  (hole punching by TCP).
- What the transports of one host share they find in their `TransportContext`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Protocol, Self, TypeVar

from ..errors import LocalProtocolError
from ..identity import PeerId, PrivateKey
from ..io import HostMemory
from ..multiaddr import Multiaddr, Resolver
from .raw import RawConnection
from .streams import Connection, Direction, Role

T = TypeVar("T")


class LocalPort(Enum):
    """Which port a dial comes from."""

    SHARED = "shared"
    """That of a listener, where one suits and the system allows it: peers and NATs see one address of ours."""
    FRESH = "fresh"
    """One that the system picks."""


@dataclass(frozen=True, slots=True)
class DialOptions:
    """How to dial. The first three are the transport's, the others the swarm's."""

    role: Role = Role.INITIATOR
    """Our part in the handshakes: the responder's where both sides dial, and the peer begins."""
    local_port: LocalPort = LocalPort.SHARED
    """Which port the dial comes from."""
    host_name: str = ""
    """The name that the address was looked up by, where it was: what stands above may have to say it."""
    dial: bool = True
    """Whether to dial where there is no connection."""
    allow_limited: bool = True
    """Whether a limited (relayed) connection that there is will do."""
    new_connection: bool = False
    """Make a connection although there is one, or a dial under way."""
    only_given: bool = False
    """Whether no addresses are dialed but those that the caller gives."""
    remember: bool = True
    """Whether the outcome counts later: addresses go to the peer store, failures rest for a while."""
    heed_backoff: bool = True
    """Whether addresses that failed a moment ago are left alone: the longer, the more often they have failed."""
    is_urgent: bool = False
    """Whether they are left alone no longer than after a first failure, some seconds: the program asks for the peer."""


class Holder(Protocol):
    """Who has a connection, finished or not, that may have to make room for another one."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing goes on that its end would harm."""

    @property
    def is_kept(self) -> bool:
        """Whether it must not be ended for others."""

    def evict(self, error: Exception) -> None:
        """End it: what it was granted is somebody else's already. Never waits."""


class Scope(Protocol):
    """What one inbound connection takes of the limits."""

    @property
    def upgrade_timeout(self) -> float:
        """Seconds that the connection may take to be finished, all stages together."""

    def held_by(self, holder: Holder) -> None:
        """Who has the connection now, and would have to end it. One that nobody holds is never ended for others."""

    def when_due(self, step: Callable[[], bool]) -> None:
        """Do a costly step of the handshake now, or when it is its turn. `step` says whether it was still wanted."""

    def identified(self, peer: PeerId) -> None:
        """The handshake has proven who is there: may they come in? Raises `LimitExceeded` and what else refuses."""

    def release(self) -> None:
        """Give back what was granted. Idempotent."""


class Listener(ABC):
    """A place where a transport accepts connections."""

    @property
    @abstractmethod
    def addrs(self) -> Sequence[Multiaddr]:
        """Where it really listens: no port 0, no wildcard host; without a peer id."""

    @abstractmethod
    def abort(self) -> None:
        """Accept no more, and end the handshakes that are under way, at once. Connections stay open. Idempotent."""

    async def close(self) -> None:
        """The same, and wait until nothing of it is left. Idempotent."""
        self.abort()


class Accept(Protocol):
    """What a listener reports to."""

    def might_admit(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> bool:
        """Whether who connects from there has a chance to be admitted: asked where it saves much to know so early. It
        is known by that where not.
        """

    def admit(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> Scope:
        """Somebody has connected, and nothing was spent on them yet: may they? Raises `LimitExceeded` and what else
        refuses.
        """

    def connection_opened(self, connection: Connection, scope: Scope) -> None:
        """A peer has connected, and is proven to be who it says; `scope`, which knows the peer, is released by whom is
        told here, when the connection ends.
        """

    def connection_failed(self, local_addr: Multiaddr, remote_addr: Multiaddr, error: Exception) -> None:
        """Somebody connected, but it came to nothing: refused by `admit`, or by the handshakes. Its scope is released
        already.
        """

    def addrs_changed(self, listener: Listener) -> None:
        """`listener.addrs` is not what it was."""

    def listener_died(self, listener: Listener, error: Exception) -> None:
        """The listener accepts no more, and nobody has closed it."""


class ConnectionUpgrader(Protocol):
    """Makes a finished connection of a raw one. `Upgrader` is the one that hosts have."""

    async def upgrade(
        self,
        raw: RawConnection,
        direction: Direction,
        *,
        role: Role | None = None,
        peer: PeerId | None = None,
        scope: Scope | None = None,
    ) -> Connection:
        """Secure `raw` and put a muxer on it. `role` is the direction's own by default, `peer` who must be there (None:
        whoever it is). `scope`, which stays the caller's, is asked once the peer is known.

        Raises `ProtocolNotSupported`, `HandshakeError` (`PeerIdMismatch`), `RemoteProtocolError`, `IncompleteRead`,
        `StageTimeout`, `ConnectionClosed`, `OSError`, and what `scope` raises; `raw` is then aborted.
        """


_RESOLVER = Resolver()  # which has no state: one for all hosts


class TransportContext:
    """What all transports of one host share."""

    def __init__(
        self,
        key: PrivateKey,
        upgrader: ConnectionUpgrader,
        *,
        resolver: Resolver | None = None,
        is_private: bool = False,
        clock: Callable[[], float] | None = None,
        memory: HostMemory | None = None,
    ) -> None:
        self.key = key
        """The host's."""
        self.upgrader = upgrader
        self.resolver = resolver or _RESOLVER
        self.is_private = is_private
        """Whether the host talks within a private network only."""
        self.memory = memory or HostMemory()
        """What peers make the host hold, and may: each connection has an account there."""
        self._clock = clock
        self._shared: dict[Callable[[], Any], Any] = {}

    def now(self) -> float:
        """The time of the host, in seconds: its event loop's."""
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()

    def shared(self, kind: Callable[[], T]) -> T:
        """The one `kind` of this host, made when it is first asked for: its TCP ports, its UDP sockets."""
        if kind not in self._shared:
            self._shared[kind] = kind()
        found: T = self._shared[kind]
        return found


class Transport(ABC):
    """Dials and listens on the addresses it understands. What it hands out is a finished `Connection`."""

    keeps_private: ClassVar[bool] = False
    """Whether all its connections are upgraded by the context's upgrader, which hides them in a private network."""

    _context: TransportContext | None = None

    def use(self, context: TransportContext) -> Self:
        """Called by the host that the transport is for, before anything else. Raises `LocalProtocolError` where the
        transport is another host's already, and `ValueError` where it would leave the host's private network.
        """
        if context.is_private and not self.keeps_private:
            raise ValueError(f"{type(self).__name__} has no raw connections, which a private network could hide")
        if self._context not in (None, context):
            raise LocalProtocolError(f"this {type(self).__name__} transport is another host's already")
        self._context = context
        return self

    @property
    def context(self) -> TransportContext:
        """What the host has given. Raises `LocalProtocolError` where the transport is no host's yet."""
        if self._context is None:
            raise LocalProtocolError(f"this {type(self).__name__} transport is no host's yet: see Transport.use")
        return self._context

    @abstractmethod
    def can_dial(self, addr: Multiaddr) -> bool:
        """Whether `addr` (with or without /p2p) is one that this transport dials. Names are resolved by the swarm."""

    @abstractmethod
    def can_listen(self, addr: Multiaddr) -> bool:
        """Whether `addr` is one that this transport listens on."""

    @abstractmethod
    async def dial(self, addr: Multiaddr, peer: PeerId | None, options: DialOptions = DialOptions()) -> Connection:
        """Connect to `addr` and prove that `peer` is there (None: whoever it is). Raises `OSError`, `StageTimeout`,
        `HandshakeError` and the other errors of an upgrade.
        """

    @abstractmethod
    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        """Accept connections on `addr` until the listener is closed. Raises `ListenError`."""

    def abort(self) -> None:  # noqa: B027 - most transports hold nothing but their listeners
        """End what the transport holds beyond its listeners and connections, at once. Idempotent."""

    async def close(self) -> None:
        """The same, and wait until nothing of it is left. Idempotent."""
        self.abort()


class StreamTransport(Transport):
    """A transport of raw connections, which the upgrader of its host makes finished ones."""

    keeps_private = True
