"""The streams of the engine: opening, writing, reading and ending them, and the windows that the peer is given."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias, Unpack

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import Limit
from aioquic.quic.events import QuicEvent
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.stream import QuicStream

from ..config import QuicConfig
from ..flow_control import ConnectionWindow, ReceiveWindow
from .handshake import HandshakeEngine, Origin
from .lane import Lane

LaneData: TypeAlias = tuple[Lane, bytes]
"""An event besides aioquic's: bytes that arrived in order."""


class StreamsEngine(HandshakeEngine):
    """Adds streams whose windows follow their readers."""

    def __init__(self, configuration: QuicConfiguration, settings: QuicConfig, **origin: Unpack[Origin]) -> None:
        super().__init__(configuration, settings, **origin)
        self.lanes: dict[int, Lane] = {}
        """The streams that are open on the wire, by their id."""
        self.window = ConnectionWindow(self._local_max_data.value, maximum=settings.connection_window)
        """Of all streams together."""
        self._queue: deque[Lane] = deque()  # lanes that have something to send
        self._grants: deque[Lane] = deque()  # lanes whose window has moved
        self._local_max_streams_bidi = Limit(QuicFrameType.MAX_STREAMS_BIDI, "max_streams_bidi", settings.max_streams)
        self._local_max_streams_uni = Limit(QuicFrameType.MAX_STREAMS_UNI, "max_streams_uni", 0)

    @property
    def can_open(self) -> bool:
        """Whether the peer lets us open a stream now."""
        return self._local_next_stream_id_bidi // 4 < self._remote_max_streams_bidi

    def open(self, now: float) -> Lane:
        """A new stream. The peer hears of it with the first bytes, the end, or a reset."""
        quic = self._get_or_create_stream_for_send(self._local_next_stream_id_bidi)
        self._streams_queue.remove(quic)
        return self._adopt(quic, now)

    def opened(self, now: float) -> list[Lane]:
        """The streams that the peer has opened since the last call."""
        if not self._streams_queue:
            return []
        fresh, self._streams_queue = self._streams_queue, []
        return [self._adopt(quic, now) for quic in fresh]

    def write(self, lane: Lane, data: bytes | memoryview) -> None:
        """Send `data`, which is copied."""
        if lane.sender._reset_error_code is None:  # the peer may have stopped it, which the owner hears of next
            lane.sender.write(data)  # type: ignore[arg-type] # any buffer will do
            self._enqueue(lane)

    def finish(self, lane: Lane) -> None:
        """Nothing more is written."""
        if lane.sender._reset_error_code is None:
            lane.sender.write(b"", end_stream=True)
            self._enqueue(lane)

    def reset(self, lane: Lane, code: int) -> None:
        """End our direction at once."""
        lane.sender.reset(code)
        self._enqueue(lane)

    def stop(self, lane: Lane, code: int) -> None:
        """Ask the peer to end its direction at once."""
        if not lane.receiver.is_finished and lane.receiver._stop_error_code is None:
            lane.receiver.stop(code)
            self._enqueue(lane)

    def consumed(self, lane: Lane, n: int, now: float) -> bool:
        """`n` bytes that arrived on `lane` were read; whether the peer should hear of it."""
        n = min(n, lane.receiver._buffer_start - lane.window.read)
        self.window.read += n
        receiver = lane.receiver
        if lane.window.consume(n, now, self.rtt) and receiver._final_size is None and receiver._stop_error_code is None:
            lane.quic.max_stream_data_local = lane.window.limit
            self._grants.append(lane)
            return True
        return self._data_limit_due()

    def abandon(self, lane: Lane, now: float) -> bool:
        """Everything that has arrived on `lane` counts as read; whether the peer should hear of it."""
        return self.consumed(lane, lane.receiver._buffer_start, now)

    def ended(self, lane: Lane) -> None:
        """The owner knows that the peer has ended its direction. Of a reset one, what never arrived counts as read."""
        lane.end_told = True
        self.window.read += lane.receiver.highest_offset - lane.receiver._buffer_start
        self._settle(lane)

    def _settle(self, lane: Lane) -> None:
        """Forget `lane` if both directions have ended; the peer may then open another."""
        if lane.end_told and lane.quic.is_finished and self._streams.pop(lane.id, None) is not None:
            del self.lanes[lane.id]
            if bool(lane.id & 1) is self._is_client:
                self._local_max_streams_bidi.value += 1

    def stopped(self, lane: Lane) -> None:
        """The owner knows that the peer wants nothing more on `lane`: it is told that our direction has ended."""
        self._enqueue(lane)

    @property
    def is_delivered(self) -> bool:
        """Whether the peer has acknowledged all that was written, on all streams."""
        return all(lane.is_delivered for lane in self.lanes.values())

    def take_events(self) -> deque[QuicEvent | LaneData]:
        """What has happened since the last call, in order; `opened` comes before."""
        events: deque[QuicEvent | LaneData] = self._events  # type: ignore[assignment] # it holds both
        self._events = deque()
        return events

    def _data_limit_due(self) -> bool:
        """Whether the connection's window has moved by a quarter, or the peer has lost what it was told."""
        told = self._local_max_data.sent
        return told == 0 or self.window.is_due(told)

    def _stream_limit_due(self) -> bool:
        """Whether the peer may open more streams than it has left, or has lost what it was told."""
        limit = self._local_max_streams_bidi
        return limit.value - limit.sent > limit.sent - limit.used

    def _adopt(self, quic: QuicStream, now: float) -> Lane:
        lane = Lane(
            quic, ReceiveWindow(self._settings.stream_window, maximum=self._settings.max_stream_window, now=now)
        )
        self.lanes[lane.id] = lane
        return lane

    def _enqueue(self, lane: Lane) -> None:
        if not lane.queued:
            lane.queued = True
            self._queue.append(lane)
