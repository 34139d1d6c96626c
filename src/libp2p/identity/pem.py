"""Private keys as PEM, unencrypted. Written is PKCS #8, what OpenSSL and most other programs read and write; read are
PKCS #1, SEC 1 and OpenSSH's form too, whatever stands around the key: comments, certificates, bag attributes.
"""

from __future__ import annotations

import re

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from ..ground_errors import InvalidKey
from .algorithm import algorithm_for
from .private_key import PrivateKey
from .wire import KeyType

_BLOCK = re.compile(rb"-----BEGIN (?P<kind>[A-Z ]*)PRIVATE KEY-----.*?-----END (?P=kind)PRIVATE KEY-----", re.DOTALL)


def encode_pem(key: PrivateKey) -> bytes:
    """Encode as PEM. Holds the secret."""
    encoded: bytes = key.handle.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return encoded


def decode_pem(data: bytes) -> PrivateKey:
    """Decode the first private key in `data`. Raises `InvalidKey`."""
    found = _BLOCK.search(data.replace(b"\r\n", b"\n"))
    if found is None:
        raise InvalidKey("the PEM holds no private key")
    load = load_ssh_private_key if found["kind"] == b"OPENSSH " else load_pem_private_key
    try:
        handle = load(found[0] + b"\n", password=None)
    except TypeError as error:
        raise InvalidKey("the PEM key is encrypted, which is not supported") from error
    except Exception as error:  # see `algorithm.py`
        raise InvalidKey("malformed or unsupported PEM private key") from error
    if isinstance(handle, Ed25519PrivateKey):
        return PrivateKey.from_handle(KeyType.ED25519, handle)
    if isinstance(handle, EllipticCurvePrivateKey) and handle.curve.name == "secp256k1":
        return PrivateKey.from_handle(KeyType.SECP256K1, handle)
    for accepted, key_type in ((EllipticCurvePrivateKey, KeyType.ECDSA), (RSAPrivateKey, KeyType.RSA)):
        if isinstance(handle, accepted):
            # Through its raw form, so that the type's own checks (curve, size) apply.
            return PrivateKey(key_type, algorithm_for(key_type).dump_private(handle))
    raise InvalidKey(f"the PEM holds a key of a type that libp2p does not know: {type(handle).__name__}")
