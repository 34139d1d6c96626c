"""What happens to connections, streams and listeners (libp2p/specs connections, "Connection Lifecycle Events")."""

from __future__ import annotations

from dataclasses import dataclass

from ..connection import Connection, Stream
from ..errors import ConnectionClosed, DialError
from ..identity import PeerId
from ..multiaddr import Multiaddr


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """A connection to a proven peer is there, of either direction."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """A connection has ended; `reason` says why, and by whom."""

    connection: Connection
    reason: ConnectionClosed


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """There is a connection to the peer now: the first, of either direction. Those that follow are not told of."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerDisconnected:
    """The last connection to the peer has ended."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """A stream has its protocol: offered by us, or agreed with the peer."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """Both directions of a stream have ended."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class ListenAddrAdded:
    """The host listens on one more address."""

    addr: Multiaddr


@dataclass(frozen=True, slots=True)
class ListenAddrRemoved:
    """The host does not listen on the address any more."""

    addr: Multiaddr


@dataclass(frozen=True, slots=True)
class ListenerLost:
    """A listener has ended by itself; nobody has closed it."""

    addrs: tuple[Multiaddr, ...]
    """Where it listened."""
    error: Exception


@dataclass(frozen=True, slots=True)
class InboundFailed:
    """Somebody connected, but it came to nothing."""

    local_addr: Multiaddr
    remote_addr: Multiaddr
    error: Exception


@dataclass(frozen=True, slots=True)
class DialFailed:
    """A peer (None: the one at an address without a peer id) could not be reached."""

    peer: PeerId | None
    error: DialError
