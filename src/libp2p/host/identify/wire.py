"""Identify messages as bytes, and what they say as a value. Spec: libp2p/specs, identify/README.md.

    one direction of a stream   (<length varint> <Identify message>)+   then its end
    Identify (protobuf)         1 public_key   2 listen_addrs*   3 protocols*   4 observed_addr   5 protocol_version
                                6 agent_version   8 signed_peer_record (an envelope of RFC 0002)

Rules:
- The spec knows one message; go-libp2p sends the signed record in a second one where the whole is above 2 KiB, and
  merges up to ten. So do we, in both directions. rust and js libp2p read the first message only, rust up to 4 KiB.
- "Missing fields should be ignored": a message changes those parts of what was known that it speaks of.
- Addresses that cannot be read are skipped: a peer may announce transports that are newer than we are. So is any other
  field that is malformed. Only a key of another peer is refused.
- What is taken of a peer is bounded in number and bytes, and parsed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from ...errors import InvalidKey, InvalidMultiaddr, InvalidVarint, RemoteProtocolError
from ...identity import PeerId, PublicKey
from ...multiaddr import Multiaddr
from ...texts import shared
from ...varint import decode_varint, encode_varint
from .identify_pb2 import Identify

MAX_MESSAGES = 10
"""Messages that one identify may come in."""

MAX_MESSAGE = 8 * 1024
"""Bytes of one of them."""

MAX_READ = MAX_MESSAGES * (MAX_MESSAGE + 2)
"""Bytes of all of them, with their lengths."""

MAX_ADDRS_SIZE = 8 * 1024
"""Bytes of addresses that are taken of a peer."""

MAX_PROTOCOLS_SIZE = 8 * 1024
"""Characters of protocol ids that are taken of a peer."""

MAX_TEXT_LENGTH = 256
"""Characters of `agent_version` and `protocol_version` that are kept of a peer's; longer protocol ids are dropped."""

_SINGLE_MESSAGE = 2 * 1024
_MAX_OWN_MESSAGE = 4 * 1024
"""Bytes of our own first message. Addresses are left out for that; protocols that have no room come in a later one."""


@dataclass(frozen=True, slots=True)
class IdentifyInfo:
    """What a peer says of itself. Nothing in it is proven but `peer` and `public_key`."""

    peer: PeerId
    public_key: PublicKey
    protocol_version: str = ""
    """The family of protocols that it speaks, such as `ipfs/0.1.0`."""
    agent_version: str = ""
    """Its implementation, `name/version`."""
    listen_addrs: tuple[Multiaddr, ...] = ()
    observed_addr: Multiaddr | None = None
    """Where the peer sees us at the other end of the connection."""
    protocols: tuple[str, ...] = ()
    signed_peer_record: bytes | None = None
    """A signed envelope, as it came: not verified here."""


def encode(info: IdentifyInfo) -> bytes:
    """All that `info` says, as the bytes of one direction of a stream. Addresses that don't fit in are left out."""
    message = Identify(
        public_key=info.public_key.to_protobuf(),
        listen_addrs=[addr.to_bytes() for addr in info.listen_addrs],
        protocols=[protocol.encode() for protocol in info.protocols],
        protocol_version=info.protocol_version.encode(),
        agent_version=info.agent_version.encode(),
    )
    if info.observed_addr is not None:
        message.observed_addr = info.observed_addr.to_bytes()
    while message.ByteSize() > _MAX_OWN_MESSAGE and message.listen_addrs:
        del message.listen_addrs[-1]
    later = _without_room(message)
    if not info.signed_peer_record:
        return _delimited(message) + later
    if later or message.ByteSize() + len(info.signed_peer_record) > _SINGLE_MESSAGE:
        return _delimited(message) + later + _delimited(Identify(signed_peer_record=info.signed_peer_record))
    message.signed_peer_record = info.signed_peer_record
    return _delimited(message)


def _without_room(message: Identify) -> bytes:
    """Take out of `message` the protocols for which it has no room, and put them into messages of their own."""
    moved: list[bytes] = []
    while message.ByteSize() > _MAX_OWN_MESSAGE and message.protocols:
        moved.append(message.protocols.pop())
    later, part = b"", Identify()
    for protocol in reversed(moved):
        part.protocols.append(protocol)
        if part.ByteSize() > _MAX_OWN_MESSAGE:
            later, part = later + _delimited(part), Identify()
    return later + _delimited(part) if part.protocols else later


def decode(data: bytes, known: IdentifyInfo, *, max_addrs: int, max_protocols: int) -> IdentifyInfo:
    """`known`, changed by what the messages in `data` say: all bytes of one direction of a stream.

    Addresses and protocols beyond the limits are dropped. Raises `RemoteProtocolError` where `data` holds no message
    or a malformed one, and where the public key is not the one of `known.peer`.
    """
    message = Identify()
    try:
        for part in _parts(data):
            message.MergeFromString(part)
        info = IdentifyInfo(
            known.peer,
            _key(message.public_key, known.public_key),
            protocol_version=_text(message.protocol_version) or known.protocol_version,
            agent_version=_text(message.agent_version) or known.agent_version,
            listen_addrs=tuple(dict.fromkeys(_readable(message.listen_addrs[:max_addrs]))) or known.listen_addrs,
            observed_addr=next(_observed(message.observed_addr), known.observed_addr),
            protocols=tuple(_names(message.protocols[:max_protocols])) or known.protocols,
            signed_peer_record=message.signed_peer_record or known.signed_peer_record,
        )
    except (DecodeError, InvalidVarint, RemoteProtocolError) as error:
        raise RemoteProtocolError(f"identify message of {known.peer}: {error}") from error
    if info.public_key.peer_id != info.peer:
        raise RemoteProtocolError(f"identify message of {info.peer}: holds the key of {info.public_key.peer_id}")
    return info


def _delimited(message: Identify) -> bytes:
    body = message.SerializeToString(deterministic=True)
    return encode_varint(len(body)) + body


def _parts(data: bytes) -> Iterator[bytes]:
    """The messages in `data`."""
    if not data:
        raise RemoteProtocolError("the stream ended without one")
    offset = count = 0
    while offset < len(data):
        size, offset = decode_varint(data, offset)
        if size > len(data) - offset:
            raise RemoteProtocolError(f"the stream ended after {len(data) - offset} of {size} bytes")
        if size > MAX_MESSAGE:
            raise RemoteProtocolError(f"a message of {size} bytes, the limit is {MAX_MESSAGE}")
        count += 1
        if count > MAX_MESSAGES:
            raise RemoteProtocolError(f"comes in more than {MAX_MESSAGES} parts")
        yield data[offset : offset + size]
        offset += size


def _observed(addr: bytes) -> Iterator[Multiaddr]:
    """js, rust and litep2p libp2p put our own peer id behind it."""
    return (bare for readable in _readable([addr]) if len(bare := readable.without_peer()))


def _key(encoded: bytes, known: PublicKey) -> PublicKey:
    """The key in a message; `known` where there is none that can be read."""
    if encoded in (b"", known.to_protobuf()):
        return known
    try:
        return PublicKey.from_protobuf(encoded)
    except InvalidKey:
        return known


def _text(encoded: bytes) -> str:
    """Peers say much the same: one string serves all. "" where it is no UTF-8."""
    try:
        return shared(encoded.decode()[:MAX_TEXT_LENGTH])
    except UnicodeDecodeError:
        return ""


def _names(encoded: Iterable[bytes]) -> Iterator[str]:
    """The protocol ids that can be read."""
    room = MAX_PROTOCOLS_SIZE
    for one in encoded:
        room -= len(one)
        if room < 0:
            return
        name = _text(one)
        if name and len(name.encode()) == len(one):  # else it is too long
            yield name


def _readable(addrs: Iterable[bytes]) -> Iterator[Multiaddr]:
    room = MAX_ADDRS_SIZE
    for addr in addrs:
        room -= len(addr)
        if room < 0:
            return
        try:
            yield Multiaddr.from_peer(addr)
        except InvalidMultiaddr:
            continue  # of a protocol that we don't know: see the module's rules
