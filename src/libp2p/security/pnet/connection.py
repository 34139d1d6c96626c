"""A raw connection within a private network: the sink of the one below, and a raw connection itself.

    +------------------+----------------------------------------------+
    | nonce, 24 bytes  | everything else, XORed with XSalsa20's key   |     in each direction, with its own nonce
    |                  | stream of the network's key and that nonce   |
    +------------------+----------------------------------------------+

Rules:
- Our nonce is sent at once; the peer's is taken from the first bytes it sends. Nobody waits for the other's.
- This layer authenticates nothing; the secure channel above does. But a peer with another key is told from a broken
  one by its first bytes, which are the same on every libp2p connection. None of them are passed on.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...connection import LayeredConnection, RawConnection
from ...errors import HandshakeError
from ...io import Buffer
from .xsalsa20 import NONCE_SIZE, Cipher, xsalsa20


class ProtectedConnection(LayeredConnection):
    """A connection whose every byte is encrypted by the network's key. Made by `PrivateNetwork.protect`."""

    def __init__(self, raw: RawConnection, psk: bytes, nonce: bytes, *, network: str, greeting: bytes) -> None:
        super().__init__(raw)
        self.record_size = raw.record_size
        self._psk = psk
        self._network = network  # what errors call it
        self._encrypt = xsalsa20(psk, nonce)
        self._decrypt: Cipher | None = None
        self._nonce = b""  # the peer's, as far as it has arrived
        self._greeting = greeting  # as far as it has not arrived
        raw.send((nonce,))

    def send(self, buffers: Sequence[Buffer]) -> None:
        encrypt = self._encrypt
        self._raw.send([encrypt(buffer) for buffer in buffers])

    def data_received(self, data: memoryview) -> None:
        """Decrypt and push on. Raises `HandshakeError` for a peer that has another key, or none."""
        decrypt = self._decrypt
        if decrypt is None:
            decrypt, data = self._receive_nonce(data)
            if decrypt is None or not data:
                return
        plain = decrypt(data)
        if self._greeting:
            if not plain.startswith(self._greeting[: len(plain)]):
                raise HandshakeError(f"{self.remote_addr} has another swarm key than {self._network}")
            self._greeting = self._greeting[len(plain) :]
        self._sink.data_received(memoryview(plain))

    def _receive_nonce(self, data: memoryview) -> tuple[Cipher | None, memoryview]:
        """Add to the peer's nonce; return the cipher, once it is complete, and the bytes behind it."""
        missing = NONCE_SIZE - len(self._nonce)
        self._nonce += data[:missing]
        if self._greeting and self._nonce.startswith(self._greeting):
            raise HandshakeError(f"{self.remote_addr} is in no private network, and speaks in the clear")
        if len(self._nonce) == NONCE_SIZE:
            self._decrypt = xsalsa20(self._psk, self._nonce)
        return self._decrypt, data[missing:]

    def eof_received(self) -> None:
        if self._greeting:
            self.abort(self._refused())
        else:
            self._sink.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        if self._greeting and isinstance(error, ConnectionError):
            refused = self._refused()
            refused.__cause__ = error
            error = refused
        self._sink.connection_lost(error)

    def _refused(self) -> HandshakeError:
        return HandshakeError(f"{self.remote_addr} hung up at once: it may have another swarm key than {self._network}")
