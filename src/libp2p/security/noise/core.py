"""The handshake Noise_XX_25519_ChaChaPoly_SHA256 as a state machine without I/O (Noise specification, 5 and 7).

    message 1   initiator -> responder    e               | payload, in the clear
    message 2   responder -> initiator    e, ee, s, es    | payload, encrypted
    message 3   initiator -> responder    s, se           | payload, encrypted

    e    32 bytes: an ephemeral public key
    s    48 bytes: the static public key, encrypted, with its tag of 16 bytes
    payload, encrypted: 16 bytes more than in the clear

Rules:
- The caller brings the keys, so that a handshake can be repeated to the byte.
- A handshake that raised is over: its state is not to be used again.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ...errors import HandshakeError, LocalProtocolError

PROTOCOL_NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"
"""Of just 32 bytes, so it is the first handshake hash as it stands."""

MAX_MESSAGE = 65535
"""Bytes of a Noise message, by the Noise specification."""

KEY_SIZE = 32
TAG_SIZE = 16

_PATTERN = (("e",), ("e", "ee", "s", "es"), ("s", "se"))


class KeyPair:
    """An X25519 key, its public half ready to be sent."""

    __slots__ = ("_private", "public")

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    def exchange(self, public: bytes) -> bytes:
        """The secret shared with the owner of `public`. Raises `ValueError` where it is all zero."""
        return self._private.exchange(X25519PublicKey.from_public_bytes(public))


def nonce(counter: int) -> bytes:
    """The nonce of the message number `counter`: "32 bits of zeros followed by little-endian encoding of n"."""
    return (counter << 32).to_bytes(12, "little")


class NoiseHandshake:
    """One side of a handshake: `write_message` and `read_message` in turn, then `split`."""

    def __init__(self, *, initiator: bool, static: KeyPair, ephemeral: KeyPair, prologue: bytes = b"") -> None:
        self._initiator = initiator
        self._local = {"e": ephemeral, "s": static}
        self._remote: dict[str, bytes] = {}
        self._symmetric = _SymmetricState(prologue)
        self._done = 0

    @property
    def finished(self) -> bool:
        """Whether all messages have passed."""
        return self._done == len(_PATTERN)

    @property
    def remote_static(self) -> bytes:
        """The peer's static public key, known once the message that carries it was read."""
        return self._remote["s"]

    @property
    def handshake_hash(self) -> bytes:
        """What the handshake was, for channel binding; the same on both sides when it is finished."""
        return self._symmetric.hash

    def write_message(self, payload: bytes) -> bytes:
        """The next message, which is ours to send. Raises `HandshakeError` where the peer's key is a bad one."""
        pieces = []
        for step in self._next_steps(sending=True):
            if step == "e":
                public = self._local["e"].public
                self._symmetric.mix_hash(public)
                pieces.append(public)
            elif step == "s":
                pieces.append(self._symmetric.encrypt(self._local["s"].public))
            else:
                self._mix_shared(step)
        pieces.append(self._symmetric.encrypt(payload))
        message = b"".join(pieces)
        if len(message) > MAX_MESSAGE:
            raise LocalProtocolError(f"a noise handshake message of {len(message)} bytes, the limit is {MAX_MESSAGE}")
        self._done += 1
        return message

    def read_message(self, message: bytes) -> bytes:
        """Take the next message, which is the peer's; return its payload. Raises `HandshakeError`."""
        offset = 0
        for step in self._next_steps(sending=False):
            if step == "e":
                key = self._remote["e"] = self._cut(message, offset, KEY_SIZE, "ephemeral key")
                self._symmetric.mix_hash(key)
                offset += KEY_SIZE
            elif step == "s":
                sealed = self._cut(message, offset, KEY_SIZE + TAG_SIZE, "static key")
                self._remote["s"] = self._decrypt(sealed, "static key")
                offset += KEY_SIZE + TAG_SIZE
            else:
                self._mix_shared(step)
        payload = self._decrypt(message[offset:], "payload")
        self._done += 1
        return payload

    def split(self) -> tuple[bytes, bytes]:
        """The keys of the channel: for what we send, and for what we receive."""
        if not self.finished:
            raise LocalProtocolError(f"the noise handshake is not finished, {self._done} of its messages have passed")
        initiators, responders = self._symmetric.split()
        return (initiators, responders) if self._initiator else (responders, initiators)

    def _next_steps(self, *, sending: bool) -> tuple[str, ...]:
        ours = self._done % 2 == (0 if self._initiator else 1)
        if self.finished or sending != ours:
            raise LocalProtocolError(f"noise handshake: not the moment to {'send' if sending else 'receive'}")
        return _PATTERN[self._done]

    def _mix_shared(self, step: str) -> None:
        """A Diffie-Hellman between the initiator's key, the first letter, and the responder's, the second."""
        mine, theirs = (step[0], step[1]) if self._initiator else (step[1], step[0])
        try:
            secret = self._local[mine].exchange(self._remote[theirs])
        except ValueError as error:
            raise HandshakeError(f"noise message {self._done + 1}: the peer's key gives no secret ({step})") from error
        self._symmetric.mix_key(secret)

    def _cut(self, message: bytes, offset: int, size: int, what: str) -> bytes:
        if len(message) < offset + size:
            raise HandshakeError(f"noise message {self._done + 1}: {len(message)} bytes, too short for the {what}")
        return message[offset : offset + size]

    def _decrypt(self, data: bytes, what: str) -> bytes:
        try:
            return self._symmetric.decrypt(data)
        except InvalidTag as error:
            raise HandshakeError(f"noise message {self._done + 1}: the {what} failed authentication") from error


class _SymmetricState:
    """The chaining key, the handshake hash, and the cipher of the moment (Noise, sections 5.1 and 5.2)."""

    def __init__(self, prologue: bytes) -> None:
        self._chaining_key = self.hash = PROTOCOL_NAME
        self._cipher: ChaCha20Poly1305 | None = None
        self._counter = 0
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes) -> None:
        self.hash = sha256(self.hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        self._chaining_key, key = _hkdf(self._chaining_key, secret)
        self._cipher = ChaCha20Poly1305(key)
        self._counter = 0

    def encrypt(self, plaintext: bytes) -> bytes:
        """Encrypt, once there is a key, and add the result to the hash."""
        data = plaintext
        if self._cipher is not None:
            data = self._cipher.encrypt(nonce(self._counter), plaintext, self.hash)
            self._counter += 1
        self.mix_hash(data)
        return data

    def decrypt(self, data: bytes) -> bytes:
        """The reverse of `encrypt`. Raises `InvalidTag`."""
        plaintext = data
        if self._cipher is not None:
            plaintext = self._cipher.decrypt(nonce(self._counter), data, self.hash)
            self._counter += 1
        self.mix_hash(data)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        return _hkdf(self._chaining_key, b"")


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """HKDF with two outputs (Noise, section 4.3)."""
    temporary = hmac.digest(chaining_key, material, "sha256")
    first = hmac.digest(temporary, b"\x01", "sha256")
    return first, hmac.digest(temporary, first + b"\x02", "sha256")
