"""Multiaddrs of any making: both forms are read back, and what is no address is refused as such."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libp2p.errors import InvalidMultiaddr
from libp2p.multiaddr import PROTOCOLS, Component, Multiaddr, protocol_named

NAMES = st.text(st.characters(exclude_categories=["Cs", "C", "Z"], exclude_characters="/"), min_size=1, max_size=60)
IDENTITY = st.binary(min_size=1, max_size=42).map(lambda key: bytes((0, len(key))) + key)
SHA2_256 = st.binary(min_size=32, max_size=32).map(lambda digest: b"\x12\x20" + digest)
HASHES = st.tuples(st.sampled_from([0x12, 0x13, 0x1B]), st.binary(min_size=1, max_size=127)).map(
    lambda h: bytes((h[0], len(h[1]))) + h[1]
)
ONION_PORT = st.integers(1, 65535).map(lambda port: port.to_bytes(2, "big"))

RAW: dict[str, st.SearchStrategy[bytes]] = {
    "ip6zone": NAMES.map(str.encode),
    "dns": NAMES.map(str.encode),
    "dns4": NAMES.map(str.encode),
    "dns6": NAMES.map(str.encode),
    "dnsaddr": NAMES.map(str.encode),
    "sni": NAMES.map(str.encode),
    "p2p": IDENTITY | SHA2_256,
    "certhash": HASHES,
    "onion": st.tuples(st.binary(min_size=10, max_size=10), ONION_PORT).map(b"".join),
    "onion3": st.tuples(st.binary(min_size=35, max_size=35), ONION_PORT).map(b"".join),
    "garlic32": st.binary(min_size=32, max_size=32) | st.binary(min_size=35, max_size=60),
    "garlic64": st.binary(min_size=386, max_size=400),
    "http-path": st.binary(min_size=1, max_size=60),
    "unix": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)
    .filter(lambda path: not path.endswith("/"))
    .map(lambda path: b"/" + path.encode()),
}


def _components(name: str) -> st.SearchStrategy[Component]:
    protocol = protocol_named(name)
    size = protocol.size // 8
    raw = RAW[name] if name in RAW else st.binary(min_size=size, max_size=size)
    return raw.map(lambda value: Component.from_raw(protocol, value))


def _check_bytes(data: bytes) -> None:
    try:
        address = Multiaddr(data)
    except InvalidMultiaddr:
        return
    assert address.to_bytes() == data
    assert Multiaddr(str(address)) == address


inner = st.lists(st.sampled_from([p.name for p in PROTOCOLS if not p.path]).flatmap(_components), max_size=8)
addresses = (
    st.tuples(inner, st.lists(_components("unix"), max_size=1))
    .map(lambda parts: Multiaddr.from_components(parts[0] + parts[1]))
    .filter(bool)
)


@given(addresses)
def test_text_and_bytes_are_read_back(address: Multiaddr) -> None:
    assert Multiaddr(str(address)) == address
    assert Multiaddr(address.to_bytes()) == address
    assert str(Multiaddr(address.to_bytes())) == str(address)
    assert Multiaddr(str(address)).components == Multiaddr(address.to_bytes()).components == address.components


@given(addresses, st.integers(0, 8))
def test_taking_apart_and_putting_together(address: Multiaddr, at: int) -> None:
    head, tail = address[:at], address[at:]
    assert head / tail == address
    assert address.startswith(head)
    rest = address.decapsulate(tail)
    assert address.startswith(rest)
    assert not tail or len(rest) >= len(head)


@given(
    st.binary(max_size=80)
    | st.lists(st.sampled_from(PROTOCOLS), max_size=4).flatmap(
        lambda protocols: st.binary(max_size=40).map(lambda end: b"".join(p.prefix for p in protocols) + end)
    )
)
def test_any_bytes(data: bytes) -> None:
    _check_bytes(data)


@given(addresses, st.data())
def test_broken_bytes(address: Multiaddr, data: st.DataObject) -> None:
    binary = bytearray(address.to_bytes())
    binary[data.draw(st.integers(0, len(binary) - 1))] ^= data.draw(st.integers(1, 255))
    _check_bytes(bytes(binary))
    with pytest.raises(InvalidMultiaddr):
        Multiaddr(address.to_bytes() + b"\x06")


_WORDS = st.sampled_from([p.name for p in PROTOCOLS] + ["", "1", "127.0.0.1", "::1", "a:80", "uEgA", "%41", "1" * 50])


@given(
    st.text(max_size=40) | st.lists(_WORDS | st.text(max_size=12), max_size=8).map(lambda words: "/" + "/".join(words))
)
def test_any_text(text: str) -> None:
    try:
        address = Multiaddr(text)
    except InvalidMultiaddr:
        return
    assert Multiaddr(str(address)) == address
    assert Multiaddr(address.to_bytes()) == address


@given(st.ip_addresses(), st.integers(0, 65535))
def test_ip_addresses(ip: IPv4Address | IPv6Address, port: int) -> None:
    address = Multiaddr(f"/ip{ip.version}/{ip}/tcp/{port}")
    assert address[0].raw == ip.packed
    assert address.get("tcp") == str(port)
