"""What every connection with streams does: `ConnectionSuite`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ...connection import Connection, Direction, Stream
from ...errors import ConnectionClosed, StreamReset
from .tools import cancel, ends, is_held, pattern, raises, started


class Side:
    """One end of a connection, served: what it was told."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.accepted: asyncio.Queue[Stream] = asyncio.Queue()
        self.over: list[Stream] = []
        self.closed: list[ConnectionClosed] = []
        connection.serve(self.accepted.put_nowait, self.closed.append, self.over.append)

    async def stream_to(self, other: Side) -> tuple[Stream, Stream]:
        """A new stream, both ends. A first byte goes over it: with some muxers the peer hears of it only then."""
        ours = await ends(self.connection.open_stream())
        await ends(ours.write(b"!"))
        theirs = await ends(other.accepted.get())
        assert await ends(theirs.readexactly(1)) == b"!"
        return ours, theirs

    async def until_streams_are_gone(self) -> None:
        """Wait until no stream is open."""
        async with asyncio.timeout(10):
            while self.connection.streams:  # noqa: ASYNC110 - nothing tells when a stream is forgotten
                await asyncio.sleep(0.001)


class ConnectionSuite:
    """Tests of a `Connection`. `make` gives both ends of one, the dialer's first, not served yet."""

    carries_reset_codes: bool = True
    """Whether the peer learns the code of a reset."""
    max_buffered: int = 32 * 1024 * 1024
    """Bytes that the writer of one stream may get rid of while nobody reads."""
    patience: float = 60.0
    """Seconds that a slow reader does not read."""
    holds_openers: bool = True
    """Whether opening a stream above the peer's limit waits."""
    many: int = 2000
    """How many streams are opened, one behind the other."""

    async def make(self) -> tuple[Connection, Connection]:
        """The two ends of a new connection."""
        raise NotImplementedError

    async def cleanup(self) -> None:
        """Called at the end of each test, when the connection is gone."""

    @asynccontextmanager
    async def sides(self) -> AsyncIterator[tuple[Side, Side]]:
        """The two ends, served, for the time of a test."""
        dialer, listener = await self.make()
        sides = Side(dialer), Side(listener)
        try:
            yield sides
        finally:
            for side in sides:
                side.connection.abort()
            for side in sides:
                await ends(side.connection.wait_closed())
                await ends(side.connection.close())
            await self.cleanup()
        for side in sides:
            assert len(side.closed) == 1, f"on_closed was called {len(side.closed)} times"
            assert len(set(side.over)) == len(side.over), "on_stream_closed was called twice for one stream"
            streams = side.connection.streams_opened + side.connection.streams_accepted
            assert len(side.over) == streams, f"on_stream_closed was called for {len(side.over)} of {streams} streams"

    async def test_a_probe_is_a_question_whose_answer_is_heard(self) -> None:
        async with self.sides() as sides:
            for connection in (side.connection for side in sides):
                if connection.heard_at is None:
                    continue  # nothing of it is answered
                await asyncio.sleep(0.05)
                asked_at = asyncio.get_running_loop().time()
                assert connection.heard_at < asked_at
                connection.probe()
                for _ in range(100):
                    if connection.heard_at >= asked_at:
                        break
                    await asyncio.sleep(0.05)
                assert connection.heard_at >= asked_at

    async def test_both_ends_know_each_other(self) -> None:
        async with self.sides() as (dialer, listener):
            one, other = dialer.connection, listener.connection
            assert (one.direction, other.direction) == (Direction.OUTBOUND, Direction.INBOUND)
            assert one.local_peer == other.remote_peer
            assert one.remote_peer == other.local_peer != one.local_peer
            assert one.remote_key.peer_id == one.remote_peer
            assert (one.security, one.muxer) == (other.security, other.muxer)
            for connection in (one, other):
                assert connection.close_reason is None
                assert not connection.is_closed
                assert not connection.streams

    async def test_both_ends_open_streams(self) -> None:
        async with self.sides() as both:
            for side, other in (both, both[::-1]):
                ours, theirs = await side.stream_to(other)
                assert (ours.direction, theirs.direction) == (Direction.OUTBOUND, Direction.INBOUND)
                assert ours.id == theirs.id
                assert ours in side.connection.streams
                assert theirs in other.connection.streams
                assert theirs.connection is other.connection
                await theirs.write(b"answer")
                assert await ends(ours.readexactly(6)) == b"answer"

    async def test_streams_opened_before_serve_are_handed_out(self) -> None:
        dialer, listener = await self.make()
        early = Side(dialer)
        stream = await ends(dialer.open_stream())
        await stream.write(b"early")
        await asyncio.sleep(0.05)
        late = Side(listener)
        assert await ends((await ends(late.accepted.get())).readexactly(5)) == b"early"
        for side in (early, late):
            side.connection.abort()
            await ends(side.connection.wait_closed())
            await ends(side.connection.close())
        await self.cleanup()

    async def test_a_stream_is_forgotten_when_both_directions_have_ended(self) -> None:
        async with self.sides() as (dialer, listener):
            ours, theirs = await dialer.stream_to(listener)
            await ours.close_write()
            assert await ends(theirs.read()) == b""
            assert theirs in listener.connection.streams
            await theirs.write(b"still open")
            await theirs.close_write()
            assert await ends(ours.read()) == b"still open"
            await dialer.until_streams_are_gone()
            await listener.until_streams_are_gone()

    async def test_a_reset_tells_its_code(self) -> None:
        async with self.sides() as both:
            for side, other in (both, both[::-1]):
                ours, theirs = await side.stream_to(other)
                own, remote = await started(ours.read(1)), await started(theirs.read(1))
                ours.reset(0x1005)
                ours.reset(7)
                for reading, by in ((own, "local"), (remote, "remote")):
                    with raises(StreamReset) as caught:
                        await ends(reading)
                    assert caught.value.by == by
                    if self.carries_reset_codes:
                        assert caught.value.code == 0x1005
                for stream in (ours, theirs):
                    with raises(StreamReset):
                        await stream.write(b"x")
                    with raises(StreamReset):
                        await stream.readexactly(1)
                await side.until_streams_are_gone()
                await other.until_streams_are_gone()

    async def test_a_reset_behind_the_end_is_told(self) -> None:
        async with self.sides() as (dialer, listener):
            ours, theirs = await dialer.stream_to(listener)
            await ours.write(b"question")
            await ours.close_write()
            assert await ends(theirs.read()) == b"question"
            waiting = await started(theirs.wait_closed())
            ours.reset(0x1005)
            for outcome, by in ((await ends(waiting), "remote"), (await ends(ours.wait_closed()), "local")):
                assert isinstance(outcome, StreamReset)
                assert outcome.by == by
                if self.carries_reset_codes:
                    assert outcome.code == 0x1005
            for call in (theirs.read(1), theirs.read(), theirs.readexactly(1), theirs.write(b"x")):
                with raises(StreamReset):
                    await ends(call)

    async def test_waiting_for_the_end_of_a_stream_tells_how_it_ended(self) -> None:
        async with self.sides() as (dialer, listener):
            ours, theirs = await dialer.stream_to(listener)
            waiting = await started(theirs.wait_closed())
            cancelled = await started(theirs.wait_closed())
            await cancel(cancelled)
            await ours.write(b"question")
            await ours.close_write()
            assert await ends(theirs.read()) == b"question"
            assert await is_held(waiting)
            await theirs.close_write()
            assert await ends(ours.read()) == b""
            assert await ends(waiting) is None
            assert await ends(ours.wait_closed()) is None
            _, lost = await dialer.stream_to(listener)
            dialer.connection.abort()
            outcome = await ends(lost.wait_closed())
            assert isinstance(outcome, ConnectionClosed)
            assert outcome.by == "remote"

    async def test_a_reset_of_one_stream_leaves_the_others(self) -> None:
        async with self.sides() as (dialer, listener):
            doomed, _ = await dialer.stream_to(listener)
            ours, theirs = await dialer.stream_to(listener)
            doomed.reset()
            await ours.write(b"alive")
            assert await ends(theirs.readexactly(5)) == b"alive"

    async def test_many_streams_leave_nothing_behind(self) -> None:
        async with self.sides() as (dialer, listener):
            for number in range(self.many):
                stream = await dialer.connection.open_stream()
                await stream.write(b"ping")
                theirs = await ends(listener.accepted.get())
                assert await theirs.readexactly(4) == b"ping"
                if number % 3 == 0:
                    theirs.reset()
                else:
                    await theirs.close()
                await stream.close()
            await dialer.until_streams_are_gone()
            await listener.until_streams_are_gone()

    async def test_many_streams_at_once(self) -> None:
        count, size = 200, 20_000

        async def answer(stream: Stream) -> None:
            async with stream:
                await stream.write((await stream.readexactly(size))[::-1])

        async def ask(side: Side, number: int) -> None:
            async with await side.connection.open_stream() as stream:
                await stream.write(pattern(size, number * size))
                assert await stream.readexactly(size) == pattern(size, number * size)[::-1]

        async with self.sides() as both:
            async with asyncio.timeout(30), asyncio.TaskGroup() as group:
                for number in range(count):
                    for side in both:
                        group.create_task(ask(side, number))
                for _ in range(count):
                    for side in both:
                        group.create_task(answer(await side.accepted.get()))
            for side in both:
                await side.until_streams_are_gone()

    async def test_streams_above_the_peers_limit_wait(self) -> None:
        if not self.holds_openers:
            return
        count = 3000
        tasks: list[asyncio.Task[None]] = []

        async def answer(stream: Stream) -> None:
            async with stream:
                question = await stream.read()
                await asyncio.sleep(0.05)
                await stream.write(question)

        async def accept() -> None:
            while True:
                tasks.append(asyncio.ensure_future(answer(await listener.accepted.get())))

        async def ask(number: int) -> None:
            async with await dialer.connection.open_stream() as stream:
                await stream.write(b"%d" % number)
                await stream.close_write()
                assert await stream.read() == b"%d" % number

        async with self.sides() as (dialer, listener):
            accepting = asyncio.ensure_future(accept())
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                for number in range(count):
                    group.create_task(ask(number))
            assert len(tasks) == count
            for task in tasks:
                await ends(task)
            await cancel(accepting)
            await dialer.until_streams_are_gone()
            await listener.until_streams_are_gone()

    async def test_a_slow_reader_holds_only_its_own_writer(self) -> None:
        async with self.sides() as (dialer, listener):
            slow, unread = await dialer.stream_to(listener)
            quick, read = await dialer.stream_to(listener)
            size = self.max_buffered + 100_000
            writing = asyncio.ensure_future(slow.write(pattern(size)))
            assert await is_held(writing)
            for _ in range(20):
                await ends(quick.write(bytes(50_000)))
                assert len(await ends(read.readexactly(50_000))) == 50_000
            await asyncio.sleep(self.patience)
            assert not writing.done(), "the writer was let go although nobody reads"
            assert await ends(unread.readexactly(size), within=60) == pattern(size)
            await ends(writing)

    async def test_writers_share_the_connection(self) -> None:
        async with self.sides() as (dialer, listener):
            pairs = [await dialer.stream_to(listener) for _ in range(4)]
            size = 3_000_000

            async def write(stream: Stream) -> None:
                await stream.write(pattern(size))
                await stream.close_write()

            async with asyncio.timeout(30), asyncio.TaskGroup() as group:
                for ours, _ in pairs:
                    group.create_task(write(ours))
                reads = [group.create_task(theirs.read()) for _, theirs in pairs]
            assert all(read.result() == pattern(size) for read in reads)

    async def test_close_delivers_what_was_written_and_tells_both_sides(self) -> None:
        async with self.sides() as (dialer, listener):
            ours, theirs = await dialer.stream_to(listener)
            reading = await started(ours.read(1))
            await ours.write(b"last words")
            await ends(dialer.connection.close("done"))
            await ends(dialer.connection.close("again"))
            reason = await ends(listener.connection.wait_closed())
            assert (await ends(dialer.connection.wait_closed())).reason == "done"
            assert (dialer.closed[0].by, listener.closed[0].by) == ("local", "remote")
            assert listener.connection.close_reason is not None
            assert reason.by == "remote"
            assert await ends(theirs.readexactly(10)) == b"last words"
            with raises(ConnectionClosed):
                await ends(reading)
            for side, stream in ((dialer, ours), (listener, theirs)):
                assert side.connection.is_closed
                assert not side.connection.streams
                for call in (stream.read(1), stream.readexactly(1), stream.write(b"x"), side.connection.open_stream()):
                    with raises(ConnectionClosed):
                        await ends(call)
                await stream.close()
                stream.reset()

    async def test_abort_tells_both_sides(self) -> None:
        async with self.sides() as (dialer, listener):
            _, flooded = await dialer.stream_to(listener)
            ours, _ = await dialer.stream_to(listener)
            writing = asyncio.ensure_future(flooded.write(bytes(self.max_buffered)))
            reading = await started(ours.readuntil(b"never"))
            assert await is_held(writing)
            listener.connection.abort("enough")
            for task in (reading, writing):
                with raises(ConnectionClosed):
                    await ends(task)
            assert (await ends(listener.connection.wait_closed())).reason == "enough"
            assert (await ends(dialer.connection.wait_closed())).by == "remote"

    async def test_serve_behind_the_end_hears_of_it(self) -> None:
        dialer, listener = await self.make()
        dialer.abort()
        await ends(dialer.wait_closed())
        await ends(listener.wait_closed())
        for connection in (dialer, listener):
            assert len(Side(connection).closed) == 1
            connection.abort()
            await ends(connection.close())
        await self.cleanup()

    async def test_a_close_cancelled_after_any_step_has_ended_all(self) -> None:
        """And nobody closes a second time."""
        for steps in range(8):
            dialer, listener = await self.make()
            sides = Side(dialer), Side(listener)
            ours, _ = await sides[0].stream_to(sides[1])
            writing = asyncio.ensure_future(ours.write(bytes(self.max_buffered)))
            assert await is_held(writing)
            closing = asyncio.ensure_future(dialer.close())
            for _ in range(steps + 1):
                await asyncio.sleep(0)
            if not closing.done():
                closing.cancel()
                with raises(asyncio.CancelledError):
                    await ends(closing)
            assert dialer.is_closed
            assert not dialer.streams
            assert len(sides[0].closed) == 1
            with raises(ConnectionClosed):
                await ends(writing)
            await ends(listener.wait_closed())
            await ends(listener.close())
            await self.cleanup()

    async def test_cancelled_calls_harm_nothing(self) -> None:
        async with self.sides() as (dialer, listener):
            ours, theirs = await dialer.stream_to(listener)
            for call in (theirs.readexactly(20), theirs.readuntil(), theirs.read()):
                reading = await started(call)
                await ours.write(b"12345")
                assert await is_held(reading)
                await cancel(reading)
            assert await ends(theirs.readexactly(15)) == b"12345" * 3
            writing = asyncio.ensure_future(ours.write(pattern(self.max_buffered)))
            assert await is_held(writing)
            await cancel(writing)
            waiting = await started(dialer.connection.wait_closed())
            await cancel(waiting)
            other, others = await dialer.stream_to(listener)
            await other.write(b"fine")
            assert await ends(others.readexactly(4)) == b"fine"
            again = asyncio.ensure_future(ours.write(b"END"))
            got = bytearray()
            while not got.endswith(b"END"):
                got += await ends(theirs.read(1_000_000))
            await ends(again)
            assert bytes(got[:-3]) == pattern(len(got) - 3)

    async def test_streams_wait_to_be_opened_rather_than_flood_the_peer(self) -> None:
        dialer, listener = await self.make()
        side = Side(dialer)  # the listener is not served: it accepts nothing

        async def open_many() -> None:
            for _ in range(20_000):
                await dialer.open_stream()

        opening = asyncio.ensure_future(open_many())
        assert await is_held(opening)
        await cancel(opening)
        held = await started(dialer.open_stream())
        other = Side(listener)
        await ends(held)
        assert not other.accepted.empty()
        for one in (side, other):
            one.connection.abort()
            await ends(one.connection.wait_closed())
            await ends(one.connection.close())
        await self.cleanup()
