"""The libp2p certificate: the specification's test vectors, own certificates of every key type, every rule broken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from libp2p.errors import HandshakeError
from libp2p.identity import KeyType, PrivateKey
from libp2p.security.tls.certificate import (
    CLOCK_SKEW,
    EXTENSION,
    make_certificate,
    verify_certificate,
    verify_chain,
)

NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
KEY = PrivateKey.generate()


def der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "tls_certificates.json").read_text())
VALID = bytes.fromhex(VECTORS["valid"][0]["der"])


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["type"])
def test_vectors_of_the_specification(vector: dict[str, str]) -> None:
    key = verify_certificate(bytes.fromhex(vector["der"]), now=NOW)
    assert (key.type.name, str(key.peer_id)) == (vector["type"], vector["peer_id"])


def test_invalid_vector_of_the_specification() -> None:
    with pytest.raises(HandshakeError, match="did not sign the certificate's key"):
        verify_certificate(bytes.fromhex(VECTORS["invalid"]), now=NOW)


@pytest.mark.parametrize("key_type", KeyType)
def test_own_certificates_of_every_key_type(key_type: KeyType) -> None:
    key = PrivateKey.generate(key_type)
    certificate, certificate_key = make_certificate(key, now=NOW)
    assert verify_certificate(der_of(certificate), now=NOW) == key.public_key
    assert verify_chain([der_of(certificate)], now=NOW) == key.public_key
    assert certificate.public_key() == certificate_key.public_key()
    assert isinstance(certificate_key.curve, ec.SECP256R1)
    assert len(certificate.issuer) == 1  # "MUST contain a non-empty distinguished name"
    assert [(extension.oid, extension.critical) for extension in certificate.extensions] == [(EXTENSION, False)]


def test_certificates_are_fresh() -> None:
    (one, one_key), (other, other_key) = make_certificate(KEY, now=NOW), make_certificate(KEY, now=NOW)
    assert one.serial_number != other.serial_number
    assert one.subject != other.subject
    assert one_key.private_numbers() != other_key.private_numbers()


def test_validity() -> None:
    certificate, _ = make_certificate(KEY, now=NOW, lifetime=timedelta(days=14))
    second = timedelta(seconds=1)
    for valid in (NOW, NOW - CLOCK_SKEW, NOW + timedelta(days=14)):
        assert verify_certificate(der_of(certificate), now=valid) == KEY.public_key
    with pytest.raises(HandshakeError, match="not valid before 2016-02-06 04:05:06"):
        verify_certificate(der_of(certificate), now=NOW - CLOCK_SKEW - second)
    with pytest.raises(HandshakeError, match="expired at 2026-02-17 04:05:06"):
        verify_certificate(der_of(certificate), now=NOW + timedelta(days=14) + second)
    long_lived, _ = make_certificate(KEY, now=NOW)
    assert verify_certificate(der_of(long_lived), now=NOW + timedelta(days=36_000)) == KEY.public_key


CertificateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = (size,) if size < 0x80 else (0x81, size) if size < 0x100 else (0x82, size >> 8, size & 0xFF)
    return bytes((tag, *length)) + content


def signed_key(certificate_key: CertificateKey, prefix: bytes = b"libp2p-tls-handshake:") -> bytes:
    """A `SignedKey` of `KEY`, as another implementation would make it."""
    info = certificate_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der(0x30, der(4, KEY.public_key.to_protobuf()) + der(4, KEY.sign(prefix + info)))


def certificate_of(
    key: CertificateKey,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    *,
    signed_by: CertificateKey | None = None,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peer")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    signer = signed_by or key
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


P256 = ec.generate_private_key(ec.SECP256R1())
GOOD = signed_key(P256)


def libp2p(value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(EXTENSION, value)


FOREIGN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.2"), b"\x05\x00")


@pytest.mark.parametrize(
    "certificate_key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
)
def test_certificate_keys_of_other_kinds(certificate_key: CertificateKey) -> None:
    certificate = certificate_of(certificate_key, [(libp2p(signed_key(certificate_key)), False)])
    assert verify_certificate(der_of(certificate), now=NOW) == KEY.public_key


@pytest.mark.parametrize(
    "extensions",
    [
        [(libp2p(GOOD), True)],
        [(FOREIGN, False), (libp2p(GOOD), False)],
        [(x509.BasicConstraints(ca=False, path_length=None), True), (libp2p(GOOD), True)],
        [(x509.SubjectAlternativeName([x509.DNSName("localhost")]), True), (libp2p(GOOD), False)],
    ],
)
def test_extensions_that_are_accepted(extensions: list[tuple[x509.ExtensionType, bool]]) -> None:
    assert verify_certificate(der_of(certificate_of(P256, extensions)), now=NOW) == KEY.public_key


ALIEN = der(0x30, der(4, PrivateKey.generate().public_key.to_protobuf()) + GOOD[40:])  # somebody else's key
RSA_1024 = rsa.generate_private_key(65537, 1024).public_key()
WEAK = RSA_1024.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("extensions", "message"),
    [
        ([], "no libp2p extension"),
        ([(FOREIGN, False)], "no libp2p extension"),
        ([(libp2p(GOOD), False), (FOREIGN, True)], r"unknown critical extension 1\.3\.6\.1\.4\.1\.53594\.1\.2"),
        ([(libp2p(GOOD), False), (x509.PolicyConstraints(0, None), True)], "unknown critical extension"),
        ([(libp2p(signed_key(P256, b"libp2p-tls-handshake")), False)], "did not sign"),
        ([(libp2p(signed_key(ec.generate_private_key(ec.SECP256R1()))), False)], "did not sign"),
        ([(libp2p(ALIEN), False)], "did not sign"),
        ([(libp2p(GOOD[:-1]), False)], "malformed SignedKey"),
        ([(libp2p(GOOD + b"\0"), False)], "1 bytes too many"),
        ([(libp2p(der(0x30, GOOD[2:] + b"\0")), False)], "1 bytes too many"),
        ([(libp2p(b"\x30\x81" + GOOD[1:]), False)], "bad length"),
        ([(libp2p(b"\x30\x80" + GOOD[2:]), False)], "malformed SignedKey"),
        ([(libp2p(b"\x30\xff" + GOOD[2:]), False)], "malformed SignedKey"),
        ([(libp2p(der(0x31, GOOD[2:])), False)], "malformed SignedKey"),
        ([(libp2p(der(0x30, der(3, b"key") + der(4, b"signature"))), False)], "malformed SignedKey"),
        ([(libp2p(b""), False)], "malformed SignedKey"),
        ([(libp2p(der(0x30, der(4, b"\x08\x09\x12\x00") + der(4, b"x"))), False)], "identity key"),
        ([(libp2p(der(0x30, der(4, b"\x08\x00\x12\xa2\x01" + WEAK) + der(4, b"x"))), False)], "identity key"),
    ],
)
def test_extensions_that_are_refused(extensions: list[tuple[x509.ExtensionType, bool]], message: str) -> None:
    with pytest.raises(HandshakeError, match=message):
        verify_certificate(der_of(certificate_of(P256, extensions)), now=NOW)


def test_an_extension_twice_is_refused() -> None:
    other = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.9"), GOOD)
    once = certificate_of(P256, [(libp2p(GOOD), False), (other, False)]).public_bytes(Encoding.DER)
    twice = once.replace(b"\x83\xa2\x5a\x01\x09", b"\x83\xa2\x5a\x01\x01")
    with pytest.raises(HandshakeError, match=r"the extension 1\.3\.6\.1\.4\.1\.53594\.1\.1 twice"):
        verify_certificate(twice, now=NOW)


def test_a_self_signature_that_is_not_valid_is_refused() -> None:
    extensions: list[tuple[x509.ExtensionType, bool]] = [(libp2p(GOOD), False)]
    stranger = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(HandshakeError, match="self-signature"):
        verify_certificate(der_of(certificate_of(P256, extensions, signed_by=stranger)), now=NOW)
    certificate = certificate_of(P256, extensions).public_bytes(Encoding.DER)
    with pytest.raises(HandshakeError, match="self-signature"):
        verify_certificate(certificate.replace(b"peer", b"pear"), now=NOW)


@pytest.mark.parametrize("garbage", [b"", b"certificate", VALID[:-1], VALID + b"\0"])
def test_what_is_no_certificate_is_refused(garbage: bytes) -> None:
    with pytest.raises(HandshakeError, match="malformed"):
        verify_certificate(garbage, now=NOW)


def test_there_must_be_one_certificate() -> None:
    certificate, _ = make_certificate(KEY, now=NOW)
    for chain in ([], [der_of(certificate)] * 2):
        with pytest.raises(HandshakeError, match=f"there must be one, the peer sent {len(chain)}"):
            verify_chain(chain, now=NOW)


def test_a_certificate_that_was_verified_costs_no_signatures_again(monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, _ = make_certificate(KEY, now=NOW)
    encoded = der_of(certificate)
    assert verify_certificate(encoded, now=NOW) == KEY.public_key

    def verify(*_: object) -> bool:
        raise AssertionError("computed again")

    monkeypatch.setattr("libp2p.identity.public_key.PublicKey.verify", verify)
    assert verify_certificate(encoded, now=NOW) == KEY.public_key
    with pytest.raises(HandshakeError, match="not valid before"):  # the time is looked at each time
        verify_certificate(encoded, now=NOW - CLOCK_SKEW - timedelta(days=1))


def test_a_certificate_that_is_refused_is_refused_again() -> None:
    certificate, _ = make_certificate(KEY, now=NOW)
    broken = bytearray(der_of(certificate))
    broken[-1] ^= 1
    for _ in range(2):
        with pytest.raises(HandshakeError):
            verify_certificate(bytes(broken), now=NOW)
