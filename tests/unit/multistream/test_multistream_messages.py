"""The messages of multistream-select: encoding, limits, and what malformed ones are answered with."""

from __future__ import annotations

import pytest

from libp2p.errors import InvalidInput, Libp2pError, MessageTooLarge, RemoteProtocolError
from libp2p.multistream.core import (
    HEADER_MESSAGE,
    MAX_LIST,
    MAX_MESSAGE,
    OFFER_SIZE,
    MessageParser,
    encode_list,
    encode_message,
    parse_offer,
)


def parse(data: bytes) -> tuple[list[str], bytes]:
    """The messages in `data`, and what was not consumed of it."""
    parser, texts = MessageParser(), []
    while len(data) >= parser.needed:
        needed = parser.needed
        text = parser.feed(data[:needed])
        data = data[needed:]
        if text is not None:
            texts.append(text)
    return texts, data


def test_example_of_the_specification() -> None:
    assert encode_message("na") == bytes.fromhex("036e610a")
    assert encode_message("/multistream/1.0.0") == b"\x13/multistream/1.0.0\n"


def test_longest_message() -> None:
    longest = "/" + "x" * (MAX_MESSAGE - 2)
    encoded = encode_message(longest)
    assert encoded[:2] == b"\x80\x08"
    assert parse(encoded + encode_message("na")) == ([longest, "na"], b"")


@pytest.mark.parametrize("text", ["", "a\nb", "a\n", "x" * MAX_MESSAGE])
def test_refuses_to_encode(text: str) -> None:
    with pytest.raises(InvalidInput):
        encode_message(text)


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"\x03nax", RemoteProtocolError, "not a line of text: 'nax'"),
        (b"\x01\n", RemoteProtocolError, r"not a line of text: '\\n'"),
        (b"\x04a\nb\n", RemoteProtocolError, r"not a line of text: 'a\\nb\\n'"),
        (b"GET / HTTP/1.1\r\nHost: libp2p.io\r\n" + b"Accept: */*\r\n" * 4, RemoteProtocolError, "'ET / HTTP/1.1"),
        (b"\x00", RemoteProtocolError, "of no bytes"),
        (b"\x83\x00", RemoteProtocolError, "not in its shortest form"),
        (b"\x81\x08", MessageTooLarge, "1025 bytes, the limit is 1024"),
        (b"\xff\xff", MessageTooLarge, "the limit is 1024"),
        (b"\x03\xff\xfe\n", RemoteProtocolError, r"not UTF-8: '\\xff\\xfe\\n'"),
    ],
)
def test_malformed(data: bytes, error: type[Libp2pError], says: str) -> None:
    with pytest.raises(error, match=says):
        parse(data)


def test_error_shows_a_bounded_part() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse(b"\x80\x08" + b"\xff" * MAX_MESSAGE)
    assert len(str(caught.value)) < 400


def test_list_format() -> None:
    assert encode_list(["/a", "/bc"]) == b"\x0a\x03/a\n\x04/bc\n\n"
    assert encode_list([]) == b"\x01\n"


def test_list_is_bounded() -> None:
    encoded = encode_list(f"/protocol/{number}" for number in range(10_000))
    assert MAX_LIST - 32 < len(encoded) - 2 <= MAX_LIST
    assert encoded.endswith(b"\n\n")


@pytest.mark.parametrize("behind", [b"", b"data of the protocol"])
def test_an_offer_in_one_piece(behind: bytes) -> None:
    offer = HEADER_MESSAGE + encode_message("/echo/1.0.0")
    assert parse_offer(offer + behind) == ("/echo/1.0.0", offer)
    longest = HEADER_MESSAGE + encode_message("/" + "x" * 125)
    assert len(longest) == OFFER_SIZE
    assert parse_offer(longest + behind) == ("/" + "x" * 125, longest)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        HEADER_MESSAGE,
        HEADER_MESSAGE[:-1] + b"x\x03/a\n",
        HEADER_MESSAGE + b"\x03/a",
        HEADER_MESSAGE + b"\x00",
        HEADER_MESSAGE + b"\x03/ab",
        HEADER_MESSAGE + b"\x03\n/\n",
        HEADER_MESSAGE + b"\x03/\xff\n",
        HEADER_MESSAGE + encode_message("/" + "x" * 200),
    ],
)
def test_what_is_no_offer_in_one_piece(head: bytes) -> None:
    assert parse_offer(head) is None
