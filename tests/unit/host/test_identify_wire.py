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
        (message((6, b"\xff\xfe")), "utf-8"),
        (message((3, b"\xff\xfe")), "utf-8"),
        (message((1, b"no key")), ""),
        pytest.param(
            message((1, PrivateKey.generate().public_key.to_protobuf())), "holds the key of", id="another peer's key"
        ),
        (message((3, b"/x")) * (MAX_MESSAGES + 1), "more than 10 parts"),
    ],
)
def test_malformed_messages_are_named(data: bytes, named: str) -> None:
    with pytest.raises(RemoteProtocolError, match=f"identify message of {KEY.peer_id}.*{named}"):
        read(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for candidate in (data, encode_varint(len(data)) + data):
        with suppress(RemoteProtocolError):
            assert read(candidate, FULL).peer == KEY.peer_id
