"""Messages of the DHT as bytes, and what they say as values. Spec: kad-dht/README.md, "RPC messages".

    one direction of a stream   (<length varint> <Message>)*
    Message   1 type   2 key   3 record   8 closer_peers*   9 provider_peers*   10 cluster_level_raw (unused)
    Record    1 key    2 value   5 time_received (RFC 3339)
    Peer      1 id     2 addrs*   3 connection

    type           request                        answer
    0 PUT_VALUE    key, record                    the same
    1 GET_VALUE    key                            record, closer_peers
    2 ADD_PROVIDER key, provider_peers (itself)   none: go reads an answer as that to its next request
    3 GET_PROVIDERS key (a multihash)             provider_peers, closer_peers
    4 FIND_NODE    key (a peer id)                closer_peers
    5 PING                                        the same

Rules:
- Lists are cut to our limits, and peers and addresses that cannot be read are skipped: others may be newer than we are.
- An answer of ours fits into 16 KiB where it can: rust-libp2p reads no more by default.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from google.protobuf.message import DecodeError

from ...errors import InvalidMultiaddr, InvalidPeerId, RemoteProtocolError
from ...identity import PeerId
from ...multiaddr import Multiaddr
from ...routing import PeerInfo
from .kad_pb2 import Message as MessagePb
from .kad_pb2 import Record as RecordPb

MAX_KEY_SIZE = 1024
"""Bytes of a key; a provider key is a multihash, of at most `MAX_PROVIDER_KEY_SIZE`."""

MAX_PROVIDER_KEY_SIZE = 80
"""Bytes of a multihash under which providers are kept, as in go-libp2p-kad-dht."""

MAX_ANSWER_SIZE = 16 * 1024
"""Bytes that an answer of ours has at most: what rust-libp2p reads by default."""

MAX_CLOSER_PEERS = 40
"""Closer peers that are taken of one answer: twice what is due."""

MAX_PROVIDERS = 1000
"""Providers that are taken of one answer."""

MAX_ADDRS = 32
"""Addresses that are taken of one peer; honest ones have some 30 at most."""

MAX_PEER_ADDRS_SIZE = 8 * 1024
"""Bytes of addresses that are taken of one peer."""

_KNOWN_SIZE = 512
"""Bytes of an encoded peer up to which what it says is remembered."""


class MessageType(IntEnum):
    """What a message asks for, or answers."""

    PUT_VALUE = 0
    GET_VALUE = 1
    ADD_PROVIDER = 2
    GET_PROVIDERS = 3
    FIND_NODE = 4
    PING = 5


@dataclass(frozen=True, slots=True)
class Record:
    """A value under its key, as it travels. `time_received` is what the sender says of when it came there."""

    key: bytes
    value: bytes
    time_received: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer."""

    type: MessageType
    key: bytes = b""
    record: Record | None = None
    closer: tuple[PeerInfo, ...] = ()
    providers: tuple[PeerInfo, ...] = ()


def encode(message: Message, connected: Iterable[PeerId] = ()) -> bytes:
    """The bytes of `message`, without a length before them. Peers in `connected` are marked as such."""
    return _encode(message, frozenset(connected)).SerializeToString(deterministic=True)


def encode_answer(message: Message, connected: Iterable[PeerId] = (), *, limit: int = MAX_ANSWER_SIZE) -> bytes:
    """As `encode`, cut to `limit` bytes where that can be: peers lose their later addresses, then the last providers
    and closer peers are left out. A record is never cut.
    """
    marked = frozenset(connected)
    encoded = _encode(message, marked)
    if encoded.ByteSize() <= limit:
        return encoded.SerializeToString(deterministic=True)
    bare = _encode(Message(message.type, message.key, message.record), marked).ByteSize()
    closer = _fit(message.closer, marked, (limit - bare) if not message.providers else (limit - bare) // 2)
    used = sum(_framed(peer) for peer in closer)
    fitting = _encode(Message(message.type, message.key, message.record), marked)
    fitting.closer_peers.extend(closer)
    fitting.provider_peers.extend(_fit(message.providers, marked, limit - bare - used))
    return fitting.SerializeToString(deterministic=True)


def decode(data: bytes) -> Message:
    """Read a message. Raises `RemoteProtocolError` where it is malformed, or of a type that does not exist."""
    message = MessagePb()
    try:
        message.ParseFromString(data)
        kind = MessageType(message.type)
    except DecodeError as error:
        raise RemoteProtocolError(f"malformed DHT message: {error}") from error
    except ValueError:
        raise RemoteProtocolError(f"DHT message of the unknown type {message.type}") from None
    if len(message.key) > MAX_KEY_SIZE:
        raise RemoteProtocolError(f"DHT message with a key of {len(message.key)} bytes, the limit is {MAX_KEY_SIZE}")
    record = None
    if message.HasField("record"):
        time = message.record.time_received[:64].decode("ascii", "replace")
        record = Record(message.record.key, message.record.value, time)
    return Message(
        kind,
        message.key,
        record,
        _peers(message.closer_peers[:MAX_CLOSER_PEERS]),
        _peers(message.provider_peers[:MAX_PROVIDERS]),
    )


def _encode(message: Message, connected: frozenset[PeerId]) -> MessagePb:
    encoded = MessagePb(type=message.type, key=message.key)
    if (record := message.record) is not None:
        encoded.record.CopyFrom(
            RecordPb(key=record.key, value=record.value, time_received=record.time_received.encode())
        )
    encoded.closer_peers.extend(_peer(info, connected) for info in message.closer)
    encoded.provider_peers.extend(_peer(info, connected) for info in message.providers)
    return encoded


def _peer(info: PeerInfo, connected: frozenset[PeerId]) -> MessagePb.Peer:
    return MessagePb.Peer(
        id=info.peer.to_bytes(), addrs=[addr.to_bytes() for addr in info.addrs], connection=int(info.peer in connected)
    )


def _framed(peer: MessagePb.Peer) -> int:
    """Bytes that the peer takes in a message, its tag and length included."""
    size = peer.ByteSize()
    return size + (2 if size < 128 else 3)


def _fit(infos: Sequence[PeerInfo], connected: frozenset[PeerId], room: int) -> list[MessagePb.Peer]:
    """The peers, cut to `room` bytes: as many first addresses of each as all can have, then whole peers from the
    front.
    """
    if not infos:
        return []
    for most in (16, 8, 6, 4, 3, 2, 1):
        peers = [_peer(PeerInfo(info.peer, info.addrs[:most]), connected) for info in infos]
        if sum(map(_framed, peers)) <= room:
            return peers
    kept: list[MessagePb.Peer] = []
    for peer in peers:
        room -= _framed(peer)
        if room < 0:
            break
        kept.append(peer)
    return kept


def _peers(encoded: Iterable[MessagePb.Peer]) -> tuple[PeerInfo, ...]:
    """The peers that can be read, each once."""
    infos: dict[PeerId, PeerInfo] = {}
    for one in encoded:
        info = _known_peer(one.SerializeToString()) if one.ByteSize() <= _KNOWN_SIZE else _read_peer(one)
        if info is not None:
            infos.setdefault(info.peer, info)
    return tuple(infos.values())


@lru_cache(maxsize=8192)  # servers name the same peers again and again
def _known_peer(encoded: bytes) -> PeerInfo | None:
    return _read_peer(MessagePb.Peer.FromString(encoded))


def _read_peer(encoded: MessagePb.Peer) -> PeerInfo | None:
    """A peer; None for one that is none."""
    try:
        peer = PeerId.from_bytes(encoded.id)
    except InvalidPeerId:
        return None
    return PeerInfo(peer, read_addrs(peer, encoded.addrs))


def read_addrs(peer: PeerId, encoded: Sequence[bytes]) -> tuple[Multiaddr, ...]:
    """The addresses that can be read and do not lead to another peer, without the peer's id, each once."""
    addrs: dict[Multiaddr, None] = {}
    room = MAX_PEER_ADDRS_SIZE
    for one in encoded[:MAX_ADDRS]:
        room -= len(one)
        if room < 0:
            break
        try:
            addr = Multiaddr.from_peer(one)
        except InvalidMultiaddr:
            continue
        named = addr.peer_id_text
        if named is None:
            addrs[addr] = None
        elif named == str(peer) and len(bare := addr.without_peer()):
            addrs[bare] = None
    return tuple(addrs)
