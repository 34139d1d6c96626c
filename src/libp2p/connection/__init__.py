"""The interfaces between the layers, from the wire up.

    RawConnection       reliable ordered bytes between two machines: a TCP socket, an in-memory pipe, a relayed stream
      SecureChannel     the same after Noise or TLS: knows who the peer is
    SecurityProtocol    turns the first into the second
    Connection          carries many streams to one proven peer
      Stream            one of them: what users read and write
    Muxer               turns a secure channel into a connection
    Transport           dials and listens; what it returns is finished: secure, muxed, the peer id verified
      Listener
    Service             a protocol over a host, which it sees as a `ServiceHost`

Rules:
- Pull in the handshake, push in the data phase: a `RawConnection` is read with `await` until a `Sink` is attached; from
  then on it pushes.
- Identity first: `Connection` and `SecureChannel` exist only for a peer whose id is proven.
- Everything that ends says why: `Connection.close_reason`, `StreamReset.code`.
"""

from ..error_codes import StreamErrorCode
from .over_stream import OverStream
from .raw import LayeredConnection, RawConnection
from .secure import SecureChannel, SecurityProtocol, Turn
from .service import Handler, Match, Service, ServiceHost, Target, WhenFull
from .streams import Connection, Direction, MemoryLimitReached, Muxer, Role, Stream
from .transport import (
    Accept,
    ConnectionUpgrader,
    DialOptions,
    Holder,
    Listener,
    LocalPort,
    Scope,
    StreamTransport,
    Transport,
    TransportContext,
)
from .turns import SMALL, TURN, TurnedConnection

__all__ = [
    "SMALL",
    "TURN",
    "Accept",
    "Connection",
    "ConnectionUpgrader",
    "DialOptions",
    "Direction",
    "Handler",
    "Holder",
    "LayeredConnection",
    "Listener",
    "LocalPort",
    "Match",
    "MemoryLimitReached",
    "Muxer",
    "OverStream",
    "RawConnection",
    "Role",
    "Scope",
    "SecureChannel",
    "SecurityProtocol",
    "Service",
    "ServiceHost",
    "Stream",
    "StreamErrorCode",
    "StreamTransport",
    "Target",
    "Transport",
    "TransportContext",
    "Turn",
    "TurnedConnection",
    "WhenFull",
]
