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
class StreamOpened:
    """A stream has its protocol: offered by us, or agreed with the peer."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class StreamClosed:
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
