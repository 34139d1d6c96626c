"""IPNS records: the specification's vectors, making, checking, comparing, and DAG-CBOR below them."""

import base64
import json
from pathlib import Path

import pytest

from libp2p.errors import InvalidRecord
from libp2p.identity import KeyType, PrivateKey, PublicKey
from libp2p.records.ipns import MAX_SIZE, IpnsRecord, dag_cbor, parse_name, routing_key
from libp2p.records.ipns.ipns_pb2 import IpnsEntry
from libp2p.records.ipns.record import format_time, parse_time

NOW = 1_750_000_000.0
VECTORS = json.loads((Path(__file__).parent / "ipns_vectors.json").read_text())  # of ipfs/gateway-conformance
VALID = {
    "v1-v2": b"/ipfs/bafkqaddwgevxmmraojswg33smq",
    "v1-v2-broken-signature-v1": b"/ipfs/bafkqahtwgevxmmrao5uxi2bamjzg623fnyqhg2lhnzqxi5lsmuqhmmi",
    "v2": b"/ipfs/bafkqadtwgiww63tmpeqhezldn5zgi",
}
ED25519, RSA = PrivateKey.generate(), PrivateKey.generate(KeyType.RSA)


def test_all_vectors_are_there() -> None:
    assert len(VECTORS) == 6


@pytest.mark.parametrize("vector", VECTORS)
def test_vector(vector: str) -> None:
    name, kind = vector.split("_")
    record = base64.b64decode(VECTORS[vector])
    if kind in VALID:
        assert IpnsRecord.open(record, parse_name(name), NOW).value == VALID[kind]
    else:
        with pytest.raises(InvalidRecord):
            IpnsRecord.open(record, parse_name(name), NOW)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "key", [ED25519, RSA, PrivateKey.generate(KeyType.SECP256K1), PrivateKey.generate(KeyType.ECDSA)]
)
def test_made_and_read(key: PrivateKey, legacy: bool) -> None:
    made = IpnsRecord.make(key, "/ipfs/bafy", sequence=7, now=NOW, lifetime=60, ttl=5, legacy=legacy)
    read = IpnsRecord.open(made.encoded, key.peer_id, NOW)
    assert read == made
    assert (read.value, read.sequence, read.ttl) == (b"/ipfs/bafy", 7, 5 * 10**9)
    with pytest.raises(InvalidRecord, match="expired"):
        IpnsRecord.open(made.encoded, key.peer_id, NOW + 60)


def test_the_key_stands_in_the_record_where_the_name_does_not_embed_it() -> None:
    for key, embedded in ((ED25519, True), (RSA, False)):
        entry = IpnsEntry.FromString(IpnsRecord.make(key, "/x", sequence=0, now=NOW).encoded)
        assert bool(entry.public_key) is not embedded


def test_another_name_is_refused() -> None:
    other = PrivateKey.generate()
    for key in (ED25519, RSA):
        with pytest.raises(InvalidRecord):
            IpnsRecord.open(IpnsRecord.make(key, "/x", sequence=0, now=NOW).encoded, other.peer_id, NOW)


def test_old_readers_believe_the_legacy_signature() -> None:
    vector = next(name for name in VECTORS if name.endswith("_v1-v2"))
    theirs = (parse_name(vector.split("_")[0]), base64.b64decode(VECTORS[vector]))
    ours = IpnsRecord.make(RSA, "/x", sequence=0, now=NOW)
    for name, record in (theirs, (ours.name, ours.encoded)):
        entry = IpnsEntry.FromString(record)
        key = PublicKey.from_protobuf(entry.public_key) if entry.public_key else name.extract_public_key()
        assert key is not None
        assert key.verify(entry.value + entry.validity + b"EOL", entry.signature_v1)


@pytest.mark.parametrize("field", ["value", "validity", "validity_type", "sequence", "ttl"])
def test_legacy_copies_must_say_the_same(field: str) -> None:
    entry = IpnsEntry.FromString(IpnsRecord.make(ED25519, "/x", sequence=3, now=NOW).encoded)
    setattr(entry, field, b"/y" if field in ("value", "validity") else 99)
    with pytest.raises(InvalidRecord, match="V1 copy"):
        IpnsRecord.open(entry.SerializeToString(), ED25519.peer_id, NOW)


@pytest.mark.parametrize("field", ["signature_v2", "data"])
def test_a_record_without_what_is_signed(field: str) -> None:
    entry = IpnsEntry.FromString(IpnsRecord.make(ED25519, "/x", sequence=3, now=NOW).encoded)
    entry.ClearField(field)
    with pytest.raises(InvalidRecord, match="V2"):
        IpnsRecord.open(entry.SerializeToString(), ED25519.peer_id, NOW)


def test_order_is_by_sequence_then_end_then_bytes() -> None:
    records = [
        IpnsRecord.make(ED25519, "/x", sequence=1, now=NOW, lifetime=60),
        IpnsRecord.make(ED25519, "/x", sequence=1, now=NOW, lifetime=90),
        IpnsRecord.make(ED25519, "/a", sequence=2, now=NOW, lifetime=10),
    ]
    assert sorted([records[2], records[0], records[1]], key=lambda record: record.order) == records


def test_too_large() -> None:
    with pytest.raises(InvalidRecord, match="limit"):
        IpnsRecord.make(ED25519, "/" + "x" * MAX_SIZE, sequence=0, now=NOW)
    with pytest.raises(InvalidRecord, match="limit"):
        IpnsRecord.open(bytes(MAX_SIZE + 1), ED25519.peer_id, NOW)


def test_names_and_keys() -> None:
    name = ED25519.peer_id
    for text in (str(name), name.to_cid(), name.to_cid("base36"), f"/ipns/{name.to_cid('base36')}"):
        assert parse_name(text) == name
    assert routing_key(name) == b"/ipns/" + name.to_bytes()


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        (b"1970-01-01T00:00:00Z", 0),
        (b"1970-01-01T00:00:00.000000001Z", 1),
        (b"2123-08-14T12:55:14.735789Z", 4847691314735789000),
        (b"1970-01-01T02:00:00.5+02:00", 500_000_000),
        (b"1969-12-31T23:59:59.75Z", -250_000_000),
    ],
)
def test_times(text: bytes, nanoseconds: int) -> None:
    assert parse_time(text) == nanoseconds
    assert parse_time(format_time(nanoseconds)) == nanoseconds


@pytest.mark.parametrize("text", [b"", b"2123", b"2123-13-01T00:00:00Z", b"2123-01-01T00:00:00", b"x" * 99, b"\xff"])
def test_what_is_no_time(text: bytes) -> None:
    with pytest.raises(InvalidRecord, match="RFC 3339"):
        parse_time(text)


def test_cbor_golden_bytes() -> None:
    encoded = dag_cbor.encode_map({"TTL": 5, "Value": b"/x", "Sequence": 300})
    assert encoded.hex() == "a36354544c056556616c7565422f786853657175656e636519012c"
    assert dag_cbor.decode(encoded) == {"TTL": 5, "Value": b"/x", "Sequence": 300}


def test_cbor_reads_whatever_others_add() -> None:
    data = bytes.fromhex("a2615f8320f5f6616482fb3ff8000000000000d82a4300aabb")
    assert dag_cbor.decode(data) == {"_": [-1, True, None], "d": [1.5, b"\0\xaa\xbb"]}


@pytest.mark.parametrize(
    "data",
    [
        "",
        "1801",  # 1 in two bytes
        "190017",
        "5f4101ff",  # indefinite length
        "9fff",
        "41",  # cut
        "a20000",  # a key that is no text
        "a2616100616100",  # a key twice
        "a2616200616100",  # keys in disorder
        "a262616100616200",  # the longer key first
        "61ff",  # no UTF-8
        "fb7ff8000000000000",  # NaN
        "f97e00",  # a short float
        "c100",  # another tag
        "d82a4101",  # a link without its zero
        "f7",  # undefined
        "0000",  # more than one value
        "9bffffffffffffffff",  # longer than the data
        "81" * 40 + "00",  # too deep
    ],
)
def test_cbor_refuses_what_has_another_encoding(data: str) -> None:
    with pytest.raises(InvalidRecord, match="DAG-CBOR"):
        dag_cbor.decode(bytes.fromhex(data))
