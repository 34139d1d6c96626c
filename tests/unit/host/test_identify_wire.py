"""Identify messages: encoding, merging, limits, malformed input."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libp2p.errors import RemoteProtocolError
from libp2p.host.identify import IdentifyInfo
from libp2p.host.identify.wire import MAX_MESSAGES, MAX_TEXT_LENGTH, decode, encode
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.varint import decode_varint, encode_varint

KEY = PrivateKey.generate().public_key
BLANK = IdentifyInfo(KEY.peer_id, KEY)
FULL = IdentifyInfo(
    KEY.peer_id,
    KEY,
    protocol_version="ipfs/0.1.0",
    agent_version="someone/1.2.3",
    listen_addrs=(Multiaddr("/ip4/192.0.2.1/tcp/4001"), Multiaddr("/ip6/2001:db8::1/udp/4001/quic-v1")),
    observed_addr=Multiaddr("/ip4/198.51.100.9/tcp/50000"),
    protocols=("/ipfs/id/1.0.0", "/a/1"),
    signed_peer_record=b"sealed",
)


def read(data: bytes, known: IdentifyInfo = BLANK, max_addrs: int = 10, max_protocols: int = 10) -> IdentifyInfo:
    return decode(data, known, max_addrs=max_addrs, max_protocols=max_protocols)


def field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return encode_varint(number << 3 | 2) + encode_varint(len(value)) + value


def message(*fields: tuple[int, bytes]) -> bytes:
    body = b"".join(field(number, value) for number, value in fields)
    return encode_varint(len(body)) + body


def split(data: bytes) -> list[bytes]:
    parts = []
    while data:
        size, start = decode_varint(data)
        parts.append(data[start : start + size])
        data = data[start + size :]
    return parts


def test_the_bytes_are_those_of_the_spec() -> None:
    assert encode(FULL) == message(
        (1, KEY.to_protobuf()),
        (2, FULL.listen_addrs[0].to_bytes()),
        (2, FULL.listen_addrs[1].to_bytes()),
        (3, b"/ipfs/id/1.0.0"),
        (3, b"/a/1"),
        (4, Multiaddr("/ip4/198.51.100.9/tcp/50000").to_bytes()),
        (5, b"ipfs/0.1.0"),
        (6, b"someone/1.2.3"),
        (8, b"sealed"),
    )


@pytest.mark.parametrize("info", [FULL, replace(FULL, signed_peer_record=b"s" * 3000), BLANK])
def test_what_is_encoded_is_read_back(info: IdentifyInfo) -> None:
    assert read(encode(info)) == info


def test_a_large_record_comes_in_a_second_message() -> None:
    first, second = split(encode(replace(FULL, signed_peer_record=b"s" * 3000)))
    assert first == split(encode(replace(FULL, signed_peer_record=None)))[0]
    assert second == field(8, b"s" * 3000)


def test_addresses_that_do_not_fit_are_left_out() -> None:
    addrs = tuple(Multiaddr(f"/ip4/192.0.2.1/tcp/{port}") for port in range(1, 1000))
    data = encode(replace(FULL, listen_addrs=addrs))
    assert 3900 < len(split(data)[0]) <= 4096
    kept = read(data, max_addrs=1000).listen_addrs
    assert kept == addrs[: len(kept)]


def test_messages_are_merged_and_change_what_they_speak_of() -> None:
    data = message((3, b"/new/1")) + message((3, b"/new/2"), (6, b"other/2")) + message()
    assert read(data, FULL) == replace(FULL, protocols=("/new/1", "/new/2"), agent_version="other/2")


def test_what_is_unreadable_or_beyond_the_limits_is_dropped() -> None:
    good = [Multiaddr(f"/ip4/192.0.2.1/tcp/{port}") for port in (1, 2, 3)]
    addrs = [good[0].to_bytes(), b"\xff\xff\xff", good[1].to_bytes(), good[2].to_bytes()]
    data = message(
        *((2, addr) for addr in addrs),
        *((3, b"/%d" % n) for n in range(5)),
        (3, b"/" + b"x" * MAX_TEXT_LENGTH),
        (4, b"\x00"),
        (6, b"a" * 5000),
        (99, b"unknown"),
    )
    info = read(data, max_addrs=3, max_protocols=2)
    assert info.listen_addrs == (good[0], good[1])
    assert info.protocols == ("/0", "/1")
    assert info.observed_addr is None
    assert info.agent_version == "a" * MAX_TEXT_LENGTH
    assert "/" + "x" * MAX_TEXT_LENGTH not in read(data).protocols


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "ended without one"),
        (b"\x05\x0a", "ended after 1 of 5 bytes"),
        (b"\x80", "varint"),
        (b"\xff" * 12, "varint"),
        (encode_varint(3) + b"\xff\xff\xff", ""),
        (encode_varint(8193) + bytes(8193), "8193 bytes, the limit is 8192"),
        pytest.param(
            message((1, PrivateKey.generate().public_key.to_protobuf())), "holds the key of", id="another peer's key"
        ),
        (message((3, b"/x")) * (MAX_MESSAGES + 1), "more than 10 parts"),
    ],
)
def test_malformed_messages_are_named(data: bytes, named: str) -> None:
    with pytest.raises(RemoteProtocolError, match=f"identify message of {KEY.peer_id}.*{named}"):
        read(data)


def test_a_bad_field_costs_that_field() -> None:
    data = message((1, b"no key"), (3, b"\xff\xfe"), (3, b"/good/1"), (6, b"\xff\xfe"), (5, b"new/1"))
    assert read(data, FULL) == replace(FULL, protocols=("/good/1",), protocol_version="new/1")


def test_addresses_are_bounded_in_components_and_bytes() -> None:
    good = Multiaddr("/ip4/192.0.2.1/tcp/1")
    relay = b"\xa2\x02"  # /p2p-circuit
    long = Multiaddr("/ip4/192.0.2.1/tcp/1/http-path/" + "a" * 400).to_bytes()
    data = message((2, relay * 16), (2, relay * 17), (2, relay * 256), (2, long + b"\xe1\x03\x6f" + b"a" * 111))
    data += message((2, good.to_bytes()), (2, good.to_bytes()))
    addrs = read(data).listen_addrs
    assert [len(addr) for addr in addrs] == [16, 2]
    assert addrs[1] == good
    many = [Multiaddr(f"/ip4/192.0.2.1/tcp/{n}/http-path/{'a' * 450}") for n in range(1, 41)]
    data = b"".join(message(*((2, addr.to_bytes()) for addr in many[n : n + 10])) for n in range(0, 40, 10))
    kept = read(data, max_addrs=100).listen_addrs
    assert kept == tuple(many[: len(kept)])
    assert sum(len(addr.to_bytes()) for addr in kept) <= 8192 < sum(len(addr.to_bytes()) for addr in many)


def test_protocols_are_bounded_in_bytes() -> None:
    names = [f"/{n:03d}/{'x' * 200}" for n in range(90)]
    parts = [message(*((3, name.encode()) for name in names[n : n + 30])) for n in range(0, 90, 30)]
    kept = read(b"".join(parts), max_protocols=1000).protocols
    assert kept == tuple(names[: len(kept)])
    assert 7900 < sum(map(len, kept)) <= 8192


def test_ten_messages_of_8_kib_are_accepted() -> None:
    parts = [message((99, bytes(8192 - 4))) for _ in range(9)] + [message((3, b"/last/1"))]
    assert read(b"".join(parts)).protocols == ("/last/1",)
    assert max(len(part) for part in split(b"".join(parts))) == 8192


def test_the_first_message_fits_in_what_others_read_at_once() -> None:
    names = tuple(f"/{n:03d}/{'x' * 90}" for n in range(150))
    parts = split(encode(replace(FULL, protocols=names)))
    assert all(len(part) <= 4096 + 200 for part in parts)
    assert len(parts[0]) <= 4096
    assert len(parts) == 5
    assert parts[-1] == split(message((8, b"sealed")))[0]
    kept = read(encode(replace(FULL, protocols=names[:80])), max_protocols=1000)
    assert kept == replace(FULL, listen_addrs=(), protocols=names[: len(kept.protocols)])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for candidate in (data, encode_varint(len(data)) + data):
        with suppress(RemoteProtocolError):
            assert read(candidate, FULL).peer == KEY.peer_id
