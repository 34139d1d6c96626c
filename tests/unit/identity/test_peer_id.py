import copy
import json
import pickle
from pathlib import Path

import pytest

from libp2p import multibase
from libp2p.errors import InvalidKey, InvalidPeerId
from libp2p.identity import KeyType, PeerId, PrivateKey, PublicKey

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())

# The examples of the peer-ids spec.
CID_SHA256 = "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe"
SHA256 = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
IDENTITY = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"


def test_spec_examples():
    assert PeerId.from_string(CID_SHA256) == PeerId.from_string(SHA256)
    assert str(PeerId.from_string(CID_SHA256)) == SHA256
    assert PeerId.from_string(SHA256).to_cid() == CID_SHA256
    assert PeerId.from_string(SHA256).extract_public_key() is None
    identity = PeerId.from_string(IDENTITY)
    assert str(identity) == IDENTITY
    key = identity.extract_public_key()
    assert key is not None
    assert key.type == KeyType.ED25519
    assert key.peer_id == identity
    assert identity.matches(key)
    assert not PeerId.from_string(SHA256).matches(key)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("ed25519", "12D3KooW"), ("secp256k1", "16Uiu2HA"), ("ecdsa", "Qm"), ("rsa", "Qm")],
)
def test_keys_of_up_to_42_bytes_are_embedded(name, prefix):
    message = bytes.fromhex(VECTORS[name]["public"])
    key = PublicKey.from_protobuf(message)
    peer = PeerId.from_public_key(key)
    assert peer == key.peer_id
    assert str(peer).startswith(prefix)
    if len(message) <= 42:
        assert peer.to_bytes() == bytes((0, len(message))) + message
        assert peer.extract_public_key() == key
    else:
        assert peer.to_bytes()[:2] == b"\x12\x20"
        assert len(peer.to_bytes()) == 34
        assert peer.extract_public_key() is None


@pytest.mark.parametrize("base", ["base16", "base32", "base32upper", "base36", "base58btc", "base64url"])
@pytest.mark.parametrize("text", [SHA256, IDENTITY])
def test_cid_in_every_base(base, text):
    peer = PeerId.from_string(text)
    assert PeerId.from_string(peer.to_cid(base)) == peer


def test_value():
    peer, other = PeerId.from_string(SHA256), PeerId.from_string(IDENTITY)
    assert other < peer  # 0x00 < 0x12
    assert sorted([peer, other]) == [other, peer]
    assert {peer: 1}[PeerId.from_string(CID_SHA256)] == 1
    assert peer != SHA256
    assert repr(peer) == f"PeerId({SHA256!r})"
    assert other.short == "12*AJU5SA"
    assert str(other) is str(other)
    assert copy.copy(peer) == pickle.loads(pickle.dumps(peer)) == PeerId.from_bytes(bytearray(peer.to_bytes())) == peer
    with pytest.raises(AttributeError):
        peer.colour = "red"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too few"),
        (b"\x00\x00", "too few"),
        (b"\x12\x20" + bytes(31), "announces 32 bytes and holds 31"),
        (b"\x12\x20" + bytes(33), "announces 32 bytes and holds 33"),
        (b"\x12\x14" + bytes(20), "has 32 bytes"),
        (b"\x11\x14" + bytes(20), "not 0x11"),
        (b"\x00\x2b" + bytes(43), "at most 42"),
        (bytes.fromhex("1620") + bytes(32), "not 0x16"),
    ],
)
def test_invalid_bytes(data, reason):
    with pytest.raises(InvalidPeerId, match=reason):
        PeerId.from_bytes(data)


def cid(prefix):
    return multibase.encode("base32", bytes.fromhex(prefix) + PeerId.from_string(SHA256).to_bytes())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "prefix"),
        ("Qm", "too few|holds|not 0x"),
        (SHA256[:-1], "holds|not 0x"),
        (SHA256.replace("Y", "0"), "no base58 digit"),
        ("2" + SHA256, "no known multibase prefix"),
        (" " + SHA256, "no known multibase prefix"),
        ("1" * 60, "holds"),
        ("1" * 200, "too many"),
        ("b" + "a" * 10_000, "too many"),
        (CID_SHA256[:-1] + "f", "not the one text"),
        (cid("0170"), "libp2p-key"),
        (cid("0055"), "CIDv1"),
        (cid("0272"), "CIDv1"),
        ("bafza", "malformed|too few"),
    ],
)
def test_invalid_text(text, reason):
    with pytest.raises(InvalidPeerId, match=reason):
        PeerId.from_string(text)


def test_embedded_key_must_be_one():
    with pytest.raises(InvalidKey):
        PeerId.from_bytes(b"\x00\x03abc").extract_public_key()
    message = PrivateKey.generate().public_key.to_protobuf() + b"\x18\x07"
    with pytest.raises(InvalidKey, match="canonical"):
        PeerId.from_bytes(bytes((0, len(message))) + message).extract_public_key()
