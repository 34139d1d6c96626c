"""The protobuf frame around a key: its type, and its bytes in that type's own format.

    08 <type>  12 <varint length> <data>           type: 0 RSA, 1 Ed25519, 2 secp256k1, 3 ECDSA

Rules here (peer-ids spec, "Keys"): "encoding must be deterministic", so it is written by hand. What others wrote in
another order, with longer varints or with unknown fields is still read, as go-libp2p does; since peer ids are made
from our own encoding, such a key has the same peer id as its canonical form.
"""

from __future__ import annotations

from enum import IntEnum

from ..ground_errors import InvalidKey, InvalidVarint
from ..varint import decode_varint, encode_varint

MAX_PUBLIC_KEY_SIZE = 2048
"""Bytes of an encoded public key at most; one of RSA 8192 takes 1,062."""

MAX_PRIVATE_KEY_SIZE = 8192
"""Bytes of an encoded private key at most; one of RSA 8192 takes about 4,700."""


class KeyType(IntEnum):
    """The key types of the peer-ids spec, with their numbers on the wire."""

    RSA = 0
    ED25519 = 1
    SECP256K1 = 2
    ECDSA = 3


def encode_key(key_type: KeyType, data: bytes) -> bytes:
    """Encode a `PublicKey` or `PrivateKey` message: minimal varints, fields in tag order, nothing else."""
    return b"\x08%c\x12%b%b" % (key_type, encode_varint(len(data)), data)


def decode_key(encoded: bytes, *, private: bool) -> tuple[KeyType, bytes]:
    """Decode a `PublicKey` or `PrivateKey` message into type and data. Raises `InvalidKey`."""
    kind, limit = ("private", MAX_PRIVATE_KEY_SIZE) if private else ("public", MAX_PUBLIC_KEY_SIZE)
    if len(encoded) > limit:
        raise InvalidKey(f"{kind} key message of {len(encoded)} bytes, the limit is {limit}")
    if encoded[:1] == b"\x08" and encoded[2:3] == b"\x12" and encoded[1] <= KeyType.ECDSA:
        try:
            length, start = decode_varint(encoded, 3)
        except InvalidVarint:
            length, start = -1, 0  # not canonical: left to the general decoder
        if start + length == len(encoded):
            return KeyType(encoded[1]), encoded[start:]
    return _decode_any(encoded, kind)


def _decode_any(encoded: bytes, kind: str) -> tuple[KeyType, bytes]:
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - rarely needed: see the module's rules

    from .keys_pb2 import PrivateKey, PublicKey  # noqa: PLC0415

    message = PrivateKey() if kind == "private" else PublicKey()
    try:
        message.ParseFromString(encoded)
    except DecodeError as error:
        raise InvalidKey(f"malformed {kind} key message: {error}") from error
    if not message.IsInitialized():
        raise InvalidKey(f"{kind} key message without a known type, or without data")
    return KeyType(message.Type), message.Data
