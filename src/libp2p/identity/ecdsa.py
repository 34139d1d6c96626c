"""ECDSA keys on the NIST curves (peer-ids spec, "ECDSA").

    public     SubjectPublicKeyInfo (PKIX), DER
    private    ECPrivateKey (SEC 1), DER
    signature  of SHA-256, ASN.1 DER

Keys are made on P-256, as every implementation does; P-224, P-384 and P-521 are read, as go-libp2p does.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
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

CURVES = frozenset({"secp224r1", "secp256r1", "secp384r1", "secp521r1"})
"""Names of the curves accepted."""

_SHA256 = ec.ECDSA(hashes.SHA256())


class Ecdsa(Algorithm[ec.EllipticCurvePublicKey, ec.EllipticCurvePrivateKey]):
    """ECDSA over SHA-256 by `cryptography`."""

    def generate(self, rsa_bits: int) -> ec.EllipticCurvePrivateKey:  # noqa: ARG002
        return ec.generate_private_key(ec.SECP256R1())

    def public_of(self, private: ec.EllipticCurvePrivateKey) -> ec.EllipticCurvePublicKey:
        return private.public_key()

    def load_public(self, raw: bytes) -> ec.EllipticCurvePublicKey:
        try:
            public = load_der_public_key(raw)
        except Exception as error:  # see `algorithm.py`
            raise InvalidKey(f"malformed ECDSA public key: {error}") from error
        if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name not in CURVES:
            raise InvalidKey("not an ECDSA public key on a NIST curve")
        if self.dump_public(public) != raw:
            raise InvalidKey("the ECDSA public key is not in its canonical DER form")
        return public

    def dump_public(self, public: ec.EllipticCurvePublicKey) -> bytes:
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def load_private(self, raw: bytes) -> ec.EllipticCurvePrivateKey:
        try:
            private = load_der_private_key(raw, None)
        except Exception as error:
            raise InvalidKey("malformed ECDSA private key") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name not in CURVES:
            raise InvalidKey("not an ECDSA private key on a NIST curve")
        return private

    def dump_private(self, private: ec.EllipticCurvePrivateKey) -> bytes:
        return private.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())

    def sign(self, private: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
        return private.sign(data, _SHA256)

    def verify(self, public: ec.EllipticCurvePublicKey, data: bytes, signature: bytes) -> bool:
        try:
            public.verify(signature, data, _SHA256)
        except InvalidSignature:
            return False
        return True


ALGORITHM = Ecdsa()
