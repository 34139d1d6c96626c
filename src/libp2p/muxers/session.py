"""What the sans-I/O core of a muxer is: bytes in, events out; calls in, bytes out. Time comes in as `now`, in
seconds.

Rules:
- Events and calls name a stream by the session's own object for it, its `Substream`: the number that it has on the wire
  may be another stream's within the same read.
- A session tells what has happened in the order in which it happened, also what came before a violation of the
  protocol. When events are handled the session is ahead of them, so a call for a stream that is over by then does
  nothing.
- Small and odd frames cost more than their bytes: so many are taken in a turn of the loop, and of those that are of no
  use a connection has an allowance (`Allowance`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..errors import RemoteProtocolError
from ..io import Buffer

if TYPE_CHECKING:
    from .stream import FramedStream


class Substream:
    """A stream as its session knows it."""

    __slots__ = ("id", "local_closed", "outbound", "owner", "remote_closed")

    def __init__(self, stream_id: int, *, outbound: bool) -> None:
        self.id = stream_id
        self.outbound = outbound
        self.owner: FramedStream | None = None
        """The stream that users have of it; None before there is one, and when it is over."""
        self.local_closed = False
        self.remote_closed = False

    @property
    def is_over(self) -> bool:
        """Whether both directions have ended."""
        return self.local_closed and self.remote_closed


@dataclass(slots=True)
class PeerOpened:
    """The peer opened a stream."""

    stream: Substream


@dataclass(slots=True)
class PeerAccepted:
    """The peer accepted a stream of ours."""

    stream: Substream


@dataclass(slots=True)
class DataReceived:
    """Bytes of a stream; `data` is valid only until the next call of the session."""

    stream: Substream
    data: memoryview


@dataclass(slots=True)
class EndReceived:
    """The peer will send no more on the stream."""

    stream: Substream


@dataclass(slots=True)
class ResetReceived:
    """The peer reset the stream."""

    stream: Substream
    code: int


@dataclass(slots=True)
class WindowOpened:
    """More may be sent on the stream."""

    stream: Substream


@dataclass(slots=True)
class GoAwayReceived:
    """The peer will open, and accept, no more streams."""

    code: int


@dataclass(slots=True)
class PeerSilent:
    """Nothing was heard of the peer within `seconds`, although it was asked: the connection is dead."""

    seconds: float


@dataclass(slots=True)
class Violation:
    """The peer broke the protocol. The goodbye that tells it so is in `data_to_send`; nothing may be received any more,
    and no event follows.
    """

    error: RemoteProtocolError
    code: int = 1
    """What the peer is told, where there is a place for it."""


Event = (
    PeerOpened
    | PeerAccepted
    | DataReceived
    | EndReceived
    | ResetReceived
    | WindowOpened
    | GoAwayReceived
    | PeerSilent
    | Violation
)


class MuxerSession(Protocol):
    """The core of one muxed connection."""

    frames_left: int
    """How many more frames are taken, whole ones of data not counted: set anew by the caller, in each turn of the loop.
    """

    rest: bytes
    """What was not taken for that reason; the caller hands it in again."""

    @property
    def max_served(self) -> int:
        """Streams of the peer that are accepted at a time; those above it wait, if the session lets them."""

    @property
    def max_payload(self) -> int:
        """Bytes of data that one frame carries at most."""

    @property
    def rtt(self) -> float | None:
        """The round-trip time, in seconds, once it was measured."""

    @property
    def heard_at(self) -> float | None:
        """When bytes of the peer last arrived; None where the protocol has no way to ask for a sign of life."""

    def probe(self, now: float) -> None:
        """Ask for one, which `heard_at` then tells of."""

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
        """Take the peer's bytes, and at least one frame; what is left of them, as `frames_left` says, is `rest`."""

    def useless(self, what: str, cost: float, now: float) -> Violation | None:
        """A layer below has received something of no use. The end, where that was too much."""

    def can_open(self) -> bool:
        """Whether `open_stream` would work now; if not, it may after the next `PeerAccepted` or the end of a stream."""

    def open_stream(self, now: float) -> Substream:
        """A new stream of ours. Raises `LimitExceeded` where too many are open."""

    def accept_stream(self, stream: Substream) -> None:
        """Tell the peer that we take the stream it opened."""

    def send(self, stream: Substream, data: memoryview) -> int:
        """Queue as much of `data` as the peer's window takes now; return how many bytes that was."""

    def consumed(self, stream: Substream, n: int, now: float) -> int:
        """The reader took `n` bytes of the stream. Returns by how many bytes its window has grown for that."""

    def close_write(self, stream: Substream) -> None:
        """End our direction of the stream."""

    def reset(self, stream: Substream, code: int) -> None:
        """End both directions at once."""

    def go_away(self, code: int) -> None:
        """Tell the peer that the connection ends, and why (0: in order)."""

    def data_to_send(self) -> list[Buffer]:
        """What is queued for the peer, in order; the caller sends it."""

    def next_deadline(self) -> float | None:
        """When `handle_timer` must be called, or a little later; None: never. Changes only by that call."""

    def handle_timer(self, now: float, delivered: int, queued: int) -> list[Event]:
        """Do what is due at `now`. `delivered` bytes have left for the peer since the beginning, `queued` ones wait."""
