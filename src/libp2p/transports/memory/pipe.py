"""A byte pipe within one process: two `MemoryConnection`s, each of which receives what the other one sends.

    send -> unsent queue -> carried (in flight) -> received queue -> the sink
                  ^                                     |
                  +------------- credit ----------------+

Rules:
- Nothing is delivered within the call that sent it: the other side sees it in a later turn of the loop.
- Bounded: at most `window` bytes are in flight or received and not pushed yet. What is beyond that waits in the unsent
  queue, which pauses the writer above `HIGH_WATER` and lets it go on below `LOW_WATER`.
- As with TCP: `close` sends the rest and then the end of the stream; bytes that reach a closed side are answered with a
  reset; `abort` resets at once. Each side hears `connection_lost` exactly once.
"""

from __future__ import annotations

import asyncio
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from ...connection import RawConnection
from ...errors import ConnectionClosed, Libp2pError
from ...io import Buffer
from ...multiaddr import Multiaddr

HIGH_WATER = 64 * 1024
"""Unsent bytes above which the writer is paused."""

LOW_WATER = 16 * 1024
"""Unsent bytes at which it may go on."""

Carry = Callable[[int, Callable[[], None]], None]
"""`carry(size, arrive)` takes `size` bytes to the other side: it calls `arrive` in a later turn of the loop.
What was sent first arrives first."""

_SOMEWHERE = Multiaddr("/memory/0")


def _at_once(_: int, arrive: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(arrive)


def pipe(
    local_addr: Multiaddr = _SOMEWHERE,
    remote_addr: Multiaddr = _SOMEWHERE,
    *,
    there: Carry = _at_once,
    back: Carry = _at_once,
    window: int = 64 * 1024,
    segment: int = 64 * 1024,
) -> tuple[MemoryConnection, MemoryConnection]:
    """Two connected ends: the first is at `local_addr`, the second at `remote_addr`.

    `there` carries from the first to the second, `back` the other way; they carry pieces of at most `segment` bytes,
    and at most `window` bytes that the receiver has not taken.
    """
    first = MemoryConnection(
        local_addr=local_addr, remote_addr=remote_addr, carry=there, window=window, segment=segment
    )
    second = MemoryConnection(
        local_addr=remote_addr, remote_addr=local_addr, carry=back, window=window, segment=segment
    )
    first.join(second)
    second.join(first)
    return first, second


class MemoryConnection(RawConnection):
    """One end of a pipe. Made by `pipe`."""

    def __init__(
        self, *, local_addr: Multiaddr, remote_addr: Multiaddr, carry: Carry, window: int, segment: int
    ) -> None:
        super().__init__(local_addr=local_addr, remote_addr=remote_addr)
        self._peer = self
        self._carry = carry
        self._window = window
        self._segment = segment
        self._unsent: deque[memoryview] | None = None  # None while empty: a deque takes 760 bytes then
        self._unsent_size = 0
        self._in_flight = 0  # bytes sent that the peer's sink has not got yet
        self._received: deque[memoryview | None] | None = None  # not pushed yet; a None in it is the end of the stream
        self._push_scheduled = False
        self._reading_paused = False
        self._writing_paused = False
        self._closing = False
        self._over = False  # connection_lost was called, or will be in this or the next turn
        self._has_ended = False
        self._closed: asyncio.Future[None] | None = None  # what those wait for who close

    def join(self, peer: MemoryConnection) -> None:
        """Send to `peer` from now on."""
        self._peer = peer

    @property
    def unsent(self) -> int:
        """Bytes that wait here or are under way to the other side."""
        return self._unsent_size + self._in_flight

    def send(self, buffers: Sequence[Buffer]) -> None:
        if self._closing or self._over:
            return
        if self._unsent is None:
            self._unsent = deque()
        for buffer in buffers:
            if data := memoryview(bytes(buffer)):
                self._unsent.append(data)
                self._unsent_size += len(data)
        self._transmit()
        if self._unsent_size > HIGH_WATER and not self._writing_paused:
            self._writing_paused = True
            self._sink.pause_writing()

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            if self._received is not None and not self._push_scheduled:
                self._push_scheduled = True
                asyncio.get_running_loop().call_soon(self._push)

    async def close(self) -> None:
        if not self._closing and not self._over:
            self._closing = True
            self._drop_received()
            self._transmit()
        if not self._has_ended:
            if self._closed is None:
                self._closed = asyncio.get_running_loop().create_future()
            try:
                await asyncio.shield(self._closed)
            except BaseException:  # cancelled, mostly: nobody will wait for the rest to be sent
                self.abort()
                raise

    def abort(self, error: Exception | None = None) -> None:
        if not self._over:
            self._carry(0, self._peer._reset)
            self._lose(error or ConnectionClosed("aborted", by="local"))

    # Sending

    def _transmit(self) -> None:
        """Send what the window admits, and the end of the stream behind the last byte."""
        while self._unsent and self._in_flight < self._window:
            data = self._unsent.popleft()
            size = min(len(data), self._segment, self._window - self._in_flight)
            if size < len(data):
                self._unsent.appendleft(data[size:])
                data = data[:size]
            self._unsent_size -= size
            self._in_flight += size
            self._carry(size, partial(self._peer._arrived, data))
        if not self._unsent:
            self._unsent = None
        if self._closing and self._unsent is None:
            self._carry(0, partial(self._peer._arrived, None))
            self._lose(None)

    def _credited(self, size: int) -> None:
        """The peer has taken `size` bytes."""
        self._in_flight -= size
        if self._over:
            return
        self._transmit()
        if self._writing_paused and self._unsent_size <= LOW_WATER and not self._closing:
            self._writing_paused = False
            self._sink.resume_writing()

    # Receiving

    def _arrived(self, data: memoryview | None) -> None:
        if self._over:
            if data is not None:
                self._carry(0, self._peer._reset)
            return
        if self._received is None:
            self._received = deque()
        self._received.append(data)
        if self._closing:
            self._drop_received()
        elif not self._push_scheduled:
            self._push()

    def _push(self) -> None:
        self._push_scheduled = False
        while self._received and not (self._reading_paused or self._closing or self._over):
            data = self._received.popleft()
            try:
                if data is None:
                    self._sink.eof_received()
                else:
                    self._carry(0, partial(self._peer._credited, len(data)))
                    self._sink.data_received(data)
            except Libp2pError as error:
                self.abort(error)
        if not self._received:
            self._received = None

    def _drop_received(self) -> None:
        received, self._received = self._received, None
        for data in received or ():
            if data is not None:
                self._carry(0, partial(self._peer._credited, len(data)))

    def _reset(self) -> None:
        """The peer has aborted, or something was sent to it after its end."""
        if not self._over:
            self._lose(ConnectionResetError(f"{self.remote_addr} has reset the connection"))

    def _lose(self, error: Exception | None) -> None:
        self._over = True
        self._unsent = self._received = None
        self._unsent_size = 0
        asyncio.get_running_loop().call_soon(self._report_end, error)

    def _report_end(self, error: Exception | None) -> None:
        self._has_ended = True
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        self._sink.connection_lost(error)

    def __del__(self) -> None:
        if not self._over:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=1)

    def __repr__(self) -> str:
        state = "closed" if self._over else "closing" if self._closing else "open"
        return f"<MemoryConnection {self.local_addr} -> {self.remote_addr} {state}>"
