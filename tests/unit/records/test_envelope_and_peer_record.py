import pytest

from libp2p.errors import InvalidRecord
from libp2p.identity import KeyType, PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.records import MAX_ENVELOPE_SIZE, PEER_RECORD_DOMAIN, PEER_RECORD_TYPE, Envelope, PeerRecord
from libp2p.records.peer_record import MAX_ADDRESSES
from libp2p.records.records_pb2 import Envelope as EnvelopeMessage
from libp2p.records.records_pb2 import PeerRecord as PeerRecordMessage

KEY = PrivateKey.from_protobuf(
    bytes.fromhex(
        "080112407e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d"
        "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e"
    )
)
OTHER = PrivateKey.generate()
ADDRS = (Multiaddr("/ip4/192.0.2.1/tcp/4001"), Multiaddr("/ip6/2001:db8::1/udp/4001/quic-v1"))


@pytest.mark.parametrize("key_type", KeyType)
def test_envelope_round_trip(key_type):
    key = PrivateKey.generate(key_type)
    envelope = Envelope.seal(key, "some-domain", b"\x01\x02", b"payload")
    opened = Envelope.open(envelope.to_bytes(), "some-domain", b"\x01\x02")
    assert opened == envelope
    assert opened.public_key == key.public_key
    assert opened.payload == b"payload"


def test_envelope_bytes():
    # Worked out by hand from RFC 0002: nothing of ours makes the expected bytes.
    signature = KEY.sign(b"\x06domain" + b"\x02\x03\x01" + b"\x07payload")
    expected = b"\x0a\x24" + KEY.public_key.to_protobuf() + b"\x12\x02\x03\x01" + b"\x1a\x07payload"
    expected += b"\x2a\x40" + signature
    assert Envelope.seal(KEY, "domain", b"\x03\x01", b"payload").to_bytes() == expected


def test_long_fields_have_varint_lengths():
    payload = bytes(300)
    signature = KEY.sign(b"\x01d" + b"\x01t" + b"\xac\x02" + payload)
    assert Envelope.seal(KEY, "d", b"t", payload).signature == signature


def forged(**changes):
    message = EnvelopeMessage()
    message.ParseFromString(Envelope.seal(KEY, "domain", b"t", b"payload").to_bytes())
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (forged(payload=b"another").SerializeToString(), "not valid for the domain 'domain'"),
        (forged(signature=b"").SerializeToString(), "not valid"),
        (forged(public_key=OTHER.public_key.to_protobuf()).SerializeToString(), "not valid"),
        (forged(payload_type=b"u").SerializeToString(), "type 75, not 74"),
        (Envelope.seal(KEY, "another-domain", b"t", b"payload").to_bytes(), "not valid for the domain"),
        (forged(public_key=b"\x08\x02\x12\x02ab").SerializeToString(), "public key"),
        (b"\x12\x01t\x1a\x07payload", "public key"),
        (b"\x0a\x02\x08\x01\x12\x01t", "public key"),
        (b"", "type none"),
        (b"\xff", "malformed"),
        (bytes(MAX_ENVELOPE_SIZE + 1), "the limit is"),
    ],
)
def test_envelopes_that_are_refused(data, reason):
    with pytest.raises(InvalidRecord, match=reason):
        Envelope.open(data, "domain", b"t")


def test_an_envelope_that_comes_again_is_not_verified_again(monkeypatch):
    monkeypatch.setattr("libp2p.records.envelope._verified", verified := {})
    monkeypatch.setattr("libp2p.records.envelope._MAX_REMEMBERED", 3)
    data = Envelope.seal(KEY, "domain", b"t", b"payload").to_bytes()
    first = Envelope.open(data, "domain", b"t")
    with monkeypatch.context() as patch:
        patch.setattr("libp2p.identity.PublicKey.verify", lambda *_: False)
        assert Envelope.open(data, "domain", b"t") == first
        with pytest.raises(InvalidRecord, match="not valid"):  # the same bytes for another purpose
            Envelope.open(data, "domaim", b"t")
        with pytest.raises(InvalidRecord, match="not valid"):
            Envelope.open(forged(payload=b"another").SerializeToString(), "domain", b"t")
        with pytest.raises(InvalidRecord, match="not valid"):  # what was refused is not remembered either
            Envelope.open(forged(payload=b"another").SerializeToString(), "domain", b"t")
    for number in range(3):
        Envelope.open(Envelope.seal(KEY, "domain", b"t", bytes(number)).to_bytes(), "domain", b"t")
    assert len(verified) == 3
    monkeypatch.setattr("libp2p.identity.PublicKey.verify", lambda *_: False)
    with pytest.raises(InvalidRecord, match="not valid"):  # forgotten
        Envelope.open(data, "domain", b"t")


def test_sealing_limits():
    with pytest.raises(InvalidRecord, match="domain"):
        Envelope.seal(KEY, "", b"t", b"payload")
    with pytest.raises(InvalidRecord, match="the limit is"):
        Envelope.seal(KEY, "domain", b"t", bytes(MAX_ENVELOPE_SIZE))


def test_names_on_the_wire():
    assert PEER_RECORD_DOMAIN == "libp2p-peer-record"
    assert PEER_RECORD_TYPE.hex() == "0301"


def test_peer_record_round_trip():
    record = PeerRecord(KEY.peer_id, 2**64 - 1, ADDRS)
    data = record.seal(KEY).to_bytes()
    assert PeerRecord.open(data) == record
    assert PeerRecord.open(data, expected_peer=KEY.peer_id) == record
    first = ADDRS[0].to_bytes()
    expected = b"\x0a\x26" + KEY.peer_id.to_bytes() + b"\x10\x07" + b"\x1a\x0a\x0a\x08" + first
    assert PeerRecord(KEY.peer_id, 7, ADDRS[:1]).to_bytes() == expected


def test_a_record_speaks_only_for_its_signer():
    stolen = Envelope.seal(
        OTHER, PEER_RECORD_DOMAIN, PEER_RECORD_TYPE, PeerRecord(KEY.peer_id, 1, ADDRS).to_bytes()
    ).to_bytes()
    with pytest.raises(InvalidRecord, match=f"{OTHER.peer_id} signed a peer record of {KEY.peer_id}"):
        PeerRecord.open(stolen)
    with pytest.raises(InvalidRecord, match="cannot sign"):
        PeerRecord(KEY.peer_id, 1, ADDRS).seal(OTHER)
    with pytest.raises(InvalidRecord, match=f"expected one of {OTHER.peer_id}"):
        PeerRecord.open(PeerRecord(KEY.peer_id, 1, ADDRS).seal(KEY).to_bytes(), expected_peer=OTHER.peer_id)


def sealed(payload):
    return Envelope.seal(KEY, PEER_RECORD_DOMAIN, PEER_RECORD_TYPE, payload).to_bytes()


def test_addresses_that_cannot_be_read_are_skipped():
    message = PeerRecordMessage(peer_id=KEY.peer_id.to_bytes(), seq=1)
    for encoded in (b"", b"\xff\xff", ADDRS[0].to_bytes(), b"\x04\x7f", b"\xac\x3e", ADDRS[1].to_bytes()):
        message.addresses.add(multiaddr=encoded)
    assert PeerRecord.open(sealed(message.SerializeToString())).addrs == ADDRS


def test_empty_addresses_are_left_out():
    record = PeerRecord(KEY.peer_id, 1, (ADDRS[0][:0], *ADDRS))
    message = PeerRecordMessage.FromString(record.to_bytes())
    assert [info.multiaddr for info in message.addresses] == [addr.to_bytes() for addr in ADDRS]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff", "malformed"),
        (b"", "malformed peer record: 0 bytes"),
        (b"\x0a\x02\x12\x20", "malformed"),
        (PeerRecord(KEY.peer_id, 1, ()).to_bytes() + b"\x1a\x00" * (MAX_ADDRESSES + 1), "the limit is 256"),
    ],
)
def test_malformed_peer_records(payload, reason):
    with pytest.raises(InvalidRecord, match=reason):
        PeerRecord.open(sealed(payload))


@pytest.mark.parametrize(("seq", "addrs"), [(-1, ()), (2**64, ()), (0, ADDRS[:1] * (MAX_ADDRESSES + 1))])
def test_record_limits(seq, addrs):
    with pytest.raises(InvalidRecord):
        PeerRecord(KEY.peer_id, seq, addrs)
