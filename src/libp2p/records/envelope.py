"""Signed envelopes: a payload of any kind, and the signature of the peer that vouches for it (RFC 0002).

    Envelope (protobuf)   1 public_key   2 payload_type   3 payload   5 signature
    signed bytes          <len> domain   <len> payload_type   <len> payload         lengths are varints

Rules here: an `Envelope` that `open` returns is verified; nothing looks into a payload before that. The domain is not
in the envelope: both sides know it, so that a signature made for one purpose is worth nothing for another. An envelope
that comes again, as records do from many peers, is not verified again.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from google.protobuf.message import DecodeError

from ..errors import InvalidKey, InvalidRecord
from ..identity import PrivateKey, PublicKey
from ..varint import encode_varint
from .records_pb2 import Envelope as EnvelopeMessage

MAX_ENVELOPE_SIZE = 16_384
"""Bytes of the largest envelope that is read or made; go-libp2p's identify sends at most 8 KiB."""

_MAX_REMEMBERED = 1024
"""Envelopes, by their digests, that are known to be verified."""

_verified: dict[bytes, None] = {}  # the oldest first


def _signed_bytes(domain: str, payload_type: bytes, payload: bytes) -> bytes:
    """RFC 0002, "Signature Production / Verification"."""
    fields = (domain.encode(), payload_type, payload)
    return b"".join(encode_varint(len(field)) + field for field in fields)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed payload. Made by `seal` or `open`; the constructor verifies nothing."""

    public_key: PublicKey
    payload_type: bytes
    payload: bytes
    signature: bytes

    @classmethod
    def seal(cls, key: PrivateKey, domain: str, payload_type: bytes, payload: bytes) -> Envelope:
        """Sign `payload` for the purpose that `domain` names.

        Raises `InvalidRecord` for an empty domain, and where the envelope would be larger than `MAX_ENVELOPE_SIZE`.
        """
        if not domain:
            raise InvalidRecord("an envelope needs a domain")
        signature = key.sign(_signed_bytes(domain, payload_type, payload))
        envelope = cls(key.public_key, payload_type, payload, signature)
        if (size := len(envelope.to_bytes())) > MAX_ENVELOPE_SIZE:
            raise InvalidRecord(f"envelope of {size} bytes, the limit is {MAX_ENVELOPE_SIZE}")
        return envelope

    @classmethod
    def open(cls, data: bytes, domain: str, expected_type: bytes) -> Envelope:
        """Decode an envelope and verify its signature for `domain`.

        Raises `InvalidRecord` where it is malformed or too large, holds a payload of another type, or is not validly
        signed for this domain.
        """
        if len(data) > MAX_ENVELOPE_SIZE:
            raise InvalidRecord(f"envelope of {len(data)} bytes, the limit is {MAX_ENVELOPE_SIZE}")
        message = EnvelopeMessage()
        try:
            message.ParseFromString(bytes(data))
        except DecodeError as error:
            raise InvalidRecord(f"malformed envelope: {error}") from error
        if message.payload_type != expected_type:
            raise InvalidRecord(
                f"the envelope's payload has the type {message.payload_type[:32].hex() or 'none'}, "
                f"not {expected_type.hex()}"
            )
        try:
            key = PublicKey.from_protobuf(message.public_key)
        except InvalidKey as error:
            raise InvalidRecord(f"the envelope's public key: {error}") from error
        # "If the signature is invalid, the envelope MUST be discarded without deserializing the envelope payload."
        digest = sha256(encode_varint(len(domain)) + domain.encode() + data).digest()
        if digest not in _verified:
            if not key.verify(_signed_bytes(domain, message.payload_type, message.payload), message.signature):
                raise InvalidRecord(f"the envelope's signature by {key.peer_id} is not valid for the domain {domain!r}")
            if len(_verified) >= _MAX_REMEMBERED:
                del _verified[next(iter(_verified))]
            _verified[digest] = None
        return cls(key, message.payload_type, message.payload, message.signature)

    def to_bytes(self) -> bytes:
        """Encode as an `Envelope` message."""
        message = EnvelopeMessage(
            public_key=self.public_key.to_protobuf(),
            payload_type=self.payload_type,
            payload=self.payload,
            signature=self.signature,
        )
        return message.SerializeToString(deterministic=True)
