"""What waits to be written to one stream: all that is put there in one tick of the loop leaves in one write."""

from __future__ import annotations

import asyncio
from collections import deque

from ...connection import Stream

HIGH_WATER = 256 * 1024
"""Bytes that may wait; who has more to send waits until they are fewer."""


class Outbox:
    """Frames for one stream. `run` sends them until it is cancelled, or the stream fails."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._frames: list[bytes] = []
        self._size = 0
        self._wanted: asyncio.Future[None] | None = None  # what `run` waits for while there is nothing to send
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._flushing: deque[asyncio.Future[None]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether whoever puts more in should wait for `room` first."""
        return self._size > HIGH_WATER

    def put(self, frame: bytes) -> None:
        """Send `frame` behind what waits already."""
        self._frames.append(frame)
        self._size += len(frame)
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    async def room(self) -> None:
        """Wait until there is room. Whoever waits is served in turn."""
        while self.is_full:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn

    async def flushed(self) -> None:
        """Wait until everything that was put in was written."""
        while self._size:
            turn = asyncio.get_running_loop().create_future()
            self._flushing.append(turn)
            await turn

    async def run(self) -> None:
        """Send what is put in. Raises what ends the stream."""
        try:
            while True:
                while not self._frames:
                    self._wanted = asyncio.get_running_loop().create_future()
                    await self._wanted
                frames, self._frames = self._frames, []
                size = sum(map(len, frames))
                await self._stream.write(b"".join(frames) if len(frames) > 1 else frames[0])
                self._size -= size
                self._wake()
        finally:
            self._size = 0
            self._wake()

    def _wake(self) -> None:
        while self._waiting and not self.is_full:
            _release(self._waiting.popleft())
        while self._flushing and not self._size:
            _release(self._flushing.popleft())


def _release(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
