"""The certificate by which a peer proves its identity in TLS and QUIC: making and verifying it (specs: tls/tls.md).

It is self-signed by a key of its own, and carries an extension by which the identity key vouches for that key:

    SignedKey ::= SEQUENCE {
      publicKey OCTET STRING      the identity key, as a `PublicKey` message (peer-ids spec)
      signature OCTET STRING      its signature of "libp2p-tls-handshake:" and what follows it:
    }                             the SubjectPublicKeyInfo of the certificate's key

Rules:
- Time is an argument, and nothing is read or sent here.
- Every rule of the specification that a certificate breaks has its own `HandshakeError`; nothing else comes out.
- What a stranger's key costs is bounded before it is used: its kind, its size, its exponent.
- That the peer holds the certificate's key is for the TLS handshake to show; this module shows whose that key is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, NameOID

from ...errors import HandshakeError, InvalidKey
from ...identity import PrivateKey, PublicKey

EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
"""The libp2p Public Key Extension."""

LIFETIME = timedelta(days=36_500)
"""How long a certificate is valid if nothing else is asked for. It ends with the process that made its key anyway."""

CLOCK_SKEW = timedelta(days=3650)
"""How far a certificate's validity begins in the past: machines without a battery begin some years ago."""

_SIGNED_PREFIX = b"libp2p-tls-handshake:"

_UNDERSTOOD = {
    EXTENSION,
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
}
"""Extensions that may be critical. But for the first, they say nothing that matters among libp2p peers."""

_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
"""The curves of a certificate's key: those whose keys TLS 1.3 has a signature scheme for."""

MIN_RSA_BITS, MAX_RSA_BITS, MAX_RSA_EXPONENT = 2048, 8192, (1 << 31) - 1
"""Of a certificate's RSA key: a small modulus is weak, a large one, or a large exponent, makes verifying costly."""

MAX_CERTIFICATE_SIZE = 16_384
"""Bytes of the largest certificate that is looked at; the largest honest one, all of RSA 8192, has some 5,000."""

_MIN_HASH_SIZE = 32

_REMEMBERED, _REMEMBERED_SIZE = 512, 2048
"""Certificates, and bytes of the largest one, that need not be verified again: a peer that connects once more shows
the same, and it costs two signatures. Half a megabyte, all together, and some for their keys.
"""

_SEQUENCE, _OCTET_STRING = 0x30, 0x04


def make_certificate(
    key: PrivateKey, *, now: datetime, lifetime: timedelta = LIFETIME
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate of a fresh P-256 key, for which `key` vouches; and that key. `now` has a time zone."""
    certificate_key = ec.generate_private_key(ec.SECP256R1())
    signature = key.sign(_SIGNED_PREFIX + _public_key_info(certificate_key.public_key()))
    signed_key = _der(_OCTET_STRING, key.public_key.to_protobuf()) + _der(_OCTET_STRING, signature)
    serial = x509.random_serial_number()
    # RFC 5280: "The issuer field MUST contain a non-empty distinguished name". This one tells nothing.
    name = x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, str(serial))])
    builder = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, serial_number=serial)
        .public_key(certificate_key.public_key())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.UnrecognizedExtension(EXTENSION, _der(_SEQUENCE, signed_key)), critical=False)
    )
    return builder.sign(certificate_key, SHA256()), certificate_key


def verify_chain(chain: Sequence[bytes], *, now: datetime) -> PublicKey:
    """The identity key behind what a peer presented, which must be one certificate (DER). Raises `HandshakeError`."""
    check_chain_length(len(chain))
    return verify_certificate(chain[0], now=now)


def check_chain_length(count: int) -> None:
    """ "Endpoints MUST abort the connection attempt if more than one certificate is received". Raises
    `HandshakeError`.
    """
    if count != 1:
        raise HandshakeError(f"certificate: there must be one, the peer sent {count}")


def verify_certificate(der: bytes, *, now: datetime) -> PublicKey:
    """The identity key that vouches for a certificate (its DER form, as it came). `now` has a time zone.

    Raises `HandshakeError`, which names the rule that is broken, and nothing else: the bytes are a stranger's, and what
    `cryptography` may raise for them is not documented, and changes.
    """
    if len(der) > MAX_CERTIFICATE_SIZE:
        raise HandshakeError(f"certificate: it has {len(der)} bytes, the limit is {MAX_CERTIFICATE_SIZE}")
    try:
        voucher = (_remembered if len(der) <= _REMEMBERED_SIZE else _verified)(der)
    except HandshakeError:
        raise
    except InvalidSignature as error:
        raise HandshakeError("certificate: its self-signature is not valid") from error
    except x509.DuplicateExtension as error:
        raise HandshakeError(f"certificate: it has the extension {error.oid.dotted_string} twice") from error
    except Exception as error:
        raise HandshakeError(f"certificate: malformed: {error}") from error
    _check_validity(voucher, now)
    return voucher.key


class _Voucher(NamedTuple):
    """What a certificate says that is sound, whatever the time is."""

    key: PublicKey
    not_before: datetime
    not_after: datetime


def _verified(der: bytes) -> _Voucher:
    certificate = x509.load_der_x509_certificate(der)
    certificate_key = certificate.public_key()
    _check_strength(certificate, certificate_key)  # before anything is computed with it
    signed_key = _extension(certificate)
    certificate.verify_directly_issued_by(certificate)
    encoded_key, signature = _parse_signed_key(signed_key)
    try:
        key = PublicKey.from_protobuf(encoded_key)
    except InvalidKey as error:
        raise HandshakeError(f"certificate: identity key: {error}") from error
    # "Peers MUST verify the signature, and abort the connection attempt if signature verification fails."
    if not key.verify(_SIGNED_PREFIX + _public_key_info(certificate_key), signature):
        raise HandshakeError(f"certificate: {key.peer_id} did not sign the certificate's key")
    return _Voucher(key, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


_remembered = lru_cache(maxsize=_REMEMBERED)(_verified)  # which keeps no failure


def _check_strength(certificate: x509.Certificate, key: CertificatePublicKeyTypes) -> None:
    """The kinds of keys, and of signatures by them, that are worth verifying and cheap to verify."""
    match key:
        case ed25519.Ed25519PublicKey():
            return
        case ec.EllipticCurvePublicKey():
            if key.curve.name not in _CURVES:
                raise HandshakeError(f"certificate: its key is on the curve {key.curve.name}")
        case rsa.RSAPublicKey():
            if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
                raise HandshakeError(
                    f"certificate: RSA keys have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, its own has {key.key_size}"
                )
            if key.public_numbers().e > MAX_RSA_EXPONENT:
                raise HandshakeError(f"certificate: its RSA key's exponent is above {MAX_RSA_EXPONENT}")
        case _:
            raise HandshakeError("certificate: its key is neither Ed25519 nor ECDSA nor RSA")
    # "hash functions with an output length less than 256 bits MUST NOT be used"
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or algorithm.digest_size < _MIN_HASH_SIZE:
        raise HandshakeError(f"certificate: signed over the hash {algorithm.name if algorithm else None}")


def _check_validity(voucher: _Voucher, now: datetime) -> None:
    # "abort the connection attempt if (a) the presented certificate is not yet valid, OR (b) if it is expired."
    if now < voucher.not_before:
        raise HandshakeError(f"certificate: not valid before {voucher.not_before}")
    if now > voucher.not_after:
        raise HandshakeError(f"certificate: expired at {voucher.not_after}")


def _extension(certificate: x509.Certificate) -> bytes:
    """The content of the libp2p extension."""
    found: bytes | None = None
    for extension in certificate.extensions:
        # "Endpoints MUST abort the connection attempt if the certificate contains critical extensions that the endpoint
        # does not understand."
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise HandshakeError(f"certificate: unknown critical extension {extension.oid.dotted_string}")
        if extension.oid == EXTENSION:
            found = extension.value.public_bytes()
    if found is None:
        raise HandshakeError(f"certificate: it has no libp2p extension {EXTENSION.dotted_string}")
    return found


def _public_key_info(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _parse_signed_key(data: bytes) -> tuple[bytes, bytes]:
    """Identity key and signature."""
    try:
        content, behind = _read_der(data, _SEQUENCE)
        key, rest = _read_der(content, _OCTET_STRING)
        signature, rest = _read_der(rest, _OCTET_STRING)
    except ValueError as error:
        raise HandshakeError(f"certificate: malformed SignedKey: {error}") from error
    if rest or behind:
        raise HandshakeError(f"certificate: malformed SignedKey: {len(rest) + len(behind)} bytes too many")
    return key, signature


def _der(tag: int, content: bytes) -> bytes:
    """`content` behind its tag and length, in DER."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _read_der(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the element at the beginning of `data`, and what is behind it. Raises `ValueError`."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError(f"no element with the tag {tag:#04x}")
    start, size = 2, data[1]
    if size >= 0x80:
        start += size - 0x80
        size = int.from_bytes(data[2:start], "big")
    content = data[start : start + size]
    if _der(tag, content) != data[: start + size]:  # it is cut short, or its length is not in the shortest form
        raise ValueError("bad length")
    return content, data[start + size :]
