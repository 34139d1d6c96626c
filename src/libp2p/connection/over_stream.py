"""A stream is bytes too: a raw connection whose bytes travel in a stream of another connection (a relayed one does).

    stream's buffer -> arrived -> the sink            no task: within the call in which the bytes came
    send -> the stream, while it takes all            no task
         -> queue -> a task that writes it            only while the stream makes writers wait

Rules:
- What the sink is too slow for stays in the stream's buffer, whose window holds the peer.
- The end of the peer's direction is `eof_received`, a reset or the loss of the connection below `connection_lost`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from ..errors import ConnectionClosed, Libp2pError, copy_of
from ..io import Buffer
from ..multiaddr import Multiaddr
from .muxed_stream import MuxedStream
from .raw import RawConnection
from .streams import Stream

HIGH_WATER = 64 * 1024
"""Bytes that may wait for the stream before writers are held."""

LOW_WATER = 16 * 1024
"""Bytes at which they may go on."""


class OverStream(RawConnection):
    """A raw connection over `stream`, which nobody else reads or writes from here on. Its protocol must be agreed on:
    await `stream.agreed()` before. The addresses are what the connection is known by.
    """

    def __init__(self, stream: Stream, *, local_addr: Multiaddr, remote_addr: Multiaddr) -> None:
        super().__init__(local_addr=local_addr, remote_addr=remote_addr)
        if not isinstance(stream, MuxedStream):
            raise TypeError(f"{stream!r} is no stream of a connection of this package")
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._queue: deque[memoryview] = deque()
        self._queued = 0
        self._writing: asyncio.Task[None] | None = None
        self._writer_paused = False
        self._reading_paused = False
        self._pushing = False
        self._ended = False  # eof_received was called
        self._closing = False
        self._eof_sent = False
        self._over = False
        self._told: asyncio.Future[None] = self._loop.create_future()
        stream.divert(self)
        self._loop.call_soon(self.arrived)

    # RawConnection

    def send(self, buffers: Sequence[Buffer]) -> None:
        if self._closing or self._over or self._eof_sent:
            return
        for buffer in buffers:
            data = memoryview(buffer if isinstance(buffer, bytes) else bytes(buffer))
            if self._writing is None:
                while sent := self._stream.try_write(data):
                    data = data[sent:]
            if data:
                self._queue.append(data)
                self._queued += len(data)
        if self._queue and self._writing is None:
            self._writing = self._loop.create_task(self._write_queue(), name=f"{self!r} writes")
        if self._queued > HIGH_WATER and not self._writer_paused:
            self._writer_paused = True
            self._sink.pause_writing()

    def send_eof(self) -> None:
        """End our direction, behind what was sent; what the peer sends is pushed on. Never waits. Idempotent."""
        if not (self._eof_sent or self._closing or self._over):
            self._eof_sent = True
            if self._writing is None:
                self._writing = self._loop.create_task(self._write_queue(), name=f"{self!r} writes")

    @property
    def unsent(self) -> int:
        return self._queued

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._loop.call_soon(self.arrived)

    async def close(self) -> None:
        try:
            if not self._closing and not self._over:
                self._closing = True
                if self._writing is not None:
                    await asyncio.wait({self._writing})
                if not self._over:
                    await self._stream.close()
                    self._lose(None)
            await asyncio.shield(self._told)
        except BaseException:  # cancelled, mostly: nobody will wait for the rest to be sent
            self.abort()
            raise

    def abort(self, error: Exception | None = None) -> None:
        if not self._over:
            self._lose(error or ConnectionClosed("aborted", by="local"))
            self._stream.reset()

    # What the stream tells

    def arrived(self) -> None:
        """There is something to read, or the peer's direction has ended."""
        if self._pushing:  # the sink has caused it: it is pushed when the sink returns
            return
        self._pushing = True
        try:
            while not (self._reading_paused or self._closing or self._over or self._ended) and self._push():
                pass
        except Libp2pError as error:
            self.abort(error)
        finally:
            self._pushing = False

    def lost(self, error: Exception) -> None:
        """Both directions of the stream are over. What has arrived before is still pushed."""
        if self._ended or self._closing:
            self._lose(copy_of(error))

    # Inside

    def _push(self) -> bool:
        """Give the sink what comes next; whether there was anything."""
        incoming = self._stream.diverted
        if incoming.available:
            self._sink.data_received(memoryview(incoming.take_some()))
            return True
        if incoming.error is not None:
            self._lose(copy_of(incoming.error))
        elif incoming.at_eof:
            self._ended = True
            self._sink.eof_received()
        return False

    async def _write_queue(self) -> None:
        """Write what had to wait, until there is nothing more."""
        try:
            while self._queue:
                data = self._queue.popleft()
                await self._stream.write(data)
                self._queued -= len(data)
                if self._writer_paused and self._queued <= LOW_WATER and not self._closing:
                    self._writer_paused = False
                    self._sink.resume_writing()
            if self._eof_sent:
                await self._stream.close_write()
        except Libp2pError as error:
            self.abort(error)
        finally:
            self._writing = None

    def _lose(self, error: Exception | None) -> None:
        if self._over:
            return
        self._over = True
        self._queue.clear()
        self._queued = 0
        if self._writing is not None and self._writing is not asyncio.current_task():
            self._writing.cancel()
        self._loop.call_soon(self._tell_loss, error)

    def _tell_loss(self, error: Exception | None) -> None:
        self._told.set_result(None)
        self._sink.connection_lost(error)

    def __repr__(self) -> str:
        return f"<OverStream {self.local_addr} -> {self.remote_addr} in {self._stream!r}>"
