"""Tools for the test of one connection alone, the other end of which is in the test's hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

from ...connection import LayeredConnection, RawConnection
from .tools import ends


class Transcript:
    """A `Sink` that writes down what it is told, in order: data, "eof", ("lost", error), "pause", "resume".

    With `join`, data in a row is one piece. `on_data` is called at each piece, and may raise.
    """

    def __init__(self, *, join: bool = False) -> None:
        self.told: list[Any] = []
        self.useless_cost = 0.0
        self.last_useless = ""
        self.on_data: Callable[[], None] = lambda: None
        self._join = join

    def data_received(self, data: memoryview) -> None:
        if self._join and self.told and isinstance(last := self.told[-1], bytes):
            self.told[-1] = last + data
        else:
            self.told.append(bytes(data))
        self.on_data()

    def useless(self, what: str, cost: float = 1.0) -> None:
        self.useless_cost += cost
        self.last_useless = what

    def eof_received(self) -> None:
        self.told.append("eof")

    def connection_lost(self, error: Exception | None) -> None:
        self.told.append(("lost", error))

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


@asynccontextmanager
async def transcribed(channel: RawConnection, there: RawConnection, *, join: bool = False) -> AsyncIterator[Transcript]:
    """Attach a transcript to `channel`, and in the end abort it and `there`, the other end."""
    transcript = Transcript(join=join)
    channel.attach(transcript)
    try:
        yield transcript
    finally:
        await end(channel, there)


async def end(*connections: RawConnection) -> None:
    """Abort all, and wait until they are closed."""
    for connection in connections:
        connection.abort()
    for connection in connections:
        await ends(connection.close())


async def settle() -> None:
    """Let happen what waits only for its turn of the loop, a few times in a row."""
    for _ in range(10):
        await asyncio.sleep(0)


async def wire_image(channel: RawConnection, there: RawConnection, writes: Iterable[bytes]) -> bytes:
    """What `channel` sends for `writes` and `close`; `there` is the other end of what it runs over. Both are over."""
    for data in writes:
        channel.send([data])
    reading = asyncio.ensure_future(there.read())
    await channel.close()
    image = await reading
    await end(there)
    return image


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The pieces of `data` when it is cut at these places, any numbers: each is taken modulo the size."""
    return [data[a:b] for a, b in pairwise(sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)}))]


async def received_in_pieces(channel: LayeredConnection, pieces: Iterable[bytes]) -> bytes:
    """What is read from `channel` after it, as the sink of what it runs over, has been told of `pieces` and the end."""
    for piece in pieces:
        chunk = bytearray(piece)
        channel.data_received(memoryview(chunk))
        chunk[:] = bytes(len(chunk))  # the memory was valid during the call only
    channel.eof_received()
    return await channel.read()
