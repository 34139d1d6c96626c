"""secp256k1 keys (peer-ids spec, "Secp256k1": "the standard Bitcoin EC encoding").

    public     the point, compressed (33 bytes); uncompressed (65 bytes) is read too, as go-libp2p does
    private    the scalar, 32 bytes
    signature  of SHA-256, ASN.1 DER, with the lower of the two possible S

"the standard Bitcoin EC signature algorithm (BIP0062)": BIP 62 demands the low S. We sign so, and refuse a high S as
libsecp256k1 and rust's k256 do. (go-libp2p reads a high S, but never writes one.)
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..ground_errors import InvalidKey
from .algorithm import Algorithm

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
"""Number of points on the curve; private keys and both halves of a signature are below it."""

_PRIVATE_SIZE = 32
_SHA256 = ec.ECDSA(hashes.SHA256())


class Secp256k1(Algorithm[ec.EllipticCurvePublicKey, ec.EllipticCurvePrivateKey]):
    """ECDSA on secp256k1 over SHA-256 by `cryptography`."""

    def generate(self, rsa_bits: int) -> ec.EllipticCurvePrivateKey:  # noqa: ARG002
        return ec.generate_private_key(ec.SECP256K1())

    def public_of(self, private: ec.EllipticCurvePrivateKey) -> ec.EllipticCurvePublicKey:
        return private.public_key()

    def load_public(self, raw: bytes) -> ec.EllipticCurvePublicKey:
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), raw)
        except Exception as error:  # see `algorithm.py`
            raise InvalidKey(f"malformed secp256k1 public key of {len(raw)} bytes: {error}") from error

    def dump_public(self, public: ec.EllipticCurvePublicKey) -> bytes:
        return public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    def load_private(self, raw: bytes) -> ec.EllipticCurvePrivateKey:
        scalar = int.from_bytes(raw, "big")
        if len(raw) != _PRIVATE_SIZE or not 0 < scalar < ORDER:
            raise InvalidKey(
                f"a secp256k1 private key has {_PRIVATE_SIZE} bytes, above zero and below the curve's order"
            )
        return ec.derive_private_key(scalar, ec.SECP256K1())

    def dump_private(self, private: ec.EllipticCurvePrivateKey) -> bytes:
        return private.private_numbers().private_value.to_bytes(_PRIVATE_SIZE, "big")

    def sign(self, private: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
        signature = private.sign(data, _SHA256)
        r, s = decode_dss_signature(signature)
        return encode_dss_signature(r, ORDER - s) if s > ORDER // 2 else signature

    def verify(self, public: ec.EllipticCurvePublicKey, data: bytes, signature: bytes) -> bool:
        try:
            _, s = decode_dss_signature(signature)
            if s > ORDER // 2:
                return False
            public.verify(signature, data, _SHA256)
        except (ValueError, InvalidSignature):
            return False
        return True


ALGORITHM = Secp256k1()
