"""The libp2p certificate: the specification's test vectors, own certificates of every key type, every rule broken."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

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

# specs: tls/tls.md, "Test vectors". All have the same P-256 certificate key.
HEAD = "0201020204499602d2300a06082a8648ce3d040302302031123010060355040a13096c69627032702e696f310a300806035504051301313020170d3735303130313133303030305a180f34303936303130313133303030305a302031123010060355040a13096c69627032702e696f310a300806035504051301313059301306072a8648ce3d020106082a8648ce3d030107034200040c901d423c831ca85e27c73c263ba132721bb9d7a84c4f0380b2a6756fd601331c8870234dec878504c174144fa4b14b66a651691606d8173e55bd37e381569ea3"  # noqa: E501
ED25519 = (
    "308201ae30820156a003"
    + HEAD
    + "7c307a3078060a2b0601040183a25a0101046a3068042408011220a77f1d92fedb59dddaea5a1c4abd1ac2fbde7d7b879ed364501809923d7c11b90440d90d2769db992d5e6195dbb08e706b6651e024fda6cfb8846694a435519941cac215a8207792e42849cccc6cd8136c6e4bde92a58c5e08cfd4206eb5fe0bf909300a06082a8648ce3d0403020346003043021f50f6b6c52711a881778718238f650c9fb48943ae6ee6d28427dc6071ae55e702203625f116a7a454db9c56986c82a25682f7248ea1cb764d322ea983ed36a31b77"  # noqa: E501
)
ECDSA = (
    "308201f63082019da003"
    + HEAD
    + "81c23081bf3081bc060a2b0601040183a25a01010481ad3081aa045f0803125b3059301306072a8648ce3d020106082a8648ce3d03010703420004bf30511f909414ebdd3242178fd290f093a551cf75c973155de0bb5a96fedf6cb5d52da7563e794b512f66e60c7f55ba8a3acf3dd72a801980d205e8a1ad29f2044730450220064ea8124774caf8f50e57f436aa62350ce652418c019df5d98a3ac666c9386a022100aa59d704a931b5f72fb9222cb6cc51f954d04a4e2e5450f8805fe8918f71eaae300a06082a8648ce3d04030203470030440220799395b0b6c1e940a7e4484705f610ab51ed376f19ff9d7c16757cfbf61b8d4302206205c03fbb0f95205c779be86581d3e31c01871ad5d1f3435bcf375cb0e5088a"  # noqa: E501
)
SECP256K1 = (
    "308201ba3082015fa003"
    + HEAD
    + "8184308181307f060a2b0601040183a25a01010471306f0425080212210206dc6968726765b820f050263ececf7f71e4955892776c0970542efd689d2382044630440220145e15a991961f0d08cd15425bb95ec93f6ffa03c5a385eedc34ecf464c7a8ab022026b3109b8a3f40ef833169777eb2aa337cfb6282f188de0666d1bcec2a4690dd300a06082a8648ce3d0403020349003046022100e1a217eeef9ec9204b3f774a08b70849646b6a1e6b8b27f93dc00ed58545d9fe022100b00dafa549d0f03547878338c7b15e7502888f6d45db387e5ae6b5d46899cef0"  # noqa: E501
)
INVALID = (
    "308201f73082019da003"
    + HEAD
    + "81c23081bf3081bc060a2b0601040183a25a01010481ad3081aa045f0803125b3059301306072a8648ce3d020106082a8648ce3d03010703420004bf30511f909414ebdd3242178fd290f093a551cf75c973155de0bb5a96fedf6cb5d52da7563e794b512f66e60c7f55ba8a3acf3dd72a801980d205e8a1ad29f204473045022100bb6e03577b7cc7a3cd1558df0da2b117dfdcc0399bc2504ebe7de6f65cade72802206de96e2a5be9b6202adba24ee0362e490641ac45c240db71fe955f2c5cf8df6e300a06082a8648ce3d0403020348003045022100e847f267f43717358f850355bdcabbefb2cfbf8a3c043b203a14788a092fe8db022027c1d04a2d41fd6b57a7e8b3989e470325de4406e52e084e34a3fd56eef0d0df"  # noqa: E501
)


@pytest.mark.parametrize(
    ("vector", "key_type", "peer_id"),
    [
        (ED25519, KeyType.ED25519, "12D3KooWM6CgA9iBFZmcYAHA6A2qvbAxqfkmrYiRQuz3XEsk4Ksv"),
        (ECDSA, KeyType.ECDSA, "QmfXbAwNjJLXfesgztEHe8HwgVDCMMpZ9Eax1HYq6hn9uE"),
        (SECP256K1, KeyType.SECP256K1, "16Uiu2HAkutTMoTzDw1tCvSRtu6YoixJwS46S1ZFxW8hSx9fWHiPs"),
    ],
)
def test_vectors_of_the_specification(vector: str, key_type: KeyType, peer_id: str) -> None:
    key = verify_certificate(bytes.fromhex(vector), now=NOW)
    assert (key.type, str(key.peer_id)) == (key_type, peer_id)


def test_invalid_vector_of_the_specification() -> None:
    with pytest.raises(HandshakeError, match="did not sign the certificate's key"):
        verify_certificate(bytes.fromhex(INVALID), now=NOW)


@pytest.mark.parametrize("key_type", KeyType)
def test_own_certificates_of_every_key_type(key_type: KeyType) -> None:
    key = PrivateKey.generate(key_type)
    certificate, certificate_key = make_certificate(key, now=NOW)
    assert verify_certificate(certificate, now=NOW) == key.public_key
    assert verify_chain([certificate.public_bytes(Encoding.DER)], now=NOW) == key.public_key
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
        assert verify_certificate(certificate, now=valid) == KEY.public_key
    with pytest.raises(HandshakeError, match="not valid before 2026-02-03 03:05:06"):
        verify_certificate(certificate, now=NOW - CLOCK_SKEW - second)
    with pytest.raises(HandshakeError, match="expired at 2026-02-17 04:05:06"):
        verify_certificate(certificate, now=NOW + timedelta(days=14) + second)
    long_lived, _ = make_certificate(KEY, now=NOW)
    assert verify_certificate(long_lived, now=NOW + timedelta(days=36_000)) == KEY.public_key


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
    assert verify_certificate(certificate, now=NOW) == KEY.public_key


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
    assert verify_certificate(certificate_of(P256, extensions), now=NOW) == KEY.public_key


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
        verify_certificate(certificate_of(P256, extensions), now=NOW)


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
        verify_certificate(certificate_of(P256, extensions, signed_by=stranger), now=NOW)
    certificate = certificate_of(P256, extensions).public_bytes(Encoding.DER)
    with pytest.raises(HandshakeError, match="self-signature"):
        verify_certificate(certificate.replace(b"peer", b"pear"), now=NOW)


@pytest.mark.parametrize("garbage", [b"", b"certificate", bytes.fromhex(ED25519)[:-1], bytes.fromhex(ED25519) + b"\0"])
def test_what_is_no_certificate_is_refused(garbage: bytes) -> None:
    with pytest.raises(HandshakeError, match="malformed"):
        verify_certificate(garbage, now=NOW)


def test_there_must_be_one_certificate() -> None:
    certificate, _ = make_certificate(KEY, now=NOW)
    for chain in ([], [certificate, certificate]):
        with pytest.raises(HandshakeError, match=f"there must be one, the peer sent {len(chain)}"):
            verify_chain(chain, now=NOW)
