"""Mplex and its streams. Where the suites rely on the flow control of single streams, what mplex does instead."""

from __future__ import annotations

import asyncio

import pytest

from libp2p.connection import Muxer
from libp2p.errors import LimitExceeded, StreamReset
from libp2p.muxers.mplex import Mplex, MplexConfig
from libp2p.testing.conformance import MuxedStreamSuite, MuxerSuite
from libp2p.testing.conformance.connections import Side
from libp2p.testing.conformance.tools import cancel, ends, is_held, pattern

MAX_UNREAD = 256 * 1024
MAX_BUFFERED = 1024 * 1024  # a stream's unread bytes, and what lies between


class TestMplex(MuxerSuite):
    carries_reset_codes = False
    holds_openers = False  # nothing tells the opener that a stream was accepted
    max_buffered = MAX_BUFFERED

    def muxer(self) -> Muxer:
        return Mplex(MplexConfig(max_unread=MAX_UNREAD, max_outbound_streams=300))

    async def test_a_slow_reader_holds_only_its_own_writer(self) -> None:
        """It holds all writers, as long as it likes; nothing is dropped, and all go on once it reads."""
        async with self.sides() as (dialer, listener):
            slow, unread = await dialer.stream_to(listener)
            quick, read = await dialer.stream_to(listener)
            answer, answered = await listener.stream_to(dialer)
            size = self.max_buffered + 100_000
            writing = asyncio.ensure_future(slow.write(pattern(size)))
            assert await is_held(writing)
            other = asyncio.ensure_future(quick.write(b"behind it"))
            reading = asyncio.ensure_future(read.readexactly(9))
            await ends(answer.write(b"the other direction is free"))
            assert await ends(answered.readexactly(27)) == b"the other direction is free"
            await asyncio.sleep(self.patience)
            assert not writing.done(), "the writer was let go although nobody reads"
            assert not reading.done()
            assert await ends(unread.readexactly(size), within=60) == pattern(size)
            await ends(writing)
            await ends(other)
            assert await ends(reading) == b"behind it"

    @pytest.mark.parametrize("end", ["reset", "close"])
    async def test_an_overfull_stream_that_is_given_up_lets_the_others_go_on(self, end: str) -> None:
        async with self.sides() as (dialer, listener):
            slow, unread = await dialer.stream_to(listener)
            quick, read = await dialer.stream_to(listener)
            writing = asyncio.ensure_future(slow.write(pattern(self.max_buffered + 100_000)))
            assert await is_held(writing)
            other = asyncio.ensure_future(quick.write(b"behind it"))
            result = getattr(unread, end)()
            if result is not None:
                await result
            assert await ends(read.readexactly(9)) == b"behind it"
            await ends(other)
            with pytest.raises(StreamReset):
                await writing

    async def test_cancelled_calls_harm_nothing(self) -> None:
        async with self.sides() as (dialer, listener):
            ours, theirs = await dialer.stream_to(listener)
            writing = asyncio.ensure_future(ours.write(pattern(self.max_buffered)))
            assert await is_held(writing)
            await cancel(writing)
            again = asyncio.ensure_future(ours.write(b"END"))
            got = bytearray()
            while not got.endswith(b"END"):
                got += await ends(theirs.read(1_000_000))
            await ends(again)
            assert bytes(got[:-3]) == pattern(len(got) - 3)
            other, others = await dialer.stream_to(listener)
            await other.write(b"fine")
            assert await ends(others.readexactly(4)) == b"fine"

    async def test_streams_wait_to_be_opened_rather_than_flood_the_peer(self) -> None:
        """They don't wait, since mplex accepts nothing; they are limited."""
        dialer, listener = await self.make()
        sides = [Side(dialer)]
        for _ in range(300):
            await dialer.open_stream()
        with pytest.raises(LimitExceeded, match="max_outbound_streams of 300"):
            await dialer.open_stream()
        await asyncio.sleep(0.05)
        sides.append(Side(listener))
        assert sides[1].accepted.qsize() == 300
        dialer.streams[0].reset()
        await ends(dialer.open_stream())
        for side in sides:
            side.connection.abort()
            await ends(side.connection.wait_closed())
            await ends(side.connection.close())
        await self.cleanup()


class TestMplexStreams(MuxedStreamSuite):
    max_buffered = MAX_BUFFERED

    def muxer(self) -> Muxer:
        return Mplex(MplexConfig(max_unread=MAX_UNREAD))
