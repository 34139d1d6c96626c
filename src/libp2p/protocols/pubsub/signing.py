"""Who vouches for a message: signing policies. Spec: pubsub/README.md, "Message Signing", "Signature Policy Options".

    signature = sign(author's key, "libp2p-pubsub:" <Message without signature and key>)

Rules:
- `STRICT_SIGN` (the default) wants author, seqno and a valid signature in each message, and makes them.
- `STRICT_NO_SIGN` wants author, seqno, signature and key to be absent: messages are anonymous.
- The lax policies of older networks take messages with a signature, which must be valid, and those without:
  `LAX_SIGN` makes the former, `LAX_NO_SIGN` the latter.
- The author's key comes from its peer id, or, where that is a hash, from the message's `key`. A `key` that is not the
  author's makes the message invalid, needed or not.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from functools import lru_cache

from ...errors import InvalidKey, InvalidPeerId
from ...identity import PeerId, PrivateKey, PublicKey
from .wire import WireMessage

PREFIX = b"libp2p-pubsub:"

SEQNO_SIZE = 8
"""Bytes of a sequence number, big-endian."""


class SignaturePolicy(Enum):
    """Which fields for authentication a topic's messages have."""

    STRICT_SIGN = "strict-sign"
    STRICT_NO_SIGN = "strict-no-sign"
    LAX_SIGN = "lax-sign"
    LAX_NO_SIGN = "lax-no-sign"

    @property
    def signs(self) -> bool:
        """Whether we sign what we publish."""
        return self in (SignaturePolicy.STRICT_SIGN, SignaturePolicy.LAX_SIGN)


class Fault(StrEnum):
    """What is wrong with a message's fields for authentication; as go-libp2p-pubsub's tracers name it."""

    MISSING_SIGNATURE = "missing signature"
    UNEXPECTED_SIGNATURE = "unexpected signature"
    UNEXPECTED_AUTH_INFO = "unexpected auth info"
    INVALID_SIGNATURE = "invalid signature"


def author_message(
    topic: str, data: bytes, *, author: PeerId, key: PrivateKey, seqno: int, policy: SignaturePolicy
) -> WireMessage:
    """A message of our own, with what the policy wants. `seqno` counts modulo 2**64."""
    if policy is SignaturePolicy.STRICT_NO_SIGN:
        return WireMessage(topic, data)
    number = (seqno % 2**64).to_bytes(SEQNO_SIZE, "big")
    message = WireMessage(topic, data, author.to_bytes(), number)
    if not policy.signs:
        return message
    signature = key.sign(PREFIX + message.signed_part())
    embedded = author.extract_public_key() is not None
    return WireMessage(
        topic, data, message.sender, number, signature, None if embedded else key.public_key.to_protobuf()
    )


def check_fields(message: WireMessage, policy: SignaturePolicy) -> Fault | None:
    """What is wrong with the message's fields at first sight; None: nothing."""
    if policy is SignaturePolicy.STRICT_SIGN:
        if not message.signature:
            return Fault.MISSING_SIGNATURE
        if not message.sender or message.seqno is None or len(message.seqno) != SEQNO_SIZE:
            return Fault.INVALID_SIGNATURE
    elif policy is SignaturePolicy.STRICT_NO_SIGN:
        if message.signature is not None:
            return Fault.UNEXPECTED_SIGNATURE
        if message.sender is not None or message.seqno is not None or message.key is not None:
            return Fault.UNEXPECTED_AUTH_INFO
    elif message.seqno is not None and len(message.seqno) != SEQNO_SIZE:
        return Fault.INVALID_SIGNATURE
    return None


def check_signature(message: WireMessage) -> Fault | None:
    """Verify the signature, where there is one."""
    if message.signature is None:
        return None
    try:
        key = _author_key(message.sender or b"", message.key)
    except (InvalidPeerId, InvalidKey):
        return Fault.INVALID_SIGNATURE
    if key is None or not key.verify(PREFIX + message.signed_part(), message.signature):
        return Fault.INVALID_SIGNATURE
    return None


@lru_cache(maxsize=1024)
def _author_key(sender: bytes, said: bytes | None) -> PublicKey | None:
    """The author's key, which the message `said`, or not. An author has many messages: those of late are remembered."""
    author = PeerId.from_bytes(sender)
    embedded = author.extract_public_key()
    if said is None:
        return embedded
    key = PublicKey.from_protobuf(said)
    return key if key.peer_id == author else None
