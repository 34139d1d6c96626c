import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from libp2p.errors import InvalidKey
from libp2p.identity import KeyType, PrivateKey, PublicKey
from libp2p.identity.secp256k1 import ORDER
from libp2p.identity.wire import MAX_PRIVATE_KEY_SIZE, MAX_PUBLIC_KEY_SIZE, encode_key

VECTORS = {
    name: {kind: bytes.fromhex(text) for kind, text in pair.items()}
    for name, pair in json.loads(Path(__file__).with_name("vectors.json").read_text()).items()
}
"""The test vectors of the peer-ids spec."""

ED25519 = VECTORS["ed25519"]
SECP256K1 = VECTORS["secp256k1"]


@pytest.fixture(scope="module")
def keys():
    return {key_type: PrivateKey.generate(key_type) for key_type in KeyType}


@pytest.mark.parametrize("name", VECTORS)
def test_spec_vectors(name):
    private = PrivateKey.from_protobuf(VECTORS[name]["private"])
    assert private.type == KeyType[name.upper()]
    assert private.to_protobuf() == VECTORS[name]["private"]
    assert private.public_key.to_protobuf() == VECTORS[name]["public"]
    assert private.public_key == PublicKey.from_protobuf(VECTORS[name]["public"])
    assert private.public_key.verify(b"data", private.sign(b"data"))


@pytest.mark.parametrize("key_type", KeyType)
def test_sign_and_verify(keys, key_type):
    key = keys[key_type]
    signature = key.sign(b"a message")
    assert key.public_key.verify(b"a message", signature)
    assert not key.public_key.verify(b"another message", signature)
    assert not keys[KeyType((key_type + 1) % 4)].public_key.verify(b"a message", signature)
    for broken in (b"", signature[:-1], signature + b"\0", bytes(len(signature)), b"\x30\x00"):
        assert not key.public_key.verify(b"a message", broken)


@pytest.mark.parametrize("key_type", KeyType)
def test_round_trip_equality_and_hash(keys, key_type):
    key = keys[key_type]
    again = PrivateKey.from_protobuf(key.to_protobuf())
    assert again == key
    assert len({again, key}) == 1
    assert PrivateKey(key_type, key.raw) == key
    public = PublicKey.from_protobuf(key.public_key.to_protobuf())
    assert public == key.public_key == PublicKey(key_type, public.raw)
    assert len({public, key.public_key}) == 1
    other = keys[KeyType((key_type + 1) % 4)]
    assert key != other
    assert public != other.public_key
    assert public != key


@pytest.mark.parametrize("key_type", KeyType)
def test_repr_hides_the_secret(keys, key_type):
    key = keys[key_type]
    assert repr(key) == f"<PrivateKey {key_type.name} of {key.peer_id}>"
    assert str(key) == repr(key)


@pytest.mark.parametrize(
    "message",
    [
        b"\x12\x20" + ED25519["public"][4:] + b"\x08\x01",  # fields in another order
        b"\x08\x81\x00\x12\x20" + ED25519["public"][4:],  # a varint longer than it must be
        b"\x08\x01\x12\xa0\x00" + ED25519["public"][4:],
        ED25519["public"] + b"\x18\x07",  # an unknown field
    ],
)
def test_public_keys_in_other_than_canonical_form_are_the_same_key(message):
    key = PublicKey.from_protobuf(message)
    assert key.to_protobuf() == ED25519["public"]
    assert key.peer_id == PublicKey.from_protobuf(ED25519["public"]).peer_id


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "without a known type"),
        (b"\x08\x01", "without data|without a known type"),
        (b"\x12\x20" + bytes(32), "without a known type"),
        (b"\x08\x04\x12\x20" + bytes(32), "without a known type"),
        (b"\x08\x01\x12\x21" + bytes(32), "malformed public key message"),
        (b"\x08\x01\x12\x1f" + bytes(31), "32 bytes, not 31"),
        (b"\x08\x02\x12\x21\x05" + bytes(32), "malformed secp256k1"),
        (b"\x08\x02\x12\x21\x02" + b"\xff" * 32, "malformed secp256k1"),
        (b"\x08\x00\x12\x02\x30\x00", "malformed RSA"),
        (b"\x08\x03\x12\x02\x30\x00", "malformed ECDSA"),
        (b"\x08\x00" + VECTORS["ecdsa"]["public"][2:], "labelled RSA"),
        (b"\x08\x03" + VECTORS["rsa"]["public"][2:], "not an ECDSA public key"),
        (bytes(MAX_PUBLIC_KEY_SIZE + 1), "the limit is"),
    ],
)
def test_malformed_public_keys(message, reason):
    with pytest.raises(InvalidKey, match=reason):
        PublicKey.from_protobuf(message)


SEED, PUBLIC = ED25519["private"][4:36], ED25519["private"][36:]


def test_ed25519_private_key_with_the_public_key_twice():
    key = PrivateKey(KeyType.ED25519, SEED + PUBLIC + PUBLIC)
    assert key.to_protobuf() == ED25519["private"]


def test_ed25519_private_key_without_the_public_key():
    key = PrivateKey(KeyType.ED25519, SEED)
    assert key.to_protobuf() == ED25519["private"]


@pytest.mark.parametrize(
    ("key_type", "raw", "reason"),
    [
        (KeyType.ED25519, SEED + PUBLIC[:31], "64 bytes"),
        (KeyType.ED25519, SEED + bytes(32), "does not belong"),
        (KeyType.ED25519, SEED + PUBLIC + bytes(32), "does not belong"),
        (KeyType.ED25519, SEED + bytes(32) + PUBLIC, "does not belong"),
        (KeyType.SECP256K1, bytes(32), "above zero"),
        (KeyType.SECP256K1, ORDER.to_bytes(32, "big"), "below the curve"),
        (KeyType.SECP256K1, bytes(31) + b"\1\1", "32 bytes"),
        (KeyType.ECDSA, b"\x30\x00", "malformed"),
        (KeyType.ECDSA, VECTORS["rsa"]["private"][5:], "not an ECDSA"),
        (KeyType.RSA, b"", "malformed"),
        (KeyType.RSA, VECTORS["ecdsa"]["private"][4:], "another type"),
    ],
)
def test_malformed_private_keys(key_type, raw, reason):
    with pytest.raises(InvalidKey, match=reason):
        PrivateKey(key_type, raw)
    with pytest.raises(InvalidKey, match=reason):
        PrivateKey.from_protobuf(encode_key(key_type, raw))


def test_private_key_message_has_a_limit():
    with pytest.raises(InvalidKey, match="the limit is"):
        PrivateKey.from_protobuf(bytes(MAX_PRIVATE_KEY_SIZE + 1))


def rsa_public_der(modulus, exponent):
    # `cryptography` builds the object unchecked; so sizes that take minutes to generate can be tested.
    numbers = rsa.RSAPublicNumbers(exponent, modulus)
    return numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("bits", "exponent", "refusal"),
    [
        (1024, 65537, "2048 to 8192 bits, not 1024"),
        (2047, 65537, "not 2047"),
        (2048, 65537, None),
        (8192, 65537, None),
        (8193, 65537, "not 8193"),
        (16384, 65537, "not 16384|the limit is"),
        (2048, (1 << 31) - 1, None),
        (2048, (1 << 31) + 1, "exponent"),
    ],
)
def test_rsa_limits(bits, exponent, refusal):
    message = encode_key(KeyType.RSA, rsa_public_der((1 << (bits - 1)) | 1, exponent))
    if refusal is None:
        assert PublicKey.from_protobuf(message).to_protobuf() == message
    else:
        with pytest.raises(InvalidKey, match=refusal):
            PublicKey.from_protobuf(message)


def test_rsa_private_keys_of_other_sizes_are_refused():
    small = rsa.generate_private_key(65537, 1024)
    with pytest.raises(InvalidKey, match="not 1024"):
        PrivateKey(KeyType.RSA, PrivateKey.from_handle(KeyType.RSA, small).raw)
    for bits in (2047, 8193):
        with pytest.raises(InvalidKey, match=f"not {bits}"):
            PrivateKey.generate(KeyType.RSA, rsa_bits=bits)


def test_secp256k1_point_is_compressed():
    key = PublicKey.from_protobuf(SECP256K1["public"])
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), key.raw)
    whole = point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert PublicKey(KeyType.SECP256K1, whole) == key
    assert PublicKey(KeyType.SECP256K1, whole).peer_id == key.peer_id


def test_secp256k1_signatures_have_a_low_s():
    key = PrivateKey.from_protobuf(SECP256K1["private"])
    for number in range(20):
        data = bytes((number,))
        signature = key.sign(data)
        r, s = decode_dss_signature(signature)
        assert s <= ORDER // 2
        assert key.public_key.verify(data, signature)
        assert not key.public_key.verify(data, encode_dss_signature(r, ORDER - s))


@pytest.mark.parametrize("curve", [ec.SECP224R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_ecdsa_on_the_other_nist_curves(curve):
    key = PrivateKey(KeyType.ECDSA, PrivateKey.from_handle(KeyType.ECDSA, ec.generate_private_key(curve)).raw)
    public = PublicKey.from_protobuf(key.public_key.to_protobuf())
    assert public.verify(b"data", key.sign(b"data"))


def test_ecdsa_on_other_curves_is_refused():
    foreign = PrivateKey.from_handle(KeyType.ECDSA, ec.generate_private_key(ec.SECP256K1()))
    with pytest.raises(InvalidKey, match="NIST"):
        PrivateKey(KeyType.ECDSA, foreign.raw)
    with pytest.raises(InvalidKey, match="NIST"):
        PublicKey(KeyType.ECDSA, foreign.public_key.raw)


def test_der_that_is_not_canonical_is_refused():
    header, point = VECTORS["ecdsa"]["public"][4:30], VECTORS["ecdsa"]["public"][31:]
    compressed = bytes((2 + (point[-1] & 1),)) + point[:32]
    der = bytearray(header + compressed)
    der[1], der[24] = len(der) - 2, len(compressed) + 1
    with pytest.raises(InvalidKey, match="canonical"):
        PublicKey(KeyType.ECDSA, bytes(der))


@pytest.mark.parametrize("key_type", [KeyType.ECDSA, KeyType.RSA])
def test_a_key_for_which_openssl_has_no_words(key_type):
    """An X448 key of another size, which fuzzing found: `cryptography` raises `InternalError`."""
    oid = bytes.fromhex("3005 0603 2b656f")
    public = b"\x30\x2a" + oid + b"\x03\x21\x00" + bytes(range(32))
    private = b"\x30\x2e\x02\x01\x00" + oid + b"\x04\x22\x04\x20" + bytes(range(32))
    with pytest.raises(InvalidKey):
        PublicKey(key_type, public)
    with pytest.raises(InvalidKey):
        PrivateKey(key_type, private)
