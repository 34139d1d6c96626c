"""libp2p for Python: hosts that talk over many streams on one secure connection, by the public libp2p specs.

import libp2p

async with libp2p.Host(listen_addrs=["/ip4/0.0.0.0/tcp/4001"]) as host:
    stream = await host.new_stream("/ip4/192.0.2.7/tcp/4001/p2p/12D3Koo...", "/echo/1.0.0")
"""

from .connection import Connection, Direction, Handler, Stream, StreamErrorCode
from .errors import (
    ConnectionClosed,
    DialError,
    HandshakeError,
    IncompleteRead,
    Libp2pError,
    LimitExceeded,
    ListenError,
    MessageTooLarge,
    PeerIdMismatch,
    ProtocolNotSupported,
    RemoteProtocolError,
    RequestFailed,
    StageTimeout,
    StreamClosed,
    StreamReset,
)
from .host import Call, Host, HostConfig, Request
from .identity import (
    KeyType,
    PeerId,
    PrivateKey,
    PublicKey,
    load_or_create_private_key,
    load_private_key,
    save_private_key,
)
from .multiaddr import Multiaddr

__all__ = [
    "Call",
    "Connection",
    "ConnectionClosed",
    "DialError",
    "Direction",
    "Handler",
    "HandshakeError",
    "Host",
    "HostConfig",
    "IncompleteRead",
    "KeyType",
    "Libp2pError",
    "LimitExceeded",
    "ListenError",
    "MessageTooLarge",
    "Multiaddr",
    "PeerId",
    "PeerIdMismatch",
    "PrivateKey",
    "ProtocolNotSupported",
    "PublicKey",
    "RemoteProtocolError",
    "Request",
    "RequestFailed",
    "StageTimeout",
    "Stream",
    "StreamClosed",
    "StreamErrorCode",
    "StreamReset",
    "load_or_create_private_key",
    "load_private_key",
    "save_private_key",
]
