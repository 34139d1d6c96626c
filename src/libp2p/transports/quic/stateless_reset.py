"""Telling a peer that its connection is unknown here, as after a restart, and believing one that says so.

    +----------+--------------------------+-----------------+
    | 01xxxxxx | unpredictable, 25 bytes  | token, 16 bytes |     looks like any packet with a short header
    +----------+--------------------------+-----------------+

By RFC 9000, 10.3:
- Each connection id that is issued comes with a token. "The stateless reset token MUST be difficult to guess": here it
  is a function of the host's key, the socket and the connection id, so a host that has lost all state can still tell.
  The socket is in it since nobody may learn from one socket what would end the connections of another.
- "An endpoint MUST ensure that every Stateless Reset that it sends is smaller than the packet that triggered it": so
  two hosts that know nothing of each other fall silent.
"""

from __future__ import annotations

import hmac
import os

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ...identity import PrivateKey
from .datagrams import SocketAddress

TOKEN_SIZE = 16
MIN_SIZE = 21
"""Bytes of a datagram that may be a stateless reset: "An endpoint MUST discard packets that are too small"."""

MAX_RESETS = 64
"""Stateless resets sent by one socket in a second; what else is not known is dropped."""

_SIZE = 42

_PURPOSE = b"libp2p quic stateless reset key"


def reset_secret(key: PrivateKey) -> bytes:
    """What the tokens of the host that owns `key` are made from."""
    return HKDF(SHA256(), 32, salt=None, info=_PURPOSE).derive(key.to_protobuf())


class StatelessResets:
    """The stateless resets of one socket, bound to `addr`, of a host whose secret is given."""

    def __init__(self, secret: bytes, addr: SocketAddress) -> None:
        self._secret = secret
        self._socket = f"{addr[0]} {addr[1]} ".encode()
        self._sent = 0  # in the second since...
        self._since = 0.0

    def token(self, cid: bytes) -> bytes:
        """The token of a connection id of ours."""
        return hmac.digest(self._secret, self._socket + cid, "sha256")[:TOKEN_SIZE]

    def answer(self, cid: bytes, size: int, now: float) -> bytes | None:
        """What to answer to a packet of `size` bytes for the unknown `cid`; None where there is no answer."""
        if now - self._since >= 1.0:
            self._since, self._sent = now, 0
        if size <= _SIZE or self._sent >= MAX_RESETS:
            return None
        self._sent += 1
        noise = os.urandom(_SIZE - TOKEN_SIZE)
        return bytes((0x40 | (noise[0] & 0x3F),)) + noise[1:] + self.token(cid)


def is_reset(datagram: bytes, token: bytes) -> bool:
    """Whether `datagram` is a stateless reset by who knows `token`."""
    return len(datagram) >= MIN_SIZE and bool(token) and hmac.compare_digest(datagram[-TOKEN_SIZE:], token)
