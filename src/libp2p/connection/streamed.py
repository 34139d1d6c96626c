"""What all connections with streams have in common, whoever frames them: the table of streams, who is told of them, who
waits to open one, and how everything ends.

Rules:
- A stream is in the table until both of its directions have ended.
- Tasks that wait to open a stream get their turns in the order they came, within `open_timeout`.
- Of the peer's streams at most `max_served` are handed out at a time; the others wait, in order, until one has ended.
- A stream that we have closed, and whose peer does not end its direction, is reset after `LINGER`.
- What the streams hold unread is counted by the connection's `MemoryAccount`, also when they have ended.
- When the connection ends every pending call gets its `close_reason`; what had arrived stays readable.
"""

from __future__ import annotations

import asyncio
import sys
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar
from weakref import WeakSet

from ..errors import ConnectionClosed, copy_of
from ..identity import PeerId, PublicKey
from ..io import MemoryAccount, MemoryConfig, time_limit
from ..io.timers import CoarseTimer, Deadline
from ..multiaddr import Multiaddr
from .muxed_stream import MuxedStream
from .streams import Connection, Direction, MemoryLimitReached, Role, Stream

S = TypeVar("S", bound=MuxedStream)


LINGER = 60.0
"""Seconds after which a stream that we have closed, and whose peer has not ended its direction, is reset: or its place
would be taken as long as the connection lasts."""

OPEN_TIMEOUT = 10.0
"""Seconds that `open_stream` waits, unless the muxer's or transport's settings say otherwise."""


def lone_account() -> MemoryAccount:
    """The account of a connection that no host counts."""
    return MemoryAccount("connection", MemoryConfig().max_per_connection)


class StreamedConnection(Connection, Generic[S]):
    """A connection that hands out streams of the class `S`."""

    __slots__ = (
        "_close_reason",
        "_closed",
        "_ended",
        "_ended_read",
        "_ended_written",
        "_goodbye",
        "_linger_timer",
        "_lingering",
        "_loop",
        "_max_served",
        "_on_closed",
        "_on_memory_limit",
        "_on_stream",
        "_on_stream_closed",
        "_open_timeout",
        "_openers",
        "_serving",
        "_streams",
        "_unserved",
        "direction",
        "local_addr",
        "local_peer",
        "memory",
        "muxer",
        "opened_at",
        "remote_addr",
        "remote_key",
        "remote_peer",
        "role",
        "security",
        "streams_accepted",
        "streams_opened",
    )

    def __init__(
        self,
        *,
        local_peer: PeerId,
        remote_key: PublicKey,
        local_addr: Multiaddr,
        remote_addr: Multiaddr,
        direction: Direction,
        security: str,
        muxer: str,
        role: Role | None = None,
        memory: MemoryAccount | None = None,
        open_timeout: float = OPEN_TIMEOUT,
        max_served: int = sys.maxsize,
    ) -> None:
        self.local_peer = local_peer
        self.remote_key = remote_key
        self.remote_peer = remote_key.peer_id
        self.local_addr = local_addr
        self.remote_addr = remote_addr
        self.direction = direction
        self.role = role or Role.of(direction)
        self.security = security
        self.muxer = muxer
        self.memory: MemoryAccount = memory or lone_account()
        self.memory.reclaim = self._reclaim
        self._open_timeout = open_timeout
        self._loop = asyncio.get_running_loop()
        self.opened_at = self._loop.time()
        self.streams_opened = self.streams_accepted = 0
        self._ended_read = self._ended_written = 0  # bytes of the streams that are over
        self._streams: dict[S, None] = {}
        self._max_served = max_served
        self._serving = 0  # streams of the peer that were handed out, and are open
        self._unserved: list[S] = []  # streams of the peer that wait for that
        self._ended: WeakSet[S] | None = None  # streams that are over, but were not read to the end
        self._on_stream: Callable[[Stream], None] | None = None
        self._on_closed: Callable[[ConnectionClosed], None] | None = None
        self._on_stream_closed: Callable[[Stream], None] | None = None
        self._on_memory_limit: Callable[[MemoryLimitReached], None] | None = None
        self._openers: list[asyncio.Future[None]] = []  # mostly empty: a deque takes 760 bytes then
        self._lingering: dict[S, float] | None = None  # streams that we have closed, and when; the oldest first
        self._linger_timer: Deadline | None = None
        self._goodbye: ConnectionClosed | None = None  # the peer said it is going away
        self._close_reason: ConnectionClosed | None = None
        self._closed: asyncio.Future[ConnectionClosed] = self._loop.create_future()

    def serve(
        self,
        on_stream: Callable[[Stream], None],
        on_closed: Callable[[ConnectionClosed], None],
        on_stream_closed: Callable[[Stream], None] | None = None,
        *,
        on_memory_limit: Callable[[MemoryLimitReached], None] | None = None,
    ) -> None:
        self._on_stream, self._on_closed, self._on_stream_closed = on_stream, on_closed, on_stream_closed
        self._on_memory_limit = on_memory_limit
        if self._close_reason is not None:
            on_closed(self._close_reason)
        self._serve_more()

    @property
    def streams(self) -> Sequence[Stream]:
        return tuple(self._streams)

    @property
    def bytes_read(self) -> int:
        return self._ended_read + sum(stream.bytes_read for stream in self._streams)

    @property
    def bytes_written(self) -> int:
        return self._ended_written + sum(stream.bytes_written for stream in self._streams)

    @property
    def close_reason(self) -> ConnectionClosed | None:
        return self._close_reason

    @property
    def is_closed(self) -> bool:
        return self._close_reason is not None or self._goodbye is not None

    async def open_stream(self) -> Stream:
        self._check_open()
        if self._openers or not self._can_open():
            async with time_limit("opening a stream", self._open_timeout):
                await self._turn_to_open()
        try:
            stream = self._open()
        finally:
            if self._openers:
                self._wake_opener()
        self.streams_opened += 1
        self._streams[stream] = None
        return stream

    async def _turn_to_open(self) -> None:
        """Wait until it is the task's turn to open a stream. Raises `ConnectionClosed`."""
        while self._openers or not self._can_open():
            turn = self._loop.create_future()
            self._openers.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self._openers:
                    self._openers.remove(turn)
                else:
                    self._wake_opener()
                raise
            self._check_open()
            if self._can_open():
                return

    async def wait_closed(self) -> ConnectionClosed:
        return await asyncio.shield(self._closed)

    # What streams call

    @abstractmethod
    async def send(self, stream: S, data: memoryview) -> int:
        """Send as much of `data` as may be sent now, and return how much that was. The stream waits for its
        `window_opened` where it was nothing.
        """

    @abstractmethod
    def try_send(self, stream: S, data: memoryview) -> int:
        """`send`, but nothing is sent where that would have to wait for a turn."""

    @abstractmethod
    def dismiss(self, stream: S) -> None:
        """The stream's writer, if it waits for its turn, has nothing to send any more."""

    @abstractmethod
    def consumed(self, stream: S, n: int) -> None:
        """The stream's reader took `n` bytes."""

    @abstractmethod
    def close_write(self, stream: S) -> None:
        """End the stream's outgoing direction."""

    @abstractmethod
    def reset(self, stream: S, code: int) -> None:
        """End the stream at once."""

    def lingers(self, stream: S) -> None:
        """The stream was closed here, and its peer has not ended its direction."""
        if self._close_reason is not None:
            return
        if self._lingering is None:
            self._lingering = {}
        now = self._loop.time()
        self._lingering[stream] = now
        if self._linger_timer is None:
            self._linger_timer = CoarseTimer.of(self._loop).call_at(now + LINGER, self._end_lingering)

    def _end_lingering(self) -> None:
        """Reset the streams whose time is over."""
        lingering, now = self._lingering, self._loop.time()
        self._linger_timer = None
        while lingering and self._close_reason is None:
            stream, since = next(iter(lingering.items()))
            if now - since < LINGER:
                self._linger_timer = CoarseTimer.of(self._loop).call_at(since + LINGER, self._end_lingering)
                return
            del lingering[stream]
            stream.reset()

    # What subclasses say

    @abstractmethod
    def _can_open(self) -> bool:
        """Whether a stream may be opened now."""

    @abstractmethod
    def _open(self) -> S:
        """A new stream of ours. Raises `LimitExceeded`."""

    def _hand_out(self, stream: S) -> None:
        """Give a stream of the peer's to who serves them."""
        assert self._on_stream is not None
        self._on_stream(stream)

    # What subclasses call

    def _opened_by_peer(self, stream: S) -> None:
        self.streams_accepted += 1
        self._streams[stream] = None
        if self._on_stream is not None and self._serving < self._max_served and not self._unserved:
            self._serving += 1
            self._hand_out(stream)
        else:
            self._unserved.append(stream)

    def _serve_more(self) -> None:
        """Hand out what waits for it, as far as that may be."""
        while self._unserved and self._on_stream is not None and self._serving < self._max_served:
            self._serving += 1
            self._hand_out(self._unserved.pop(0))

    def _check_open(self) -> None:
        if error := self._close_reason or self._goodbye:
            raise ConnectionClosed(error.reason, by=error.by, code=error.code)

    def _wake_opener(self) -> None:
        while self._openers and self._can_open():
            turn = self._openers.pop(0)
            if not turn.done():
                turn.set_result(None)
                return

    def _refuse_openers(self, reason: ConnectionClosed) -> None:
        for opener in self._openers:
            if not opener.done():
                opener.set_exception(copy_of(reason))
        self._openers.clear()

    def _forget(self, stream: S) -> bool:
        """Both directions of the stream have ended. Whether it was in the table."""
        if stream not in self._streams:
            return False
        del self._streams[stream]
        if not self._streams:
            self._streams = {}  # one that was used takes 160 bytes more
        self._over(stream)
        if self._openers:
            self._wake_opener()
        return True

    def _over(self, stream: S) -> None:
        """Both directions of the stream have ended: tell so."""
        if self._lingering and self._lingering.pop(stream, None) is not None and not self._lingering:
            self._lingering = None
        self._ended_read += stream.bytes_read
        self._ended_written += stream.bytes_written
        if stream.unread:
            if self._ended is None:
                self._ended = WeakSet()
            self._ended.add(stream)
        if stream.direction is Direction.INBOUND:
            if self._unserved and stream in self._unserved:
                self._unserved.remove(stream)
            else:
                self._serving -= 1
        stream.told_over()
        if self._on_stream_closed is not None:
            self._on_stream_closed(stream)
        if self._unserved:
            self._serve_more()

    def _reclaim(self, account: MemoryAccount) -> bool:
        """Give up the fullest stream, because the limit of `account` is passed; whether any stream holds a byte."""
        streams = [*self._streams, *(self._ended or ())]
        fullest = max(streams, key=lambda stream: stream.unread, default=None)
        if fullest is None or not fullest.unread:
            return False
        fullest.sacrifice(f"the memory limit of the {account.name}, {account.limit} bytes, is reached")
        if self._on_memory_limit is not None:
            self._on_memory_limit(MemoryLimitReached(self, fullest, account.name, account.limit))
        return True

    def _end(self, reason: ConnectionClosed, *, cause: Exception | None = None) -> bool:
        """The connection is over: tell everybody, once. Whether this was the first time."""
        if self._close_reason is not None:
            return False
        reason.__cause__ = cause
        self._close_reason = reason
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        self._lingering = None
        self._refuse_openers(reason)
        streams, self._streams = self._streams, {}
        self._max_served = 0
        for stream in streams:
            stream.end(reason)
            self._over(stream)
        self.memory.close(keep=sum(stream.held for stream in self._ended or ()))
        self._closed.set_result(reason)
        if self._on_closed is not None:
            self._on_closed(reason)
        return True
