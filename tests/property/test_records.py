import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libp2p.errors import InvalidRecord
from libp2p.identity import KeyType, PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.records import PEER_RECORD_DOMAIN, PEER_RECORD_TYPE, Envelope, PeerRecord

KEYS = [PrivateKey.generate(key_type) for key_type in (KeyType.ED25519, KeyType.SECP256K1, KeyType.ECDSA)]
KEY = KEYS[0]
addresses = st.builds(
    lambda host, port, tail: Multiaddr(f"/ip4/{host}{tail.format(port)}"),
    st.ip_addresses(v=4),
    st.integers(0, 65535),
    st.sampled_from(["/tcp/{}", "/udp/{}/quic-v1", "/tcp/{}/ws"]),
)


@given(st.sampled_from(KEYS), st.integers(0, 2**64 - 1), st.lists(addresses, max_size=10))
def test_peer_record_round_trip(key, seq, addrs):
    record = PeerRecord(key.peer_id, seq, tuple(addrs))
    assert PeerRecord.open(record.seal(key).to_bytes(), expected_peer=key.peer_id) == record


@given(st.text(min_size=1, max_size=40), st.binary(max_size=300), st.binary(max_size=300))
def test_envelope_round_trip(domain, payload_type, payload):
    data = Envelope.seal(KEY, domain, payload_type, payload).to_bytes()
    opened = Envelope.open(data, domain, payload_type)
    assert opened.payload == payload
    assert opened.to_bytes() == data
    with pytest.raises(InvalidRecord):
        Envelope.open(data, domain + "x", payload_type)


@given(st.binary(max_size=300))
def test_envelope_parser(data):
    with pytest.raises(InvalidRecord):
        Envelope.open(data, PEER_RECORD_DOMAIN, PEER_RECORD_TYPE)


SEALED = PeerRecord(KEY.peer_id, 7, (Multiaddr("/ip4/192.0.2.1/tcp/4001"),)).seal(KEY)


@given(st.integers(0, len(SEALED.to_bytes()) - 1), st.integers(1, 255))
def test_a_changed_byte_changes_nothing_that_is_signed(position, flip):
    data = bytearray(SEALED.to_bytes())
    data[position] ^= flip
    with contextlib.suppress(InvalidRecord):
        assert PeerRecord.open(bytes(data)) == PeerRecord.from_bytes(SEALED.payload)


@given(st.binary(max_size=300))
def test_peer_record_parser(payload):
    with contextlib.suppress(InvalidRecord):
        PeerRecord.from_bytes(payload)
    with contextlib.suppress(InvalidRecord):
        PeerRecord.open(Envelope.seal(KEY, PEER_RECORD_DOMAIN, PEER_RECORD_TYPE, payload).to_bytes())
