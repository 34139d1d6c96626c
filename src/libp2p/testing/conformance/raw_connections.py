"""What every raw connection does: `RawConnectionSuite`."""

from __future__ import annotations

import asyncio

from ...connection import RawConnection
from ...errors import Libp2pError, RemoteProtocolError
from .byte_streams import ByteStreamSuite
from .tools import ENDED, HELD, Recorder, ends, pattern, raises


class RawConnectionSuite(ByteStreamSuite[RawConnection]):
    """Tests of a `RawConnection`: those of a byte stream, and those of the push side."""

    max_pushed_while_paused: int = 0
    """Bytes that may still be pushed behind `pause_reading`: those of a record that was taken apart at that moment."""

    async def test_a_sink_gets_what_came_before_and_what_comes_after(self) -> None:
        async with self.pair() as (left, right):
            await left.write(b"hello ")
            assert await ends(right.readexactly(1)) == b"h"
            sink = Recorder()
            right.attach(sink)
            left.send((b"wor", bytearray(b"ld"), memoryview(b"!!")[:1]))
            await sink.until(size=11)
            assert sink.data == b"ello world!"
            for call in (right.read(1), right.readexactly(1), right.readuntil(), right.write(b"")):
                with raises(RuntimeError):
                    await call

    async def test_what_was_sent_may_be_overwritten_at_once(self) -> None:
        async with self.pair() as (left, right):
            memory = bytearray(pattern(200_000))
            left.send((memory, memoryview(memory)[:4]))
            memory[:] = bytes(len(memory))
            assert await ends(right.readexactly(200_004)) == pattern(200_000) + pattern(4)

    async def test_close_sends_what_waits(self) -> None:
        async with self.pair() as (left, right):
            left.send((pattern(500_000),))
            closing = asyncio.ensure_future(left.close())
            assert await ends(right.read()) == pattern(500_000)
            await ends(closing)

    async def test_the_end_and_the_loss_are_reported_once(self) -> None:
        async with self.pair() as (left, right):
            near, far = Recorder(left), Recorder(right)
            left.attach(near)
            right.attach(far)
            left.send((b"bye",))
            await ends(left.close())
            await ends(left.close())
            assert near.lost == [None]
            await far.until(eof=True)
            assert far.data == b"bye"
            await ends(right.close())
            assert len(far.lost) == 1
            left.abort()
            right.abort()
            left.send((b"nobody sends this",))
            await asyncio.sleep(0)
            assert near.lost == [None]
            assert len(far.lost) == 1

    async def test_a_close_cancelled_after_any_step_has_ended_the_connection(self) -> None:
        """And nobody closes a second time. What was sent may be lost by that."""
        for steps in range(1, 7):
            left, right = await self.make()
            near, far = Recorder(left), Recorder(right, pause_at=1)
            left.attach(near)
            right.attach(far)
            while not near.paused:
                left.send((pattern(65536),))
            closing = asyncio.ensure_future(left.close())
            for _ in range(steps):
                await asyncio.sleep(0)
            closing.cancel()
            with raises(asyncio.CancelledError):
                await ends(closing)
            await near.until(lost=True)
            far.stop_pausing()
            if self.abort_is_told:
                await far.until(lost=True)
            else:
                await far.until(eof=True)
            assert len(near.lost) == 1
            right.abort()
            await ends(right.close())
            await self.cleanup()

    async def test_abort_tells_both_sinks(self) -> None:
        async with self.pair() as (left, right):
            near, far = Recorder(left), Recorder(right)
            left.attach(near)
            right.attach(far)
            error = RemoteProtocolError("nonsense")
            left.abort(error)
            left.abort(RemoteProtocolError("later"))
            await near.until(lost=True)
            assert near.lost == [error]
            if self.abort_is_told:
                await far.until(lost=True)
                assert isinstance(far.lost[0], ENDED)
            else:
                await far.until(eof=True)

    async def test_a_sink_attached_late_hears_of_the_end(self) -> None:
        async with self.pair() as (left, right):
            await left.write(b"rest")
            await ends(left.close())
            assert await ends(right.readexactly(2)) == b"re"
            await asyncio.sleep(0.01)
            sink = Recorder()
            right.attach(sink)
            await sink.until(size=2, eof=True)
            assert sink.data == b"st"

    async def test_a_sink_attached_to_a_dead_connection_hears_of_it(self) -> None:
        async with self.pair() as (left, _):
            left.abort()
            with raises(*ENDED):
                await ends(left.readexactly(1))
            sink = Recorder()
            left.attach(sink)
            await sink.until(lost=True)

    async def test_a_paused_sink_holds_the_sender_and_loses_nothing(self) -> None:
        await self._check_paused_sink(before_attach=0)

    async def test_a_sink_may_pause_with_the_first_bytes(self) -> None:
        await self._check_paused_sink(before_attach=10_000)

    async def _check_paused_sink(self, *, before_attach: int) -> None:
        async with self.pair() as (left, right):
            left.send((pattern(before_attach),))
            if before_attach:
                await ends(right.readexactly(1))
            near, far = Recorder(left), Recorder(right, pause_at=1)
            left.attach(near)
            right.attach(far)
            sent = before_attach
            held = False
            while not held:  # a first pause may be that of a link that is not up to speed yet
                while not near.paused:
                    assert sent <= self.max_buffered, "the sender is let go although the sink takes nothing"
                    left.send((pattern(16384, sent),))
                    sent += 16384
                    await asyncio.sleep(0)
                await asyncio.sleep(HELD)
                held = near.paused
            assert far.pushed_while_pausing <= self.max_pushed_while_paused
            pauses = near.pauses
            far.stop_pausing()
            await far.until(size=sent - bool(before_attach))
            assert far.data == pattern(sent)[bool(before_attach) :]
            assert near.pauses == pauses
            await near.until(writable=True)

    async def test_an_error_of_the_sink_aborts_the_connection(self) -> None:
        async with self.pair() as (left, right):
            sink = Recorder()
            sink.fail_with = error = Libp2pError("nonsense")
            right.attach(sink)
            await left.write(b"nonsense")
            await sink.until(lost=True)
            assert sink.lost == [error]
            with raises(*ENDED):
                await ends(left.readexactly(1))
