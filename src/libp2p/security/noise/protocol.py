"""The `/noise` security protocol: the XX handshake over a raw connection, each side proving its identity in it.

Each handshake message travels behind its length:

    +--------------------+-----------------+
    | length, 2 bytes BE | noise message   |
    +--------------------+-----------------+

Rules:
- The dialer checks who answered before it says who it is: message 3 goes only to the peer that was expected.
- A peer is known only when its identity key's signature over its static Noise key is verified.
- Muxers are offered inside the handshake (connections/inlined-muxer-negotiation.md): by the responder in message 2,
  by the initiator in message 3; the initiator's order decides. A peer that offers none negotiates afterwards.
- One static Noise key serves all handshakes of a `Noise` object, as the specification allows ("a single static keypair
  may be generated when noise-libp2p is initialized and used for all sessions"): it is never stored, and the signature
  over it is made once for each identity.
- An ephemeral key serves one handshake. The next one is made while a handshake waits for its peer. A process that is
  forked begins with keys of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from google.protobuf.message import DecodeError

from ...connection import RawConnection, SecureChannel, SecurityProtocol, Turn
from ...errors import HandshakeError, IncompleteRead, InvalidKey, PeerIdMismatch
from ...forks import at_fork
from ...identity import PeerId, PrivateKey, PublicKey
from .channel import NoiseChannel
from .core import KeyPair, NoiseHandshake
from .payload_pb2 import NoiseHandshakePayload

_SIGNED_PREFIX = b"noise-libp2p-static-key:"


@dataclass(frozen=True, slots=True)
class _Remote:
    """Who the peer has proved to be, and the muxers it offers."""

    key: PublicKey
    muxers: tuple[bytes, ...]


class Noise(SecurityProtocol):
    """`/noise`: Noise XX with X25519, ChaCha20-Poly1305 and SHA-256."""

    protocol_id = "/noise"

    def __init__(self) -> None:
        self._renew()
        at_fork(self, Noise._renew)

    def _renew(self) -> None:
        """Keys of its own for this object, and for each process that has it."""
        self._static = KeyPair(X25519PrivateKey.generate())
        self._spare: KeyPair | None = None  # an ephemeral key that nobody has used
        self._signed: tuple[PrivateKey, bytes] | None = None  # the last identity, and its signature of the static key

    async def secure_outbound(
        self, raw: RawConnection, key: PrivateKey, *, expected_peer: PeerId | None, muxers: Sequence[str]
    ) -> SecureChannel:
        handshake = self._handshake(initiator=True)
        # "The initiator MUST NOT send extensions in their first message."
        await _send(raw, handshake.write_message(b""))
        remote = _open_payload(await _receive(raw, handshake, 2), handshake.remote_static, 2)
        _check_peer(remote, expected_peer)
        muxer = _match_muxers([name.encode() for name in muxers], remote.muxers)
        await _send(raw, handshake.write_message(self._payload(key, muxers)))
        return _channel(raw, handshake, key, remote, muxer)

    async def secure_inbound(
        self,
        raw: RawConnection,
        key: PrivateKey,
        *,
        expected_peer: PeerId | None = None,
        muxers: Sequence[str],
        turn: Turn | None = None,
    ) -> SecureChannel:
        handshake = self._handshake(initiator=False)
        await _receive(raw, handshake, 1)  # its payload is not authenticated: ignored
        if turn is not None:
            await turn()
        await _send(raw, handshake.write_message(self._payload(key, muxers)))
        remote = _open_payload(await _receive(raw, handshake, 3, turn), handshake.remote_static, 3)
        _check_peer(remote, expected_peer)
        muxer = _match_muxers(remote.muxers, [name.encode() for name in muxers])
        return _channel(raw, handshake, key, remote, muxer)

    def _handshake(self, *, initiator: bool) -> NoiseHandshake:
        ephemeral, self._spare = self._spare, None
        asyncio.get_running_loop().call_soon(self._make_spare)
        if ephemeral is None:
            ephemeral = KeyPair(X25519PrivateKey.generate())
        return NoiseHandshake(initiator=initiator, static=self._static, ephemeral=ephemeral)

    def _make_spare(self) -> None:
        if self._spare is None:
            self._spare = KeyPair(X25519PrivateKey.generate())

    def _payload(self, key: PrivateKey, muxers: Sequence[str]) -> bytes:
        if self._signed is None or self._signed[0] is not key:
            self._signed = (key, key.sign(_SIGNED_PREFIX + self._static.public))
        payload = NoiseHandshakePayload(identity_key=key.public_key.to_protobuf(), identity_sig=self._signed[1])
        if muxers:
            payload.extensions.stream_muxers.extend(name.encode() for name in muxers)
        return payload.SerializeToString()


def _open_payload(data: bytes, remote_static: bytes, number: int) -> _Remote:
    """Parse the payload of message `number` and verify whose it is."""
    try:
        payload = NoiseHandshakePayload.FromString(data)
        key = PublicKey.from_protobuf(payload.identity_key)
    except DecodeError as error:
        raise HandshakeError(f"noise message {number}: malformed payload: {error}") from error
    except InvalidKey as error:
        raise HandshakeError(f"noise message {number}: identity key: {error}") from error
    # "If the signature is invalid, the connection MUST be terminated immediately."
    if not key.verify(_SIGNED_PREFIX + remote_static, payload.identity_sig):
        raise HandshakeError(f"noise message {number}: {key.peer_id} did not sign the static key")
    return _Remote(key, tuple(payload.extensions.stream_muxers))


def _check_peer(remote: _Remote, expected: PeerId | None) -> None:
    if expected is not None and remote.key.peer_id != expected:
        raise PeerIdMismatch(expected=expected, actual=remote.key.peer_id)


def _match_muxers(initiators: Sequence[bytes], responders: Sequence[bytes]) -> str | None:
    """ "The multiplexer to use is determined by picking the first item from the initiator's list that both parties
    support." None where one of them has no list.
    """
    if not initiators or not responders:
        return None
    for muxer in initiators:
        if muxer in responders:
            return muxer.decode()
    # "If there is no overlap between the multiplexers support by client and server, the handshake MUST fail."
    raise HandshakeError(f"no muxer in common: {_names(initiators)} dial, {_names(responders)} listen")


def _names(muxers: Sequence[bytes]) -> str:
    return ", ".join(repr(muxer)[1:] for muxer in muxers[:5])


async def _send(raw: RawConnection, message: bytes) -> None:
    await raw.write(len(message).to_bytes(2, "big") + message)


async def _receive(raw: RawConnection, handshake: NoiseHandshake, number: int, turn: Turn | None = None) -> bytes:
    """Read handshake message `number`; return its payload."""
    try:
        length = await raw.readexactly(2)
        message = await raw.readexactly(int.from_bytes(length, "big"))
    except IncompleteRead as error:
        raise HandshakeError(f"noise message {number}: {error}") from error
    if turn is not None:
        await turn()
    return handshake.read_message(message)


def _channel(
    raw: RawConnection, handshake: NoiseHandshake, key: PrivateKey, remote: _Remote, muxer: str | None
) -> NoiseChannel:
    send_key, receive_key = handshake.split()
    channel = NoiseChannel(
        raw,
        send_key=send_key,
        receive_key=receive_key,
        local_peer=key.public_key.peer_id,
        remote_key=remote.key,
        stream_muxer=muxer,
    )
    raw.attach(channel)
    return channel
