"""Text and bytes of multiaddrs, and the operations on them. Vectors after multiformats/multiaddr and go-multiaddr."""

import copy
import pickle

import pytest

from libp2p.errors import InvalidMultiaddr
from libp2p.multiaddr import PROTOCOLS, Component, Multiaddr, protocol_named
from libp2p.multiaddr.multiaddr import MAX_LENGTH, MAX_TEXT_LENGTH

PEER = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC"
PEER_CID = "k2k4r8oqamigqdo6o7hsbfwd45y70oyynp98usk7zmyfrzpqxh1pohl7"
ED25519 = "12D3KooWCryG7Mon9orvQxcS1rYZjotPgpwoJNHHKcLLfE4Hf5mV"
ONION3 = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd"
GARLIC32 = "566niximlxdzpanmn4qouucvua3k7neniwss47li5r6ugoertzuq"
GARLIC64 = "A" * 516
CERTHASH = "uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g"

BYTES = [
    ("/ip4/127.0.0.1/udp/1234", "047f000001910204d2"),
    ("/ip4/127.0.0.1/tcp/4321", "047f0000010610e1"),
    ("/ip4/192.0.2.42/tcp/443", "04c000022a0601bb"),
    ("/ip4/127.0.0.1/udp/1234/ip4/127.0.0.1/tcp/4321", "047f000001910204d2047f0000010610e1"),
    ("/ip6zone/eth0/ip6/::1", "2a0465746830" + "29" + "00" * 15 + "01"),
    ("/ip4/192.0.2.0/ipcidr/24", "04c00002002b18"),
    ("/onion/aaimaq4ygg2iegci:80", "bc030010c0439831b48218480050"),
    (
        f"/onion3/{ONION3}:1234",
        "bd03adadec040be047f9658668b11a504f3155001f231a37f54c4476c07fb4cc139ed7e30304d2",
    ),
    (f"/garlic32/{GARLIC32}", "bf0320efbcd45d0c5dc79781ac6f20ea5055a036afb48d45a52e7d68ec7d4338919e69"),
    (f"/garlic64/{GARLIC64}", "be038303" + "00" * 387),
    (f"/p2p/{PEER}", "a503221220d52ebb89d85b02a284948203a62ff28389c57c9f42beec4ec20db76a68911c0b"),
    ("/memory/4", "89060000000000000004"),
    ("/unix/a/b/c/d", "9003082f612f622f632f64"),
    ("/http-path/tmp%2Fbar", "e10307746d702f626172"),
    ("/ip4/127.0.0.1/tcp/127/plaintextv2", "047f00000106007fe1d8c103"),
    ("/p2p-circuit", "a202"),
]

CANONICAL = [
    "/ip4/0.0.0.0",
    "/ip6/2601:9:4f81:9700:803e:ca65:66e8:c21/udp/1234/quic-v1",
    "/ip6/::ffff:127.0.0.1/tcp/111",
    "/ip6zone/x%y/ip6/fe80::1/udp/1234/quic",
    f"/onion3/{ONION3}:80/http",
    f"/garlic32/{GARLIC32}/tcp/8080",
    "/udp/0",
    "/sctp/65535",
    "/udp/1234/udt",
    "/udp/1234/utp",
    "/tcp/1234/tls/http",
    "/tcp/1234/https",
    f"/ip4/127.0.0.1/p2p/{PEER}/tcp/1234/unix/stdio",
    "/ip4/127.0.0.1/tcp/9090/http/p2p-webrtc-direct",
    "/ip4/127.0.0.1/tcp/127/noise",
    "/ip4/127.0.0.1/tcp/127/wss",
    "/ip4/127.0.0.1/udp/1/webrtc-direct/certhash/" + CERTHASH,
    f"/ip4/127.0.0.1/udp/1234/quic-v1/webtransport/certhash/{CERTHASH}/certhash/{CERTHASH}",
    f"/ip4/127.0.0.1/tcp/0/p2p/{ED25519}/http-path/.well-known%2Flibp2p",
    "/dns4/example.com/tcp/443/tls/sni/example.com/ws",
    "/dns/bücher.example/tcp/1",
    "/memory/18446744073709551615",
    "/unix//a b/c",
]

EQUIVALENT = [
    ("/ip4/127.0.0.1/tcp/1234/", "/ip4/127.0.0.1/tcp/1234"),
    ("/ip4/127.0.0.1/tcp/1234///", "/ip4/127.0.0.1/tcp/1234"),
    (f"/ipfs/{PEER}", f"/p2p/{PEER}"),
    (f"/p2p/{PEER_CID}", f"/p2p/{PEER}"),
    ("/p2p/bafzbeigvf25ytwc3akrijfecaotc74udrhcxzh2cx3we5qqnw5vgrei4bm", f"/p2p/{PEER}"),
    ("/p2p/bafzaajaiaejcalj543iwv2d7pkjt7ykvefrkfu7qjfi6sduakhso4lay6abn2d5u", f"/p2p/{ED25519}"),
    ("/ip6/64:FF9B::1.1.1.1", "/ip6/64:ff9b::101:101"),
    (f"/onion3/{ONION3.upper()}:80", f"/onion3/{ONION3}:80"),
    ("/certhash/b2uaraocy6yrdblb4sfptaddgimjmmpy", "/certhash/u1QEQOFj2IjCsPJFfMAxmQxLGPw"),
    ("/http-path/a+b%7e(c)", "/http-path/a%2Bb~%28c%29"),
]

INVALID = {
    "": "is empty",
    "/": "is empty",
    "///": "is empty",
    "ip4/127.0.0.1": "does not begin with a slash",
    "//ip4/127.0.0.1": "unknown protocol '' at character 1",
    "/ip4": "/ip4 at character 1 ends without its value",
    "/ip4/::1": "at character 5: '::1' is no value of /ip4",
    "/ip4/127.0.0.1/udp": "/udp at character 15 ends without its value",
    "/ip4/127.0.0.1/udp/65536": "at character 19: '65536' is no value of /udp: above 65535",
    "/ip4/127.0.0.1/quic-v1/1234": "unknown protocol '1234' at character 23",
    "/ip4/127.0.0.1/tcp/9090/http/p2p-webcrt-direct": "unknown protocol 'p2p-webcrt-direct' at character 29",
    "/ip4/01.2.3.4": "is no value of /ip4",
    "/ip4/1.2.3": "is no value of /ip4",
    "/ip6/127.0.0.1": "is no value of /ip6",
    "/ip6/fe80::1%eth0": "ip6zone",
    "/ip4/1.2.3.4/ipcidr/256": "above 255",
    "/ip6zone//ip6/fe80::1": "1 to 255 bytes, not 0",
    "/dns4/exa mple.com": "no slash, blank or control character",
    "/dns/" + "a" * 256: "not 256",
    "/dns/a\ud800": "control character",
    "/sni//sni/0": "not 0",
    "/tcp/-1": "decimal number",
    "/tcp/+1": "decimal number",
    "/tcp/ 1": "decimal number",
    "/tcp/080": "decimal number",
    "/tcp/٣": "decimal number",
    "/tcp/0x50": "decimal number",
    "/tcp/" + "9" * 5000: "above 65535",
    "/memory/92233720368547758081": "above 18446744073709551615",
    "/unix": "ends without its value",
    "/unix/": "ends without its value",
    "/onion/9imaq4ygg2iegci7:80": "base 32",
    "/onion/aaimaq4ygg2iegci7:80": "16 characters",
    "/onion/timaq4ygg2iegci7:0": "port 0",
    "/onion/timaq4ygg2iegci7": "no port",
    f"/onion3/{ONION3}7:80": "56 characters",
    f"/onion3/{ONION3}:-1": "decimal number",
    f"/garlic64/{GARLIC64}7:80": "base 64",
    f"/garlic64/{GARLIC64[:-4]}\r\n\r\n": "base 64",
    "/garlic64/" + "A" * 512: "386",
    f"/garlic32/{GARLIC32[:-1]}": "base 32",
    f"/garlic32/{GARLIC32[:-1]}77": "not 33",
    f"/garlic32/{GARLIC32}@": "base 32",
    f"/garlic32/{GARLIC32.upper()}": "lower case",
    "/ip4/127.0.0.1/p2p/tcp": "is no value of /p2p",
    "/p2p/QmxoHT6iViN5xAjoz1VZ553cL31U9F94ht3QvWR1FrEbZY": "announces 33 bytes",
    f"/p2p/{PEER_CID[:-1]}-": "is no value of /p2p",
    "/p2p/?unknownmultibase": "is no value of /p2p",
    "/p2p/k2jmtxwoe2phm1hbqp0e7nufqf6umvuu2e9qd7ana7h411a0haqj6i2z": "libp2p-key",
    "/p2p/f02721220" + "00" * 32: "a CID of version 2",
    "/p2p/Qm11ps1111111111111111111111111111111": "is no value of /p2p",
    "/p2p/1" + "1" * 600: "the limit is 512",
    "/certhash/b2uaraocy6yrdblb4sfptaddgimjmmp": "is no value of /certhash",
    "/certhash/uEiA": "multihash",
    "/http-path/thisIsMissingAfullByte%f": "percent-encoded",
    "/http-path/a b": "percent-encoded",
}

INVALID_BYTES = {
    "": "is empty",
    "047f0000": "at byte 0: the value of /ip4 is cut short: 3 of 4 bytes",
    "047f00000106": "at byte 5: the value of /tcp is cut short",
    "84": "at byte 0: the data ends within a varint",
    "8400": "shortest form",
    "047f00000108": "at byte 5: unknown protocol code 8",
    "84e0ff00": "shortest form",
    "3500": "0 bytes are no value of /dns",
    "35": "the data ends within a varint",
    "35ffffffffffffffff7f": "cut short",
    "3502612f": "no slash",
    "3501ff": "not UTF-8",
    "d20300": "0 bytes are no value of /certhash",
    "900306303030303030": "begins with a slash",
    "9003062f303030302f": "ends in no slash",
    "9003022f61047f000001": "nothing can stand behind the path",
    "bc0330303030303030303030" + "0000": "port 0",
    "bd03" + "30" * 35 + "0000": "port 0",
    "a50326" + "1224" + "30" * 36: "a peer id is",
    "a503221221c05877cbae039d70a5e600ea02c6f9f2942439285c9e344e26f8d280c850fad6": "announces 33 bytes",
    "a50303300130": "a peer id is",
    "a503020000": "multihash",
}


@pytest.mark.parametrize(("text", "binary"), BYTES)
def test_text_and_bytes(text: str, binary: str) -> None:
    assert Multiaddr(text).to_bytes().hex() == binary
    assert str(Multiaddr.from_bytes(bytes.fromhex(binary))) == text


@pytest.mark.parametrize("text", CANONICAL + [text for text, _ in BYTES])
def test_canonical_text_round_trips(text: str) -> None:
    address = Multiaddr(text)
    assert str(address) == text
    assert repr(address) == f"Multiaddr({text!r})"
    assert Multiaddr(address.to_bytes()) == address
    assert str(Multiaddr(bytearray(address.to_bytes()))) == text
    assert Multiaddr.from_components(address) == address


@pytest.mark.parametrize(("text", "canonical"), EQUIVALENT)
def test_equivalent_text(text: str, canonical: str) -> None:
    assert str(Multiaddr(text)) == canonical
    assert Multiaddr(text) == Multiaddr(canonical)
    assert hash(Multiaddr(text)) == hash(Multiaddr(canonical))


@pytest.mark.parametrize("text", INVALID)
def test_invalid_text(text: str) -> None:
    with pytest.raises(InvalidMultiaddr) as caught:
        Multiaddr(text)
    assert INVALID[text] in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("binary", INVALID_BYTES)
def test_invalid_bytes(binary: str) -> None:
    with pytest.raises(InvalidMultiaddr) as caught:
        Multiaddr(bytes.fromhex(binary))
    assert INVALID_BYTES[binary] in str(caught.value)


def test_garlic32_with_encrypted_lease_set() -> None:
    assert len(Multiaddr(f"/garlic32/{GARLIC32}zwas")[0].raw) == 35
    # The last character has two bits to spare, which go-multiaddr's vectors don't have at zero.
    assert str(Multiaddr(f"/garlic32/{GARLIC32}zwassw")) == f"/garlic32/{GARLIC32}zwassu"


def test_lengths_are_bounded() -> None:
    longest = "/unix/" + "a" * (MAX_LENGTH - 5)
    assert len(Multiaddr(longest).to_bytes()) == MAX_LENGTH
    with pytest.raises(InvalidMultiaddr, match=f"the limit is {MAX_LENGTH}"):
        Multiaddr(longest + "a")
    with pytest.raises(InvalidMultiaddr, match=f"the limit is {MAX_LENGTH}"):
        Multiaddr(b"\x06\0\0" * 2000)
    with pytest.raises(InvalidMultiaddr, match=f"the limit is {MAX_TEXT_LENGTH}"):
        Multiaddr("/tls" * MAX_TEXT_LENGTH)
    # The limit of the text leaves room for every address that the limit of the bytes allows.
    widest = Multiaddr(protocol_named("p2p-websocket-star").prefix * (MAX_LENGTH // 2))
    assert len(str(widest)) <= MAX_TEXT_LENGTH
    assert Multiaddr(str(widest)) == widest


def test_protocol_table() -> None:
    assert len({p.code for p in PROTOCOLS}) == len({p.name for p in PROTOCOLS}) == len(PROTOCOLS)
    assert protocol_named("ipfs") is protocol_named("p2p")
    assert repr(protocol_named("tcp")) == "<Protocol tcp 6>"
    with pytest.raises(InvalidMultiaddr, match="'tcq'"):
        protocol_named("tcq")


def test_components() -> None:
    address = Multiaddr(f"/ip4/1.2.3.4/udp/1/quic-v1/webtransport/certhash/{CERTHASH}/p2p/{PEER}")
    assert [(c.name, c.code) for c in address][:3] == [("ip4", 4), ("udp", 273), ("quic-v1", 461)]
    assert (address[1].value, address[1].raw, address[1].to_bytes()) == ("1", b"\0\1", b"\x91\x02\0\1")
    assert (address[2].value, address[2].raw, str(address[2])) == (None, b"", "/quic-v1")
    assert str(address[4]) == f"/certhash/{CERTHASH}"
    assert len(address) == 6
    assert address.head == Component.from_text("ip4", "1.2.3.4")
    assert "quic-v1" in address
    assert "ipfs" in address
    assert "tcp" not in address
    assert "nonsense" not in address
    assert 6 not in address
    assert (address.get("udp"), address.get("quic-v1"), address.get("tcp")) == ("1", None, None)
    assert address.get_all("certhash") == (CERTHASH,)
    assert address.get_all("quic-v1") == ()


def test_component_values_cannot_smuggle_components() -> None:
    with pytest.raises(InvalidMultiaddr, match="no slash"):
        Component.from_text("dns4", "a/tcp/80")
    with pytest.raises(InvalidMultiaddr, match="needs a value"):
        Component.from_text("tcp")
    with pytest.raises(InvalidMultiaddr, match="takes no value"):
        Component.from_text("tls", "1")
    with pytest.raises(InvalidMultiaddr, match="2 bytes are no value of /tls"):
        Component.from_raw(protocol_named("tls"), b"ab")
    with pytest.raises(InvalidMultiaddr, match="3 bytes are no value of /tcp"):
        Component.from_raw(protocol_named("tcp"), b"abc")


@pytest.mark.parametrize(
    "inner", ["/tcp/80", "tcp/80", b"\x06\0P", Multiaddr("/tcp/80"), Component.from_text("tcp", "80")]
)
def test_encapsulate(inner: str | bytes | Multiaddr | Component) -> None:
    outer = Multiaddr("/ip4/1.2.3.4")
    assert str(outer / inner) == str(outer.encapsulate(inner)) == "/ip4/1.2.3.4/tcp/80"


def test_nothing_stands_behind_a_path() -> None:
    with pytest.raises(InvalidMultiaddr, match="behind the path of '/unix/a'"):
        Multiaddr("/unix/a").encapsulate("/tls")


@pytest.mark.parametrize(
    ("address", "inner", "left"),
    [
        ("/ip4/1.2.3.4/tcp/1234", "/ip4/1.2.3.4", ""),
        ("/ip4/1.2.3.4", "/ip4/1.2.3.4/tcp/1234", "/ip4/1.2.3.4"),
        ("/ip4/1.2.3.5/tcp/1234", "/ip4/5.3.2.1", "/ip4/1.2.3.5/tcp/1234"),
        ("/ip4/1.2.3.5/udp/1234/quic-v1", "/udp/1234", "/ip4/1.2.3.5"),
        ("/ip4/1.2.3.6/udp/1234/quic-v1", "/udp/1234/quic-v1", "/ip4/1.2.3.6"),
        ("/ip4/1.2.3.7/tcp/1234", "/ws", "/ip4/1.2.3.7/tcp/1234"),
        ("/dnsaddr/wss.com/tcp/4001/ws", "/wss", "/dnsaddr/wss.com/tcp/4001/ws"),
        ("/tcp/1/udp/2/tcp/1/udp/3", "/tcp/1", "/tcp/1/udp/2"),
    ],
)
def test_decapsulate(address: str, inner: str, left: str) -> None:
    assert str(Multiaddr(address).decapsulate(inner)) == left


def test_decapsulate_code() -> None:
    relayed = Multiaddr(f"/ip4/1.2.3.4/tcp/1/p2p/{PEER}/p2p-circuit/p2p/{ED25519}")
    assert str(relayed.decapsulate_code("p2p")) == f"/ip4/1.2.3.4/tcp/1/p2p/{PEER}/p2p-circuit"
    assert str(relayed.decapsulate_code("tcp")) == "/ip4/1.2.3.4"
    assert relayed.decapsulate_code("udp") is relayed
    with pytest.raises(InvalidMultiaddr):
        relayed.decapsulate_code("tcq")


def test_split_and_startswith() -> None:
    relayed = Multiaddr(f"/ip4/1.2.3.4/tcp/1/p2p/{PEER}/p2p-circuit/p2p/{ED25519}")
    relay, target = relayed.split("p2p-circuit")
    assert str(relay) == f"/ip4/1.2.3.4/tcp/1/p2p/{PEER}"
    assert str(target) == f"/p2p-circuit/p2p/{ED25519}"
    assert relay / target == relayed
    assert relayed.split("udp") == (relayed, relayed[9:])
    assert relayed.startswith("/ip4/1.2.3.4/tcp/1")
    assert not relayed.startswith("/ip4/1.2.3.4/tcp/10")


def test_the_empty_address() -> None:
    empty = Multiaddr("/tcp/80").decapsulate("/tcp/80")
    assert not empty
    assert (str(empty), empty.to_bytes(), empty.head, len(empty)) == ("", b"", None, 0)
    assert empty / "tcp/80" == Multiaddr("/tcp/80")
    assert Multiaddr("/tcp/80") / empty == Multiaddr("/tcp/80")
    assert Multiaddr("/tcp/80").decapsulate(empty) == Multiaddr("/tcp/80")
    assert pickle.loads(pickle.dumps(empty)) == empty


def test_peer_of_an_address() -> None:
    plain = Multiaddr("/ip4/1.2.3.4/tcp/1")
    full = plain.with_peer(PEER_CID)
    assert (plain.peer_id_text, full.peer_id_text) == (None, PEER)
    assert str(full) == f"/ip4/1.2.3.4/tcp/1/p2p/{PEER}"
    assert full.with_peer(PEER) is full
    assert full.without_peer() == plain
    assert plain.without_peer() is plain
    relayed = full / "p2p-circuit"
    assert relayed.peer_id_text is None
    assert relayed.with_peer(ED25519).peer_id_text == ED25519
    assert relayed.with_peer(ED25519).without_peer() == relayed
    with pytest.raises(InvalidMultiaddr, match="another peer"):
        full.with_peer(ED25519)
    with pytest.raises(InvalidMultiaddr, match="no value of /p2p"):
        plain.with_peer("QmNobody")


def test_values_are_immutable_ordered_and_interned() -> None:
    address = Multiaddr("/ip4/1.2.3.4/tcp/1")
    for name in ("components", "_text", "other"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(address, name, ())
    assert Multiaddr("/ip4/1.2.3.4/tcp/1") is address
    assert Multiaddr(address) is address
    assert Multiaddr(address.to_bytes()) is Multiaddr(bytes(address))
    assert address != "/ip4/1.2.3.4/tcp/1"
    assert copy.deepcopy(address) == pickle.loads(pickle.dumps(address)) == address
    later = Multiaddr("/ip4/1.2.3.4/tcp/2")
    assert address < later <= later
    assert sorted([later, address]) == [address, later]
    assert len({address, later, Multiaddr("/ip4/1.2.3.4/tcp/1/")}) == 2
