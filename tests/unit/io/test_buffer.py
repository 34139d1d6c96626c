"""ReceiveBuffer: each read's limits and errors. tests/property/test_buffer.py has the invariants."""

from __future__ import annotations

import asyncio

import pytest

from libp2p.errors import BusyResource, IncompleteRead, MessageTooLarge, StreamReset
from libp2p.io import ReceiveBuffer

RESET = StreamReset(7, by="remote")


def filled(*pieces: bytes, eof: bool = False, error: Exception | None = None) -> ReceiveBuffer:
    buffer = ReceiveBuffer()
    for piece in pieces:
        buffer.feed(piece)
    if eof:
        buffer.feed_eof()
    if error is not None:
        buffer.set_error(error)
    return buffer


async def test_feed_copies() -> None:
    for size in (10, 100_000):
        memory = bytearray(b"a" * size)
        buffer = filled()
        buffer.feed(memoryview(memory))
        memory[:] = b"b" * size
        assert await buffer.readexactly(size) == b"a" * size


async def test_what_arrived_before_an_error_is_read_first() -> None:
    buffer = filled(b"abcdef", error=RESET)
    assert await buffer.readexactly(2) == b"ab"
    assert await buffer.readuntil(b"d") == b"cd"
    assert await buffer.read(10) == b"ef"
    for read in (buffer.read(1), buffer.read(), buffer.readexactly(1), buffer.readuntil()):
        with pytest.raises(StreamReset) as caught:
            await read
        assert caught.value is RESET


async def test_what_an_error_leaves_incomplete_stays_readable() -> None:
    buffer = filled(b"abc", error=RESET)
    for read in (buffer.readexactly(4), buffer.readuntil(), buffer.read()):
        with pytest.raises(StreamReset):
            await read
    assert await buffer.readexactly(3) == b"abc"


async def test_the_end_hands_out_the_rest_as_partial() -> None:
    buffer = filled(b"abc", eof=True)
    assert not buffer.at_eof
    with pytest.raises(IncompleteRead) as caught:
        await buffer.readexactly(4)
    assert (caught.value.partial, caught.value.expected) == (b"abc", 4)
    assert buffer.at_eof
    assert await buffer.read(1) == await buffer.read() == b""


async def test_the_first_end_counts() -> None:
    buffer = filled(b"x", eof=True, error=RESET)
    assert await buffer.read() == b"x"


async def test_limits_leave_the_bytes_readable() -> None:
    buffer = filled(b"0123456789", eof=True)
    with pytest.raises(MessageTooLarge):
        await buffer.read(limit=9)
    with pytest.raises(MessageTooLarge):
        await buffer.readuntil(b"9", limit=9)
    assert await buffer.readuntil(b"4", limit=5) == b"01234"
    assert await buffer.read(limit=5) == b"56789"


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"--end--"])
async def test_a_separator_is_found_however_it_is_split(separator: bytes) -> None:
    for first in range(len(separator) + 1):
        buffer = filled(b"line", separator[:first])
        reading = asyncio.ensure_future(buffer.readuntil(separator))
        await asyncio.sleep(0)
        buffer.feed(separator[first:] + b"more")
        assert await reading == b"line" + separator
        assert len(buffer) == 4


async def test_one_reader_at_a_time() -> None:
    buffer = filled(b"abc")
    reading = asyncio.ensure_future(buffer.readexactly(5))
    await asyncio.sleep(0)
    for read, argument in ((buffer.read, 1), (buffer.readexactly, 1), (buffer.readuntil, b"a"), (buffer.read, -1)):
        with pytest.raises(BusyResource):
            await read(argument)  # type: ignore[operator]
    buffer.feed(b"de")
    assert await reading == b"abcde"


async def test_a_read_larger_than_the_window_is_credited_while_it_waits() -> None:
    credited: list[int] = []
    buffer = ReceiveBuffer(credited.append)
    buffer.feed(b"a" * 10)
    assert buffer.unclaimed == 10
    reading = asyncio.ensure_future(buffer.readexactly(25))
    await asyncio.sleep(0)
    assert (credited, buffer.unclaimed) == ([10], 0)
    buffer.feed(b"b" * 10)
    await asyncio.sleep(0)
    assert credited == [10, 10]
    reading.cancel()
    await asyncio.wait({reading})
    assert await buffer.readexactly(15) == b"a" * 10 + b"b" * 5
    assert credited == [10, 10], "bytes are credited once"
    buffer.feed(b"c" * 10)
    assert buffer.discard() == 10, "five of the fifteen were credited before"
    assert len(buffer) == 0


async def test_small_pieces_are_gathered() -> None:
    buffer = filled(*[b"x"] * 100_000)
    assert len(buffer._chunks) <= 2
    assert await buffer.readexactly(100_000) == b"x" * 100_000
