"""Message ids: what makes two messages the same. Spec: pubsub/README.md, "Message Identification".

An id function gets a message, as it travelled, and its data behind the topic's transform: None where the transform
refused it. Ids go over the wire, in IHAVE, IWANT and IDONTWANT, so all peers of a topic must compute the same. Their
defaults differ, though:

    go, Python   from | seqno                       `author_and_seqno`, the spec's and our default
    rust         base58(from) | seqno in decimal    `rust_default`
    js           public key message | seqno         `js_default`
    nim          hex(seqno) | base58(from)          `nim_default`
    Ethereum     SHA-256(domain | len(topic) | topic | data)[:20]    `ethereum`

Messages reach each other's meshes in spite of that; only what is missed there can't be had by gossip. Whoever mixes
implementations should give all of them the same function, such as `sha256_of_data`.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b, sha256
from typing import TypeAlias

from ...errors import InvalidKey, InvalidPeerId
from ...identity import PeerId
from ...multibase import b58encode
from .wire import WireMessage

MessageIdFunction: TypeAlias = Callable[[WireMessage, bytes | None], bytes]
"""From a message and its transformed data to its id: bytes, the same at all peers. Must not raise."""

MAX_PEER_ID_SIZE = 64
"""Bytes; a peer id has 44 at most."""

MAX_PEER_ID_SIZE = 64
"""Bytes; a peer id has 44 at most."""

_VALID_SNAPPY, _INVALID_SNAPPY = b"\x01\x00\x00\x00", b"\x00\x00\x00\x00"


def author_and_seqno(message: WireMessage, _: bytes | None) -> bytes:
    """The spec's default, which go-libp2p and this package use."""
    return (message.sender or b"") + (message.seqno or b"")


def rust_default(message: WireMessage, _: bytes | None) -> bytes:
    """rust-libp2p's default."""
    number = int.from_bytes(message.seqno or b"", "big")
    return (_base58(message.sender or b"\x00\x01\x00") + str(number)).encode()


def js_default(message: WireMessage, _: bytes | None) -> bytes:
    """js-libp2p's default for signed messages; for anonymous ones it is the hash of the data."""
    if message.sender is None or message.seqno is None:
        return sha256(message.data or b"").digest()
    key = message.key
    if key is None:
        try:
            embedded = PeerId.from_bytes(message.sender).extract_public_key()
        except (InvalidPeerId, InvalidKey):
            embedded = None
        key = embedded.to_protobuf() if embedded is not None else message.sender
    return key + message.seqno


def nim_default(message: WireMessage, _: bytes | None) -> bytes:
    """nim-libp2p's default for signed messages; for anonymous ones it is the hash of the data."""
    if message.sender is None or message.seqno is None:
        return sha256(message.data or b"").digest()
    return (message.seqno.hex() + _base58(message.sender)).encode()


def sha256_of_data(message: WireMessage, data: bytes | None) -> bytes:
    """The SHA-256 of the data: the same data twice is one message, whoever sends it."""
    return sha256((message.data or b"") if data is None else data).digest()


def blake2b_of_data(message: WireMessage, data: bytes | None) -> bytes:
    """The BLAKE2b-256 of the data: Filecoin's."""
    return blake2b((message.data or b"") if data is None else data, digest_size=32).digest()


def ethereum(message: WireMessage, data: bytes | None) -> bytes:
    """Ethereum's (consensus-specs, altair/p2p-interface.md): over the decompressed data, or, where the transform
    refused it, over what travelled.
    """
    topic = message.topic.encode(errors="surrogateescape")
    domain, content = (_INVALID_SNAPPY, message.data or b"") if data is None else (_VALID_SNAPPY, data)
    return sha256(domain + len(topic).to_bytes(8, "little") + topic + content).digest()[:20]


def _base58(peer: bytes) -> str:
    """A peer id as text; what is too long for one must make an id all the same."""
    return b58encode(peer) if len(peer) <= MAX_PEER_ID_SIZE else peer.hex()
