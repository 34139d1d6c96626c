"""The yamux session: a table of streams and the frames that change it (libp2p/specs yamux). No I/O.

Rules:
- The side that dialed has the odd stream ids, the other the even ones.
- A SYN rides on the first frame of a stream, an ACK on the first frame back; where nothing else is sent in the same
  tick they get a frame of their own.
- Data queued for one stream, and nothing in between, shares a frame.
- What a peer may send is bounded: bytes by the windows, streams by `max_inbound_streams`; a frame that breaks the
  protocol ends the session with go-away code 1.
- Frames for a stream that is gone are ignored: they crossed our reset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...connection import StreamErrorCode
from ...errors import LimitExceeded, RemoteProtocolError
from ...io import Buffer
from ..session import (
    DataReceived,
    EndOfStream,
    Event,
    GoAwayReceived,
    PeerSilent,
    StreamAccepted,
    StreamOpened,
    StreamWasReset,
    WindowOpened,
)
from .flow_control import INITIAL_WINDOW, StreamWindow
from .wire import DATA, GO_AWAY, HEADER, HEADER_SIZE, PING, VERSION, WINDOW_UPDATE, Flag, GoAwayCode

_SYN, _ACK, _FIN, _RST = int(Flag.SYN), int(Flag.ACK), int(Flag.FIN), int(Flag.RST)
_PLAIN_DATA = (VERSION, DATA, 0)
_MAX_WINDOW = (1 << 32) - 1
_MAX_STREAM_ID = (1 << 32) - 1
_KNOWN_FLAGS = _SYN | _ACK | _FIN | _RST


@dataclass(frozen=True, slots=True)
class YamuxConfig:
    """Limits of a yamux connection."""

    max_stream_window: int = 16 * 1024 * 1024
    """Bytes that one stream's receive window may grow to, from 256 KiB."""
    max_inbound_streams: int = 1024
    """Streams that the peer may have open at a time; more are reset."""
    max_outbound_streams: int = 8192
    """Streams that we may have open at a time; opening more raises `LimitExceeded`."""
    ack_backlog: int = 256
    """Streams of ours that may wait for the peer's acceptance; opening more waits ("at most 256 streams")."""
    keepalive_interval: float = 30.0
    """Seconds between pings, which measure the round-trip time and keep NAT mappings open."""
    keepalive_timeout: float = 30.0
    """Seconds that a ping may stay unanswered before the connection is given up."""


class _Stream:
    """One stream of the table."""

    __slots__ = ("accepted", "flags", "local_closed", "outbound", "remote_closed", "send_window", "window")

    def __init__(self, *, outbound: bool, window: StreamWindow) -> None:
        self.outbound = outbound
        self.window = window
        self.send_window = INITIAL_WINDOW
        self.flags = _SYN if outbound else 0  # to go out with the next frame
        self.accepted = False
        self.local_closed = False
        self.remote_closed = False


class YamuxSession:
    """The state of one yamux connection. See `MuxerSession` for what each call does."""

    wants_data = True  # the windows hold the peer

    def __init__(self, *, is_dialer: bool, config: YamuxConfig, max_payload: int, draw: Callable[[int], bool]) -> None:
        self._config = config
        self.max_payload = max_payload
        self._is_dialer = is_dialer
        self._next_id = 1 if is_dialer else 2
        self._streams: dict[int, _Stream] = {}
        self._draw = draw
        self._inbound = self._outbound = self._unaccepted = 0
        self._unsent_flags: dict[int, None] = {}  # streams whose SYN or ACK no frame has carried yet
        self._out: list[Buffer] = []
        self._open_frame: tuple[int, int, int, int] | None = None  # the data frame at the end of `_out`
        self.unsent = 0
        self.rtt: float | None = None
        self._ping_value = 0
        self._ping_sent_at: float | None = None
        self._ping_due = 0.0
        self._header = bytearray()  # a header of which only a part has arrived
        self._body_left = 0  # bytes of the current data frame that are still to come
        self._body_stream: int | None = None  # whose they are; None: nobody's any more
        self._body_fin = False

    def start(self, now: float) -> None:
        self._send_ping(now)

    # Receiving

    def receive_data(self, data: memoryview, now: float) -> list[Event]:
        events: list[Event] = []
        position, end = 0, len(data)
        while position < end:
            if self._body_left:
                position = self._receive_body(data, position, events)
            elif self._header or end - position < HEADER_SIZE:
                position = self._receive_split_header(data, position, now, events)
            else:
                header = HEADER.unpack_from(data, position)
                position += HEADER_SIZE
                stop = position + header[4]
                # Nearly all bytes come in whole data frames without flags; what follows only shortens their way.
                if header[:3] == _PLAIN_DATA and stop <= end and position < stop and self._receive_plain(header):
                    events.append(DataReceived(header[3], data[position:stop]))
                    position = stop
                else:
                    self._receive_frame(header, now, events)
        return events

    def _receive_plain(self, header: tuple[int, ...]) -> bool:
        """Account for a data frame without flags; False where it is none that just adds data to an accepted stream."""
        stream = self._streams.get(header[3])
        return stream is not None and stream.accepted and not stream.remote_closed and stream.window.receive(header[4])

    def _receive_split_header(self, data: memoryview, position: int, now: float, events: list[Event]) -> int:
        missing = HEADER_SIZE - len(self._header)
        self._header += data[position : position + missing]
        if len(self._header) == HEADER_SIZE:
            header = HEADER.unpack(self._header)
            self._header.clear()
            self._receive_frame(header, now, events)
        return min(position + missing, len(data))

    def _receive_body(self, data: memoryview, position: int, events: list[Event]) -> int:
        stop = min(position + self._body_left, len(data))
        self._body_left -= stop - position
        if self._body_stream is not None:
            events.append(DataReceived(self._body_stream, data[position:stop]))
            if not self._body_left and self._body_fin:
                self._remote_closed(self._body_stream, events)
        return stop

    def _receive_frame(self, header: tuple[int, ...], now: float, events: list[Event]) -> None:
        version, kind, flags, stream_id, length = header
        if version != VERSION:
            raise self._violation(f"yamux version {version}")
        if flags & ~_KNOWN_FLAGS:
            raise self._violation(f"unknown flags {flags:#06x}")
        if kind in (DATA, WINDOW_UPDATE):
            self._receive_stream_frame(kind, flags, stream_id, length, now, events)
        elif kind == PING:
            self._receive_ping(flags, length, now)
        elif kind == GO_AWAY:
            events.append(GoAwayReceived(length))
        else:
            raise self._violation(f"frame of unknown type {kind}")

    def _receive_stream_frame(
        self, kind: int, flags: int, stream_id: int, length: int, now: float, events: list[Event]
    ) -> None:
        if stream_id == 0:
            raise self._violation("data or window update for stream 0, which is the session")
        if flags & _SYN:
            self._receive_syn(stream_id, now, events)
        stream = self._streams.get(stream_id)
        if kind == DATA:
            self._body_left = length
            self._body_stream = stream_id if stream and not flags & _RST else None
            self._body_fin = bool(flags & _FIN)
        if stream is None:
            return
        if stream.outbound and not stream.accepted and not flags & _RST:
            # Some peers forget the ACK: any frame for the stream shows that they took it.
            stream.accepted = True
            self._unaccepted -= 1
            events.append(StreamAccepted(stream_id))
        if flags & _RST:
            code = length if kind == WINDOW_UPDATE else 0
            self._drop(stream_id, stream)
            events.append(StreamWasReset(stream_id, code))
        elif kind == DATA:
            self._receive_data_header(stream_id, stream, flags, length, events)
        else:
            if length:
                self._grant(stream_id, stream, length, events)
            if flags & _FIN:
                self._remote_closed(stream_id, events)

    def _receive_syn(self, stream_id: int, now: float, events: list[Event]) -> None:
        if stream_id % 2 == (1 if self._is_dialer else 0):
            raise self._violation(f"stream {stream_id} opened with an id that is ours to give")
        if stream_id in self._streams:
            raise self._violation(f"stream {stream_id} opened twice")
        if self._inbound >= self._config.max_inbound_streams:
            self._frame(WINDOW_UPDATE, _RST, stream_id, StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
            return
        self._inbound += 1
        self._streams[stream_id] = _Stream(outbound=False, window=self._new_window(now))
        events.append(StreamOpened(stream_id))

    def _receive_data_header(
        self, stream_id: int, stream: _Stream, flags: int, length: int, events: list[Event]
    ) -> None:
        if stream.remote_closed and length:
            raise self._violation(f"data on stream {stream_id} behind its end")
        if not stream.window.receive(length):
            raise self._violation(f"{length} bytes on stream {stream_id}, whose window is {stream.window.granted}")
        if flags & _FIN and not length:
            self._remote_closed(stream_id, events)

    def _receive_ping(self, flags: int, value: int, now: float) -> None:
        if flags & _SYN:
            self._frame(PING, _ACK, 0, value)
        elif flags & _ACK and self._ping_sent_at is not None and value == self._ping_value:
            measured = now - self._ping_sent_at
            self.rtt = measured if self.rtt is None else (self.rtt + measured) / 2
            self._ping_sent_at = None

    def _grant(self, stream_id: int, stream: _Stream, length: int, events: list[Event]) -> None:
        if stream.send_window + length > _MAX_WINDOW:
            raise self._violation(f"the window of stream {stream_id} grows above {_MAX_WINDOW} bytes")
        stream.send_window += length
        events.append(WindowOpened(stream_id))

    def _remote_closed(self, stream_id: int, events: list[Event]) -> None:
        stream = self._streams[stream_id]
        if not stream.remote_closed:
            stream.remote_closed = True
            events.append(EndOfStream(stream_id))
            if stream.local_closed:
                self._drop(stream_id, stream)

    def _violation(self, what: str) -> RemoteProtocolError:
        self._frame(GO_AWAY, 0, 0, GoAwayCode.PROTOCOL_ERROR)
        return RemoteProtocolError(f"yamux: {what}")

    # Streams

    def can_open(self) -> bool:
        return self._unaccepted < self._config.ack_backlog

    def open_stream(self, now: float) -> int:
        if self._outbound >= self._config.max_outbound_streams:
            raise LimitExceeded("max_outbound_streams", scope="connection", value=self._config.max_outbound_streams)
        if self._next_id > _MAX_STREAM_ID:
            raise LimitExceeded("stream ids", scope="connection", value=_MAX_STREAM_ID)
        stream_id, self._next_id = self._next_id, self._next_id + 2
        self._streams[stream_id] = _Stream(outbound=True, window=self._new_window(now))
        self._outbound += 1
        self._unaccepted += 1
        self._unsent_flags[stream_id] = None
        return stream_id

    def accept_stream(self, stream_id: int) -> None:
        if stream := self._streams.get(stream_id):
            stream.accepted = True
            stream.flags |= _ACK
            self._unsent_flags[stream_id] = None

    def send(self, stream_id: int, data: memoryview) -> int:
        stream = self._streams[stream_id]
        total = min(len(data), stream.send_window)
        stream.send_window -= total
        position = self._extend_frame(stream_id, data[:total])
        while position < total:
            stop = min(position + self.max_payload, total)
            flags = self._flags_of(stream_id, stream)
            self._frame(DATA, flags, stream_id, stop - position)
            self._open_frame = (len(self._out) - 1, flags, stream_id, stop - position)
            self._out.append(data[position:stop])
            position = stop
        self.unsent += total
        return total

    def _extend_frame(self, stream_id: int, data: memoryview) -> int:
        """Add `data` to the frame queued last, if it is one of the stream's and has room; return how much was added."""
        if self._open_frame is None:
            return 0
        place, flags, owner, length = self._open_frame
        if owner != stream_id or length + len(data) > self.max_payload:
            return 0
        length += len(data)
        self._out[place] = HEADER.pack(VERSION, DATA, flags, stream_id, length)
        self._out.append(data)
        self._open_frame = (place, flags, stream_id, length)
        return len(data)

    def consumed(self, stream_id: int, n: int, now: float) -> int:
        stream = self._streams.get(stream_id)
        if stream is None or stream.remote_closed:
            return 0
        size = stream.window.size
        if grant := stream.window.consume(n, now, self.rtt):
            self._frame(WINDOW_UPDATE, self._flags_of(stream_id, stream), stream_id, grant)
        return stream.window.size - size

    def close_write(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or stream.local_closed:
            return
        self._frame(WINDOW_UPDATE, self._flags_of(stream_id, stream) | _FIN, stream_id, 0)
        stream.local_closed = True
        if stream.remote_closed:
            self._drop(stream_id, stream)

    def reset(self, stream_id: int, code: int) -> None:
        if stream := self._streams.get(stream_id):
            self._frame(WINDOW_UPDATE, self._flags_of(stream_id, stream) | _RST, stream_id, code)
            self._drop(stream_id, stream)

    def is_open(self, stream_id: int) -> bool:
        return stream_id in self._streams

    def _new_window(self, now: float) -> StreamWindow:
        return StreamWindow(maximum=self._config.max_stream_window, draw=self._draw, now=now)

    def _drop(self, stream_id: int, stream: _Stream) -> None:
        """Both directions have ended: forget the stream."""
        del self._streams[stream_id]
        self._unsent_flags.pop(stream_id, None)
        if stream_id == self._body_stream and self._body_left:
            self._body_stream = None
        if not stream.outbound:
            self._inbound -= 1
            return
        self._outbound -= 1
        if not stream.accepted:
            self._unaccepted -= 1

    # The session

    def go_away(self) -> None:
        self._frame(GO_AWAY, 0, 0, GoAwayCode.NORMAL)

    def data_to_send(self) -> list[Buffer]:
        for stream_id in list(self._unsent_flags):
            self._frame(WINDOW_UPDATE, self._flags_of(stream_id, self._streams[stream_id]), stream_id, 0)
        out, self._out, self.unsent = self._out, [], 0
        self._open_frame = None
        return out

    def next_deadline(self) -> float:
        return self._ping_due

    def handle_timer(self, now: float) -> list[Event]:
        if now < self._ping_due:
            return []
        if self._ping_sent_at is None:
            self._send_ping(now)
            return []
        if now - self._ping_sent_at >= self._config.keepalive_timeout:
            return [PeerSilent(now - self._ping_sent_at)]
        self._ping_due = self._ping_sent_at + self._config.keepalive_timeout
        return []

    def _send_ping(self, now: float) -> None:
        self._ping_value = (self._ping_value + 1) & _MAX_WINDOW
        self._ping_sent_at = now
        self._ping_due = now + self._config.keepalive_interval
        self._frame(PING, _SYN, 0, self._ping_value)

    def _flags_of(self, stream_id: int, stream: _Stream) -> int:
        """The flags that the next frame of the stream must carry, once."""
        flags, stream.flags = stream.flags, 0
        if flags:
            self._unsent_flags.pop(stream_id, None)
        return flags

    def _frame(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        self._out.append(HEADER.pack(VERSION, kind, flags, stream_id, length))
        self._open_frame = None
        self.unsent += HEADER_SIZE
