"""XSalsa20: Salsa20 with nonces of 24 bytes, so that they can be drawn at random ("Extending the Salsa20 nonce",
Bernstein, 2011).

    the key, and the first 16 bytes of the nonce  ->  HSalsa20  ->  a key of its own for this nonce
    that key, and the last 8 bytes of the nonce   ->  Salsa20   ->  the key stream

HSalsa20 is one block, computed here once for a direction of a connection. The stream is Salsa20 of pycryptodome, in C;
`cryptography`, which does everything else in this package, has only ChaCha20, a cipher with other rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from ...io import Buffer

NONCE_SIZE = 24
"""Bytes of a nonce."""

_WORDS = Struct("<8I")
_SIGMA = Struct("<4I").unpack(b"expand 32-byte k")
_MASK = 0xFFFFFFFF
_COLUMNS = ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11))
_ROWS = ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14))

Cipher = Callable[[Buffer], bytes]
"""Encrypts, or decrypts, the next bytes of a stream."""


def salsa20(key: bytes, nonce: bytes) -> Cipher:
    """A Salsa20 stream of `key`, 32 bytes, and `nonce`, 8 bytes. Raises `ImportError` without the extra `pnet`."""
    try:
        from Crypto.Cipher import Salsa20  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ImportError("private networks need pycryptodome: pip install 'py-libp2p[pnet]'") from error
    return Salsa20.new(key, nonce).encrypt


def xsalsa20(key: bytes, nonce: bytes) -> Cipher:
    """An XSalsa20 stream of `key`, 32 bytes, and `nonce`, 24 bytes, which must be new for the key."""
    return salsa20(hsalsa20(key, nonce[:16]), nonce[16:])


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """The key that HSalsa20 derives from `key`, 32 bytes, and `nonce`, 16 bytes."""
    k, n = _WORDS.unpack(key), Struct("<4I").unpack(nonce)
    x = [_SIGMA[0], *k[:4], _SIGMA[1], *n, _SIGMA[2], *k[4:], _SIGMA[3]]
    for _ in range(10):
        for quarters in (_COLUMNS, _ROWS):
            for a, b, c, d in quarters:
                x[b] ^= _rotate(x[a] + x[d], 7)
                x[c] ^= _rotate(x[b] + x[a], 9)
                x[d] ^= _rotate(x[c] + x[b], 13)
                x[a] ^= _rotate(x[d] + x[c], 18)
    return _WORDS.pack(x[0], x[5], x[10], x[15], *x[6:10])


def _rotate(value: int, bits: int) -> int:
    value &= _MASK
    return (value << bits | value >> 32 - bits) & _MASK
