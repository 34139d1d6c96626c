"""The data phase of Noise: a secure channel that is the sink of its raw connection (noise/README.md, "Wire Format").

    +--------------------+---------------------------------------+
    | length, 2 bytes BE | ciphertext, with its tag of 16 bytes  |     the length counts ciphertext and tag
    +--------------------+---------------------------------------+

Rules:
- Bytes that arrive are decrypted straight from the receive buffer and pushed on before `data_received` returns; only
  the beginning of a message that is not complete yet is kept.
- What is sent in one call leaves in one call, in as few messages as it fits.
- Messages are numbered, in each direction; the number is the nonce, and none is used twice.
- Empty messages are of no use, and those of a few bytes of little: see `Sink.useless`.
- Nothing is pushed behind the end. A sink that pauses reading within `data_received` still gets the messages that have
  arrived in the same receive buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ...connection import SMALL, TURN, RawConnection, SecureChannel
from ...errors import LimitExceeded, RemoteProtocolError
from ...identity import PeerId, PublicKey
from ...io import Buffer
from .core import MAX_MESSAGE, TAG_SIZE

MAX_PLAINTEXT = MAX_MESSAGE - TAG_SIZE
"""Bytes that one message carries: 65,519."""

MAX_MESSAGES = 2**64 - 1
"""Messages in one direction: "in the unlikely event that peers exchange more than 2^64 - 1 messages, they MUST
terminate the connection to avoid reusing nonces".
"""


_SMALL = SMALL + 2 + TAG_SIZE
_TINY = 12  # bytes of the smallest frame of yamux
_NOTHING = "an empty Noise message", 1.0
_FEW = "a Noise message of a few bytes", 0.125  # mplex has smaller frames

_NONCE = Struct("<4xQ")  # "32 bits of zeros followed by little-endian encoding of n"


class NoiseChannel(SecureChannel):
    """An encrypted and authenticated connection to one proven peer."""

    record_size = MAX_PLAINTEXT

    def __init__(
        self,
        raw: RawConnection,
        *,
        send_key: bytes,
        receive_key: bytes,
        local_peer: PeerId,
        remote_key: PublicKey,
        stream_muxer: str | None,
    ) -> None:
        super().__init__(
            raw, protocol="/noise", local_peer=local_peer, remote_key=remote_key, stream_muxer=stream_muxer
        )
        self._encrypt = ChaCha20Poly1305(send_key).encrypt
        self._decrypt = ChaCha20Poly1305(receive_key).decrypt
        self._sent = 0
        self._received = 0
        self._partial = bytearray()  # a message that is not complete yet, its length included
        self._over = False

    def send(self, buffers: Sequence[Buffer]) -> None:
        total = sum(map(len, buffers))
        messages = self._sealed(buffers) if total > MAX_PLAINTEXT else [self._seal(buffers)] if total else []
        if self._sent > MAX_MESSAGES:
            self.abort(_out_of_nonces())
        elif messages:
            self._raw.send(messages)

    def _sealed(self, buffers: Sequence[Buffer]) -> list[Buffer]:
        """As few messages as hold these bytes."""
        messages: list[Buffer] = []
        group: list[Buffer] = []  # what goes into the next message
        room = MAX_PLAINTEXT
        for buffer in buffers:
            size = len(buffer)
            if size <= room:
                group.append(buffer)
                room -= size
                continue
            view = memoryview(buffer)
            while len(view) > room:
                group.append(view[:room])
                messages.append(self._seal(group))
                view, group, room = view[room:], [], MAX_PLAINTEXT
            group.append(view)
            room -= len(view)
        if room < MAX_PLAINTEXT:
            messages.append(self._seal(group))
        return messages

    def _seal(self, group: Sequence[Buffer]) -> Buffer:
        """One message of what `group` holds, with its length before it."""
        plaintext = group[0] if len(group) == 1 else b"".join(group)
        number = self._sent
        self._sent = number + 1
        if number >= MAX_MESSAGES:
            return b""  # never sent
        ciphertext = self._encrypt(_NONCE.pack(number), plaintext, None)
        return b"".join((len(ciphertext).to_bytes(2, "big"), ciphertext))

    def _take(self, data: memoryview) -> int:
        """Decrypt and push on. Raises `RemoteProtocolError` for a message that is forged or malformed."""
        start = self._complete(data) if self._partial else 0
        end = len(data)
        left = TURN
        while end - start >= 2:
            stop = start + 2 + (data[start] << 8 | data[start + 1])
            if stop > end:
                break
            self._open(data[start + 2 : stop])
            if stop - start < _SMALL:
                left -= 1
                if not left:
                    return stop
            start = stop
        if start < end:
            self._partial += data[start:]
        return end

    def _complete(self, data: memoryview) -> int:
        """Add to the message that was not complete, and open it if it is now; return how many bytes that took."""
        partial = self._partial
        taken = 0
        if len(partial) < 2:
            partial.append(data[0])
            taken = 1
        missing = 2 + (partial[0] << 8 | partial[1]) - len(partial)
        piece = data[taken : taken + missing]
        partial += piece
        if len(piece) == missing:
            self._partial = bytearray()
            self._open(memoryview(partial)[2:])
        return taken + len(piece)

    def _open(self, message: memoryview) -> None:
        number = self._received
        if self._over:
            return
        if number >= MAX_MESSAGES:
            raise _out_of_nonces()
        try:
            plaintext = self._decrypt(_NONCE.pack(number), message, None)
        except InvalidTag as error:
            raise RemoteProtocolError(
                f"noise: message {number} of {self.remote_peer}, {len(message)} bytes, failed authentication"
            ) from error
        self._received = number + 1
        if len(plaintext) < _TINY:
            self._sink.useless(*(_FEW if plaintext else _NOTHING))
        if plaintext:
            self._sink.data_received(memoryview(plaintext))

    def _ended(self) -> None:
        if self._partial:
            self.abort(
                RemoteProtocolError(f"noise: truncated, {self.remote_peer} ended the connection within a message")
            )
        elif not self._over:
            self._sink.eof_received()

    def _lost(self, error: Exception | None) -> None:
        self._over = True
        self._partial = bytearray()
        self._sink.connection_lost(error)

    def abort(self, error: Exception | None = None) -> None:
        self._over = True
        super().abort(error)


def _out_of_nonces() -> LimitExceeded:
    return LimitExceeded("MAX_MESSAGES", scope="one direction of a noise connection", value=MAX_MESSAGES)
