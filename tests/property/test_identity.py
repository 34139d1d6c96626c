from hypothesis import example, given, settings
from hypothesis import strategies as st

from libp2p import multibase
from libp2p.errors import InvalidInput, InvalidKey, InvalidPeerId
from libp2p.identity import KeyType, PeerId, PrivateKey, PublicKey
from libp2p.identity.pem import decode_pem
from libp2p.identity.wire import encode_key

KEYS = {key_type: PrivateKey.generate(key_type) for key_type in KeyType}
key_types = st.sampled_from(KeyType)


@st.composite
def damaged(draw, valid):
    """A valid encoding with a few bytes changed, dropped or added."""
    data = bytearray(draw(valid))
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(0, len(data)))
        data[position : position + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


public_messages = key_types.map(lambda key_type: KEYS[key_type].public_key.to_protobuf())
private_messages = key_types.map(lambda key_type: KEYS[key_type].to_protobuf())


@given(st.binary(max_size=200) | damaged(public_messages) | st.builds(encode_key, key_types, st.binary(max_size=120)))
def test_public_key_parser(message):
    try:
        key = PublicKey.from_protobuf(message)
    except InvalidKey:
        return
    again = PublicKey.from_protobuf(key.to_protobuf())
    assert again == key
    assert again.to_protobuf() == key.to_protobuf()
    assert PeerId.from_public_key(again) == key.peer_id


@settings(deadline=None)  # OpenSSL looks long at a large RSA key
@given(st.binary(max_size=200) | damaged(private_messages) | st.builds(encode_key, key_types, st.binary(max_size=120)))
def test_private_key_parser(message):
    try:
        key = PrivateKey.from_protobuf(message)
    except InvalidKey:
        return
    assert PrivateKey.from_protobuf(key.to_protobuf()) == key


@given(st.binary(max_size=200).map(lambda body: b"-----BEGIN PRIVATE KEY-----\n" + body))
def test_pem_parser(data):
    try:
        decode_pem(data)
    except InvalidKey:
        return


@given(key_types, st.binary(max_size=200))
def test_random_signatures_are_wrong_and_nothing_else(key_type, signature):
    assert KEYS[key_type].public_key.verify(b"data", signature) is False


@given(key_types, st.binary(max_size=300))
def test_own_signatures_are_right(key_type, data):
    assert KEYS[key_type].public_key.verify(data, KEYS[key_type].sign(data))


multihashes = st.binary(min_size=1, max_size=42).map(lambda key: bytes((0, len(key))) + key) | st.binary(
    min_size=32, max_size=32
).map(lambda digest: b"\x12\x20" + digest)


@given(multihashes, st.sampled_from(["base16", "base32", "base36", "base58btc", "base64", "base64url"]))
def test_peer_id_round_trip(multihash, base):
    peer = PeerId.from_bytes(multihash)
    assert peer.to_bytes() == multihash
    assert PeerId.from_string(peer.to_cid(base)) == peer
    # An embedded key begins with 0x00, so base58 text with "1"; a hash with "Qm".
    assert str(peer).startswith(("1", "Qm"))
    assert PeerId.from_string(str(peer)) == peer


@given(st.binary(max_size=60) | damaged(multihashes))
def test_peer_id_bytes_parser(data):
    try:
        peer = PeerId.from_bytes(data)
    except InvalidPeerId:
        return
    try:
        key = peer.extract_public_key()
    except InvalidKey:
        return
    assert key is None or peer.matches(key)


@given(st.text(max_size=140) | st.text("bfkzQm1uBFKMU", max_size=70) | multihashes.map(multibase.b58encode))
@example("Qm")
@example("1")
def test_peer_id_text_parser(text):
    try:
        peer = PeerId.from_string(text)
    except InvalidPeerId:
        return
    assert PeerId.from_string(str(peer)) == peer


@given(st.text(max_size=60) | st.builds(str.__add__, st.sampled_from("fFbBkKzmMuU"), st.text("a01zAZ=-_+/ \n\u212a")))
def test_multibase_parser(text):
    try:
        data = multibase.decode(text)
    except InvalidInput:
        return
    assert any(multibase.encode(base, data).lower() == text.lower() for base in BASES)


BASES = ["base16", "base32", "base36", "base58btc", "base64", "base64pad", "base64url", "base64urlpad"]


@given(st.binary(max_size=100), st.sampled_from(BASES))
def test_multibase_round_trip(data, base):
    assert multibase.decode(multibase.encode(base, data)) == data
    assert multibase.b58decode(multibase.b58encode(data)) == data
