"""Length-delimited messages."""

from __future__ import annotations

import pytest

from libp2p.errors import IncompleteRead, MessageTooLarge, RemoteProtocolError
from libp2p.io import ReceiveBuffer, read_delimited, write_delimited
from libp2p.transports.memory import pipe


def received(data: bytes) -> ReceiveBuffer:
    buffer = ReceiveBuffer()
    buffer.feed(data)
    buffer.feed_eof()
    return buffer


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (b"\x00", b""),
        (b"\x03abcrest", b"abc"),
        (b"\x80\x01" + b"x" * 128, b"x" * 128),
    ],
)
async def test_messages_and_nothing_behind_them(wire: bytes, message: bytes) -> None:
    buffer = received(wire)
    assert await read_delimited(buffer, limit=128) == message
    assert buffer.take_all() == (b"rest" if wire.endswith(b"rest") else b"")


@pytest.mark.parametrize(
    ("wire", "error", "text"),
    [
        (b"", IncompleteRead, "0 bytes"),
        (b"\x80", IncompleteRead, "0 bytes"),
        (b"\x05abcd", IncompleteRead, "4 bytes"),
        (b"\x81\x01" + b"x" * 200, MessageTooLarge, "greeting: 129 bytes, the limit is 128"),
        (b"\xff" * 8 + b"\x7f", MessageTooLarge, "limit is 128"),
        (b"\xff" * 30, RemoteProtocolError, "length of a greeting"),
        (b"\x80\x00", RemoteProtocolError, "length of a greeting"),
    ],
)
async def test_what_is_refused(wire: bytes, error: type[Exception], text: str) -> None:
    buffer = received(wire)
    with pytest.raises(error, match=text) as caught:
        await read_delimited(buffer, limit=128, what="greeting")
    assert caught.type is error
    if error is MessageTooLarge:
        assert len(buffer) >= len(wire) - 10, "nothing of the message is read"


async def test_what_is_written_is_read() -> None:
    left, right = pipe()
    for message in (b"", b"x", b"y" * 1000, memoryview(b"view")):
        await write_delimited(left, message)
        assert await read_delimited(right, limit=1000) == message
    left.abort()
    right.abort()
