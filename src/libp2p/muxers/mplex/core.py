"""The mplex session: a table of streams and the messages that change it (libp2p/specs mplex). No I/O.

Rules:
- Mplex has no flow control: a peer sends what it likes. What nobody has read yet is counted for each stream, and while
  one stream that can still grow holds more than `max_unread` the session wants no data at all: the whole connection
  waits for the reader of that stream, and nothing is dropped ("Blocking the entire connection until the offending
  stream is read"). Other implementations reset such a stream, which loses what they were sent.
- Mplex has no ping, no goodbye, no reset codes, and no acceptance of streams.
- Outside this session a stream's id is twice the number it has on the wire, plus one where the dialer opened it: the
  same on both sides, and different for each stream.
- Messages for a stream that is gone are ignored: they crossed our reset, or our refusal of the stream.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from ...errors import InvalidVarint, LimitExceeded, MessageTooLarge, RemoteProtocolError
from ...io import Allowance, Buffer, UselessFrames
from ..session import DataReceived, EndReceived, Event, PeerOpened, ResetReceived, Substream, Violation
from .wire import CLOSE, MAX_HEADER_SIZE, MAX_MESSAGE, MESSAGE, NEW_STREAM, RESET, decode_header, encode_header


@dataclass(frozen=True, slots=True)
class MplexConfig:
    """Limits of an mplex connection."""

    max_unread: int = 256 * 1024
    """Bytes that a stream may hold unread, with up to one read of the channel more; then nothing is read from the
    connection until they are fewer. 128 KiB at least.
    """
    max_inbound_streams: int = 1024
    """Streams that the peer may have open at a time; more are reset."""
    max_outbound_streams: int = 1024
    """Streams that we may have open at a time; opening more raises `LimitExceeded`."""
    useless_frames_per_second: int = 1024
    """Messages of no use that the peer may send each second, in the long run: resets, empty ones, streams that are
    refused, messages for streams that are gone. Then the connection is closed."""
    useless_frames_burst: int = 16384
    """Those that it may send at once."""


_TINY = 64
"""Bytes below which a message counts as a small one."""


class _Stream(Substream):
    """One stream of the table."""

    __slots__ = ("unread",)

    def __init__(self, stream_id: int, *, outbound: bool) -> None:
        super().__init__(stream_id, outbound=outbound)
        self.unread = 0


class MplexSession:
    """The state of one mplex connection. See `MuxerSession` for what each call does."""

    rtt: float | None = None
    """Unknown: mplex has nothing that is answered."""

    heard_at: float | None = None

    def __init__(self, *, is_dialer: bool, config: MplexConfig, max_payload: int) -> None:
        self._config = config
        self.max_payload = max_payload
        self.max_served = config.max_inbound_streams
        self._ours = 1 if is_dialer else 0  # the last bit of the ids of the streams that we open
        self._next_number = 0
        self._streams: dict[int, _Stream] = {}
        self._inbound = self._outbound = 0
        self._overfull = 0  # streams with more than `max_unread`
        self._out: list[Buffer] = []
        self.unsent = 0
        self._header = bytearray()  # a header of which only a part has arrived
        self._body_left = 0  # bytes of the current message that are still to come
        self._body_stream: _Stream | None = None  # whose they are; None: nobody's
        self.frames_left = sys.maxsize
        self.rest = b""
        self._allowance = Allowance(config.useless_frames_per_second, config.useless_frames_burst)

    @property
    def wants_data(self) -> bool:
        return not self._overfull

    def probe(self, now: float) -> None:
        """There is nothing that the peer would answer."""

    def start(self, now: float) -> None:
        """Nothing is said at the beginning."""

    # Receiving

    def receive_data(self, data: memoryview, now: float) -> list[Event]:
        events: list[Event] = []
        position, end = 0, len(data)
        try:
            while position < end:
                if self._body_left:
                    position = self._receive_body(data, position, events)
                else:
                    position = self._receive_header(data, position, now, events)
                    if self.frames_left <= 0 and position < end:
                        self.rest = bytes(data[position:])
                        break
        except RemoteProtocolError as error:
            events.append(Violation(error))
        return events

    def useless(self, what: str, cost: float, now: float) -> Violation | None:
        try:
            self._allowance.charge(what, now, cost)
        except UselessFrames as error:
            return Violation(error)
        return None

    def _receive_body(self, data: memoryview, position: int, events: list[Event]) -> int:
        stop = min(position + self._body_left, len(data))
        self._body_left -= stop - position
        if self._body_stream is not None:
            self._count(self._body_stream, stop - position)
            events.append(DataReceived(self._body_stream, data[position:stop]))
        return stop

    def _receive_header(self, data: memoryview, position: int, now: float, events: list[Event]) -> int:
        """Take the header at `position`, whose beginning may have come before; return the position behind it."""
        before = len(self._header)
        try:
            if before:
                self._header += data[position : position + MAX_HEADER_SIZE - before]
                header = decode_header(self._header)
            else:
                header = decode_header(data, position)
        except InvalidVarint as error:
            raise RemoteProtocolError(f"mplex: malformed header: {error}") from error
        if header is None:
            if not before:
                self._header += data[position:]
            return len(data)
        number, flag, length, stop = header
        self._header.clear()
        self._receive_message(number, flag, length, now, events)
        return position + stop - before if before else stop

    def _receive_message(self, number: int, flag: int, length: int, now: float, events: list[Event]) -> None:
        by_initiator = flag % 2 == 0
        kind = flag if by_initiator else flag + 1
        stream_id = number << 1 | (self._ours ^ 1 if by_initiator else self._ours)
        if kind > RESET:
            raise RemoteProtocolError(f"mplex: message with the unknown flag {flag}")
        if length > MAX_MESSAGE:
            raise MessageTooLarge("mplex message", limit=MAX_MESSAGE, size=length)
        self._body_left = length
        self._body_stream = None
        if kind != MESSAGE or length < _TINY:
            self.frames_left -= 1
        stream = self._streams.get(stream_id)
        if kind == NEW_STREAM:
            if stream is not None:
                raise RemoteProtocolError(f"mplex: stream {number} opened twice")
            self._receive_new_stream(stream_id, now, events)
        elif stream is None:
            self._allowance.charge("one for a stream that is gone", now, 0.25 + length / 16384)
            return
        elif kind == MESSAGE:
            # "Writing to a stream after it has been closed is a protocol violation."
            if stream.remote_closed:
                raise RemoteProtocolError(f"mplex: data on stream {number} behind its end")
            self._body_stream = stream
            if not length:
                self._allowance.charge("an empty one", now)
        elif kind == RESET:
            self._drop(stream)
            events.append(ResetReceived(stream, 0))
            self._allowance.charge("a reset", now, 0.5)
        elif not stream.remote_closed:
            stream.remote_closed = True
            self._count(stream, -stream.unread)  # it can grow no more: nobody has to wait for its reader
            events.append(EndReceived(stream))
            if stream.local_closed:
                self._drop(stream)

    def _receive_new_stream(self, stream_id: int, now: float, events: list[Event]) -> None:
        if self._inbound >= self._config.max_inbound_streams:
            self._allowance.charge("a stream too many", now)
            self._message(stream_id, RESET, 0)
            return
        self._inbound += 1
        stream = self._streams[stream_id] = _Stream(stream_id, outbound=False)
        events.append(PeerOpened(stream))

    def _count(self, stream: _Stream, change: int) -> None:
        """`stream` has `change` more unread bytes."""
        limit = self._config.max_unread
        before, stream.unread = stream.unread, stream.unread + change
        self._overfull += (stream.unread > limit) - (before > limit)

    # Streams

    def can_open(self) -> bool:
        return True

    def open_stream(self, now: float) -> Substream:  # noqa: ARG002
        if self._outbound >= self._config.max_outbound_streams:
            raise LimitExceeded("max_outbound_streams", scope="connection", value=self._config.max_outbound_streams)
        stream_id = self._next_number << 1 | self._ours
        self._next_number += 1
        self._outbound += 1
        stream = self._streams[stream_id] = _Stream(stream_id, outbound=True)
        self._message(stream_id, NEW_STREAM, 0)
        return stream

    def accept_stream(self, stream: Substream) -> None:
        """The peer is not told."""

    def send(self, stream: Substream, data: memoryview) -> int:
        if stream.local_closed:
            return 0
        total = len(data)
        for start in range(0, total, self.max_payload):
            piece = data[start : start + self.max_payload]
            self._message(stream.id, MESSAGE, len(piece))
            self._out.append(piece)
        self.unsent += total
        return total

    def consumed(self, stream: Substream, n: int, now: float) -> int:  # noqa: ARG002
        assert isinstance(stream, _Stream)
        if not stream.remote_closed:
            self._count(stream, -n)
        return 0

    def close_write(self, stream: Substream) -> None:
        assert isinstance(stream, _Stream)
        if stream.local_closed:
            return
        self._message(stream.id, CLOSE, 0)
        stream.local_closed = True
        if stream.remote_closed:
            self._drop(stream)

    def reset(self, stream: Substream, code: int) -> None:  # noqa: ARG002 - a reset of mplex carries no code
        assert isinstance(stream, _Stream)
        if not stream.is_over:
            self._message(stream.id, RESET, 0)
            self._drop(stream)

    def _drop(self, stream: _Stream) -> None:
        """Both directions have ended: forget the stream, and what it holds unread."""
        self._count(stream, -stream.unread)
        stream.local_closed = stream.remote_closed = True
        del self._streams[stream.id]
        if stream is self._body_stream:
            self._body_stream = None
        if stream.outbound:
            self._outbound -= 1
        else:
            self._inbound -= 1

    # The session

    def go_away(self, code: int) -> None:
        """Nothing is said at the end either."""

    def data_to_send(self) -> list[Buffer]:
        out, self._out, self.unsent = self._out, [], 0
        return out

    def next_deadline(self) -> float | None:
        return None

    def handle_timer(self, now: float, delivered: int, queued: int) -> list[Event]:  # noqa: ARG002
        return []

    def _message(self, stream_id: int, kind: int, length: int) -> None:
        """Queue the header of a message, whose data the caller queues."""
        flag = kind if stream_id & 1 == self._ours else kind - 1
        header = encode_header(stream_id >> 1, flag, length)
        self._out.append(header)
        self.unsent += len(header)
