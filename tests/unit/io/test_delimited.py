"""Length-delimited messages."""

from __future__ import annotations

import asyncio

import pytest

from libp2p.errors import IncompleteRead, MessageTooLarge, RemoteProtocolError
from libp2p.io import ReceiveBuffer, read_protobuf, write_protobuf
from libp2p.io.delimited import read_message
from libp2p.protocols.fetch.fetch_pb2 import FetchRequest
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
    assert await read_message(buffer, limit=128) == message
    assert buffer.take_all() == (b"rest" if wire.endswith(b"rest") else b"")


@pytest.mark.parametrize(
    ("wire", "error", "text"),
    [
        (b"", IncompleteRead, "0 bytes"),
        (b"\x80", IncompleteRead, "1 bytes"),
        (b"\x05abcd", IncompleteRead, "5 bytes"),
        (b"\x81\x01" + b"x" * 200, MessageTooLarge, "greeting: 129 bytes, the limit is 128"),
        (b"\xff" * 8 + b"\x7f", MessageTooLarge, "limit is 128"),
        (b"\xff" * 30, RemoteProtocolError, "length of a greeting"),
        (b"\x80\x00", RemoteProtocolError, "length of a greeting"),
    ],
)
async def test_what_is_refused(wire: bytes, error: type[Exception], text: str) -> None:
    buffer = received(wire)
    with pytest.raises(error, match=text) as caught:
        await read_message(buffer, limit=128, what="greeting")
    assert caught.type is error
    if error is MessageTooLarge:
        assert len(buffer) >= len(wire) - 10, "nothing of the message is read"


async def test_what_is_written_is_read() -> None:
    left, right = pipe()
    for message in (b"", b"x", b"y" * 1000, memoryview(b"view")):
        await left.write_message(message)
        assert await right.read_message(limit=1000) == message
    left.abort()
    right.abort()


async def test_protobuf_messages() -> None:
    left, right = pipe()
    await write_protobuf(left, FetchRequest(identifier=b"key"))
    assert (await read_protobuf(right, FetchRequest, limit=100)).identifier == b"key"
    await left.write_message(b"\xff\xff")
    with pytest.raises(RemoteProtocolError, match="malformed FetchRequest: "):
        await read_protobuf(right, FetchRequest, limit=100)
    await write_protobuf(left, FetchRequest(identifier=bytes(200)))
    with pytest.raises(MessageTooLarge, match="question: 203 bytes, the limit is 100"):
        await read_protobuf(right, FetchRequest, limit=100, what="question")
    left.abort()
    right.abort()


async def test_a_message_in_many_pieces_cancelled_at_each() -> None:
    wire = b"\x80\x02" + b"x" * 256 + b"\x03end"
    buffer = ReceiveBuffer()
    got = []
    for byte in wire:
        reading = asyncio.ensure_future(read_message(buffer, limit=256))
        await asyncio.sleep(0)
        buffer.feed(bytes((byte,)))
        if byte == ord("x"):
            reading.cancel()
        await asyncio.wait({reading}, timeout=0.001)
        if not reading.done():
            reading.cancel()
            await asyncio.wait({reading})
        elif not reading.cancelled():
            got.append(reading.result())
    while buffer.available:
        got.append(await read_message(buffer, limit=256))
    assert got == [b"x" * 256, b"end"]
