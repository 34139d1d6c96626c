"""libp2p for Python: hosts that talk over many streams on one secure connection, by the public libp2p specs.

import libp2p

async with libp2p.Host(listen_addrs=["/ip4/0.0.0.0/tcp/4001"]) as host:
    stream = await host.new_stream("/ip4/192.0.2.7/tcp/4001/p2p/12D3Koo...", "/echo/1.0.0")

What there is, and where:

    Host, HostConfig                      a node: listens, dials, serves protocols, opens streams, asks requests
    Connection, Stream, Direction         what one gets from it
    read_protobuf, write_protobuf         protobuf messages behind their length, as `Stream.read_message` has bytes
    Request, Call                         requests: what a responder is asked; one of many messages each way
    Kept, RedialBackoff                   `host.keep(peer)`: a connection that is made again when it is lost
    PeerConnected, PeerDisconnected, PeerIdentified, ConnectionOpened, ConnectionLost, StreamStarted, StreamEnded
                                          what happens: `host.events.on(PeerConnected, ...)`
    PeerId, PrivateKey, PublicKey, KeyType, Multiaddr
                                          who, and where
    load_or_create_private_key, load_private_key, save_private_key
                                          a key that stays the same
    Libp2pError, and all below it         what goes wrong: `libp2p.errors` draws the tree

    libp2p.transports                     quic, tcp, websocket, unix, memory: `Host(transports=[Quic(), Tcp()])`
    libp2p.security, libp2p.muxers        noise, tls, private networks; yamux, mplex
    libp2p.protocols                      pubsub (gossipsub), kad (the DHT), rendezvous, fetch, perf
    libp2p.discovery                      bootstrap, mDNS, HTTP
    libp2p.io                             byte streams, what all streams are
    libp2p.events, libp2p.swarm, libp2p.host
                                          all events; limits and gaters; settings
    libp2p.testing                        networks in virtual time, for tests of programs

Each has a `help()` of its own.
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
from .host import Call, Host, HostConfig, Kept, PeerIdentified, RedialBackoff, Request
from .identity import (
    KeyType,
    PeerId,
    PrivateKey,
    PublicKey,
    load_or_create_private_key,
    load_private_key,
    save_private_key,
)
from .io import read_protobuf, write_protobuf
from .multiaddr import Multiaddr
from .swarm import ConnectionLost, ConnectionOpened, PeerConnected, PeerDisconnected, StreamEnded, StreamStarted

__all__ = [
    "Call",
    "Connection",
    "ConnectionClosed",
    "ConnectionLost",
    "ConnectionOpened",
    "DialError",
    "Direction",
    "Handler",
    "HandshakeError",
    "Host",
    "HostConfig",
    "IncompleteRead",
    "Kept",
    "KeyType",
    "Libp2pError",
    "LimitExceeded",
    "ListenError",
    "MessageTooLarge",
    "Multiaddr",
    "PeerConnected",
    "PeerDisconnected",
    "PeerId",
    "PeerIdMismatch",
    "PeerIdentified",
    "PrivateKey",
    "ProtocolNotSupported",
    "PublicKey",
    "RedialBackoff",
    "RemoteProtocolError",
    "Request",
    "RequestFailed",
    "StageTimeout",
    "Stream",
    "StreamClosed",
    "StreamEnded",
    "StreamErrorCode",
    "StreamReset",
    "StreamStarted",
    "load_or_create_private_key",
    "load_private_key",
    "read_protobuf",
    "save_private_key",
    "write_protobuf",
]
