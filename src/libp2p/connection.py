"""The interfaces between the layers, from the wire up.

    RawConnection       reliable ordered bytes between two machines: a TCP socket, an in-memory pipe, a relayed stream
      SecureChannel     the same after Noise or TLS: knows who the peer is
    SecurityProtocol    turns the first into the second
    Connection          carries many streams to one proven peer
      Stream            one of them: what users read and write
    Muxer               turns a secure channel into a connection
    Transport           dials and listens; what it returns is finished: secure, muxed, the peer id verified
      Listener

Rules:
- Pull in the handshake, push in the data phase: a `RawConnection` is read with `await` until a `Sink` is attached; from
  then on it pushes.
- Identity first: `Connection` and `SecureChannel` exist only for a peer whose id is proven.
- Everything that ends says why: `Connection.close_reason`, `StreamReset.code`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from .errors import ConnectionClosed, ProtocolNotSupported, RemoteProtocolError
from .identity import PeerId, PrivateKey, PublicKey
from .io import DEFAULT_READ_LIMIT, Buffer, ByteStream, ReceiveBuffer, Sink, WriteGate
from .multiaddr import Multiaddr

if TYPE_CHECKING:
    from .upgrader import Upgrader

_PULL_HIGH_WATER = 64 * 1024
"""Bytes that a connection buffers for a handshake before it stops reading from the network."""


class Direction(Enum):
    """Who opened a connection or stream."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class StreamErrorCode(IntEnum):
    """Why a stream was reset: the codes of the libp2p specs' error code registry, as go-libp2p sends them."""

    NONE = 0
    PROTOCOL_NEGOTIATION_FAILED = 0x1001
    RESOURCE_LIMIT_EXCEEDED = 0x1002
    RATE_LIMITED = 0x1003
    PROTOCOL_VIOLATION = 0x1004
    SUPPLANTED = 0x1005
    GARBAGE_COLLECTED = 0x1006
    SHUTDOWN = 0x1007
    GATED = 0x1008


class RawConnection(ByteStream):
    """A reliable, ordered byte stream between two machines, read by pull at first and by push once a sink is attached.

    Implementations call `_sink`'s methods, and offer `send`, `pause_reading`, `resume_reading`, `close` and `abort`.
    """

    record_size: int = 65536
    """Bytes that are best sent in one piece: a secure channel names what fills one of its records."""

    def __init__(self, *, local_addr: Multiaddr, remote_addr: Multiaddr) -> None:
        self.local_addr = local_addr
        self.remote_addr = remote_addr
        self._pull: _PullSide | None = _PullSide(self)
        self._sink: Sink = self._pull
        self._agreement: Callable[[], Awaitable[None]] | None = None

    def attach(self, sink: Sink) -> None:
        """Push from now on: give `sink` what is buffered, then everything as it arrives. Pulling ends."""
        pull = self._pulling()
        assert self._agreement is None, "nobody has read the answer to the protocol that was offered"
        self._pull = None
        self._sink = sink
        pull.hand_over(sink)

    @abstractmethod
    def send(self, buffers: Sequence[Buffer]) -> None:
        """Send without waiting. The caller stops when its sink's `pause_writing` is called. The buffers are not kept
        by reference beyond the call, except `bytes`. Nothing happens on a closed connection.
        """

    @abstractmethod
    def pause_reading(self) -> None:
        """Push nothing until `resume_reading`; the peer is held by the network's own back-pressure. Idempotent."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Push again. Idempotent."""

    @property
    def incoming(self) -> ReceiveBuffer:
        """What has arrived and was not read; for a negotiation's own use."""
        return self._pulling().incoming

    def expect_agreement(self, agreement: Callable[[], Awaitable[None]]) -> None:
        """A protocol was offered, the peer's answer is still to come: `agreement` reads it before anything else is
        read, and raises `ProtocolNotSupported` where the peer declines.
        """
        self._agreement = agreement

    async def _agreed(self) -> ReceiveBuffer:
        if self._agreement is not None:
            await self._agreement()
            self._agreement = None
        return self.incoming

    async def read(self, n: int = -1, *, limit: int = DEFAULT_READ_LIMIT) -> bytes:
        return await (await self._agreed()).read(n, limit=limit)

    async def readexactly(self, n: int) -> bytes:
        return await (await self._agreed()).readexactly(n)

    async def readuntil(self, separator: bytes = b"\n", *, limit: int = 65536) -> bytes:
        return await (await self._agreed()).readuntil(separator, limit=limit)

    async def write(self, data: Buffer) -> None:
        pull = self._pulling()
        pull.check_open()
        self.send((data,))
        await pull.drain()

    def _pulling(self) -> _PullSide:
        if self._pull is None:
            raise RuntimeError(f"{type(self).__name__} is pushing to a sink; it can't be read or written by a task")
        return self._pull


class _PullSide:
    """The sink of a connection that tasks read from and write to."""

    def __init__(self, connection: RawConnection) -> None:
        self._connection = connection
        self.incoming = ReceiveBuffer(self._consumed)
        self._writable = WriteGate()
        self._lost: Exception | None = None

    def data_received(self, data: memoryview) -> None:
        self.incoming.feed(data)
        if self.incoming.unclaimed > _PULL_HIGH_WATER:
            self._connection.pause_reading()

    def eof_received(self) -> None:
        self.incoming.feed_eof()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = error or ConnectionClosed("the connection was closed", by="local")
        self.incoming.set_error(self._lost)
        self._writable.fail(self._lost)

    def pause_writing(self) -> None:
        self._writable.pause()

    def resume_writing(self) -> None:
        self._writable.resume()

    def check_open(self) -> None:
        if self._lost is not None:
            raise self._lost.with_traceback(None)

    async def drain(self) -> None:
        await self._writable.wait()
        self._writable.passed()

    def _consumed(self, _: int) -> None:
        """A task took bytes, or waits for more than there are."""
        if self.incoming.unclaimed <= _PULL_HIGH_WATER:
            self._connection.resume_reading()

    def hand_over(self, sink: Sink) -> None:
        """Give everything that happened so far to the sink that takes over."""
        eof = self.incoming.ended
        data = self.incoming.take_all()
        self._connection.resume_reading()  # first: the sink may pause as soon as it gets data
        if data:
            sink.data_received(memoryview(data))
        if self._writable.paused:
            sink.pause_writing()
        if self._lost is not None:
            sink.connection_lost(self._lost)
        elif eof:
            sink.eof_received()


class LayeredConnection(RawConnection):
    """A connection on top of another one, whose sink it is: passes everything on, but for what a subclass changes."""

    def __init__(self, raw: RawConnection) -> None:
        super().__init__(local_addr=raw.local_addr, remote_addr=raw.remote_addr)
        self._raw = raw

    def send(self, buffers: Sequence[Buffer]) -> None:
        self._raw.send(buffers)

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    async def close(self) -> None:
        await self._raw.close()

    def abort(self, error: Exception | None = None) -> None:
        self._raw.abort(error)

    def data_received(self, data: memoryview) -> None:
        """See `Sink`."""
        self._sink.data_received(data)

    def eof_received(self) -> None:
        """See `Sink`."""
        self._sink.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """See `Sink`."""
        self._sink.connection_lost(error)

    def pause_writing(self) -> None:
        """See `Sink`."""
        self._sink.pause_writing()

    def resume_writing(self) -> None:
        """See `Sink`."""
        self._sink.resume_writing()


class SecureChannel(LayeredConnection):
    """A raw connection whose bytes are encrypted for, and authenticated by, one proven peer."""

    def __init__(
        self,
        raw: RawConnection,
        *,
        protocol: str,
        local_peer: PeerId,
        remote_key: PublicKey,
        stream_muxer: str | None,
    ) -> None:
        super().__init__(raw)
        self.protocol = protocol
        """The security protocol's id, such as `/noise`."""
        self.local_peer = local_peer
        self.remote_key = remote_key
        self.remote_peer = remote_key.peer_id
        self.stream_muxer = stream_muxer
        """The muxer that the handshake agreed on (inlined negotiation), None where it agreed on none."""


class SecurityProtocol(ABC):
    """A protocol that secures raw connections: `/noise`, `/tls/1.0.0`."""

    protocol_id: ClassVar[str]

    @abstractmethod
    async def secure_outbound(
        self, raw: RawConnection, key: PrivateKey, *, expected_peer: PeerId | None, muxers: Sequence[str]
    ) -> SecureChannel:
        """Run the dialer's handshake over `raw`, as the owner of `key`.

        `expected_peer` is who must answer (None: anybody, who is then known by the channel's `remote_peer`); `muxers`
        are the ids of the muxers to offer within the handshake, best first. Raises `PeerIdMismatch`,
        `HandshakeError`, and what reading `raw` raises. On an error the caller aborts `raw`.
        """

    @abstractmethod
    async def secure_inbound(self, raw: RawConnection, key: PrivateKey, *, muxers: Sequence[str]) -> SecureChannel:
        """Run the listener's handshake; else like `secure_outbound`."""


class Stream(ByteStream):
    """A stream of a connection, with the protocol that both sides agreed to speak on it.

    Both directions end separately: `close_write` ends ours, b"" from `read` tells that the peer ended its own. There is
    no time limit on an open stream: a peer that does not read makes `write` wait, for ever if need be.
    """

    def __init__(self, stream_id: int, connection: Connection, direction: Direction) -> None:
        self.id = stream_id
        self.connection = connection
        self.direction = direction
        self.protocol = ""
        """The protocol id agreed on; "" while it is being negotiated by the listener."""
        self._incoming = ReceiveBuffer(self._consumed)
        self._agreement: Callable[[], Awaitable[None]] | None = None

    def expect_agreement(self, agreement: Callable[[], Awaitable[None]]) -> None:
        """The protocol was offered, the peer's answer is still to come: `agreement` reads it before anything else is
        read, and raises `ProtocolNotSupported` where the peer declines. It must survive being cancelled and called
        again.
        """
        self._agreement = agreement

    async def agreed(self) -> str:
        """Wait until the peer has agreed to the protocol; return its id. Raises `ProtocolNotSupported`.

        A single protocol is offered optimistically, without waiting for the answer; reading waits for it anyway.
        """
        if self._agreement is not None:
            try:
                await self._agreement()
            except (ProtocolNotSupported, RemoteProtocolError):
                self.reset(StreamErrorCode.PROTOCOL_NEGOTIATION_FAILED)
                raise
            self._agreement = None
        return self.protocol

    @property
    def incoming(self) -> ReceiveBuffer:
        """The bytes received, below the protocol negotiation; for the negotiation's own use."""
        return self._incoming

    async def read(self, n: int = -1, *, limit: int = DEFAULT_READ_LIMIT) -> bytes:
        if self._agreement is not None:
            await self.agreed()
        return await self._incoming.read(n, limit=limit)

    async def readexactly(self, n: int) -> bytes:
        if self._agreement is not None:
            await self.agreed()
        return await self._incoming.readexactly(n)

    async def readuntil(self, separator: bytes = b"\n", *, limit: int = 65536) -> bytes:
        if self._agreement is not None:
            await self.agreed()
        return await self._incoming.readuntil(separator, limit=limit)

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
        self.reset()

    def __repr__(self) -> str:
        return f"<Stream {self.id} {self.direction.value} {self.protocol or '?'} {self.connection.remote_peer}>"


class Connection(ABC):
    """A secure connection to one proven peer that carries many streams."""

    local_peer: PeerId
    remote_peer: PeerId
    remote_key: PublicKey
    local_addr: Multiaddr
    remote_addr: Multiaddr
    direction: Direction
    security: str
    """The id of the security protocol, such as `/noise`."""
    muxer: str
    """The id of the muxer, such as `/yamux/1.0.0`."""

    @abstractmethod
    def serve(
        self,
        on_stream: Callable[[Stream], None],
        on_closed: Callable[[ConnectionClosed], None],
        on_stream_closed: Callable[[Stream], None] | None = None,
    ) -> None:
        """Start: `on_stream` gets every stream that the peer opens, those it opened before at once; `on_stream_closed`
        every stream, of either side, whose two directions have ended; `on_closed` is called once, at the very end.
        """

    @property
    @abstractmethod
    def streams(self) -> Sequence[Stream]:
        """The streams open now."""

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
        """A new stream, no protocol agreed yet. Waits while the peer has too many unaccepted streams of ours. Raises
        `ConnectionClosed`, and `LimitExceeded` where we have too many open.
        """

    @abstractmethod
    async def close(self, reason: str = "closed by the application") -> None:
        """Send what was written, say goodbye, and close. Reading of what arrived before stays possible. Idempotent."""

    @abstractmethod
    def abort(self, reason: str = "aborted by the application") -> None:
        """Close at once; what was not sent yet is dropped. Idempotent."""

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
    def connect(self, channel: SecureChannel, direction: Direction) -> Connection:
        """Take over `channel`, which nobody reads or writes from here on."""


class Listener(ABC):
    """A place where a transport accepts connections."""

    @property
    @abstractmethod
    def addrs(self) -> Sequence[Multiaddr]:
        """Where it really listens: no port 0, no wildcard host; without a peer id."""

    @abstractmethod
    async def close(self) -> None:
        """Accept no more, and end the connections that are not finished yet. Idempotent."""


class Accept(Protocol):
    """What a listener reports to."""

    def connection_opened(self, connection: Connection) -> None:
        """A peer has connected, and is proven to be who it says."""

    def connection_failed(self, local_addr: Multiaddr, remote_addr: Multiaddr, error: Exception) -> None:
        """Somebody connected, but it came to nothing."""


class Transport(ABC):
    """Dials and listens on the addresses it understands. What it hands out is a finished `Connection`."""

    def use(self, upgrader: Upgrader) -> Self:  # noqa: ARG002
        """Called by the host that the transport is for, before anything else: `upgrader` makes raw connections finished
        ones, with the host's key. A transport that is secure and muxed from birth needs the key at most.
        """
        return self

    @abstractmethod
    def can_dial(self, addr: Multiaddr) -> bool:
        """Whether `addr` (with or without /p2p) is one that this transport dials. Names are resolved by the swarm."""

    @abstractmethod
    def can_listen(self, addr: Multiaddr) -> bool:
        """Whether `addr` is one that this transport listens on."""

    @abstractmethod
    async def dial(self, addr: Multiaddr, peer: PeerId | None) -> Connection:
        """Connect to `addr` and prove that `peer` is there (None: whoever it is). Raises `OSError`, `StageTimeout`,
        `HandshakeError` and the other errors of an upgrade.
        """

    @abstractmethod
    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        """Accept connections on `addr` until the listener is closed. Raises `ListenError`."""
