"""RSA keys (peer-ids spec, "RSA").

    public     SubjectPublicKeyInfo (PKIX), DER
    private    RSAPrivateKey (PKCS #1), DER
    signature  RSASSA-PKCS1-v1_5 of SHA-256

Sizes and exponents are limited as in go-libp2p: a small modulus is weak, a large one makes each verification costly.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from ..ground_errors import InvalidKey
from .algorithm import Algorithm

MIN_BITS = 2048
MAX_BITS = 8192
MAX_EXPONENT = (1 << 31) - 1

_PADDING = padding.PKCS1v15()
_SHA256 = hashes.SHA256()


def _check_size(bits: int) -> None:
    if not MIN_BITS <= bits <= MAX_BITS:
        raise InvalidKey(f"RSA keys have {MIN_BITS} to {MAX_BITS} bits, not {bits}")


class Rsa(Algorithm[RSAPublicKey, RSAPrivateKey]):
    """RSA by `cryptography`."""

    def generate(self, rsa_bits: int) -> RSAPrivateKey:
        _check_size(rsa_bits)
        return generate_private_key(public_exponent=65537, key_size=rsa_bits)

    def public_of(self, private: RSAPrivateKey) -> RSAPublicKey:
        return private.public_key()

    def load_public(self, raw: bytes) -> RSAPublicKey:
        try:
            public = load_der_public_key(raw)
        except Exception as error:  # see `algorithm.py`
            raise InvalidKey(f"malformed RSA public key: {error}") from error
        if not isinstance(public, RSAPublicKey):
            raise InvalidKey("the key is labelled RSA, but is of another type")
        _check_size(public.key_size)
        if public.public_numbers().e > MAX_EXPONENT:
            raise InvalidKey(f"the RSA key's public exponent is above {MAX_EXPONENT}")
        if self.dump_public(public) != raw:
            raise InvalidKey("the RSA public key is not in its canonical DER form")
        return public

    def dump_public(self, public: RSAPublicKey) -> bytes:
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def load_private(self, raw: bytes) -> RSAPrivateKey:
        try:
            private = load_der_private_key(raw, None)
        except Exception as error:
            raise InvalidKey("malformed RSA private key") from error
        if not isinstance(private, RSAPrivateKey):
            raise InvalidKey("the key is labelled RSA, but is of another type")
        _check_size(private.key_size)
        return private

    def dump_private(self, private: RSAPrivateKey) -> bytes:
        return private.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())

    def sign(self, private: RSAPrivateKey, data: bytes) -> bytes:
        return private.sign(data, _PADDING, _SHA256)

    def verify(self, public: RSAPublicKey, data: bytes, signature: bytes) -> bool:
        try:
            public.verify(signature, data, _PADDING, _SHA256)
        except InvalidSignature:
            return False
        return True


ALGORITHM = Rsa()
