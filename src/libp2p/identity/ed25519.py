"""Ed25519 keys (peer-ids spec, "Ed25519").

    public     32 bytes
    private    seed (32) + public (32), or the old seed (32) + public (32) + public (32); read is also the seed alone,
               which the older Python libp2p writes
    signature  64 bytes, RFC 8032

The public half of a private key is always checked against the seed: signing with a foreign one would leak the seed.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..ground_errors import InvalidKey
from .algorithm import Algorithm

_SIZE = 32

_PRIME = 2**255 - 19
_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER = frozenset({0, 1, _PRIME - 1, _PRIME, _PRIME + 1, _ORDER_8, _PRIME - _ORDER_8})
"""The y of points whose multiples are eight at most: by such a key one signature is valid for many messages."""


class Ed25519(Algorithm[Ed25519PublicKey, Ed25519PrivateKey]):
    """Ed25519 by `cryptography`."""

    def generate(self, rsa_bits: int) -> Ed25519PrivateKey:  # noqa: ARG002
        return Ed25519PrivateKey.generate()

    def public_of(self, private: Ed25519PrivateKey) -> Ed25519PublicKey:
        return private.public_key()

    def load_public(self, raw: bytes) -> Ed25519PublicKey:
        if len(raw) != _SIZE:
            raise InvalidKey(f"an Ed25519 public key has {_SIZE} bytes, not {len(raw)}")
        if int.from_bytes(raw, "little") & (1 << 255) - 1 in _SMALL_ORDER:
            raise InvalidKey("the Ed25519 public key is a point of small order, by which anybody can sign")
        return Ed25519PublicKey.from_public_bytes(raw)

    def dump_public(self, public: Ed25519PublicKey) -> bytes:
        return public.public_bytes_raw()

    def load_private(self, raw: bytes) -> Ed25519PrivateKey:
        if len(raw) not in (_SIZE, 2 * _SIZE, 3 * _SIZE):
            raise InvalidKey(f"an Ed25519 private key has 64 bytes (or 32 or 96, old forms), not {len(raw)}")
        private = Ed25519PrivateKey.from_private_bytes(raw[:_SIZE])
        # "compare the two public key strings (32 bytes each) and verify they are identical [...] If they do not match,
        # reject or error out because the byte array is invalid."
        public = private.public_key().public_bytes_raw()
        if raw[_SIZE:] != public * (len(raw) // _SIZE - 1):
            raise InvalidKey("the public part of an Ed25519 private key does not belong to its private part")
        return private

    def dump_private(self, private: Ed25519PrivateKey) -> bytes:
        return private.private_bytes_raw() + private.public_key().public_bytes_raw()

    def sign(self, private: Ed25519PrivateKey, data: bytes) -> bytes:
        return private.sign(data)

    def verify(self, public: Ed25519PublicKey, data: bytes, signature: bytes) -> bool:
        try:
            public.verify(signature, data)
        except InvalidSignature:
            return False
        return True


ALGORITHM = Ed25519()
