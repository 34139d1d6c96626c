"""Every parser of bytes from outside, fed broken messages: only the errors it documents may come out.

Cases are derived from valid messages: cut, lengthened, bytes flipped, pieces doubled and swapped. The seeds are fixed;
`python tests/fuzz/test_parsers.py SECONDS` goes on with fresh ones, and prints what broke.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from libp2p.cid import Cid
from libp2p.discovery.mdns import core as mdns
from libp2p.errors import (
    HandshakeError,
    InvalidCid,
    InvalidKey,
    InvalidMultiaddr,
    InvalidPeerId,
    InvalidRecord,
    InvalidVarint,
    MessageTooLarge,
    RemoteProtocolError,
)
from libp2p.host.identify.wire import IdentifyInfo, decode, encode
from libp2p.identity import KeyType, PeerId, PrivateKey, PublicKey
from libp2p.multiaddr import Multiaddr
from libp2p.multistream.core import MAX_MESSAGE, MessageParser, encode_message
from libp2p.muxers.yamux.core import YamuxConfig, YamuxSession
from libp2p.muxers.yamux.wire import HEADER
from libp2p.peerstore import MemoryPeerStore
from libp2p.protocols.dcutr import wire as dcutr
from libp2p.protocols.kad import wire as kad
from libp2p.protocols.portmap import upnp
from libp2p.protocols.portmap import wire as portmap
from libp2p.protocols.relay import wire as relay
from libp2p.protocols.relay.voucher import Voucher
from libp2p.protocols.rendezvous import wire as rendezvous
from libp2p.records import PeerRecord
from libp2p.records.ipns import IpnsRecord, dag_cbor
from libp2p.routing import PeerInfo
from libp2p.security.noise.core import KeyPair, NoiseHandshake
from libp2p.security.noise.protocol import _open_payload
from libp2p.varint import decode_varint, encode_varint

CASES = 1500
KEYS = [PrivateKey.generate(kind) for kind in KeyType]
KEY = PrivateKey.generate()
PEER = KEY.public_key.peer_id
ADDRS = [
    Multiaddr(text)
    for text in (
        "/ip4/1.2.3.4/tcp/80",
        "/ip6zone/eth0/ip6/fe80::1/udp/4001/quic-v1/webtransport/certhash/uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g",
        f"/dns4/example.com/tcp/443/tls/sni/example.com/ws/p2p/{PEER}/p2p-circuit",
        "/unix/a/b/c",
        "/onion3/vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd:1234",
        "/memory/7",
    )
]


def multistream(data: bytes) -> None:
    parser, position = MessageParser(), 0
    while len(data) - position >= parser.needed:
        assert 0 < parser.needed <= MAX_MESSAGE
        piece = data[position : position + parser.needed]
        position += len(piece)
        parser.feed(piece)


def noise_first(data: bytes) -> None:
    responder().read_message(data)


def responder() -> NoiseHandshake:
    static, ephemeral = (KeyPair(X25519PrivateKey.from_private_bytes(bytes([n] * 32))) for n in (1, 2))
    return NoiseHandshake(initiator=False, static=static, ephemeral=ephemeral)


def initiator() -> NoiseHandshake:
    static, ephemeral = (KeyPair(X25519PrivateKey.from_private_bytes(bytes([n] * 32))) for n in (3, 4))
    return NoiseHandshake(initiator=True, static=static, ephemeral=ephemeral)


FIRST = initiator().write_message(b"")
_other = responder()
_other.read_message(FIRST)
SECOND = _other.write_message(b"payload")


def noise_second(data: bytes) -> None:
    handshake = initiator()
    handshake.write_message(b"")
    handshake.read_message(data)


def noise_payload(data: bytes) -> None:
    _open_payload(data, bytes(32), 3)


def _payload() -> bytes:
    from libp2p.security.noise.payload_pb2 import NoiseHandshakePayload

    payload = NoiseHandshakePayload(
        identity_key=KEY.public_key.to_protobuf(), identity_sig=KEY.sign(b"noise-libp2p-static-key:" + bytes(32))
    )
    payload.extensions.stream_muxers.append(b"/yamux/1.0.0")
    return payload.SerializeToString()


def yamux(data: bytes) -> None:
    for is_dialer in (False, True):
        config = YamuxConfig(max_inbound_streams=5)
        session = YamuxSession(is_dialer=is_dialer, config=config, max_payload=1000, draw=lambda _: True)
        session.start(0.0)
        session.open_stream(0.0)
        session.receive_data(memoryview(data), 1.0)
        session.data_to_send()


def identify(data: bytes) -> None:
    decode(data, IdentifyInfo(PEER, KEY.public_key), max_addrs=10, max_protocols=10)


def envelope(data: bytes) -> None:
    PeerRecord.open(data, expected_peer=PEER)


def store(data: bytes) -> None:
    MemoryPeerStore().consume_peer_record(data, 10.0)


def public_key(data: bytes) -> None:
    assert PublicKey.from_protobuf(data).peer_id


def signature(data: bytes) -> None:
    for key in KEYS:
        assert key.public_key.verify(b"message", data) in (True, False)


def dht(data: bytes) -> None:
    message = kad.decode(data)
    assert kad.decode(kad.encode_answer(message)).type is message.type


CIDS = [Cid.of(b"x"), Cid(0, 0x70, Cid.of(b"x").multihash), Cid(1, 0x72, PEER.to_bytes())]
INFOS = (PeerInfo(PEER, tuple(ADDRS[:2])), PeerInfo(KEYS[-1].public_key.peer_id))
DHT_MESSAGES = [
    kad.encode(kad.Message(kad.MessageType.PUT_VALUE, b"key", kad.Record(b"key", b"value", "1970-01-01T00:00:00Z"))),
    kad.encode(kad.Message(kad.MessageType.GET_PROVIDERS, b"key", None, INFOS, INFOS)),
]
HOPS = (
    relay.Reserve(),
    relay.Connect(PEER),
    relay.Answer(100, relay.Reservation(1 << 40, tuple(ADDRS), b"voucher"), relay.Limit(120, 1 << 17)),
    relay.Answer(204),
)
PMP_REQUEST = portmap.pmp_map("tcp", 4001, 4001, 3600)
PCP_REQUEST = portmap.pcp_map(IPv4Address("192.168.1.2"), bytes(12), "udp", 4001, 4001, 120)
UPNP_FOUND = b"HTTP/1.1 200 OK\r\nST: x\r\nLOCATION: http://192.168.1.1:5000/root.xml\r\n\r\n"
UPNP_HTTP = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
]
UPNP_DESCRIPTION = (
    b"<root><URLBase>http://192.168.1.1:5000/</URLBase><device><service>"
    b"<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>"
    b"<controlURL>/ctl</controlURL></service></device></root>"
)
STOPS = (relay.Connect(PEER, relay.Limit(120, 1 << 17)), relay.Answer(100))
PUNCHES = (dcutr.Connect(tuple(ADDRS)), dcutr.Sync())
MEETING = [
    rendezvous.Register("app", b"record", 7200),
    rendezvous.Registered(0, 7200, "text"),
    rendezvous.Discover("app", 7, b"cookie"),
    rendezvous.Discovered(0, (rendezvous.Register("app", b"record", 7200),), b"cookie"),
]
INFO = IdentifyInfo(PEER, KEY.public_key, "ipfs/0.1.0", "agent", tuple(ADDRS), ADDRS[0], ("/a", "/b"), b"record")
FRAMES = b"".join(
    [
        HEADER.pack(0, 1, 1, 1, 0),
        HEADER.pack(0, 0, 1, 2, 3) + b"abc",
        HEADER.pack(0, 0, 0, 1, 2) + b"de",
        HEADER.pack(0, 1, 2, 1, 500),
        HEADER.pack(0, 2, 1, 0, 7),
        HEADER.pack(0, 1, 8, 1, 0x1001),
        HEADER.pack(0, 3, 0, 0, 0),
    ]
)
RECORD = PeerRecord(PEER, 7, tuple(ADDRS))
ENVELOPE = RECORD.seal(KEY).to_bytes()
MESSAGES = b"".join(encode_message(text) for text in ("/multistream/1.0.0", "/noise", "ls", "na"))

Parser = Callable[[bytes], object]
PARSERS: dict[str, tuple[Parser, list[bytes], tuple[type[Exception], ...]]] = {
    "varint": (decode_varint, [encode_varint(n) for n in (0, 127, 128, 2**32, 2**63 - 1)], (InvalidVarint,)),
    "multistream": (multistream, [MESSAGES], (RemoteProtocolError, MessageTooLarge)),
    "noise message 1": (noise_first, [FIRST], (HandshakeError,)),
    "noise message 2": (noise_second, [SECOND], (HandshakeError,)),
    "noise payload": (noise_payload, [_payload()], (HandshakeError,)),
    "yamux": (yamux, [FRAMES, FRAMES[::-1]], (RemoteProtocolError,)),
    "identify": (identify, [encode(INFO)], (RemoteProtocolError,)),
    "envelope": (envelope, [ENVELOPE], (InvalidRecord,)),
    "peer record": (PeerRecord.from_bytes, [RECORD.to_bytes()], (InvalidRecord,)),
    "peer store": (store, [ENVELOPE], (InvalidRecord,)),
    "multiaddr": (Multiaddr.from_bytes, [addr.to_bytes() for addr in ADDRS], (InvalidMultiaddr,)),
    "multiaddr text": (
        lambda data: Multiaddr(data.decode("latin1")),
        [str(addr).encode("latin1") for addr in ADDRS],
        (InvalidMultiaddr,),
    ),
    "peer id": (PeerId.from_bytes, [key.public_key.peer_id.to_bytes() for key in KEYS], (InvalidPeerId,)),
    "peer id text": (
        lambda data: PeerId.from_string(data.decode("latin1")),
        [str(PEER).encode(), b"bafzaajaiaejcal72gwuz2or47oyxxn6b3rkwdmmkrxgkjxzy3rwp5n5e7yq6dkgy"],
        (InvalidPeerId,),
    ),
    "public key": (public_key, [key.public_key.to_protobuf() for key in KEYS], (InvalidKey,)),
    "private key": (PrivateKey.from_protobuf, [KEY.to_protobuf()], (InvalidKey,)),
    "DHT message": (dht, DHT_MESSAGES, (RemoteProtocolError,)),
    "CID": (Cid.from_bytes, [cid.to_bytes() for cid in CIDS], (InvalidCid,)),
    "CID text": (
        lambda data: Cid.parse(data.decode("latin1")),
        [cid.encode(base).encode() for cid in CIDS for base in ("base32", "base36", "base58btc", "base16")],
        (InvalidCid,),
    ),
    "IPNS record": (
        lambda data: IpnsRecord.open(data, PEER, 0.0),
        [IpnsRecord.make(KEY, "/ipfs/x", sequence=7, now=1e9, legacy=legacy).encoded for legacy in (False, True)],
        (InvalidRecord,),
    ),
    "DAG-CBOR": (
        dag_cbor.decode,
        [
            dag_cbor.encode_map({"TTL": 5, "Value": b"/x"}),
            bytes.fromhex("a2615f8320f5f6616482fb3ff8000000000000d82a4300aabb"),
        ],
        (InvalidRecord,),
    ),
    "nat-pmp": (
        lambda data: portmap.decode_pmp(data, PMP_REQUEST),
        [bytes.fromhex("00820000000000070fa1138800000e10"), bytes.fromhex("0082000200000007")],
        (RemoteProtocolError,),
    ),
    "pcp": (
        lambda data: portmap.decode_pcp(data, PCP_REQUEST),
        [bytes.fromhex("028100000000007800000009") + bytes(12) + PCP_REQUEST[24:]],
        (RemoteProtocolError,),
    ),
    "upnp found": (lambda data: upnp.decode_found(data, "192.168.1.1"), [UPNP_FOUND], (RemoteProtocolError,)),
    "upnp http": (upnp.decode_http, UPNP_HTTP, (RemoteProtocolError,)),
    "upnp description": (
        lambda data: upnp.decode_description(data, "http://192.168.1.1:5000/root.xml"),
        [UPNP_DESCRIPTION],
        (RemoteProtocolError,),
    ),
    "upnp call": (
        lambda data: upnp.decode_call(200, data),
        [upnp.call("service", "Action", errorCode=718, errorDescription="taken")],
        (RemoteProtocolError,),
    ),
    "relay hop": (relay.decode_hop, [relay.encode_hop(message) for message in HOPS], (RemoteProtocolError,)),
    "relay stop": (relay.decode_stop, [relay.encode_stop(message) for message in STOPS], (RemoteProtocolError,)),
    "dcutr": (dcutr.decode, [dcutr.encode(message) for message in PUNCHES], (RemoteProtocolError,)),
    "voucher": (
        lambda data: Voucher.open(data, relay=PEER, peer=PEER),
        [Voucher(PEER, PEER, 1 << 40).seal(KEY)],
        (InvalidRecord,),
    ),
    "rendezvous": (rendezvous.decode, [rendezvous.encode(message) for message in MEETING], (RemoteProtocolError,)),
    "mDNS": (mdns.decode, [mdns.encode(PEER, [Multiaddr("/ip4/10.0.0.1/tcp/1"), Multiaddr("/ip6/fd00::1/tcp/1")])], ()),
    "signature": (signature, [key.sign(b"message") for key in KEYS], ()),
}


def broken(dice: random.Random, seeds: list[bytes]) -> bytes:
    """A message made of valid ones by a few mistakes."""
    data = bytearray(dice.choice(seeds))
    for _ in range(dice.randrange(1, 5)):
        place = dice.randrange(len(data) + 1)
        match dice.randrange(7):
            case 0:
                del data[place:]
            case 1:
                del data[place : place + dice.randrange(1, 9)]
            case 2:
                data[place:place] = dice.randbytes(dice.randrange(1, 9))
            case 3 if place < len(data):
                data[place] ^= 1 << dice.randrange(8)
            case 4 if place < len(data):
                data[place] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 5:
                data[place:place] = data[place : place + dice.randrange(1, 30)]
            case 6:
                data += dice.choice(seeds)
    return bytes(data)


def check(name: str, seed: int) -> None:
    parse, seeds, documented = PARSERS[name]
    data = broken(random.Random(f"{name} {seed}"), seeds)
    try:
        parse(data)
    except documented:
        pass
    except Exception as error:
        error.add_note(f"{name}, seed {seed}: {data.hex()}")
        raise


@pytest.mark.parametrize("name", PARSERS)
def test_only_documented_errors_come_out(name: str) -> None:
    parse, seeds, _ = PARSERS[name]
    for seed in seeds:
        if name != "yamux":
            parse(seed)
    for case in range(CASES):
        check(name, case)


def main(seconds: float) -> None:
    """Fuzz with fresh seeds for as long."""
    dice, until, cases = random.SystemRandom(), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        check(dice.choice(list(PARSERS)), dice.getrandbits(64))
        cases += 1
    print(f"{cases} cases, nothing broke")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0)
