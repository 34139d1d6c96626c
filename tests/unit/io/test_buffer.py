"""ReceiveBuffer: each read's limits and errors. tests/property/test_buffer.py has the invariants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from libp2p.errors import BusyResource, IncompleteRead, MessageTooLarge, StreamReset
from libp2p.io import ReceiveBuffer
from libp2p.io.buffer import _REPORTED

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
        assert (caught.value.code, caught.value.by) == (RESET.code, RESET.by)
        assert caught.value is not RESET, "each call gets an error of its own"


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
    buffer, size = ReceiveBuffer(credited.append), _REPORTED
    buffer.feed(b"a" * size)
    assert buffer.unclaimed == size
    reading = asyncio.ensure_future(buffer.readexactly(size * 5 // 2))
    await asyncio.sleep(0)
    assert (credited, buffer.unclaimed) == ([size], 0)
    buffer.feed(b"b" * size)
    await asyncio.sleep(0)
    assert credited == [size, size]
    reading.cancel()
    await asyncio.wait({reading})
    assert await buffer.readexactly(size * 3 // 2) == b"a" * size + b"b" * (size // 2)
    assert credited == [size, size], "bytes are credited once"
    buffer.feed(b"c" * size)
    assert buffer.discard() == size, "the other half of the second piece was credited before"
    assert len(buffer) == 0


async def test_small_reads_are_reported_together() -> None:
    credited: list[int] = []
    buffer = ReceiveBuffer(credited.append)
    buffer.feed(bytes(_REPORTED))
    for _ in range(_REPORTED - 1):
        await buffer.readexactly(1)
    assert credited == []
    await buffer.readexactly(1)
    assert credited == [_REPORTED]


@pytest.mark.parametrize("end", [ReceiveBuffer.feed_eof, lambda buffer: buffer.set_error(OSError("gone"))])
async def test_nothing_is_reported_once_nothing_more_will_come(end: Callable[[ReceiveBuffer], None]) -> None:
    credited: list[int] = []
    buffer = ReceiveBuffer(credited.append)
    buffer.feed(bytes(_REPORTED))
    end(buffer)
    assert await buffer.readexactly(_REPORTED) == bytes(_REPORTED)
    assert credited == []


@pytest.mark.parametrize(
    ("expected", "skipped"), [(b"steak", True), (b"steaks", False), (b"s", True), (b"", True), (b"teak", False)]
)
async def test_skip_takes_what_it_expects_or_nothing(expected: bytes, skipped: bool) -> None:
    buffer = ReceiveBuffer()
    for piece in (b"xs", b"te", b"ak"):
        buffer.feed(piece)
    await buffer.readexactly(1)
    assert buffer.skip(expected) == skipped
    assert buffer.take_all() == (b"steak"[len(expected) :] if skipped else b"steak")


async def test_skip_reaches_over_pieces_of_any_size() -> None:
    buffer = ReceiveBuffer()
    big = bytes(range(256)) * 40
    buffer.feed(big)
    buffer.feed(big)
    await buffer.readexactly(5)
    assert buffer.skip((big + big)[5 : len(big) + 5])
    assert buffer.take_all() == big[5:]


async def test_fill_waits_for_as_much_or_the_end() -> None:
    buffer = ReceiveBuffer()
    waiting = asyncio.ensure_future(buffer.fill(3))
    buffer.feed(b"ab")
    await asyncio.sleep(0)
    assert not waiting.done()
    with pytest.raises(BusyResource):
        buffer.skip(b"a")
    buffer.feed(b"c")
    await waiting
    buffer.feed_eof()
    await buffer.fill(100)
    assert buffer.take_all() == b"abc"


async def test_small_pieces_are_gathered() -> None:
    buffer = filled(*[b"x"] * 100_000)
    assert len(buffer._chunks) <= 2
    assert await buffer.readexactly(100_000) == b"x" * 100_000


async def test_a_guard_is_awaited_before_the_first_read_and_again_where_it_failed() -> None:
    buffer = filled(b"yes\n", b"data")
    calls = []

    async def guard() -> None:
        calls.append(len(calls))
        if len(calls) == 1:
            raise KeyError
        assert await buffer.readuntil() == b"yes\n"

    buffer.guard(guard)
    with pytest.raises(KeyError):
        await buffer.read(1)
    assert buffer.is_guarded
    assert await buffer.readexactly(4) == b"data"
    assert calls == [0, 1]
    assert not buffer.is_guarded


async def test_a_cancelled_guard_is_awaited_again_and_another_reader_is_refused_meanwhile() -> None:
    buffer = filled()

    async def guard() -> None:
        assert await buffer.readexactly(1) == b"!"

    buffer.guard(guard)
    reading = asyncio.ensure_future(buffer.read(1))
    await asyncio.sleep(0)
    for call in (buffer.read(1), buffer.readuntil(), buffer.unguarded()):
        with pytest.raises(BusyResource):
            await call
    reading.cancel()
    await asyncio.wait({reading})
    buffer.feed(b"!x")
    assert await buffer.read(1) == b"x"
