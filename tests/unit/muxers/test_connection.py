"""The muxed connection: what the conformance suites leave open, above all who learns what when things end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from libp2p.connection import Connection, Direction, Role, Stream, StreamErrorCode
from libp2p.connection.negotiation import expect_agreement, incoming_of
from libp2p.errors import ConnectionClosed, LimitExceeded, StageTimeout, StreamClosed, StreamReset
from libp2p.identity import PrivateKey
from libp2p.io import UselessFrames
from libp2p.muxers.connection import MuxedConnection
from libp2p.muxers.yamux import Yamux
from libp2p.muxers.yamux.core import YamuxConfig
from libp2p.muxers.yamux.wire import DATA, GO_AWAY, HEADER, PING, WINDOW_UPDATE, Flag
from libp2p.testing.conformance.channel import clear_channels
from libp2p.testing.conformance.connections import Side
from libp2p.testing.conformance.muxers import connect_by
from libp2p.transports.memory import MemoryConnection, pipe

KEYS = PrivateKey.generate(), PrivateKey.generate()
WINDOW = 256 * 1024


class Pair:
    """Both ends of a connection, and of the pipe below it."""

    def __init__(self, config: YamuxConfig | None = None) -> None:
        self.raw: tuple[MemoryConnection, MemoryConnection] = pipe()
        dialer, listener = connect_by(Yamux(config), self.raw)
        self.dialer, self.listener = Side(dialer), Side(listener)

    async def streams(self) -> tuple[Stream, Stream]:
        return await self.dialer.stream_to(self.listener)


@asynccontextmanager
async def pair(config: YamuxConfig | None = None) -> AsyncIterator[Pair]:
    subject = Pair(config)
    try:
        yield subject
    finally:
        for side in (subject.dialer, subject.listener):
            side.connection.abort()
        for raw in subject.raw:
            await raw.close()


@asynccontextmanager
async def against_raw_frames(config: YamuxConfig | None = None) -> AsyncIterator[tuple[Any, Side]]:
    """A channel to send frames on, and the listening connection that gets them."""
    raw = pipe()
    channel, listener = clear_channels(*raw, *KEYS)
    side = Side(Yamux(config).connect(listener, Direction.INBOUND))
    try:
        yield channel, side
    finally:
        side.connection.abort()
        channel.abort()
        for end in raw:
            await end.close()


def frame(kind: int, flags: int, stream_id: int, length: int) -> bytes:
    return HEADER.pack(0, kind, flags, stream_id, length)


def tables(connection: Connection) -> list[Any]:
    """All per-stream state of a connection."""
    assert isinstance(connection, MuxedConnection)
    session: Any = connection._session
    return [
        *connection._streams,
        *connection._openers,
        *connection._unserved,
        *session._streams,
        *(count for count in (session._inbound, session._outbound, session._unaccepted) if count),
    ]


async def outcome(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except Exception as error:
        return error


# Writers, and who ends them


@pytest.mark.parametrize("gate_shut", [False, True])
@pytest.mark.parametrize("end", ["close_write", "close", "reset"])
async def test_a_waiting_writer_learns_that_another_task_ended_the_stream(end: str, gate_shut: bool) -> None:
    """It waits for the peer's window, or (gate_shut) for the network. Nothing may be sent behind the end."""
    async with pair() as subject:
        ours, theirs = await subject.streams()
        other, _ = await subject.streams()
        if gate_shut:
            subject.raw[1].pause_reading()
            blocker = asyncio.ensure_future(other.write(bytes(WINDOW - 1)))
            await asyncio.sleep(1)
        writing = asyncio.ensure_future(ours.write(bytes(4 * WINDOW)))
        await asyncio.sleep(1)
        assert not writing.done()
        result = getattr(ours, end)()
        if result is not None:
            await result
        await asyncio.sleep(1)
        if gate_shut:
            subject.raw[1].resume_reading()
            await blocker
        with pytest.raises(StreamReset if end == "reset" else StreamClosed):
            await asyncio.wait_for(writing, 5)
        if end != "reset":
            got = await theirs.read()
            assert len(got) == (0 if gate_shut else WINDOW - 1)
        await asyncio.sleep(1)
        assert not subject.listener.connection.is_closed, subject.listener.connection.close_reason


async def test_a_writer_learns_that_the_peer_closed_its_stream() -> None:
    async with pair() as subject:
        ours, theirs = await subject.streams()
        writing = asyncio.ensure_future(outcome(ours.write(bytes(10 * WINDOW))))
        await asyncio.sleep(1)
        assert not writing.done()
        await theirs.write(b"enough, thanks")
        await theirs.close()
        error = await writing
        assert isinstance(error, StreamReset)
        assert error.by == "remote"
        assert await ours.read() == b"enough, thanks", "what came before the end stays readable"
        await asyncio.sleep(1)
        assert not tables(subject.dialer.connection) + tables(subject.listener.connection)


async def test_closing_with_unread_data_is_an_orderly_end_where_little_comes() -> None:
    async with pair() as subject:
        ours, theirs = await subject.streams()
        await ours.write(bytes(100_000))
        await asyncio.sleep(1)
        await theirs.close()
        with pytest.raises(StreamClosed):
            await theirs.read(1)
        await ours.write(b"more")
        await ours.close_write()
        assert await ours.read() == b""
        await asyncio.sleep(1)
        assert not tables(subject.dialer.connection) + tables(subject.listener.connection)


async def test_a_reader_learns_that_its_own_side_closed() -> None:
    async with pair() as subject:
        ours, theirs = await subject.streams()
        reading = asyncio.ensure_future(outcome(ours.readexactly(5)))
        await theirs.write(b"1234")
        await asyncio.sleep(1)
        await ours.close()
        assert isinstance(await reading, StreamClosed)


async def test_a_slow_reader_costs_a_window_and_loses_nothing() -> None:
    """Nobody reads for a minute: the writer is held, both sides hold a window and little more, others go on."""
    async with pair() as subject:
        slow, unread = await subject.streams()
        quick, read = await subject.streams()
        data = b"0123456789abcdef" * (8 * 1024 * 1024 // 16)
        writing = asyncio.ensure_future(slow.write(data))
        for _ in range(60):
            await asyncio.sleep(1)
            await quick.write(b"tick" * 1000)
            assert await read.readexactly(4000) == b"tick" * 1000
        assert not writing.done()
        assert len(incoming_of(unread)) <= WINDOW
        for side, raw in zip((subject.dialer, subject.listener), subject.raw, strict=True):
            session: Any = side.connection._session  # type: ignore[attr-defined]
            assert session.unsent + raw.unsent == 0, "what the peer's window does not take is not even queued"
        assert await unread.readexactly(len(data)) == data
        await writing


# Many streams


async def test_ten_thousand_streams_leave_no_state() -> None:
    closed = 0

    def count(_: Stream) -> None:
        nonlocal closed
        closed += 1

    async with pair() as subject:
        dialer, listener = subject.dialer.connection, subject.listener.connection
        dialer.serve(subject.dialer.accepted.put_nowait, subject.dialer.closed.append, count)
        for number in range(10_000):
            ours = await dialer.open_stream()
            await ours.write(b"x")
            theirs = await subject.listener.accepted.get()
            await theirs.close()
            if number % 2:
                ours.reset()
            else:
                await ours.close()
        await asyncio.sleep(1)
        assert not tables(dialer) + tables(listener)
        assert closed == 10_000


async def test_opens_beyond_the_ack_backlog_wait_their_turn() -> None:
    subject = Pair.__new__(Pair)
    subject.raw = pipe()
    dialer, listener = connect_by(Yamux(), subject.raw)
    Side(dialer)
    opens = [asyncio.ensure_future(dialer.open_stream()) for _ in range(300)]
    await asyncio.sleep(1)
    assert sum(task.done() for task in opens) == 256, "as many as the specification grants"
    opens[260].cancel()
    opens[0].result().reset()  # one goes, one more comes
    await asyncio.sleep(1)
    assert sum(task.done() for task in opens) == 258
    Side(listener)
    streams = await asyncio.gather(*opens, return_exceptions=True)
    assert sum(isinstance(stream, Stream) for stream in streams) == 299
    ids = [stream.id for stream in streams if isinstance(stream, Stream)]
    assert ids == sorted(ids), "in the order they asked"
    dialer.abort()
    listener.abort()
    for raw in subject.raw:
        await raw.close()


async def test_an_open_that_the_peer_makes_wait_too_long_fails_and_leaves_its_place() -> None:
    subject = Pair.__new__(Pair)
    subject.raw = pipe()
    dialer, listener = connect_by(Yamux(YamuxConfig(open_timeout=7)), subject.raw)
    Side(dialer)
    for _ in range(256):
        await dialer.open_stream()
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(StageTimeout, match="opening a stream took more than 7 s"):
        await dialer.open_stream()
    assert loop.time() - start == 7
    waiting = asyncio.ensure_future(dialer.open_stream())
    await asyncio.sleep(1)
    Side(listener)
    assert (await waiting).id == 513
    dialer.abort()
    listener.abort()
    for raw in subject.raw:
        await raw.close()


async def test_one_open_that_fails_does_not_hold_the_next() -> None:
    async with pair(YamuxConfig(ack_backlog=2, max_outbound_streams=2)) as subject:
        listener = subject.listener.connection
        listener._on_stream = None  # type: ignore[attr-defined]  # accepts nothing
        opens = [asyncio.ensure_future(outcome(subject.dialer.connection.open_stream())) for _ in range(4)]
        await asyncio.sleep(1)
        listener.serve(subject.listener.accepted.put_nowait, subject.listener.closed.append)
        results = await asyncio.wait_for(asyncio.gather(*opens), 5)
        assert [type(result) is LimitExceeded for result in results] == [False, False, True, True]


# The end of the connection


@pytest.mark.parametrize("how", ["close", "abort", "peer closes", "peer aborts", "loss", "silence"])
async def test_every_pending_call_learns_why_the_connection_ended(how: str) -> None:
    config = YamuxConfig(ack_backlog=4, open_timeout=100)
    async with pair(config) as subject:
        dialer, listener = subject.dialer.connection, subject.listener.connection
        reader, writer, line = [(await subject.streams())[0] for _ in range(3)]
        listener._on_stream = None  # type: ignore[attr-defined]
        opened = [await dialer.open_stream() for _ in range(4)]
        calls = [
            asyncio.ensure_future(outcome(call))
            for call in (
                *(reader.read(1), writer.write(bytes(10 * WINDOW)), line.readuntil(), opened[0].read()),
                *(dialer.open_stream(), dialer.open_stream()),
            )
        ]
        waiting = asyncio.ensure_future(dialer.wait_closed())
        await asyncio.sleep(1)
        assert not [call for call in calls if call.done()]
        match how:
            case "close":
                await dialer.close("done")
            case "abort":
                dialer.abort("enough")
            case "peer closes":
                await listener.close()
            case "peer aborts":
                listener.abort()
            case "loss":
                subject.raw[0].abort(ConnectionResetError("the cable was pulled"))
            case "silence":
                subject.raw[1].pause_reading()
        start = asyncio.get_running_loop().time()
        errors = await asyncio.gather(*calls)
        reason = await waiting
        assert [type(error) for error in errors] == [ConnectionClosed] * len(calls)
        assert {(error.reason, error.by, error.code) for error in errors} == {(reason.reason, reason.by, reason.code)}
        wanted = {
            "close": ("done", "local", 0),
            "abort": ("enough", "local", None),
            "peer closes": ("the peer said goodbye", "remote", 0),
            "loss": ("connection lost: the cable was pulled", "remote", None),
            "silence": ("nothing was heard of the peer for 30 s", "local", None),
        }
        if how in wanted:
            assert (reason.reason, reason.by, reason.code) == wanted[how]
        assert reason.by == ("local" if how in ("close", "abort", "silence") else "remote")
        assert asyncio.get_running_loop().time() - start <= (70 if how == "silence" else 0)
        assert subject.dialer.closed == [reason]
        assert not dialer.streams


async def test_a_peer_that_goes_away_takes_no_new_streams_but_finishes_the_old() -> None:
    async with against_raw_frames() as (channel, side):
        channel.send((frame(WINDOW_UPDATE, Flag.SYN, 1, 0), frame(GO_AWAY, 0, 0, 2)))
        stream = await side.accepted.get()
        await asyncio.sleep(1)
        assert side.connection.close_reason is None
        assert side.connection.is_closed, "no stream can be opened any more"
        with pytest.raises(ConnectionClosed) as caught:
            await side.connection.open_stream()
        assert (caught.value.by, caught.value.code) == ("remote", 2)
        await stream.write(b"still open")
        channel.send((frame(DATA, Flag.FIN, 1, 3), b"bye"))
        assert await stream.read() == b"bye"
        await asyncio.sleep(1)
        assert not side.closed, "our direction is still open"
        await stream.close()
        reason = await side.connection.wait_closed()
        assert (reason.reason, reason.by, reason.code) == ("the peer gave up with go-away code 2", "remote", 2)


async def test_a_peer_that_said_goodbye_and_stays_keeps_no_place() -> None:
    async with against_raw_frames() as (channel, side):
        channel.send((frame(GO_AWAY, 0, 0, 0),))
        reason = await asyncio.wait_for(side.connection.wait_closed(), 1)
        assert (reason.reason, reason.by, reason.code) == ("the peer said goodbye", "remote", 0)
        assert len(side.closed) == 1


async def test_a_peer_that_said_goodbye_gets_what_was_sent_to_it_before() -> None:
    raw = pipe()
    channel, listener = clear_channels(*raw, *KEYS)
    side = Side(Yamux().connect(listener, Direction.INBOUND))
    channel.send((frame(WINDOW_UPDATE, Flag.SYN, 1, 0),))
    stream = await side.accepted.get()
    writing = asyncio.ensure_future(stream.write(bytes(200_000)))
    await asyncio.sleep(1)
    channel.send((frame(GO_AWAY, 0, 0, 0), frame(DATA, Flag.FIN, 1, 0)))
    await asyncio.sleep(1)
    reading = asyncio.ensure_future(channel.read())
    await writing
    await stream.close()
    got = await reading
    assert len(got) > 200_000
    assert got.endswith(frame(GO_AWAY, 0, 0, 0))
    await channel.close()
    await side.connection.close()


async def test_a_peer_that_said_goodbye_and_takes_nothing_is_left_after_a_while() -> None:
    async with against_raw_frames() as (channel, side):
        stream = await side.connection.open_stream()
        writing = asyncio.ensure_future(outcome(stream.write(bytes(200_000))))
        await asyncio.sleep(1)
        channel.send((frame(WINDOW_UPDATE, Flag.RST | Flag.ACK, 2, 0), frame(GO_AWAY, 0, 0, 0)))
        await channel.readexactly(12)
        channel.pause_reading()
        assert (await asyncio.wait_for(side.connection.wait_closed(), 15)).by == "remote"
        await writing


async def test_a_goodbye_counts_however_the_connection_then_breaks() -> None:
    async with against_raw_frames() as (channel, side):
        channel.send((frame(GO_AWAY, 0, 0, 0),))
        await asyncio.sleep(1)
        channel.abort(ConnectionResetError("the cable was pulled"))
        reason = await side.connection.wait_closed()
        assert (reason.reason, reason.by, reason.code) == ("the peer said goodbye", "remote", 0)


async def test_a_peer_that_asks_for_answers_and_reads_none_is_disconnected() -> None:
    async with against_raw_frames(YamuxConfig(useless_frames_burst=1 << 20)) as (channel, side):
        pings = frame(PING, Flag.SYN, 0, 7) * 5000
        for _ in range(10_000):
            await asyncio.sleep(0)
            channel.send((pings,))
            if side.closed:
                break
        reason = await asyncio.wait_for(side.connection.wait_closed(), 5)
        assert "reads none" in reason.reason


async def test_a_peer_that_reads_its_answers_may_ping_a_thousand_times_a_second() -> None:
    async with against_raw_frames() as (channel, side):
        for _ in range(200):
            channel.send((frame(PING, Flag.SYN, 0, 7) * 1000,))
            await channel.readexactly(12 * 1000)
            await asyncio.sleep(1)
        assert not side.closed


async def test_a_flood_of_frames_takes_its_turns() -> None:
    async with against_raw_frames(YamuxConfig(useless_frames_burst=1 << 20)) as (channel, side):
        most = turns = before = 0
        syn_and_rst = (
            frame(WINDOW_UPDATE, Flag.SYN, 1 + 2 * n, 0) + frame(WINDOW_UPDATE, Flag.RST, 1 + 2 * n, 0)
            for n in range(20_000)
        )
        channel.send((b"".join(syn_and_rst),))
        while side.connection.streams_accepted < 20_000:
            await asyncio.sleep(0)
            most, before = max(most, side.connection.streams_accepted - before), side.connection.streams_accepted
            turns += 1
            assert turns < 10_000
        assert most <= 2 * 65  # a look may come between two turns of the connection
        assert not side.closed
        assert not side.connection.streams


async def test_bytes_in_tiny_frames_and_the_end_behind_them_arrive_in_order() -> None:
    async with against_raw_frames() as (channel, side):
        frames = [frame(WINDOW_UPDATE, Flag.SYN, 1, 0)]
        frames += [frame(DATA, 0, 1, n % 63 + 1) + bytes([n % 251]) * (n % 63 + 1) for n in range(5_000)]
        wire = b"".join(frames) + frame(DATA, Flag.FIN, 1, 0)
        for start in range(0, len(wire), 999):
            channel.send((wire[start : start + 999],))
        stream = await side.accepted.get()
        assert await stream.read() == b"".join(bytes([n % 251]) * (n % 63 + 1) for n in range(5_000))


async def test_the_end_of_a_channel_waits_for_the_frames_before_it() -> None:
    async with against_raw_frames() as (channel, side):
        frames = [frame(DATA, Flag.SYN | Flag.FIN, 1 + 2 * n, 2) + b"ok" for n in range(1_000)]
        channel.send((b"".join(frames),))
        leaving = asyncio.create_task(channel.close())
        for _ in range(1_000):
            assert await (await asyncio.wait_for(side.accepted.get(), 5)).read() == b"ok"
        assert (await side.connection.wait_closed()).by == "remote"
        await leaving


async def test_whole_frames_of_data_are_not_counted() -> None:
    async with against_raw_frames() as (channel, side):
        channel.send((frame(WINDOW_UPDATE, Flag.SYN, 1, 0),))
        stream = await side.accepted.get()
        await asyncio.sleep(1)
        connection: Any = side.connection
        channel.send(((frame(DATA, 0, 1, 64) + bytes(64)) * 3_000,))
        assert len(await stream.readexactly(64 * 3_000)) == 64 * 3_000
        assert connection._session.frames_left > 120


@pytest.mark.parametrize(
    "useless",
    [
        frame(PING, Flag.SYN, 0, 1),
        frame(PING, Flag.ACK, 0, 1),
        frame(DATA, 0, 1, 0),
        frame(WINDOW_UPDATE, 0, 1, 1),
        frame(WINDOW_UPDATE, 0, 99, 1),
        frame(DATA, 0, 99, 1) + b"x",
        frame(WINDOW_UPDATE, Flag.SYN, 3, 0) + frame(WINDOW_UPDATE, Flag.RST, 3, 0),
    ],
    ids=["ping", "pong", "empty data", "tiny window update", "stray update", "stray data", "syn and rst"],
)
async def test_too_many_frames_of_no_use_end_the_connection(useless: bytes) -> None:
    async with against_raw_frames(YamuxConfig(useless_frames_per_second=10, useless_frames_burst=100)) as (
        channel,
        side,
    ):
        channel.send((frame(WINDOW_UPDATE, Flag.SYN, 1, 0),))
        for _ in range(20):  # a little is no fault
            channel.send((useless * 5,))
            await asyncio.sleep(1)
        assert not side.closed
        channel.send((useless * 600,))
        reason = await asyncio.wait_for(side.connection.wait_closed(), 5)
        assert "frames of no use" in reason.reason
        assert (reason.by, reason.code) == ("local", StreamErrorCode.RATE_LIMITED)


async def test_what_is_of_no_use_below_draws_on_the_same_allowance() -> None:
    async with against_raw_frames(YamuxConfig(useless_frames_per_second=10, useless_frames_burst=100)) as (
        channel,
        side,
    ):
        connection: Any = side.connection
        channel.send((frame(PING, Flag.SYN, 0, 1) * 60,))
        await asyncio.sleep(0.1)
        for _ in range(35):
            connection.useless("an empty message")
        with pytest.raises(UselessFrames, match="an empty message"):
            connection.useless("an empty message", 10.0)
        reason = await asyncio.wait_for(side.connection.wait_closed(), 5)
        assert (reason.by, reason.code) == ("local", StreamErrorCode.RATE_LIMITED)


async def test_a_stream_too_many_is_of_no_use() -> None:
    config = YamuxConfig(useless_frames_per_second=10, useless_frames_burst=100, max_inbound_streams=2, ack_backlog=1)
    async with against_raw_frames(config) as (channel, side):
        channel.send([frame(WINDOW_UPDATE, Flag.SYN, 1 + 2 * n, 0) for n in range(102)])
        await asyncio.sleep(1)
        assert not side.closed
        channel.send([frame(WINDOW_UPDATE, Flag.SYN, 1001 + 2 * n, 0) for n in range(50)])
        assert "a stream too many" in (await asyncio.wait_for(side.connection.wait_closed(), 5)).reason


async def test_an_idle_connection_lives_for_days_by_its_pings() -> None:
    async with pair() as subject:
        await asyncio.sleep(3 * 24 * 3600)
        assert not subject.dialer.closed
        assert not subject.listener.closed
        assert subject.dialer.connection.rtt == 0


@pytest.mark.parametrize("code", [-1, 1 << 32])
async def test_a_reset_code_that_no_frame_can_carry_is_refused(code: int) -> None:
    async with pair() as subject:
        ours, theirs = await subject.streams()
        with pytest.raises(ValueError, match=str(code)):
            ours.reset(code)
        await ours.write(b"unharmed")
        assert await theirs.readexactly(8) == b"unharmed"


async def test_a_write_tells_of_the_reset_also_while_another_task_reads() -> None:
    """The peer's answer to the protocol offered is being read; the write must not stumble over that."""
    async with against_raw_frames() as (channel, side):
        channel.send((frame(WINDOW_UPDATE, Flag.SYN, 1, 0),))
        stream = await side.accepted.get()
        expect_agreement(stream, lambda: incoming_of(stream).fill(100))
        reading = asyncio.ensure_future(stream.read(1))
        await asyncio.sleep(1)
        stream.data_received(memoryview(b"x"))
        stream.end(StreamReset(7, by="remote"))
        with pytest.raises(StreamReset) as caught:
            await stream.write(b"too late")
        assert caught.value.code == 7
        reading.cancel()
        await asyncio.wait({reading})


async def test_what_was_moved_is_counted() -> None:
    async with pair() as subject:
        dialer, listener = subject.dialer.connection, subject.listener.connection
        for size in (1000, 300_000):
            ours, theirs = await subject.streams()
            reading = asyncio.ensure_future(theirs.readexactly(size))
            await ours.write(bytes(size))
            await reading
            assert (ours.bytes_written, theirs.bytes_read) == (size + 1, size + 1)
            await theirs.write(b"answer")
            await ours.readexactly(6)
            if size == 1000:
                await ours.close()
                await theirs.close()
        await asyncio.sleep(1)
        assert (dialer.bytes_written, dialer.bytes_read) == (301_002, 12)
        assert (listener.bytes_written, listener.bytes_read) == (12, 301_002)
        assert (dialer.streams_opened, dialer.streams_accepted) == (2, 0)
        assert (listener.streams_opened, listener.streams_accepted) == (0, 2)
        assert dialer.opened_at < asyncio.get_running_loop().time()


async def test_a_close_tells_its_code() -> None:
    async with pair() as subject:
        await subject.dialer.connection.close("gated", 0x1008)
        reason = await subject.listener.connection.wait_closed()
        assert (reason.by, reason.code) == ("remote", 0x1008)


@pytest.mark.parametrize("role", list(Role))
async def test_stream_ids_follow_the_role(role: Role) -> None:
    """A dialer may be the responder of the handshake: both sides dialed."""
    raw = pipe()
    ours, theirs = clear_channels(*raw, *KEYS)
    other = Role.RESPONDER if role is Role.INITIATOR else Role.INITIATOR
    a = Yamux().connect(ours, Direction.OUTBOUND, role)
    b = Yamux().connect(theirs, Direction.OUTBOUND, other)
    one, two = Side(a), Side(b)
    assert (a.role, b.role, a.direction, b.direction) == (role, other, Direction.OUTBOUND, Direction.OUTBOUND)
    first, _ = await one.stream_to(two)
    second, _ = await two.stream_to(one)
    assert (first.id % 2, second.id % 2) == ((1, 0) if role is Role.INITIATOR else (0, 1))
    a.abort()
    for end in raw:
        await end.close()


# What comes within one read


async def test_an_id_used_again_within_one_read_is_a_stream_of_its_own_each_time() -> None:
    async with against_raw_frames() as (channel, side):
        over: list[Stream] = []
        side.connection.serve(side.accepted.put_nowait, side.closed.append, over.append)
        opened, reset = frame(WINDOW_UPDATE, Flag.SYN, 1, 0), frame(WINDOW_UPDATE, Flag.RST, 1, 0)
        channel.send(((opened + reset) * 1000 + opened,))
        await asyncio.sleep(1)
        streams = [side.accepted.get_nowait() for _ in range(side.accepted.qsize())]
        assert len(set(streams)) == 1001
        assert over == streams[:-1]
        assert list(side.connection.streams) == streams[-1:]
        await streams[-1].write(b"alive")
        channel.send((reset,))
        await asyncio.sleep(1)
        assert over == streams
        assert not tables(side.connection)


async def test_the_second_stream_of_an_id_works_although_the_first_was_reset_by_us_at_once() -> None:
    """As a limit does it: within `on_stream`, while the peer's own reset and the next stream wait in the same read."""
    async with against_raw_frames() as (channel, side):
        opened, over = [], []

        def on_stream(stream: Stream) -> None:
            opened.append(stream)
            if len(opened) == 1:
                stream.reset(0x1002)

        side.connection.serve(on_stream, side.closed.append, over.append)
        syn, rst = frame(WINDOW_UPDATE, Flag.SYN, 1, 0), frame(WINDOW_UPDATE, Flag.RST, 1, 0)
        channel.send((syn + rst + syn + frame(DATA, 0, 1, 5) + b"hello",))
        await asyncio.sleep(1)
        assert over == opened[:1]
        assert await opened[1].readexactly(5) == b"hello"
        await opened[1].write(b"answer")
        assert not side.closed


async def test_a_connection_ended_by_who_is_told_of_a_stream_tells_of_no_other() -> None:
    async with against_raw_frames() as (channel, side):
        opened, over = [], []

        def on_stream(stream: Stream) -> None:
            opened.append(stream)
            side.connection.abort("enough")

        side.connection.serve(on_stream, side.closed.append, over.append)
        channel.send((b"".join(frame(DATA, Flag.SYN, number, 1) + b"x" for number in (1, 3, 5)),))
        await asyncio.sleep(1)
        assert len(opened) == 1
        assert over == opened
        assert len(side.closed) == 1


async def test_what_came_before_a_violation_in_one_read_is_told() -> None:
    async with against_raw_frames() as (channel, side):
        channel.send((frame(DATA, Flag.SYN | Flag.FIN, 1, 5) + b"hello" + frame(9, 0, 0, 0),))
        stream = await side.accepted.get()
        assert await stream.read() == b"hello"
        assert "unknown type 9" in (await side.connection.wait_closed()).reason


async def test_a_handler_that_returns_with_a_full_window_unread_frees_the_writer() -> None:
    async with pair() as subject:
        ours, theirs = await subject.streams()
        writing = asyncio.ensure_future(outcome(ours.write(bytes(4 * 1024 * 1024))))
        await theirs.readexactly(4)
        await asyncio.sleep(1)
        await theirs.close()
        error = await asyncio.wait_for(writing, 5)
        assert isinstance(error, StreamReset)
        assert error.by == "remote"
        assert not tables(subject.dialer.connection) + tables(subject.listener.connection)


# Keepalive


async def test_an_upload_that_makes_progress_over_a_slow_link_is_left_alone() -> None:
    """The answer to a ping waits behind 64 KiB, which take 22 seconds here, and the window is read once a minute."""

    def slowly(size: int, arrive: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        nonlocal free
        free = max(free, loop.time()) + size / 3000
        loop.call_at(free, arrive)

    free = 0.0
    raw = pipe(there=slowly)
    dialer, listener = (Side(connection) for connection in connect_by(Yamux(), raw))
    ours, theirs = await dialer.stream_to(listener)
    writing = asyncio.ensure_future(ours.write(bytes(1_000_000)))
    await asyncio.sleep(0)
    assert len(await theirs.readexactly(1_000_000)) == 1_000_000
    await writing
    assert not dialer.closed
    assert not listener.closed
    for side in (dialer, listener):
        side.connection.abort()
    for end in raw:
        await end.close()
    await asyncio.sleep(60)  # what the link still carries


async def test_without_keepalive_no_ping_is_sent_but_the_first() -> None:
    async with pair(YamuxConfig(keepalive_interval=None)) as subject:
        await asyncio.sleep(1)
        loop: Any = asyncio.get_running_loop()
        assert loop.timers() == []
        assert subject.dialer.connection.rtt == 0
        subject.raw[1].pause_reading()
        await asyncio.sleep(24 * 3600)
        assert not subject.dialer.closed


async def test_connections_share_one_timer() -> None:
    subjects = [Pair() for _ in range(50)]
    loop: Any = asyncio.get_running_loop()
    try:
        for _ in range(10):
            await asyncio.sleep(10)
            assert len(loop.timers()) <= 1
        assert not any(side.closed for subject in subjects for side in (subject.dialer, subject.listener))
    finally:
        for subject in subjects:
            subject.dialer.connection.abort()
            subject.listener.connection.abort()
    await asyncio.sleep(1)
    assert loop.timers() == []


# Errors


async def test_each_waiting_task_gets_an_error_of_its_own() -> None:
    async with pair(YamuxConfig(ack_backlog=4)) as subject:
        dialer = subject.dialer.connection
        streams = [(await subject.streams())[0] for _ in range(4)]
        subject.listener.connection._on_stream = None  # type: ignore[attr-defined]
        for _ in range(4):
            await dialer.open_stream()
        calls = [stream.read(1) for stream in streams[:2]]
        calls += [stream.write(bytes(10 * WINDOW)) for stream in streams[2:]]  # type: ignore[misc]
        calls += [dialer.open_stream() for _ in range(2)]  # type: ignore[misc]
        tasks = [asyncio.ensure_future(outcome(call)) for call in calls]
        await asyncio.sleep(1)
        dialer.abort("enough")
        errors = await asyncio.gather(*tasks)
        for error in errors:
            assert (type(error), error.reason) == (ConnectionClosed, "enough")
            error.add_note("a note of one task")
        assert len({id(error) for error in errors}) == len(errors)
        assert [error.__notes__ for error in errors] == [["a note of one task"]] * len(errors)
        reason = dialer.close_reason
        assert reason is not None
        assert reason.__traceback__ is None, "it would keep the frames of the tasks alive"
