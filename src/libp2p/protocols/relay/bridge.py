"""A circuit at the relay: two streams whose bytes are passed from one to the other as they come, without a task.

    source ==hop stream==> |  relay  | ==stop stream==> target

Rules:
- Who is held by the far side's window holds the near side: a circuit keeps 64 KiB in each direction at most.
- One direction may end before the other; the circuit is over when both have, or one of the streams is lost.
- What goes beyond the limits of time and bytes is cut off: both streams are reset, with the code for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ...connection import OverStream, Stream, StreamErrorCode
from ...errors import StreamReset
from ...io import all_of


class Bridge:
    """Passes bytes between two streams until both directions, or one of the streams, have ended.

    `on_end` is called once, with the reason in words.
    """

    def __init__(
        self,
        source: Stream,
        target: Stream,
        *,
        max_bytes: int | None,
        max_seconds: float | None,
        on_end: Callable[[str], None],
    ) -> None:
        self._on_end = on_end
        self._over = False
        self._ended = 0
        self._finishing: asyncio.Task[None] | None = None
        self.streams = (source, target)
        one, other = (
            OverStream(stream, local_addr=stream.connection.local_addr, remote_addr=stream.connection.remote_addr)
            for stream in self.streams
        )
        self.directions = (_Direction(self, one, other, max_bytes), _Direction(self, other, one, max_bytes))
        self._timer: asyncio.TimerHandle | None = None
        if max_seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(
                max_seconds, self.cut, f"the limit of {max_seconds:g} s was reached"
            )
        for direction in self.directions:
            direction.start()

    @property
    def bytes_passed(self) -> int:
        """Bytes of both directions so far."""
        return sum(direction.passed for direction in self.directions)

    def cut(self, reason: str, code: StreamErrorCode = StreamErrorCode.RESOURCE_LIMIT_EXCEEDED) -> None:
        """End it at once; both sides are told the code. Idempotent."""
        if not self._over:
            for stream in self.streams:
                stream.reset(code)
            self._end(reason)

    def lost(self, error: Exception | None) -> None:
        """One of the streams has ended: so does the other, with the same code."""
        code = error.code if isinstance(error, StreamReset) else StreamErrorCode.NONE
        if not self._over:
            for stream in self.streams:
                stream.reset(code)
            self._end(str(error) if error is not None else "it was closed")

    def half_ended(self) -> None:
        """One direction is over, in order."""
        self._ended += 1
        if self._ended == len(self.directions) and not self._over:
            self._finishing = asyncio.get_running_loop().create_task(self._finish(), name="the end of a circuit")

    async def _finish(self) -> None:
        """Both have sent all they wanted: let it arrive."""
        await all_of(*(direction.raw.close() for direction in self.directions))
        self._end("both sides have ended it")

    def _end(self, reason: str) -> None:
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._finishing is not None and self._finishing is not asyncio.current_task():
            self._finishing.cancel()
        self._on_end(reason)


class _Direction:
    """The sink of one stream: sends on to the other what comes."""

    def __init__(self, bridge: Bridge, raw: OverStream, to: OverStream, max_bytes: int | None) -> None:
        self.raw = raw
        self.passed = 0
        self._bridge = bridge
        self._to = to
        self._max_bytes = max_bytes

    def start(self) -> None:
        """Take what comes from now on."""
        self.raw.attach(self)

    def data_received(self, data: memoryview) -> None:
        """See `Sink`."""
        self.passed += len(data)
        if self._max_bytes is not None and self.passed > self._max_bytes:
            self._bridge.cut(f"the limit of {self._max_bytes} bytes was reached")
            return
        self._to.send((data,))

    def useless(self, what: str, cost: float = 1.0) -> None:
        """See `Sink`: a stream has nothing to tell of."""

    def eof_received(self) -> None:
        """See `Sink`."""
        self._to.send_eof()
        self._bridge.half_ended()

    def connection_lost(self, error: Exception | None) -> None:
        """See `Sink`."""
        self._bridge.lost(error)

    def pause_writing(self) -> None:
        """See `Sink`: this stream takes no more for now, so the other is not read."""
        self._to.pause_reading()

    def resume_writing(self) -> None:
        """See `Sink`."""
        self._to.resume_reading()
