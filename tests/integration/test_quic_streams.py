"""QUIC's streams and the ends of its connections: limits, windows, credit, codes, keep-alive. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import pytest
from aioquic.quic.packet import QuicErrorCode

from libp2p.connection import Stream
from libp2p.connection.negotiation import incoming_of
from libp2p.errors import ConnectionClosed, StreamReset
from libp2p.host import Host
from libp2p.multiaddr import Multiaddr
from libp2p.testing.conformance.connections import Side
from libp2p.testing.conformance.tools import cancel, ends, is_held, pattern, raises, started
from libp2p.testing.conformance.transports import DIALER, LISTENER, Reports
from libp2p.testing.network import Link, Network, Node
from libp2p.testing.transports import context
from libp2p.transports.quic import Quic, QuicConfig

KIB = 1024
MIB = 1024 * KIB
LOCAL = 256 * KIB
"""Bytes of one stream that are taken from a writer before they are sent."""

NEAR = Link(latency=0.005)
LOSSY = Link(latency=0.01, loss=0.05, jitter=0.005, duplicate=0.05)
SMALL = QuicConfig(stream_window=64 * KIB, max_stream_window=64 * KIB, connection_window=256 * KIB)

TENTH = QuicConfig(stream_window=51 * KIB, max_stream_window=MIB, connection_window=3 * MIB // 2)
"""The proportions of the defaults."""


class Pair:
    """Both ends of a connection, served, and the network between them."""

    def __init__(self, network: Network, nodes: tuple[Node, Node], dialer: Side, listener: Side) -> None:
        self.network, self.nodes = network, nodes
        self.dialer, self.listener = dialer, listener
        self.sides = dialer, listener

    def part(self) -> None:
        """Nothing arrives any more."""
        self.network.cut(*self.nodes)


@asynccontextmanager
async def pair(
    config: QuicConfig | None = None, theirs: QuicConfig | None = None, *, link: Link = NEAR
) -> AsyncIterator[Pair]:
    """A connection; `theirs` are the listener's settings, where they differ. At the end no socket may be left."""
    async with Network(seed=3, link=link) as network:
        nodes = network.node("10.0.0.1"), network.node("10.0.0.2")
        dialing, listening = (
            Quic(settings, open_socket=node.udp()).use(context(key))
            for key, node, settings in ((DIALER, nodes[0], config), (LISTENER, nodes[1], theirs or config))
        )
        reports = Reports()
        listener = await listening.listen(Multiaddr("/ip4/10.0.0.2/udp/0/quic-v1"), reports)
        dialed = await ends(dialing.dial(listener.addrs[0], LISTENER.public_key.peer_id))
        sides = Pair(network, nodes, Side(dialed), Side(await ends(reports.opened.get())))
        await listener.close()
        try:
            yield sides
        finally:
            for side in sides.sides:
                side.connection.abort()
                await ends(side.connection.wait_closed())
        assert not any(node.ports._sockets for node in nodes), "sockets are left"
        assert all(len(side.closed) == 1 for side in sides.sides)


def engine(side: Side | Stream) -> Any:
    connection: Any = side.connection
    return connection._engine


def transmit(side: Side) -> None:
    """Send what its engine was asked for."""
    connection: Any = side.connection
    connection._driver.soon()


def window(stream: Any) -> int:
    """The size of the receive window that `stream` has grown to."""
    size: int = stream.lane.window.size
    return size


async def flood(stream: Stream, most: int = 64 * MIB) -> int:
    """Write until the peer's window, or the connection's, holds us; return how many bytes were taken."""
    taken = 0
    while taken < most:
        writing = asyncio.ensure_future(stream.write(pattern(8 * KIB, taken)))
        if await is_held(writing):
            await cancel(writing)
            return taken
        await writing
        taken += 8 * KIB
    raise AssertionError(f"{taken} bytes were taken although nobody reads")


async def drain(stream: Stream, size: int, start: int = 0) -> None:
    """Read `size` bytes of the pattern, and check them."""
    while size:
        data = await ends(stream.read(size), within=30)
        assert data == pattern(len(data), start)
        start, size = start + len(data), size - len(data)


class TestManyStreams:
    async def test_a_thousand_at_once_in_each_direction_then_three_thousand_as_they_end(self) -> None:
        at_once, behind = 1000, 3000

        async def ask(side: Side, name: str) -> None:
            question = f"{name}:{side.connection.direction}".encode() * 5
            async with await side.connection.open_stream() as stream:
                await stream.write(question)
                await stream.close_write()
                assert await stream.read() == sha256(question).digest()

        async def answer(stream: Stream) -> None:
            async with stream:
                await stream.write(sha256(await stream.read()).digest())

        async with pair() as both:
            async with asyncio.TaskGroup() as group:
                for side in both.sides:
                    for number in range(at_once):
                        group.create_task(ask(side, f"first {number}"))
                first = [await ends(side.accepted.get()) for _ in range(at_once) for side in both.sides]
                assert all(len(side.connection.streams) == 2 * at_once for side in both.sides)
                for side in both.sides:
                    for number in range(behind):
                        group.create_task(ask(side, f"then {number}"))
                for stream in first:
                    group.create_task(answer(stream))
                for _ in range(behind):
                    for side in both.sides:
                        group.create_task(answer(await ends(side.accepted.get())))
            await asyncio.sleep(1)
            for side in both.sides:
                assert not side.connection.streams
                assert not engine(side).lanes

    async def test_one_too_many_waits_until_one_ends(self) -> None:
        async with pair() as both:
            connection = both.dialer.connection
            for _ in range(1024):
                await (await ends(connection.open_stream())).write(b"!")
            opening = asyncio.ensure_future(connection.open_stream())
            assert await is_held(opening)
            theirs = await ends(both.listener.accepted.get())
            await theirs.close_write()
            assert await is_held(opening), "only one direction of a stream has ended"
            await connection.streams[0].close_write()
            stream = await ends(opening)
            await stream.write(b"last")
            accepted = [await ends(both.listener.accepted.get()) for _ in range(1024)]
            assert await ends(accepted[-1].readexactly(4)) == b"last"
            opening = asyncio.ensure_future(connection.open_stream())
            assert await is_held(opening)
            await cancel(opening)

    @pytest.mark.parametrize("moment", ["while it waits", "when its turn has come"])
    async def test_a_cancelled_opener_leaves_the_others_in_order(self, moment: str) -> None:
        async with pair(QuicConfig(max_streams=2)) as both:
            open_ones = [await ends(both.dialer.connection.open_stream()) for _ in range(2)]
            waiting = [await started(both.dialer.connection.open_stream()) for _ in range(4)]
            if moment == "while it waits":
                await cancel(waiting[0])
            else:
                connection: Any = both.dialer.connection
                turn, wake = connection._openers[0], connection._wake_opener

                def wake_and_cancel() -> None:
                    wake()
                    if turn.done():
                        waiting[0].cancel()

                connection._wake_opener = wake_and_cancel
            for stream in open_ones:
                stream.reset()
            streams = [await ends(task) for task in waiting[1:3]]
            assert waiting[0].cancelled()
            assert await is_held(waiting[3])
            for place, stream in enumerate(streams):
                await stream.write(bytes([place]))
            streams[0].reset()
            assert (await ends(waiting[3])).id > streams[1].id > streams[0].id


class TestEnds:
    async def test_half_close(self) -> None:
        async with pair(link=LOSSY) as both:
            ours, theirs = await both.dialer.stream_to(both.listener)
            await ours.write(pattern(100_000))
            await ours.close_write()
            assert await ends(theirs.read(), within=60) == pattern(100_000)
            await theirs.write(pattern(100_000))
            await theirs.close_write()
            assert await ends(ours.read(), within=60) == pattern(100_000)
            for side in both.sides:
                await side.until_streams_are_gone()

    @pytest.mark.parametrize("code", [0, 0x1005, 2**32 - 1])
    async def test_a_reset_tells_its_code_also_on_a_bad_link(self, code: int) -> None:
        async with pair(link=LOSSY) as both:
            for side, other in (both.sides, both.sides[::-1]):
                ours, theirs = await side.stream_to(other)
                reading = await started(theirs.read(1))
                ours.reset(code)
                for call in (reading, theirs.write(b"x"), theirs.read(1)):
                    with raises(StreamReset) as caught:
                        await ends(call)
                    assert (caught.value.code, caught.value.by) == (code, "remote")

    async def test_stop_sending_ends_one_direction_only(self) -> None:
        async with pair() as both:
            ours, theirs = await both.dialer.stream_to(both.listener)
            writing = asyncio.ensure_future(theirs.write(bytes(4 * MIB)))
            assert await is_held(writing)
            engine(both.dialer).stop(ours.lane, 7)  # type: ignore[attr-defined]
            transmit(both.dialer)
            for call in (writing, theirs.write(b"x")):
                with raises(StreamReset) as caught:
                    await ends(call)
                assert (caught.value.code, caught.value.by) == (7, "remote")
            await ours.write(b"still here")
            await ours.close_write()
            assert await ends(theirs.read()) == b"still here"
            await both.listener.until_streams_are_gone()

    async def test_reset_stream_ends_one_direction_only(self) -> None:
        async with pair() as both:
            ours, theirs = await both.dialer.stream_to(both.listener)
            reading = await started(theirs.readexactly(4))
            engine(both.dialer).reset(ours.lane, 9)  # type: ignore[attr-defined]
            transmit(both.dialer)
            with raises(StreamReset) as caught:
                await ends(reading)
            assert (caught.value.code, caught.value.by) == (9, "remote")
            await theirs.write(b"still here")
            await theirs.close_write()
            assert await ends(ours.read()) == b"still here"
            await both.listener.until_streams_are_gone()

    async def test_close_while_the_peer_still_writes(self) -> None:
        async with pair() as both:
            ours, theirs = await both.dialer.stream_to(both.listener)
            await ours.write(b"question")
            writing = asyncio.ensure_future(theirs.write(pattern(4 * MIB)))
            got = await ends(ours.readexactly(10_000))
            await ours.close()
            for call in (writing, theirs.write(b"x")):
                with raises(StreamReset) as caught:
                    await ends(call)
                assert (caught.value.code, caught.value.by) == (0, "remote")
            assert got == pattern(10_000)
            assert await ends(theirs.read()) == b"question"  # what came before the end is intact
            for side in both.sides:
                await side.until_streams_are_gone()

    @pytest.mark.parametrize("end", ["close", "reset"])
    async def test_a_peer_that_does_not_stop_sending_gets_no_more_window(self, end: str) -> None:
        """What it sends is dropped, and takes nothing away from other streams."""
        async with pair(SMALL) as both:
            for _ in range(8):
                rude, theirs = await both.dialer.stream_to(both.listener)
                rude.lane.sender.reset = lambda error_code: None  # type: ignore[attr-defined]
                rude.stop_received = lambda code: None  # type: ignore[attr-defined]
                if end == "close":
                    await theirs.close()
                else:
                    theirs.reset()
                assert await flood(rude, 4 * MIB) <= 2 * SMALL.stream_window + LOCAL
                assert incoming_of(theirs).available == 0
            ours, theirs = await both.dialer.stream_to(both.listener)
            writing = asyncio.ensure_future(ours.write(pattern(MIB)))
            await drain(theirs, MIB)
            await writing


class TestBackPressure:
    async def test_a_writer_is_held_at_the_window_and_a_little(self) -> None:
        async with pair() as both:
            ours, theirs = await both.dialer.stream_to(both.listener)
            held_at = await flood(ours)
            stream_window = QuicConfig().stream_window
            assert stream_window - 8 * KIB <= held_at <= stream_window + LOCAL
            assert incoming_of(theirs).available <= stream_window

    @pytest.mark.parametrize(("stopped", "config"), [(1, QuicConfig()), (20, TENTH)], ids=["one", "twenty"])
    async def test_readers_that_stop_for_a_minute_lose_nothing_and_hold_nobody(
        self, stopped: int, config: QuicConfig
    ) -> None:
        size = config.stream_window + 88 * KIB
        async with pair(config) as both:
            slow = [await both.dialer.stream_to(both.listener) for _ in range(stopped)]
            writing = [asyncio.ensure_future(ours.write(pattern(size + LOCAL))) for ours, _ in slow]
            quick, read = await both.dialer.stream_to(both.listener)
            for _ in range(6):
                await ends(quick.write(pattern(size)))
                await drain(read, size)
                await asyncio.sleep(10)
            assert not any(task.done() for task in writing)
            for _, theirs in slow:
                await drain(theirs, size + LOCAL)
            await asyncio.gather(*writing)

    async def test_a_full_connection_window_holds_all_and_recovers(self) -> None:
        async with pair(SMALL) as both:
            pairs = [await both.dialer.stream_to(both.listener) for _ in range(7)]
            writing = [asyncio.ensure_future(ours.write(pattern(MIB))) for ours, _ in pairs]
            await asyncio.sleep(60)
            assert not any(task.done() for task in writing)
            assert sum(incoming_of(theirs).available for _, theirs in pairs) <= SMALL.connection_window
            late, read = await ends(both.dialer.connection.open_stream()), pairs[-1][1]
            await late.write(b"waits as well")
            reads = [asyncio.ensure_future(drain(theirs, MIB)) for _, theirs in pairs]
            await ends(asyncio.gather(*reads, *writing), within=60)
            assert await ends((await ends(both.listener.accepted.get())).readexactly(13)) == b"waits as well"
            assert incoming_of(read).available == 0


class TestWindows:
    @pytest.mark.parametrize("config", [QuicConfig(), TENTH], ids=["default", "a tenth"])
    async def test_a_fast_reader_on_a_long_fat_link_fills_it(self, config: QuicConfig) -> None:
        """1 MB is under way. With a tenth of the default windows it is as on a link of 50 MB/s with them: the largest
        window is just what the link holds.
        """
        bandwidth, size = 5_000_000, 12_000_000
        async with pair(config, link=Link(latency=0.1, bandwidth=bandwidth)) as both:
            ours, theirs = await both.dialer.stream_to(both.listener)
            writing = asyncio.ensure_future(ours.write(bytes(size)))
            await ends(theirs.readexactly(size // 2))
            since = asyncio.get_running_loop().time()
            await ends(theirs.readexactly(size // 2))
            rate = size // 2 / (asyncio.get_running_loop().time() - since)
            await writing
            assert rate > 0.7 * bandwidth
            assert config.stream_window < window(theirs) <= config.max_stream_window

    async def test_no_window_grows_beyond_its_maximum(self) -> None:
        config = QuicConfig(stream_window=64 * KIB, max_stream_window=200 * KIB)
        async with pair(config, link=Link(latency=0.05)) as both:
            ours, theirs = await both.dialer.stream_to(both.listener)
            reading = asyncio.ensure_future(drain(theirs, 2 * MIB))
            await ours.write(pattern(2 * MIB))
            await ends(reading)
            assert window(theirs) == config.max_stream_window
            assert config.max_stream_window - 8 * KIB <= await flood(ours) <= config.max_stream_window + LOCAL

    async def test_a_slow_reader_gets_no_larger_window(self) -> None:
        async with pair() as both:
            ours, theirs = await both.dialer.stream_to(both.listener)
            writing = asyncio.ensure_future(ours.write(pattern(3 * MIB)))
            for place in range(0, 3 * MIB, 128 * KIB):
                await drain(theirs, 128 * KIB, place)
                await asyncio.sleep(1)
            await writing
            assert window(theirs) == QuicConfig().stream_window


async def fin(ours: Stream, theirs: Stream) -> None:
    """The writer ends, the reader closes without reading."""
    await ours.close()
    await asyncio.sleep(0.05)
    await theirs.close()


async def reset_by_writer(ours: Stream, theirs: Stream) -> None:
    ours.reset(3)
    await asyncio.sleep(0.05)
    await theirs.close()


async def reset_by_reader(ours: Stream, theirs: Stream) -> None:
    await asyncio.sleep(0.05)
    theirs.reset(3)


async def reset_in_flight(ours: Stream, theirs: Stream) -> None:
    """More is under way when the reader resets."""
    writing = asyncio.ensure_future(ours.write(bytes(4 * KIB)))
    theirs.reset(3)
    await asyncio.gather(writing, return_exceptions=True)


async def reset_when_over(ours: Stream, theirs: Stream) -> None:
    """Both directions have ended already."""
    await ours.close()
    await asyncio.sleep(0.05)
    await theirs.close_write()
    theirs.reset(3)


async def closed_by_reader(ours: Stream, theirs: Stream) -> None:
    await asyncio.sleep(0.05)
    await theirs.close()
    await asyncio.sleep(0.05)
    ours.reset()


async def half_read(ours: Stream, theirs: Stream) -> None:
    await ours.close()
    await ends(theirs.readexactly(1000))
    await theirs.close()


class TestCredit:
    @pytest.mark.parametrize(
        ("end", "link"),
        [
            (fin, NEAR),
            (reset_by_writer, NEAR),
            (reset_by_writer, LOSSY),  # some of the bytes never arrive
            (reset_by_reader, NEAR),
            (reset_in_flight, NEAR),
            (reset_when_over, NEAR),
            (closed_by_reader, NEAR),
            (half_read, NEAR),
        ],
    )
    async def test_unread_bytes_of_streams_that_ended_are_given_back(self, end: Any, link: Link) -> None:
        """2,000 streams with 4 KiB unread each would fill the window of 256 KiB thirty times."""
        async with pair(SMALL, link=link) as both:

            async def one(_: int) -> None:
                ours = await both.dialer.connection.open_stream()
                await ours.write(bytes(4 * KIB))
                theirs = await ends(both.listener.accepted.get())
                await end(ours, theirs)

            for start in range(0, 2000, 20):
                await ends(asyncio.gather(*map(one, range(start, start + 20))))
            for side in both.sides:
                await side.until_streams_are_gone()
            await asyncio.sleep(1)
            room = engine(both.dialer)._remote_max_data - engine(both.dialer)._remote_max_data_used
            size = engine(both.listener).window.size
            assert size * 3 // 4 <= room <= size <= SMALL.connection_window
            ours, theirs = await both.dialer.stream_to(both.listener)
            reading = asyncio.ensure_future(drain(theirs, MIB))
            await ours.write(pattern(MIB))
            await ends(reading)


class TestCloses:
    @pytest.mark.parametrize("link", [NEAR, LOSSY])
    async def test_close_delivers_what_was_written(self, link: Link) -> None:
        async with pair(QuicConfig(linger=30), link=link) as both:
            streams = [await both.dialer.stream_to(both.listener) for _ in range(3)]
            for ours, _ in streams:
                await ours.write(pattern(100_000))
            await streams[0][0].close_write()
            await ends(both.dialer.connection.close("all said"), within=30)
            reason = await ends(both.listener.connection.wait_closed())
            assert (reason.reason, reason.by, reason.code) == ("all said", "remote", 0)
            assert await streams[0][1].read() == pattern(100_000)
            for _, theirs in streams[1:]:
                assert await theirs.readexactly(100_000) == pattern(100_000)

    @pytest.mark.parametrize("linger", [0.5, 2.0])
    async def test_close_waits_for_a_dead_peer_no_longer_than_linger(self, linger: float) -> None:
        async with pair(QuicConfig(linger=linger)) as both:
            ours, _ = await both.dialer.stream_to(both.listener)
            both.part()
            await ours.write(b"lost")
            since = asyncio.get_running_loop().time()
            await ends(both.dialer.connection.close())
            assert asyncio.get_running_loop().time() - since == pytest.approx(linger, abs=0.01)

    async def test_close_does_not_wait_where_all_has_arrived(self) -> None:
        async with pair() as both:
            await both.dialer.stream_to(both.listener)
            await asyncio.sleep(1)
            since = asyncio.get_running_loop().time()
            await both.dialer.connection.close()
            assert asyncio.get_running_loop().time() == since

    async def test_abort_tells_the_peer_why(self) -> None:
        async with pair() as both:
            _, theirs = await both.dialer.stream_to(both.listener)
            reading = await started(theirs.read(1))
            both.dialer.connection.abort("had enough")
            reason = await ends(both.listener.connection.wait_closed())
            assert (reason.reason, reason.by, reason.code) == ("had enough", "remote", 0)
            for call in (reading, theirs.write(b"x"), both.listener.connection.open_stream()):
                with raises(ConnectionClosed) as caught:
                    await ends(call)
                assert caught.value.by == "remote"

    async def test_the_code_and_phrase_of_the_application_arrive(self) -> None:
        for code, named in ((0x1002, "resource limit exceeded: full"), (0x99, "application error 0x99: full")):
            async with pair() as both:
                engine(both.dialer).close(error_code=code, reason_phrase="full")
                transmit(both.dialer)
                for side, by in zip(both.sides, ("local", "remote"), strict=True):
                    reason = await ends(side.connection.wait_closed())
                    assert (reason.reason, reason.by, reason.code) == (named, by, code)

    async def test_a_breach_of_the_protocol_is_named(self) -> None:
        async with pair() as both:
            ours, _ = await both.dialer.stream_to(both.listener)
            engine(both.dialer)._remote_max_data = 64 * MIB
            ours.lane.quic.max_stream_data_remote = 64 * MIB  # type: ignore[attr-defined]
            writing = asyncio.ensure_future(ours.write(bytes(4 * MIB)))
            for side, by in zip(both.sides, ("remote", "local"), strict=True):
                reason = await ends(side.connection.wait_closed())
                assert reason.reason.startswith("flow control error")
                assert (reason.by, reason.code) == (by, QuicErrorCode.FLOW_CONTROL_ERROR)
            with raises(ConnectionClosed):
                await ends(writing)

    async def test_more_streams_than_granted_are_a_breach_too(self) -> None:
        async with pair(QuicConfig(max_streams=4)) as both:
            engine(both.dialer)._remote_max_streams_bidi = 100
            for _ in range(5):
                await (await ends(both.dialer.connection.open_stream())).write(b"!")
            reason = await ends(both.dialer.connection.wait_closed())
            assert reason.reason.startswith("stream limit error")
            assert (reason.by, reason.code) == ("remote", QuicErrorCode.STREAM_LIMIT_ERROR)


class TestKeepAlive:
    @pytest.mark.parametrize(
        ("config", "theirs"),
        [
            (QuicConfig(), QuicConfig()),
            (QuicConfig(), QuicConfig(idle_timeout=4, keep_alive=None)),
            (QuicConfig(idle_timeout=4), QuicConfig(keep_alive=None)),
        ],
        ids=["defaults", "the peer's timeout is smaller", "ours is smaller"],
    )
    async def test_a_quiet_connection_lives_for_an_hour(self, config: QuicConfig, theirs: QuicConfig) -> None:
        async with pair(config, theirs) as both:
            ours, heard = await both.dialer.stream_to(both.listener)
            await asyncio.sleep(3600)
            assert not any(side.closed for side in both.sides)
            await ours.write(b"still here")
            assert await ends(heard.readexactly(10)) == b"still here"

    async def test_without_keep_alive_it_ends_by_the_idle_timeout(self) -> None:
        async with pair(QuicConfig(keep_alive=None)) as both:
            _, heard = await both.dialer.stream_to(both.listener)
            reading = await started(heard.read(1))
            since = asyncio.get_running_loop().time()
            for side in both.sides:
                reason = await ends(side.connection.wait_closed(), within=31)
                assert "idle timeout" in reason.reason.lower()
                assert reason.by == "local"
                assert asyncio.get_running_loop().time() - since == pytest.approx(30, abs=0.5)
            with raises(ConnectionClosed):
                await ends(reading)

    async def test_datagrams_of_others_are_no_sign_of_life(self) -> None:
        async with pair() as both:
            await both.dialer.stream_to(both.listener)
            driver: Any = both.dialer.connection._driver  # type: ignore[attr-defined]
            await asyncio.sleep(1)
            asks_at = driver._keep_alive_at
            await asyncio.sleep(5)
            forged, now = b"\x40" + driver.engine.host_cid + bytes(60), asyncio.get_running_loop().time()
            driver.receive(forged, len(forged), driver.addr, None, now)
            assert driver._keep_alive_at == asks_at

    async def test_the_code_of_a_close_is_told(self) -> None:
        for how in ("close", "abort"):
            async with pair() as both:
                await both.dialer.stream_to(both.listener)
                if how == "close":
                    await both.dialer.connection.close("no room", 0x1002)
                else:
                    both.dialer.connection.abort("no room", 0x1002)
                reason = await ends(both.listener.connection.wait_closed())
                assert (reason.by, reason.code) == ("remote", 0x1002)
                assert "no room" in reason.reason

    @pytest.mark.parametrize("idle_timeout", [3.0, 30.0])
    async def test_a_peer_that_vanishes_is_noticed_at_both_ends(self, idle_timeout: float) -> None:
        """The last question for a packet begins the idle timeout anew (RFC 9000, 10.1)."""
        async with pair(QuicConfig(idle_timeout=idle_timeout)) as both:
            await both.dialer.stream_to(both.listener)
            await asyncio.sleep(100)
            both.part()
            since = asyncio.get_running_loop().time()
            for side in both.sides:
                reason = await ends(side.connection.wait_closed(), within=2 * idle_timeout)
                assert "idle timeout" in reason.reason.lower()
                assert 0.5 * idle_timeout <= asyncio.get_running_loop().time() - since <= 1.55 * idle_timeout


async def test_hosts_leave_no_task_timer_or_socket() -> None:
    """`run` fails where tasks or timers are left."""
    async with Network(seed=1, link=NEAR) as network:
        nodes = network.node("10.0.0.1"), network.node("10.0.0.2", "fd00::2")
        one, other = (Quic(open_socket=node.udp()) for node in nodes)
        async with Host(transports=[one]) as dialer:
            listen_on = ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/udp/0/quic-v1"]
            async with Host(transports=[other], listen_addrs=listen_on) as listener:
                begun, finished = asyncio.Semaphore(0), asyncio.Event()

                @listener.handle("/hold")
                async def hold(stream: Stream) -> None:
                    begun.release()
                    try:
                        await stream.read()
                    finally:
                        finished.set()

                streams = [await dialer.new_stream(listener.addrs[0], "/hold") for _ in range(3)]
                for _ in streams:
                    await ends(begun.acquire())
                reading = await started(streams[1].read(1))
            assert finished.is_set()
            assert not nodes[1].ports._sockets
            with raises(StreamReset, ConnectionClosed):
                await ends(reading)
            reason = await ends(streams[0].connection.wait_closed())
            assert (reason.reason, reason.by) == ("the host is shutting down", "remote")
        assert not nodes[0].ports._sockets


@pytest.mark.parametrize("goes_on", [True, False])
async def test_a_host_ends_with_the_connections_that_are_being_closed(goes_on: bool) -> None:
    """They wait for a dead peer: the host waits with them, for `linger` at most."""
    async with Network(seed=1, link=NEAR) as network:
        nodes = network.node("10.0.0.1"), network.node("10.0.0.2")
        async with Host(
            transports=[Quic(open_socket=nodes[1].udp())], listen_addrs=["/ip4/0.0.0.0/udp/0/quic-v1"]
        ) as b:
            async with Host(transports=[Quic(open_socket=nodes[0].udp())]) as a:
                connection = await ends(a.connect(b.addrs[0]))
                await asyncio.sleep(1)
                network.cut(*nodes)
                await (await connection.open_stream()).write(b"lost")
                closing = await started(connection.close())
                if not goes_on:
                    await cancel(closing)
            assert not nodes[0].ports._sockets
            await asyncio.wait({closing})
