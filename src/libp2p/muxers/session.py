"""What the sans-I/O core of a muxer is: bytes in, events out; calls in, bytes out. Time comes in as `now`, in
seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..io import Buffer


@dataclass(slots=True)
class StreamOpened:
    """The peer opened a stream."""

    stream_id: int


@dataclass(slots=True)
class StreamAccepted:
    """The peer accepted a stream of ours."""

    stream_id: int


@dataclass(slots=True)
class DataReceived:
    """Bytes of a stream; `data` is valid only until the next call of the session."""

    stream_id: int
    data: memoryview


@dataclass(slots=True)
class EndOfStream:
    """The peer will send no more on the stream."""

    stream_id: int


@dataclass(slots=True)
class StreamWasReset:
    """The peer reset the stream."""

    stream_id: int
    code: int


@dataclass(slots=True)
class WindowOpened:
    """More may be sent on the stream."""

    stream_id: int


@dataclass(slots=True)
class GoAwayReceived:
    """The peer will open, and accept, no more streams."""

    code: int


@dataclass(slots=True)
class PeerSilent:
    """The peer did not answer within `seconds`: the connection is dead."""

    seconds: float


Event = (
    StreamOpened
    | StreamAccepted
    | DataReceived
    | EndOfStream
    | StreamWasReset
    | WindowOpened
    | GoAwayReceived
    | PeerSilent
)


class MuxerSession(Protocol):
    """The core of one muxed connection."""

    @property
    def max_payload(self) -> int:
        """Bytes of data that one frame carries at most."""

    @property
    def rtt(self) -> float | None:
        """The round-trip time, in seconds, once it was measured."""

    @property
    def unsent(self) -> int:
        """Bytes that `data_to_send` would return."""

    @property
    def wants_data(self) -> bool:
        """Whether the peer's bytes should be read on. False where the protocol has no flow control, and a stream holds
        so much unread that all of the connection must wait for its reader. Changes only within the session's calls.
        """

    def start(self, now: float) -> None:
        """The connection begins."""

    def receive_data(self, data: memoryview, now: float) -> list[Event]:
        """Take the peer's bytes. Raises `RemoteProtocolError` where they break the protocol; the goodbye that tells
        the peer so is then in `data_to_send`, and nothing may be received any more.
        """

    def can_open(self) -> bool:
        """Whether `open_stream` would work now; if not, it may after the next `StreamAccepted` or the end of a
        stream.
        """

    def open_stream(self, now: float) -> int:
        """A new stream of ours: its id. Raises `LimitExceeded` where too many are open."""

    def accept_stream(self, stream_id: int) -> None:
        """Tell the peer that we take the stream it opened."""

    def send(self, stream_id: int, data: memoryview) -> int:
        """Queue as much of `data` as the peer's window takes now; return how many bytes that was."""

    def consumed(self, stream_id: int, n: int, now: float) -> int:
        """The reader took `n` bytes of the stream. Returns by how many bytes its window has grown for that."""

    def close_write(self, stream_id: int) -> None:
        """End our direction of the stream."""

    def reset(self, stream_id: int, code: int) -> None:
        """End both directions at once."""

    def is_open(self, stream_id: int) -> bool:
        """Whether a direction of the stream is still open."""

    def go_away(self) -> None:
        """Tell the peer that the connection ends in order."""

    def data_to_send(self) -> list[Buffer]:
        """What is queued for the peer, in order; the caller sends it."""

    def next_deadline(self) -> float | None:
        """When `handle_timer` must be called at the latest."""

    def handle_timer(self, now: float) -> list[Event]:
        """Do what is due at `now`."""
