"""A connection without cryptography and frames: streams whose other ends are objects of the same process.

    stream.write -> the connection's gate -> Carrier (see `links`) -> the other stream's receive buffer

Rules:
- What a muxer does this does too: streams, their ends and resets, windows that hold the writer, limits, goodbyes.
- All that one end sends arrives in that order.
- Nothing happens on an idle connection. A road that is cut is noticed after `CheapConfig.keepalive`, without a message.
- Windows don't grow.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from ...connection import Direction, StreamErrorCode
from ...connection.muxed_stream import MuxedStream
from ...connection.streamed import StreamedConnection
from ...errors import ConnectionClosed, LimitExceeded, StreamReset
from ...identity import PeerId, PublicKey
from ...io import WriteGate
from ...multiaddr import Multiaddr
from ..links import Carrier, Fate

PROTOCOL = "/simulated"
"""What connections call their security protocol and their muxer."""

_FRAME = 30
"""Bytes that each piece takes besides its data: about a yamux header within a Noise message."""

_TURN = 64 * 1024
"""Bytes that one writer sends before the next one has its turn."""

_QUEUE = 0.1
"""Seconds of bandwidth that may wait to leave; writers wait while it is more."""


@dataclass(frozen=True, slots=True)
class CheapConfig:
    """Settings of a cheap transport. The limits are those of yamux."""

    connect_timeout: float = 5.0
    """Seconds until a dial that nobody answers has failed."""
    round_trips: int = 2
    """Round trips that connecting takes: one of TCP, one of Noise."""
    stream_window: int = 256 * 1024
    """Bytes that a stream takes ahead of its reader."""
    max_inbound_streams: int = 1024
    """Streams of the peer that are accepted at a time. As many as `max_unaccepted` more wait for one to end; beyond
    those they are reset.
    """
    max_outbound_streams: int = 8192
    """Streams that we may have open at a time; opening more raises `LimitExceeded`."""
    max_unaccepted: int = 256
    """Streams of ours that may wait for the peer's acceptance; opening more waits."""
    keepalive: float | None = 60.0
    """Seconds for which a road may be cut until its connections end (yamux's keepalive takes 30 to 60); None: for
    ever."""


class CheapStream(MuxedStream):
    """A stream of a `CheapConnection`. What it sends arrives by its `arrive_*` methods, which run at the other end."""

    def __init__(self, stream_id: int, connection: CheapConnection, direction: Direction, room: int) -> None:
        super().__init__(stream_id, connection, direction)
        self.cheap = connection
        self.twin: CheapStream | None = None  # the other end; None until it has heard of the stream, or where refused
        self.room = room  # bytes that may be sent
        self.unreported = 0  # bytes that our reader took, and the twin was not told of
        self.accepted = False
        self.ended_here = False  # our direction
        self.ended_there = False  # the twin's

    def arrive_data(self, data: bytes) -> None:
        if (twin := self.twin) is not None and not twin.ended_there:
            twin.data_received(data)

    def arrive_room(self, n: int) -> None:
        if (twin := self.twin) is not None:
            twin.room += n
            twin.window_opened()

    def arrive_end(self) -> None:
        if (twin := self.twin) is not None and not twin.ended_there:
            twin.ended_there = True
            twin.eof_received()
            twin.cheap.forget_if_done(twin)

    def arrive_reset(self, code: int) -> None:
        if (twin := self.twin) is not None and not (twin.ended_here and twin.ended_there):
            twin.end(StreamReset(code, by="remote"))
            twin.ended_here = twin.ended_there = True
            twin.cheap.forget_if_done(twin)

    def arrive_acceptance(self) -> None:
        if (twin := self.twin) is not None and not (twin.ended_here and twin.ended_there):
            twin.cheap.accepted(twin)


class CheapConnection(StreamedConnection[CheapStream]):
    """One end of a connection. Made by `join`."""

    __slots__ = (
        "_carry",
        "_config",
        "_gate",
        "_inbound",
        "_next_id",
        "_outbound",
        "_silence",
        "_timer",
        "_unaccepted",
        "other",
    )

    def __init__(
        self,
        *,
        local_peer: PeerId,
        remote_key: PublicKey,
        local_addr: Multiaddr,
        remote_addr: Multiaddr,
        direction: Direction,
        carry: Carrier,
        config: CheapConfig,
    ) -> None:
        super().__init__(
            local_peer=local_peer,
            remote_key=remote_key,
            local_addr=local_addr,
            remote_addr=remote_addr,
            direction=direction,
            security=PROTOCOL,
            muxer=PROTOCOL,
            max_served=config.max_inbound_streams,
        )
        self.other = self
        """The other end, once `join` has been called."""
        self._carry = carry
        self._config = config
        self._gate = WriteGate()
        self._next_id = 1 if direction is Direction.OUTBOUND else 2
        self._inbound = self._outbound = self._unaccepted = 0
        self._timer: asyncio.TimerHandle | None = None  # until the gate opens
        self._silence: asyncio.TimerHandle | None = None  # until the cut road is noticed
        carry.tell = self._road_changed

    @property
    def rtt(self) -> float | None:
        return self._carry.road.link.latency + self.other._carry.road.link.latency

    async def close(self, reason: str = "closed by the application", code: int = 0) -> None:
        if self._close_reason is None:
            self._carry(_FRAME, partial(self.other._arrive_goodbye, "the peer said goodbye", code))
            self._end(ConnectionClosed(reason, by="local", code=code))

    def abort(self, reason: str = "aborted by the application", code: int | None = None) -> None:
        if self._close_reason is None:
            self._carry(_FRAME, partial(self.other._arrive_goodbye, "connection lost: the peer has reset it", None))
            self._end(ConnectionClosed(reason, by="local", code=code))

    def _can_open(self) -> bool:
        return self._unaccepted < self._config.max_unaccepted

    def _open(self) -> CheapStream:
        config = self._config
        if self._outbound >= config.max_outbound_streams:
            raise LimitExceeded("max_outbound_streams", scope="connection", value=config.max_outbound_streams)
        stream = CheapStream(self._next_id, self, Direction.OUTBOUND, self.other._config.stream_window)
        self._next_id += 2
        self._outbound += 1
        self._unaccepted += 1
        self._carry(_FRAME, partial(self.other._arrive_stream, stream))
        return stream

    # What streams call

    async def send(self, stream: CheapStream, data: memoryview) -> int:
        await self._gate.wait(stream)
        try:
            return self._send(stream, data)
        finally:
            self._gate.passed()

    def try_send(self, stream: CheapStream, data: memoryview) -> int:
        return self._send(stream, data) if self._gate.is_free else 0

    def _send(self, stream: CheapStream, data: memoryview) -> int:
        size = min(len(data), stream.room, _TURN)
        if not size or not stream.is_writable:
            return 0
        stream.room -= size
        self._carry(_FRAME + size, partial(stream.arrive_data, bytes(data[:size])))
        if self._carry.road.link.bandwidth is not None:
            self._hold_writers()
        return size

    def dismiss(self, stream: CheapStream) -> None:
        self._gate.dismiss(stream)

    def consumed(self, stream: CheapStream, n: int) -> None:
        stream.unreported += n
        if 4 * stream.unreported >= self._config.stream_window and not stream.ended_there:
            self._carry(_FRAME, partial(stream.arrive_room, stream.unreported))
            stream.unreported = 0

    def close_write(self, stream: CheapStream) -> None:
        if not stream.ended_here:
            stream.ended_here = True
            self._carry(_FRAME, stream.arrive_end)
            self.forget_if_done(stream)

    def reset(self, stream: CheapStream, code: int) -> None:
        if not (stream.ended_here and stream.ended_there):
            stream.ended_here = stream.ended_there = True
            self._carry(_FRAME, partial(stream.arrive_reset, code))
            self.forget_if_done(stream)
        stream.end(StreamReset(code, by="local"))

    def forget_if_done(self, stream: CheapStream) -> None:
        """Take it off the table if both of its directions have ended."""
        if stream.ended_here and stream.ended_there:
            if stream.direction is Direction.INBOUND:
                self._inbound -= 1
            else:
                self._outbound -= 1
                self.accepted(stream)
            self._forget(stream)

    def accepted(self, stream: CheapStream) -> None:
        """The peer has taken a stream of ours."""
        if not stream.accepted:
            stream.accepted = True
            self._unaccepted -= 1
            self._wake_opener()

    # What arrives

    def _arrive_stream(self, opened: CheapStream) -> None:
        if self._close_reason is not None:
            return
        if self._inbound >= self._config.max_inbound_streams + self._config.max_unaccepted:
            refused = CheapStream(opened.id, self, Direction.INBOUND, 0)
            refused.twin = opened
            self._carry(_FRAME, partial(refused.arrive_reset, StreamErrorCode.RESOURCE_LIMIT_EXCEEDED))
            return
        stream = CheapStream(opened.id, self, Direction.INBOUND, self.other._config.stream_window)
        stream.twin, opened.twin = opened, stream
        self._inbound += 1
        self._opened_by_peer(stream)

    def _hand_out(self, stream: CheapStream) -> None:
        self._carry(_FRAME, stream.arrive_acceptance)
        super()._hand_out(stream)

    def _arrive_goodbye(self, reason: str, code: int | None) -> None:
        self._end(ConnectionClosed(reason, by="remote", code=code))

    # The road

    def _hold_writers(self) -> None:
        """Shut the gate while more than enough waits for the bandwidth."""
        over = self._carry.road.busy_until - self._loop.time() - _QUEUE
        if over > 0 and self._timer is None:
            self._gate.pause()
            self._timer = self._loop.call_later(over, self._let_writers_go)

    def _let_writers_go(self) -> None:
        self._timer = None
        self._gate.resume()

    def _road_changed(self, fate: Fate) -> None:
        if fate is Fate.RESET:
            self._end(ConnectionClosed(f"connection lost: the link to {self.remote_addr} was cut", by="remote"))
        elif fate is Fate.HEALED and self._silence is not None:
            self._silence.cancel()
            self._silence = None
        elif fate is Fate.CUT and self._silence is None and (limit := self._config.keepalive) is not None:
            self._silence = self._loop.call_later(limit, self.abort, f"the peer has not answered for {limit:g} s")

    def _end(self, reason: ConnectionClosed, *, cause: Exception | None = None) -> bool:
        if self._close_reason is not None:
            return False
        for timer in (self._timer, self._silence):
            if timer is not None:
                timer.cancel()
        self._carry.tell = None
        self._gate.fail(reason)
        for stream in self._streams:
            stream.ended_here = stream.ended_there = True
        return super()._end(reason, cause=cause)


def join(dialer: CheapConnection, listener: CheapConnection) -> None:
    """Make the two the ends of one connection."""
    dialer.other, listener.other = listener, dialer
