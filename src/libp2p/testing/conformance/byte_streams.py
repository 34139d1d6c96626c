"""What every byte stream does: `ByteStreamSuite`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from ...connection import Stream
from ...errors import BusyResource, IncompleteRead, MessageTooLarge, RemoteProtocolError
from ...io import ByteStream
from .tools import ENDED, HELD, cancel, ends, is_held, pattern, raises, started

AnyStream = TypeVar("AnyStream", bound=ByteStream)


class ByteStreamSuite(Generic[AnyStream]):
    """Tests of a `ByteStream`, read and written by tasks. `make` gives both ends of one."""

    max_buffered: int = 16 * 1024 * 1024
    """Bytes that a writer may get rid of, all layers together, while the other side reads nothing."""

    abort_is_told: bool = True
    """Whether the peer can tell `abort` from `close`: it gets an error, not the end of the stream."""

    async def make(self) -> tuple[AnyStream, AnyStream]:
        """Two connected ends."""
        raise NotImplementedError

    async def cleanup(self) -> None:
        """Called at the end of each test, when both ends have been torn down."""

    @asynccontextmanager
    async def pair(self) -> AsyncIterator[tuple[AnyStream, AnyStream]]:
        """The two ends, for the time of a test."""
        left, right = await self.make()
        try:
            yield left, right
        finally:
            left.abort()
            right.abort()
            await ends(left.close())
            await ends(right.close())
            await self.cleanup()

    async def test_bytes_arrive_in_order_in_both_directions(self) -> None:
        total = 1_000_000

        async def write(stream: ByteStream, step: int) -> None:
            for start in range(0, total, step):
                await stream.write(memoryview(pattern(min(step, total - start), start)))

        async def read(stream: ByteStream, step: int) -> None:
            got = 0
            while got < total:
                chunk = await stream.read(step)
                assert 0 < len(chunk) <= step
                assert chunk == pattern(len(chunk), got)
                got += len(chunk)

        async with self.pair() as (left, right), asyncio.TaskGroup() as group:
            group.create_task(write(left, 70_001))
            group.create_task(write(right, 997))
            group.create_task(read(left, 100_000))
            group.create_task(read(right, 333))

    async def test_reads_of_each_kind(self) -> None:
        async with self.pair() as (left, right):
            await left.write(b"one\ntwo\n")
            await left.write(bytearray(b"3456789"))
            assert await ends(right.readuntil()) == b"one\n"
            assert await right.read(0) == b""
            assert await ends(right.readexactly(6)) == b"two\n34"
            assert await ends(right.readuntil(b"89")) == b"56789"
            await left.write(b"")
            await left.write(b"x" * 100)
            await ends(right.readexactly(1))
            with raises(MessageTooLarge):
                await ends(right.readuntil(b"y", limit=50))
            assert await ends(right.readexactly(99)) == b"x" * 99

    async def test_a_long_line_is_found_once_it_is_complete(self) -> None:
        async with self.pair() as (left, right):
            reading = await started(right.readuntil(b"\r\n"))
            await left.write(b"a" * 1000 + b"\r")
            assert await is_held(reading)
            await left.write(b"\nrest")
            assert await ends(reading) == b"a" * 1000 + b"\r\n"

    async def test_the_end_comes_behind_everything_sent_before_it(self) -> None:
        async with self.pair() as (left, right):
            writing = asyncio.ensure_future(left.write(pattern(300_000)))
            assert await ends(right.readexactly(1)) == pattern(1)
            closing: list[asyncio.Task[None]] = []
            got = bytearray(pattern(1))
            while chunk := await ends(right.read(65536)):
                got += chunk
                if writing.done() and not closing:
                    closing.append(asyncio.ensure_future(left.close()))
            assert bytes(got) == pattern(300_000)
            assert await right.read(1) == b""
            assert await right.read() == b""
            await ends(closing[0])

    async def test_a_read_to_the_end_and_reads_cut_short_by_it(self) -> None:
        async with self.pair() as (left, right):
            await left.write(b"begin and part")
            closing = asyncio.ensure_future(left.close())
            with raises(MessageTooLarge):
                await ends(right.read(limit=5))
            assert await ends(right.readexactly(10)) == b"begin and "
            with raises(IncompleteRead) as caught:
                await ends(right.readexactly(100))
            assert caught.value.partial == b"part"
            with raises(IncompleteRead):
                await ends(right.readuntil())
            await ends(closing)

    async def test_iteration_ends_with_the_stream(self) -> None:
        async with self.pair() as (left, right):
            async with left:
                await left.write(pattern(5000))
            assert b"".join([chunk async for chunk in right]) == pattern(5000)

    async def test_half_close_leaves_the_other_direction_open(self) -> None:
        async with self.pair() as (left, right):
            if isinstance(left, Stream) and isinstance(right, Stream):
                await left.write(b"question")
                await left.close_write()
                await left.close_write()
                assert await ends(right.read()) == b"question"
                with raises(*ENDED):
                    await left.write(b"more")
                await right.write(b"answer")
                await right.close_write()
                assert await ends(left.read()) == b"answer"

    async def test_a_reader_that_stops_holds_the_writer(self) -> None:
        async with self.pair() as (left, right):
            sent = 0

            async def flood() -> None:
                nonlocal sent
                while True:
                    data = pattern(16384, sent)
                    sent += len(data)
                    await left.write(data)

            writing = asyncio.ensure_future(flood())
            assert await is_held(writing)
            held_at = sent
            assert held_at <= self.max_buffered
            assert await is_held(writing)
            assert sent == held_at, "the writer goes on although nobody reads"
            got = 0
            while got < held_at + 100_000:
                chunk = await ends(right.read(65536))
                assert chunk == pattern(len(chunk), got)
                got += len(chunk)
            assert sent > held_at, "the writer is held although the reader went on"
            await cancel(writing)

    async def test_a_slow_reader_does_not_pile_up_bytes(self) -> None:
        async with self.pair() as (left, right):
            sent = 0

            async def flood() -> None:
                nonlocal sent
                while True:
                    await left.write(bytes(16384))
                    sent += 16384

            writing = asyncio.ensure_future(flood())
            assert await is_held(writing)
            before = sent
            for _ in range(500):
                await right.readexactly(1)
                await asyncio.sleep(0)
            assert await is_held(writing)
            assert sent <= before + 1024 * 1024, f"500 bytes were read, {sent - before} more were taken"
            await cancel(writing)

    async def test_a_read_larger_than_every_buffer_completes(self) -> None:
        size = self.max_buffered + 1_000_000
        async with self.pair() as (left, right):
            writing = asyncio.ensure_future(left.write(bytes(size)))
            assert len(await ends(right.readexactly(size), within=30)) == size
            await ends(writing)

    async def test_cancelled_reads_lose_nothing(self) -> None:
        async with self.pair() as (left, right):
            for call in (right.readexactly(100), right.readuntil(b"!"), right.read()):
                reading = await started(call)
                await left.write(b"0123456789")
                assert await is_held(reading)
                await cancel(reading)
            reading_any = await started(right.readexactly(31))
            await left.write(b"!")
            reading_any.cancel()  # at the moment when the bytes may be there already
            await asyncio.wait({reading_any})
            if reading_any.cancelled():
                assert await ends(right.readexactly(31)) == b"0123456789" * 3 + b"!"
            else:
                assert reading_any.result() == b"0123456789" * 3 + b"!"

    async def test_a_cancelled_write_leaves_the_stream_in_order(self) -> None:
        async with self.pair() as (left, right):
            writing = asyncio.ensure_future(left.write(pattern(self.max_buffered + 100_000)))
            assert await is_held(writing)
            await cancel(writing)
            again = asyncio.ensure_future(left.write(b"END"))
            got = bytearray()
            while not got.endswith(b"END"):
                got += await ends(right.read(1_000_000))
            await ends(again)
            assert bytes(got[:-3]) == pattern(len(got) - 3)

    async def test_a_cancelled_close_closes_all_the_same(self) -> None:
        async with self.pair() as (left, right):
            await left.write(b"last words")
            closing = asyncio.ensure_future(left.close())
            await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait({closing})
            assert await ends(right.read()) == b"last words"
            await ends(left.close())

    async def test_two_readers_at_once_are_refused(self) -> None:
        async with self.pair() as (left, right):
            reading = await started(right.readexactly(2))
            for sent in (b"x", b""):
                for call in (right.read(1), right.read(0), right.readexactly(1), right.readuntil(b"x"), right.read()):
                    with raises(BusyResource):
                        await call
                await left.write(sent)  # a byte is there the second time, which the first reader has not taken
                await asyncio.sleep(HELD)
            await left.write(b"y")
            assert await ends(reading) == b"xy"

    async def test_parts_are_sent_as_one(self) -> None:
        async with self.pair() as (left, right):
            await left.write(b"one ", bytearray(b"two "), memoryview(b"three"))
            await left.write()
            assert await ends(right.readexactly(13)) == b"one two three"

    async def test_writers_wait_their_turn(self) -> None:
        async with self.pair() as (left, right):
            size = self.max_buffered + 100_000
            writing = [asyncio.ensure_future(left.write(bytes(size)))]
            writing += [asyncio.ensure_future(left.write(*[b"%d" % number] * 1000)) for number in range(1, 5)]
            for task in writing:
                assert await is_held(task)
            await cancel(writing[2])
            got = bytearray()
            while not got.endswith(b"4" * 1000):
                got += await ends(right.read(1_000_000), within=30)
            for task in (*writing[:2], *writing[3:]):
                await ends(task)
            assert not any(got[:size])
            assert bytes(got[size:]).replace(b"2" * 1000, b"") == b"1" * 1000 + b"3" * 1000 + b"4" * 1000
            last = asyncio.ensure_future(left.write(b"last"))
            assert await ends(right.readexactly(4)) == b"last"
            await ends(last)

    async def test_writers_that_wait_hear_of_the_end(self) -> None:
        async with self.pair() as (left, _):
            writing = [asyncio.ensure_future(left.write(bytes(self.max_buffered + 100_000))) for _ in range(3)]
            assert await is_held(writing[-1])
            left.abort()
            for task in writing:
                with raises(*ENDED):
                    await ends(task)

    async def test_messages_and_varints(self) -> None:
        async with self.pair() as (left, right):
            reading = await started(right.read_message(limit=10))
            await left.write(b"\x05ab")
            assert await is_held(reading)
            await cancel(reading)
            await left.write(b"cde")
            assert await ends(right.read_message(limit=5)) == b"abcde"
            for message in (b"", pattern(300), memoryview(pattern(70_000))):
                writing = asyncio.ensure_future(left.write_message(message))
                assert await ends(right.read_message(limit=70_000)) == message
                await ends(writing)
            await left.write(b"\xac\x02\x06")
            assert await ends(right.read_varint()) == 300
            with raises(RemoteProtocolError) as above:
                await ends(right.read_varint(limit=5, what="count"))
            assert str(above.value) == "count: 6, the limit is 5"
            with raises(MessageTooLarge) as large:
                await ends(right.read_message(limit=5, what="greeting"))
            assert (large.value.size, large.value.limit) == (6, 5)
            with raises(TypeError):
                await left.write_message("text")  # type: ignore[arg-type]

    async def test_what_is_no_bytes_is_refused(self) -> None:
        async with self.pair() as (left, right):
            for wrong in ("hi", 5, True, [1, 2], None):
                with raises(TypeError) as caught:
                    await left.write(wrong)  # type: ignore[arg-type]
                assert "bytes" in str(caught.value)
                with raises(TypeError):
                    await left.write(b"good, but", wrong)  # type: ignore[arg-type]
            await left.write(b"fine")
            assert await ends(right.readexactly(4)) == b"fine"

    async def test_calls_on_a_closed_stream_fail(self) -> None:
        async with self.pair() as (left, _):
            reading = await started(left.read(1))
            await ends(left.close())
            with raises(*ENDED):
                await ends(reading)
            with raises(*ENDED):
                await ends(left.read(1))
            with raises(*ENDED):
                await left.write(b"x")
            await ends(left.close())

    async def test_writing_to_a_side_that_has_closed_fails_in_the_end(self) -> None:
        async def write_on(stream: ByteStream) -> None:
            while True:
                await stream.write(bytes(16384))
                await asyncio.sleep(0.001)

        async with self.pair() as (left, right):
            await ends(right.close())
            with raises(*ENDED):
                await ends(write_on(left), within=10)

    async def test_abort_ends_the_calls_of_both_sides(self) -> None:
        async with self.pair() as (left, right):
            own, other = await started(left.read(1)), await started(right.readexactly(5))
            left.abort()
            left.abort()
            for reading in (own, other):
                with raises(*ENDED):
                    await ends(reading)
            for stream in (left, right) if self.abort_is_told else (left,):
                with raises(*ENDED):
                    await ends(stream.read(1))
                with raises(*ENDED):
                    await ends(stream.write(b"x"))
            await ends(left.close())

    async def test_abort_frees_held_writers(self) -> None:
        for by_reader in (True, False):
            async with self.pair() as (left, right):
                writing = asyncio.ensure_future(left.write(bytes(self.max_buffered + 100_000)))
                assert await is_held(writing)
                (right if by_reader else left).abort()
                with raises(*ENDED):
                    await ends(writing)

    async def test_an_error_within_the_context_aborts(self) -> None:
        async def fail(stream: ByteStream) -> None:
            async with stream:
                raise KeyError

        async with self.pair() as (left, right):
            with raises(KeyError):
                await fail(left)
            with raises(*ENDED):
                await ends(right.readexactly(1))
