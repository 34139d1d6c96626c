"""Messages of circuit relay v2 to the byte, and vouchers."""

from __future__ import annotations

import pytest

from libp2p.errors import InvalidRecord, RemoteProtocolError
from libp2p.identity import PeerId, PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.relay.voucher import Voucher
from libp2p.protocols.relay.wire import (
    Answer,
    Connect,
    Limit,
    Reservation,
    Reserve,
    Status,
    decode_hop,
    decode_stop,
    encode_hop,
    encode_stop,
    status_name,
)

PEER = PeerId.from_bytes(b"\x12\x20" + bytes(32))
ID = (b"\x12\x20" + bytes(32)).hex()
ADDR = Multiaddr("/ip4/192.0.2.1/tcp/4001")

HOPS = {
    "0800": Reserve(),
    f"0801 1224 0a22{ID}": Connect(PEER),
    "0802 2864": Answer(Status.OK),
    "0802 28c801": Answer(Status.RESERVATION_REFUSED),
    "0802 1a12 0880ea30 1208 04c00002010 60fa1 1a0276 76 2206 0878 10808008 2864": Answer(
        Status.OK, Reservation(800_000, (ADDR,), b"vv"), Limit(120, 131_072)
    ),
}
STOPS = {
    f"0800 1224 0a22{ID} 1a06 0878 10808008": Connect(PEER, Limit(120, 131_072)),
    "0801 2064": Answer(Status.OK),
    "0801 20cb01": Answer(Status.CONNECTION_FAILED),
}


@pytest.mark.parametrize(("text", "message"), HOPS.items())
def test_hop_messages(text: str, message: object) -> None:
    data = bytes.fromhex(text.replace(" ", ""))
    assert decode_hop(data) == message
    assert encode_hop(message).hex() == data.hex()  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "message"), STOPS.items())
def test_stop_messages(text: str, message: object) -> None:
    data = bytes.fromhex(text.replace(" ", ""))
    assert decode_stop(data) == message
    assert encode_stop(message).hex() == data.hex()  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "0801", "0803", "ff", "0801 1200", f"0801 1224 0a21{ID}", "1224"])
def test_malformed_messages(text: str) -> None:
    for decode in (decode_hop, decode_stop):
        if decode is decode_stop and text.startswith("0801"):
            continue  # there it is an answer
        with pytest.raises(RemoteProtocolError):
            decode(bytes.fromhex(text.replace(" ", "")))


def test_addresses_that_cannot_be_read_are_left_out() -> None:
    data = bytes.fromhex("0802 1a0d 0801 1201ff 120804c00002010 60fa1".replace(" ", "").replace("1a0d", "1a0f"))
    assert decode_hop(data) == Answer(0, Reservation(1, (ADDR,)))


def test_names_of_statuses() -> None:
    assert (status_name(204), status_name(999)) == ("NO_RESERVATION", "status 999")
    assert (str(Limit()), str(Limit(2, 3))) == ("none", "3 bytes each way and 2 s")


def test_vouchers() -> None:
    relay, peer, other = (PrivateKey.generate() for _ in range(3))
    sealed = Voucher(relay.peer_id, peer.peer_id, 1234).seal(relay)
    assert Voucher.open(sealed, relay=relay.peer_id, peer=peer.peer_id).expiration == 1234
    for wrong_relay, wrong_peer in ((other, peer), (relay, other)):
        with pytest.raises(InvalidRecord, match="is of"):
            Voucher.open(sealed, relay=wrong_relay.peer_id, peer=wrong_peer.peer_id)
    forged = Voucher(relay.peer_id, peer.peer_id, 1234).seal(other)
    with pytest.raises(InvalidRecord, match="signed by"):
        Voucher.open(forged, relay=relay.peer_id, peer=peer.peer_id)
    with pytest.raises(InvalidRecord):
        Voucher.open(sealed[:-1] + bytes((sealed[-1] ^ 1,)), relay=relay.peer_id, peer=peer.peer_id)
    with pytest.raises(InvalidRecord):
        Voucher.open(b"\xff", relay=relay.peer_id, peer=peer.peer_id)
