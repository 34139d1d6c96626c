"""The yamux session: a table of streams and the frames that change it (libp2p/specs yamux). No I/O.

Rules:
- The side that dialed has the odd stream ids, the other the even ones.
- A SYN rides on the first frame of a stream, an ACK on the first frame back; where nothing else is sent in the same
  tick they get a frame of their own.
- Data queued for one stream, and nothing in between, shares a frame.
- What a peer may send is bounded: bytes by the windows, streams by `max_inbound_streams`; a frame that breaks the
  protocol ends the session with go-away code 1.
- Frames for a stream that is gone are ignored: they crossed our reset. There may not be too many of them, nor of others
  that are of no use.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from ...connection import StreamErrorCode
from ...connection.streamed import OPEN_TIMEOUT
from ...errors import LimitExceeded, RemoteProtocolError
from ...io import Allowance, Buffer, UselessFrames
from ..session import (
    DataReceived,
    EndReceived,
    Event,
    GoAwayReceived,
    PeerAccepted,
    PeerOpened,
    PeerSilent,
    ResetReceived,
    Substream,
    Violation,
    WindowOpened,
)
from .flow_control import INITIAL_WINDOW, StreamWindow
from .keepalive import Keepalive
from .wire import DATA, GO_AWAY, HEADER, HEADER_SIZE, PING, VERSION, WINDOW_UPDATE, Flag, GoAwayCode

_SYN, _ACK, _FIN, _RST = int(Flag.SYN), int(Flag.ACK), int(Flag.FIN), int(Flag.RST)
_PLAIN_DATA = (VERSION, DATA, 0)
_MAX_WINDOW = (1 << 32) - 1
_MAX_STREAM_ID = (1 << 32) - 1
_TINY = 64
"""Bytes of data below which a frame counts as a small one."""

_SMALL_UPDATE = 1024
"""Bytes below which opening a window is of little use."""

_KNOWN_FLAGS = _SYN | _ACK | _FIN | _RST


@dataclass(frozen=True, slots=True)
class YamuxConfig:
    """Limits of a yamux connection."""

    max_stream_window: int = 16 * 1024 * 1024
    """Bytes that one stream's receive window may grow to, from 256 KiB."""
    max_inbound_streams: int = 1024
    """Streams of the peer that are accepted at a time. As many as `ack_backlog` more wait for one to end, which holds a
    peer that keeps to the backlog; beyond those they are reset.
    """
    max_outbound_streams: int = 8192
    """Streams that we may have open at a time; opening more raises `LimitExceeded`."""
    ack_backlog: int = 256
    """Streams of ours that may wait for the peer's acceptance; opening more waits ("at most 256 streams")."""
    keepalive_interval: float | None = 30.0
    """Seconds of silence after which the peer is pinged, and between the pings that measure the round-trip time while
    data flows; None: no ping but the first, and a dead peer shows only by what is sent to it.
    """
    keepalive_timeout: float = 30.0
    """Seconds in which nothing comes from a peer that was pinged, and nothing that we sent leaves, before the
    connection is given up.
    """
    useless_frames_per_second: int = 1024
    """Frames of no use that the peer may send each second, in the long run: resets, pings, empty frames, streams that
    are refused, frames for streams that are gone. Then the session ends with go-away code `RATE_LIMITED`."""
    useless_frames_burst: int = 16384
    """Those that it may send at once."""
    open_timeout: float = OPEN_TIMEOUT
    """Seconds that `open_stream` waits for the peer to accept earlier streams; then `StageTimeout`."""


class _Stream(Substream):
    """One stream of the table."""

    __slots__ = ("accepted", "flags", "send_window", "window")

    def __init__(self, stream_id: int, *, outbound: bool, window: StreamWindow) -> None:
        super().__init__(stream_id, outbound=outbound)
        self.window = window
        self.send_window = INITIAL_WINDOW
        self.flags = _SYN if outbound else 0  # to go out with the next frame
        self.accepted = False


class YamuxSession:
    """The state of one yamux connection. See `MuxerSession` for what each call does."""

    wants_data = True  # the windows hold the peer

    def __init__(self, *, is_dialer: bool, config: YamuxConfig, max_payload: int, draw: Callable[[int], bool]) -> None:
        self._config = config
        self.max_payload = max_payload
        self.max_served = config.max_inbound_streams
        self._is_dialer = is_dialer
        self._next_id = 1 if is_dialer else 2
        self._streams: dict[int, _Stream] = {}
        self._draw = draw
        self._inbound = self._outbound = self._unaccepted = 0
        self._unsent_flags: dict[_Stream, None] = {}  # whose SYN or ACK no frame has carried yet
        self._out: list[Buffer] = []
        self._open_frame: tuple[int, int, _Stream, int] | None = None  # the data frame at the end of `_out`
        self.unsent = 0
        self._header = bytearray()  # a header of which only a part has arrived
        self._body_left = 0  # bytes of the current data frame that are still to come
        self._body_stream: _Stream | None = None  # whose they are; None: nobody's any more
        self._body_fin = False
        self.frames_left = sys.maxsize
        self.rest = b""
        self._allowance = Allowance(config.useless_frames_per_second, config.useless_frames_burst)
        self._keepalive = Keepalive(
            interval=config.keepalive_interval, timeout=config.keepalive_timeout, is_dialer=is_dialer
        )

    @property
    def rtt(self) -> float | None:
        return self._keepalive.rtt

    @property
    def heard_at(self) -> float | None:
        return self._keepalive.heard_at

    def probe(self, now: float) -> None:
        self._frame(PING, _SYN, 0, self._keepalive.ping(now))

    def start(self, now: float) -> None:
        self._frame(PING, _SYN, 0, self._keepalive.start(now))

    # Receiving

    def receive_data(self, data: memoryview, now: float) -> list[Event]:
        events: list[Event] = []
        self._keepalive.heard_at = now
        self._keepalive.received += len(data)
        try:
            self._receive(data, now, events)
        except UselessFrames as error:
            events.append(self._too_much(error))
        except RemoteProtocolError as error:
            events.append(Violation(error))
        return events

    def useless(self, what: str, cost: float, now: float) -> Violation | None:
        try:
            self._allowance.charge(what, now, cost)
        except UselessFrames as error:
            return self._too_much(error)
        return None

    def _too_much(self, error: UselessFrames) -> Violation:
        self._frame(GO_AWAY, 0, 0, StreamErrorCode.RATE_LIMITED)
        return Violation(error, StreamErrorCode.RATE_LIMITED)

    def _receive(self, data: memoryview, now: float, events: list[Event]) -> None:
        position, end = 0, len(data)
        while position < end:
            if self._body_left:
                position = self._receive_body(data, position, events)
            elif self._header or end - position < HEADER_SIZE:
                position = self._receive_split_header(data, position, now, events)
                if self._stops_at(data, position):
                    return
            else:
                header = HEADER.unpack_from(data, position)
                position += HEADER_SIZE
                stop = position + header[4]
                # Nearly all bytes come in whole data frames without flags; what follows only shortens their way.
                if header[:3] == _PLAIN_DATA and stop <= end and position + _TINY <= stop:
                    stream = self._streams.get(header[3])
                    if (
                        stream is not None
                        and stream.accepted
                        and not stream.remote_closed
                        and stream.window.receive(header[4])
                    ):
                        events.append(DataReceived(stream, data[position:stop]))
                        position = stop
                        continue
                self._receive_frame(header, now, events)
                if self._stops_at(data, position):
                    return

    def _stops_at(self, data: memoryview, position: int) -> bool:
        """Count a frame, and leave the rest where it was the last of this turn."""
        self.frames_left -= 1
        if self.frames_left > 0 or position >= len(data):
            return False
        self.rest = bytes(data[position:])
        return True

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
            self._allowance.charge("a ping", now)
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
            self._body_stream = stream if not flags & _RST else None
            self._body_fin = bool(flags & _FIN)
        if stream is None:
            if not flags & _SYN:
                cost = 0.25 + (length / 16384 if kind == DATA else 0.0)
                self._allowance.charge("one for a stream that is gone", now, cost)
            return
        if stream.outbound and not stream.accepted and not flags & _RST:
            # Some peers forget the ACK: any frame for the stream shows that they took it.
            stream.accepted = True
            self._unaccepted -= 1
            events.append(PeerAccepted(stream))
        if flags & _RST:
            code = length if kind == WINDOW_UPDATE else 0
            self._drop(stream)
            events.append(ResetReceived(stream, code))
            self._allowance.charge("a reset", now, 0.5)
        elif kind == DATA:
            self._receive_data_header(stream, flags, length, now, events)
        else:
            self._receive_update(stream, flags, length, now, events)

    def _receive_update(self, stream: _Stream, flags: int, length: int, now: float, events: list[Event]) -> None:
        if length:
            self._grant(stream, length, events)
        if not flags:
            self._allowance.charge("a window update", now, 1.0 if length < _SMALL_UPDATE else 1 / 32)
        if flags & _FIN:
            self._remote_closed(stream, events)

    def _receive_syn(self, stream_id: int, now: float, events: list[Event]) -> None:
        if stream_id % 2 == (1 if self._is_dialer else 0):
            raise self._violation(f"stream {stream_id} opened with an id that is ours to give")
        if stream_id in self._streams:
            raise self._violation(f"stream {stream_id} opened twice")
        if self._inbound >= self._config.max_inbound_streams + self._config.ack_backlog:
            self._allowance.charge("a stream too many", now)
            self._frame(WINDOW_UPDATE, _RST, stream_id, StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
            return
        self._inbound += 1
        stream = self._streams[stream_id] = _Stream(stream_id, outbound=False, window=self._new_window(now))
        events.append(PeerOpened(stream))

    def _receive_data_header(self, stream: _Stream, flags: int, length: int, now: float, events: list[Event]) -> None:
        if not length and not flags:
            self._allowance.charge("an empty one", now)
        if stream.remote_closed and length:
            raise self._violation(f"data on stream {stream.id} behind its end")
        if not stream.window.receive(length):
            raise self._violation(f"{length} bytes on stream {stream.id}, whose window is {stream.window.granted}")
        if flags & _FIN and not length:
            self._remote_closed(stream, events)

    def _receive_ping(self, flags: int, value: int, now: float) -> None:
        if flags & _SYN:
            self._frame(PING, _ACK, 0, value)
        elif flags & _ACK:
            self._keepalive.answered(value, now)

    def _grant(self, stream: _Stream, length: int, events: list[Event]) -> None:
        if stream.send_window + length > _MAX_WINDOW:
            raise self._violation(f"the window of stream {stream.id} grows above {_MAX_WINDOW} bytes")
        stream.send_window += length
        events.append(WindowOpened(stream))

    def _remote_closed(self, stream: _Stream, events: list[Event]) -> None:
        if not stream.remote_closed:
            stream.remote_closed = True
            events.append(EndReceived(stream))
            if stream.local_closed:
                self._drop(stream)

    def _violation(self, what: str) -> RemoteProtocolError:
        self._frame(GO_AWAY, 0, 0, GoAwayCode.PROTOCOL_ERROR)
        return RemoteProtocolError(f"yamux: {what}")

    # Streams

    def can_open(self) -> bool:
        return self._unaccepted < self._config.ack_backlog

    def open_stream(self, now: float) -> Substream:
        if self._outbound >= self._config.max_outbound_streams:
            raise LimitExceeded("max_outbound_streams", scope="connection", value=self._config.max_outbound_streams)
        if self._next_id > _MAX_STREAM_ID:
            raise LimitExceeded("stream ids", scope="connection", value=_MAX_STREAM_ID)
        stream_id, self._next_id = self._next_id, self._next_id + 2
        stream = self._streams[stream_id] = _Stream(stream_id, outbound=True, window=self._new_window(now))
        self._outbound += 1
        self._unaccepted += 1
        self._unsent_flags[stream] = None
        return stream

    def accept_stream(self, stream: Substream) -> None:
        assert isinstance(stream, _Stream)
        if not stream.is_over:
            stream.accepted = True
            stream.flags |= _ACK
            self._unsent_flags[stream] = None

    def send(self, stream: Substream, data: memoryview) -> int:
        assert isinstance(stream, _Stream)
        if stream.local_closed:
            return 0
        total = min(len(data), stream.send_window)
        stream.send_window -= total
        position = self._extend_frame(stream, data[:total]) if self._open_frame is not None else 0
        while position < total:
            stop = min(position + self.max_payload, total)
            flags = self._flags_of(stream)
            self._frame(DATA, flags, stream.id, stop - position)
            self._open_frame = (len(self._out) - 1, flags, stream, stop - position)
            self._out.append(data[position:stop])
            position = stop
        self.unsent += total
        return total

    def _extend_frame(self, stream: _Stream, data: memoryview) -> int:
        """Add `data` to the frame queued last, if it is one of the stream's and has room; return how much was added."""
        assert self._open_frame is not None
        place, flags, owner, length = self._open_frame
        if owner is not stream or length + len(data) > self.max_payload:
            return 0
        length += len(data)
        self._out[place] = HEADER.pack(VERSION, DATA, flags, stream.id, length)
        self._out.append(data)
        self._open_frame = (place, flags, stream, length)
        return len(data)

    def consumed(self, stream: Substream, n: int, now: float) -> int:
        assert isinstance(stream, _Stream)
        if stream.remote_closed:
            return 0
        size = stream.window.size
        if grant := stream.window.consume(n, now, self._keepalive.rtt):
            self._frame(WINDOW_UPDATE, self._flags_of(stream), stream.id, grant)
        return stream.window.size - size

    def close_write(self, stream: Substream) -> None:
        assert isinstance(stream, _Stream)
        if stream.local_closed:
            return
        self._frame(WINDOW_UPDATE, self._flags_of(stream) | _FIN, stream.id, 0)
        stream.local_closed = True
        if stream.remote_closed:
            self._drop(stream)

    def reset(self, stream: Substream, code: int) -> None:
        assert isinstance(stream, _Stream)
        if not stream.is_over:
            self._frame(WINDOW_UPDATE, self._flags_of(stream) | _RST, stream.id, code)
            self._drop(stream)

    def _new_window(self, now: float) -> StreamWindow:
        return StreamWindow(maximum=self._config.max_stream_window, draw=self._draw, now=now)

    def _drop(self, stream: _Stream) -> None:
        """Both directions have ended: forget the stream."""
        stream.local_closed = stream.remote_closed = True
        del self._streams[stream.id]
        self._unsent_flags.pop(stream, None)
        if stream is self._body_stream and self._body_left:
            self._body_stream = None
        if not stream.outbound:
            self._inbound -= 1
            return
        self._outbound -= 1
        if not stream.accepted:
            self._unaccepted -= 1

    # The session

    def go_away(self, code: int) -> None:
        self._frame(GO_AWAY, 0, 0, code)

    def data_to_send(self) -> list[Buffer]:
        for stream in list(self._unsent_flags):
            self._frame(WINDOW_UPDATE, self._flags_of(stream), stream.id, 0)
        out, self._out, self.unsent = self._out, [], 0
        self._open_frame = None
        return out

    def next_deadline(self) -> float | None:
        return self._keepalive.due

    def handle_timer(self, now: float, delivered: int, queued: int) -> list[Event]:
        value = self._keepalive.look(now, delivered, queued)
        if value is not None:
            self._frame(PING, _SYN, 0, value)
        silence = self._keepalive.silence
        return [] if silence is None else [PeerSilent(silence)]

    def _flags_of(self, stream: _Stream) -> int:
        """The flags that the next frame of the stream must carry, once."""
        flags, stream.flags = stream.flags, 0
        if flags:
            self._unsent_flags.pop(stream, None)
        return flags

    def _frame(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        self._out.append(HEADER.pack(VERSION, kind, flags, stream_id, length))
        self._open_frame = None
        self.unsent += HEADER_SIZE
