"""The `/plaintext/2.0.0` protocol: both sides send one `Exchange` at once, and are done.

    +----------------+-----------------------------------------+
    | length, varint | Exchange: peer id, public key           |
    +----------------+-----------------------------------------+

Rules:
- Nothing is proven: whoever knows a peer's public key can claim to be it. What is checked is that a claim fits: the id
  is that of the key, and of the peer that was dialed.
- No muxer is agreed on within the exchange.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from ...connection import RawConnection, SecureChannel, SecurityProtocol, Turn
from ...errors import HandshakeError, InvalidKey, PeerIdMismatch, RemoteProtocolError
from ...identity import PeerId, PrivateKey, PublicKey
from .channel import PlaintextChannel
from .exchange_pb2 import Exchange

MAX_EXCHANGE = 4096
"""Bytes of the largest `Exchange` that is read; one with an RSA key of 8,192 bits takes about 1,100."""


class InsecurePlaintext(SecurityProtocol):
    """`/plaintext/2.0.0`: no encryption, no authentication. For tests and for debugging.

    "Enabling the plaintext module will effectively nullify the security guarantees of any other security modules that
    may be enabled, as an attacker will be able to negotiate a plaintext connection at any time."
    """

    protocol_id = "/plaintext/2.0.0"

    async def secure_outbound(
        self,
        raw: RawConnection,
        key: PrivateKey,
        *,
        expected_peer: PeerId | None,
        muxers: Sequence[str],  # noqa: ARG002 - they are negotiated afterwards
    ) -> SecureChannel:
        return await _exchange(raw, key, expected_peer)

    async def secure_inbound(
        self,
        raw: RawConnection,
        key: PrivateKey,
        *,
        expected_peer: PeerId | None = None,
        muxers: Sequence[str],  # noqa: ARG002
        turn: Turn | None = None,  # noqa: ARG002 - there is nothing to compute
    ) -> SecureChannel:
        return await _exchange(raw, key, expected_peer)


async def _exchange(raw: RawConnection, key: PrivateKey, expected_peer: PeerId | None) -> PlaintextChannel:
    local_peer = key.peer_id
    ours = Exchange(id=local_peer.to_bytes(), pubkey=key.public_key.to_protobuf())
    await raw.write_message(ours.SerializeToString())
    try:
        message = await raw.read_message(limit=MAX_EXCHANGE, what="plaintext exchange")
    except RemoteProtocolError as error:
        raise HandshakeError(f"plaintext exchange: {error}") from error
    remote_key = _open(message)
    if expected_peer is not None and remote_key.peer_id != expected_peer:
        raise PeerIdMismatch(expected=expected_peer, actual=remote_key.peer_id)
    channel = PlaintextChannel(raw, local_peer=local_peer, remote_key=remote_key)
    raw.attach(channel)
    return channel


def _open(message: bytes) -> PublicKey:
    """The key in the peer's `Exchange`, which must be that of the id in it."""
    try:
        exchange = Exchange.FromString(message)
        key = PublicKey.from_protobuf(exchange.pubkey)
    except DecodeError as error:
        raise HandshakeError(f"plaintext exchange: malformed: {error}") from error
    except InvalidKey as error:
        raise HandshakeError(f"plaintext exchange: public key: {error}") from error
    # "each side will validate that the given peer id is consistent with the given public key"
    if exchange.id != key.peer_id.to_bytes():
        raise HandshakeError(
            f"plaintext exchange: the id {exchange.id[:64].hex()} is not that of the key, {key.peer_id}"
        )
    return key
