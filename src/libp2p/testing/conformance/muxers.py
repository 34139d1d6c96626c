"""What every connection that a muxer makes does: `MuxerSuite`."""

from __future__ import annotations

import asyncio

from ...connection import Connection, Direction, Muxer, RawConnection, Stream
from ...errors import ConnectionClosed, StreamReset
from ...identity import PrivateKey
from ...transports.memory import pipe
from .channel import clear_channels
from .connections import ConnectionSuite, Side
from .one_end import Transcript
from .tools import ENDED, HELD, ends, is_held, raises


class MuxerSuite(ConnectionSuite):
    """Tests of a `Muxer`, over an unencrypted channel within the process. `muxer` makes one."""

    def muxer(self) -> Muxer:
        """The muxer to test."""
        raise NotImplementedError

    async def make(self) -> tuple[Connection, Connection]:
        self.raw = pipe()
        return connect_by(self.muxer(), self.raw)

    async def test_loss_of_the_channel_ends_all_calls(self) -> None:
        async with self.sides() as (dialer, listener):
            calls: list[asyncio.Task[object]] = []
            for _ in range(10):
                ours, theirs = await dialer.stream_to(listener)
                calls.append(asyncio.ensure_future(ours.read(1)))
                calls.append(asyncio.ensure_future(theirs.readexactly(5)))
            calls.append(asyncio.ensure_future((await dialer.stream_to(listener))[0].write(bytes(self.max_buffered))))
            calls.append(asyncio.ensure_future(dialer.connection.wait_closed()))
            assert await is_held(calls[-1])
            self.raw[0].abort(ConnectionResetError("the cable was pulled"))
            *streams, waiting = calls
            for call in streams:
                with raises(ConnectionClosed):
                    await ends(call)
            await ends(waiting)
            await ends(listener.connection.wait_closed())
            assert not dialer.connection.streams
            assert not listener.connection.streams

    async def test_the_end_of_the_channel_without_a_goodbye_is_noticed(self) -> None:
        async with self.sides() as (dialer, listener):
            ours, _ = await dialer.stream_to(listener)
            await ends(self.raw[1].close())
            with raises(ConnectionClosed):
                await ends(ours.read())

    async def test_endings_are_told_alike_whatever_arrives_in_one_read(self) -> None:
        code = 9 if self.carries_reset_codes else 0
        for script, told in _ENDINGS.items():
            expected = [(data, _kind(end, code), _kind(write, code)) for data, end, write in told]
            pieces = await self._pieces_of(script.split())
            for together in (len(pieces), 1, 2):
                reads = [b"".join(pieces[at : at + together]) for at in range(0, len(pieces), together)]
                assert await self._told_by(reads) == expected, f"{script}: {together} at a time"

    async def _pieces_of(self, script: list[str]) -> list[bytes]:
        """What a peer sends for each step: `o0` opens its first stream, `w0` writes, `e0` ends, `r0` resets it."""
        left, right = pipe()
        channel, there = clear_channels(left, right, *_KEYS)
        connection = self.muxer().connect(channel, Direction.OUTBOUND)
        reader = PlainReader(there)
        streams: list[Stream] = []
        pieces = []
        for step in script:
            stream = streams[int(step[1:])] if step[0] != "o" else None
            if stream is None:
                streams.append(await connection.open_stream())
            elif step[0] == "w":
                await stream.write(b"data")
            elif step[0] == "e":
                await stream.close_write()
            else:
                stream.reset(9)
            await asyncio.sleep(HELD)
            pieces.append(reader.take())
        connection.abort()
        await ends(connection.close())
        await ends(right.close())
        return pieces

    async def _told_by(self, reads: list[bytes]) -> list[tuple[bytes, type[Exception] | None, type[Exception] | None]]:
        """What is read of each stream, how it ends, and what a write then raises, where a peer sends `reads`."""
        left, right = pipe()
        _, channel = clear_channels(left, right, *_KEYS)
        side = Side(self.muxer().connect(channel, Direction.INBOUND))
        for data in reads:
            channel.data_received(memoryview(data))
            await asyncio.sleep(HELD)
        told = []
        while not side.accepted.empty():
            told.append(await _outcome(side.accepted.get_nowait()))
        assert not side.closed
        assert len(side.over) == sum(write is not None for _, _, write in told)
        side.connection.abort()
        await ends(side.connection.close())
        await ends(left.close())
        return told

    async def test_garbage_closes_the_connection(self) -> None:
        left, right = pipe()
        dialer, listener = clear_channels(left, right, *_KEYS)
        connection = self.muxer().connect(listener, Direction.INBOUND)
        side = Side(connection)
        dialer.send((b"\xff" * 4096,))
        reason = await ends(connection.wait_closed())
        assert reason.by == "local"
        assert side.closed == [reason]
        await asyncio.sleep(HELD)
        with raises(*ENDED):
            await ends(dialer.write(b"\xff"))


_KEYS = PrivateKey.generate(), PrivateKey.generate()

_ENDINGS = {
    "o0 w0 r0": [(b"data", "reset", "reset")],
    "o0 r0": [(b"", "reset", "reset")],
    "o0 w0 e0": [(b"data", "end", "open")],
    "o0 w0 e0 r0": [(b"data", "reset with code", "reset")],
    "o0 e0 r0": [(b"", "reset with code", "reset")],
    "o0 w0 o1 e0 w1 r0 e1": [(b"data", "reset with code", "reset"), (b"data", "end", "open")],
    "o0 r0 o1 w1 r1 o2 w2": [(b"", "reset", "reset"), (b"data", "reset", "reset"), (b"data", "open", "open")],
}
"""What a peer does, and for each stream what is read of it, how reading and writing end. A reset with a code takes the
place of an end in order, one without leaves it.
"""


def _kind(ending: str, code: int) -> type[Exception] | None:
    if ending == "reset with code":
        ending = "reset" if code else "end"
    return {"reset": StreamReset, "end": EOFError, "open": None}[ending]


async def _outcome(stream: Stream) -> tuple[bytes, type[Exception] | None, type[Exception] | None]:
    """What is read, how reading ends (None: it goes on), and what writing raises."""
    data = b""
    end: type[Exception] | None = None
    try:
        async with asyncio.timeout(HELD):
            while chunk := await stream.read(100):
                data += chunk
            end = EOFError
    except (TimeoutError, StreamReset) as error:
        end = StreamReset if isinstance(error, StreamReset) else None
    try:
        await ends(stream.write(b"x"))
    except StreamReset:
        return data, end, StreamReset
    return data, end, None


class PlainReader:
    """Takes what arrives on a raw connection, as it was sent."""

    def __init__(self, raw: RawConnection) -> None:
        self._transcript = Transcript(join=True)
        raw.attach(self._transcript)

    def take(self) -> bytes:
        """What has arrived since the last time."""
        told, self._transcript.told = self._transcript.told, []
        return b"".join(piece for piece in told if isinstance(piece, bytes))


def connect_by(muxer: Muxer, raw: tuple[RawConnection, RawConnection]) -> tuple[Connection, Connection]:
    """The two ends of a connection that `muxer` makes, unencrypted, over `raw`."""
    dialer, listener = clear_channels(*raw, *_KEYS)
    return muxer.connect(dialer, Direction.OUTBOUND), muxer.connect(listener, Direction.INBOUND)
