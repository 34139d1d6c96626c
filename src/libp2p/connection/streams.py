"""A connection that carries many streams to one proven peer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from ..error_codes import StreamErrorCode
from ..errors import ConnectionClosed, StreamReset
from ..identity import PeerId, PublicKey
from ..io import DEFAULT_READ_LIMIT, ByteStream, MemoryAccount, ReceiveBuffer
from ..io.delimited import read_message, read_varint
from ..multiaddr import Multiaddr
from ..varint import MAX_VARINT
from .secure import SecureChannel


class Direction(Enum):
    """Who opened a connection or stream."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Role(Enum):
    """Who begins in a connection's handshakes, and has the initiator's stream ids, whoever made the raw connection."""

    INITIATOR = "initiator"
    RESPONDER = "responder"

    @classmethod
    def of(cls, direction: Direction) -> Role:
        """The usual one: who has dialed begins."""
        return cls.INITIATOR if direction is Direction.OUTBOUND else cls.RESPONDER


class Stream(ByteStream):
    """A stream of a connection, with the protocol that both sides agreed to speak on it.

    Both directions end separately: `close_write` ends ours, b"" from `read` tells that the peer ended its own. There is
    no time limit on an open stream: a peer that does not read makes `write` wait, for ever if need be.

    One task may read at a time, any number may write: each call's bytes go out together, in the order of the calls.

        id                the stream's number on its connection; another one may get it later
        connection        the `Connection` that it belongs to, which knows the peer
        direction         a `Direction`: who opened it
        protocol          the protocol id agreed on; "" while it is being negotiated by the listener
        bytes_read        bytes that were received, the negotiation of the protocol included
        bytes_written     bytes that were sent, the same
        on_reset          called when the peer has reset the stream; a host cancels handlers by it
    """

    id: int
    connection: Connection
    direction: Direction
    protocol: str
    bytes_written: int = 0
    on_reset: Callable[[], None] | None = None

    def __init__(
        self, stream_id: int, connection: Connection, direction: Direction, *, to_the_end: bool = False
    ) -> None:
        self.id = stream_id
        self.connection = connection
        self.direction = direction
        self.protocol = ""
        self._incoming = ReceiveBuffer(self._consumed, to_the_end=to_the_end, account=connection.memory)

    async def agreed(self) -> str:
        """Wait until the peer has agreed to the protocol; return its id. Raises `ProtocolNotSupported`.

        A single protocol is offered optimistically, without waiting for the answer; reading waits for it anyway.
        """
        if self._incoming.is_guarded:
            await self._incoming.unguarded()
        return self.protocol

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether both directions have ended."""

    @abstractmethod
    async def wait_closed(self) -> StreamReset | ConnectionClosed | None:
        """Wait until both directions have ended; return how: `StreamReset` with its code and by whom,
        `ConnectionClosed`, or None where each side ended its own in order. (Over QUIC a peer that closes while we write
        shows as a reset by it, code 0.)
        """

    async def read(self, n: int = -1, *, limit: int = DEFAULT_READ_LIMIT) -> bytes:
        return await self._incoming.read(n, limit=limit)

    async def readexactly(self, n: int) -> bytes:
        return await self._incoming.readexactly(n)

    async def readuntil(self, separator: bytes = b"\n", *, limit: int = 65536) -> bytes:
        return await self._incoming.readuntil(separator, limit=limit)

    async def read_message(self, *, limit: int, what: str = "message") -> bytes:
        return await read_message(self._incoming, limit=limit, what=what)

    async def read_varint(self, *, limit: int = MAX_VARINT, what: str = "varint") -> int:
        return await read_varint(self._incoming, limit=limit, what=what)

    @property
    def is_diverted(self) -> bool:
        """Whether a raw connection has taken the stream over, and ends it."""
        return False

    @property
    def bytes_read(self) -> int:
        """Bytes that were received on the stream, the negotiation of its protocol included."""
        return self._incoming.received

    @abstractmethod
    async def close_write(self) -> None:
        """Send what was written, then tell the peer that no more comes. Reading goes on. Idempotent."""

    @abstractmethod
    def reset(self, code: int = StreamErrorCode.NONE) -> None:
        """End both directions at once; the peer's pending and later calls raise `StreamReset(code)`. Idempotent."""

    @abstractmethod
    def _consumed(self, n: int) -> None:
        """The reader took `n` bytes: let the peer send as many more."""

    def abort(self, error: Exception | None = None) -> None:  # noqa: ARG002 - a stream's reset carries a code, no text
        self.reset(StreamErrorCode.ABANDONED)

    def __repr__(self) -> str:
        return f"<Stream {self.id} {self.direction.value} {self.protocol or '?'} {self.connection.remote_peer}>"


@dataclass(frozen=True, slots=True)
class MemoryLimitReached:
    """Peers made us hold more than a limit allows: a stream of the largest holder, its fullest, has been reset, and
    what it held was dropped.
    """

    connection: Connection
    stream: Stream
    scope: str
    """Whose limit was reached: "host", "peer" or "connection"."""
    limit: int
    """Bytes."""


class Connection(ABC):
    """A secure connection to one proven peer that carries many streams.

    local_peer        our own `PeerId`
    remote_peer       the peer's, proven
    remote_key        the peer's `PublicKey`
    local_addr        our end's `Multiaddr`
    remote_addr       the peer's end's, as it was dialed or as it came
    direction         a `Direction`: who made the raw connection
    role              a `Role`: who began in the handshakes
    is_limited        whether it may carry only a little, for a while: relayed ones
    opened_at         when it was there, by the loop's clock, in seconds
    heard_at          when something of the peer last arrived, by the same; None where that is not known
    streams           the `Stream`s open now
    streams_opened    how many we have opened, in all
    streams_accepted  how many the peer has opened, in all
    bytes_read        bytes that were received on all streams, those that have ended too
    bytes_written     bytes that were sent, the same
    security          the id of the security protocol, such as `/noise`
    muxer             the id of the muxer, such as `/yamux/1.0.0`
    rtt               the last round-trip time measured, in seconds; None where there is none
    memory            the `MemoryAccount` of what the peer makes us hold by it
    close_reason      why it is closed: `ConnectionClosed`, with who closed it; None while it is open
    is_closed         whether no stream can be opened any more
    """

    local_peer: PeerId
    remote_peer: PeerId
    remote_key: PublicKey
    local_addr: Multiaddr
    remote_addr: Multiaddr
    direction: Direction
    """Who made the raw connection."""
    role: Role
    """Who began in the handshakes."""
    is_limited: bool = False
    """Whether the connection may carry only a little, for a while: relayed ones."""
    opened_at: float
    """When the connection was there, by the loop's clock, in seconds."""
    streams_opened: int = 0
    """Streams that we have opened, in all."""
    streams_accepted: int = 0
    """Streams that the peer has opened, in all."""
    security: str
    """The id of the security protocol, such as `/noise`."""
    muxer: str
    """The id of the muxer, such as `/yamux/1.0.0`."""

    memory: MemoryAccount | None = None
    """What the peer makes us hold by this connection."""

    @property
    def heard_at(self) -> float | None:
        """When something of the peer last arrived, in the event loop's time; None where that is not known."""
        return None

    def probe(self) -> None:  # noqa: B027 - one that can't tell when it was heard needs no probe
        """Ask the peer for a sign of life, which `heard_at` then tells of. Never waits."""

    @abstractmethod
    def serve(
        self,
        on_stream: Callable[[Stream], None],
        on_closed: Callable[[ConnectionClosed], None],
        on_stream_closed: Callable[[Stream], None] | None = None,
        *,
        on_memory_limit: Callable[[MemoryLimitReached], None] | None = None,
    ) -> None:
        """Start: `on_stream` gets every stream that the peer opens, those it opened before at once; `on_stream_closed`
        every stream, of either side, whose two directions have ended, once; `on_memory_limit` is told of every stream
        that had to pay for a limit of memory; `on_closed` is called once, at the very end.
        """

    @property
    @abstractmethod
    def streams(self) -> Sequence[Stream]:
        """The streams open now."""

    @property
    @abstractmethod
    def bytes_read(self) -> int:
        """Bytes that were received on all streams, those that have ended too."""

    @property
    @abstractmethod
    def bytes_written(self) -> int:
        """Bytes that were sent on all streams, those that have ended too."""

    @property
    @abstractmethod
    def rtt(self) -> float | None:
        """The last round-trip time measured, in seconds."""

    @property
    @abstractmethod
    def close_reason(self) -> ConnectionClosed | None:
        """Why the connection is closed; None while it is open."""

    @property
    def is_closed(self) -> bool:
        """Whether no stream can be opened any more."""
        return self.close_reason is not None

    @abstractmethod
    async def open_stream(self) -> Stream:
        """A new stream, no protocol agreed yet. Waits while the peer has too many unaccepted streams of ours, but not
        for ever: `StageTimeout`. Raises `ConnectionClosed`, and `LimitExceeded` where we have too many open.
        """

    @abstractmethod
    async def close(self, reason: str = "closed by the application", code: int = 0) -> None:
        """Send what was written, say goodbye, and close. Reading of what arrived before stays possible. The peer is
        told the `code`, a `StreamErrorCode`, where the muxer has a place for it. Idempotent.
        """

    @abstractmethod
    def abort(self, reason: str = "aborted by the application", code: int | None = None) -> None:
        """Close at once; what was not sent yet is dropped, and the peer may hear no `code`. Idempotent."""

    @abstractmethod
    async def wait_closed(self) -> ConnectionClosed:
        """Wait for the end; return why."""

    def __repr__(self) -> str:
        state = f"closed: {self.close_reason.reason}" if self.close_reason else "open"
        return f"<Connection {self.direction.value} {self.remote_peer} {self.remote_addr} {state}>"


class Muxer(ABC):
    """Makes a connection of a secure channel: `/yamux/1.0.0`, `/mplex/6.7.0`."""

    protocol_id: ClassVar[str]

    @abstractmethod
    def connect(
        self,
        channel: SecureChannel,
        direction: Direction,
        role: Role | None = None,
        *,
        memory: MemoryAccount | None = None,
    ) -> Connection:
        """Take over `channel`, which nobody reads or writes from here on. `role` says whose stream ids are whose, by
        default the one that goes with the direction. `memory` is the new connection's account; without one it has the
        default limit for itself.
        """
