"""Messages of the DHT: golden bytes, limits, what is skipped, what is refused."""

import pytest

from libp2p.errors import RemoteProtocolError
from libp2p.identity import PeerId
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.kad.kad_pb2 import Message as MessagePb
from libp2p.protocols.kad.wire import (
    MAX_ADDRS,
    MAX_CLOSER_PEERS,
    Message,
    MessageType,
    Record,
    decode,
    encode,
    encode_answer,
)
from libp2p.routing import PeerInfo

PEER = PeerId.from_bytes(b"\x12\x20" + bytes(32))
ADDR = Multiaddr("/ip4/192.0.2.1/tcp/4001")


def peer(n: int, addrs: int = 0) -> PeerInfo:
    return PeerInfo(
        PeerId.from_bytes(b"\x12\x20" + n.to_bytes(32, "big")),
        tuple(Multiaddr(f"/ip4/192.0.2.{n % 256}/udp/{port + 1}/quic-v1") for port in range(addrs)),
    )


GOLDEN = [
    (Message(MessageType.FIND_NODE, b"key"), "080412036b6579"),
    (Message(MessageType.PING), "0805"),
    (Message(MessageType.GET_VALUE, b"k", Record(b"k", b"v", "t")), "080112016b1a090a016b1201762a0174"),
    (Message(MessageType.PUT_VALUE, b"k", Record(b"k", b"v")), "12016b1a060a016b120176"),
    (
        Message(MessageType.GET_PROVIDERS, b"k", None, (), (PeerInfo(PEER, (ADDR,)),)),
        "080312016b4a2e0a221220" + "00" * 32 + "120804c0000201060fa1",
    ),
]


@pytest.mark.parametrize(("message", "encoded"), GOLDEN)
def test_golden_bytes(message: Message, encoded: str) -> None:
    assert encode(message).hex() == encoded
    assert decode(bytes.fromhex(encoded)) == message


def test_connected_peers_are_marked() -> None:
    encoded = encode(Message(MessageType.FIND_NODE, closer=(peer(1), peer(2))), connected=[peer(2).peer])
    assert [one.connection for one in MessagePb.FromString(encoded).closer_peers] == [0, 1]


@pytest.mark.parametrize("data", [b"\x08\x06", b"\x08\x4d", b"\xff", b"\x12\x05abc", b"\x12\x81\x08" + bytes(1025)])
def test_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="DHT message"):
        decode(data)


def test_lists_are_cut_and_what_cannot_be_read_is_skipped() -> None:
    message = MessagePb(type=4)
    message.closer_peers.add(id=b"nonsense")
    one = message.closer_peers.add(id=PEER.to_bytes())
    one.addrs.extend([b"\xff\xff", b"", ADDR.to_bytes(), ADDR.with_peer(str(PEER)).to_bytes()])
    one.addrs.append(ADDR.with_peer(str(peer(9).peer)).to_bytes())
    message.closer_peers.add(id=PEER.to_bytes(), addrs=[b"\x04\x01\x02\x03\x04\x06\x00\x01"])
    assert decode(message.SerializeToString()).closer == (PeerInfo(PEER, (ADDR,)),)

    crowd = encode(Message(MessageType.FIND_NODE, closer=tuple(peer(n, 50) for n in range(500))))
    closer = decode(crowd).closer
    assert len(closer) == MAX_CLOSER_PEERS
    assert {len(info.addrs) for info in closer} == {MAX_ADDRS}


def test_an_answer_fits_what_rust_reads() -> None:
    """20 peers with 30 addresses each, beside a record: all peers stay, with fewer addresses."""
    message = Message(
        MessageType.GET_VALUE, b"k", Record(b"k", bytes(5000)), closer=tuple(peer(n, 30) for n in range(20))
    )
    encoded = encode_answer(message)
    assert len(encoded) <= 16 * 1024
    read = decode(encoded)
    assert [info.peer for info in read.closer] == [info.peer for info in message.closer]
    assert min(len(info.addrs) for info in read.closer) >= 8
    assert read.record == message.record


def test_providers_and_closer_peers_share_the_room() -> None:
    message = Message(
        MessageType.GET_PROVIDERS,
        b"k",
        closer=tuple(peer(n, 30) for n in range(20)),
        providers=tuple(peer(n, 8) for n in range(500)),
    )
    encoded = encode_answer(message)
    assert len(encoded) <= 16 * 1024
    read = decode(encoded)
    assert len(read.closer) == 20
    assert len(read.providers) > 100


def test_a_small_answer_is_not_cut() -> None:
    message = Message(MessageType.FIND_NODE, closer=(peer(1, 20),))
    assert decode(encode_answer(message)).closer == message.closer
