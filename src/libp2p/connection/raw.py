"""Reliable ordered bytes between two machines."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence

from ..errors import ConnectionClosed, copy_of
from ..io import DEFAULT_READ_LIMIT, Allowance, Buffer, ByteStream, ReceiveBuffer, Sink, WriteGate, check_buffers
from ..io.delimited import read_message, read_varint
from ..multiaddr import Multiaddr
from ..varint import MAX_VARINT

_PULL_HIGH_WATER = 64 * 1024
"""Bytes that a connection buffers for a handshake before it stops reading from the network."""

_USELESS = 64, 1024
"""Frames of no use that a layer below may receive during a handshake, a second and at once; behind it the muxer's
settings hold."""


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

    def attach(self, sink: Sink) -> None:
        """Push from now on: give `sink` what is buffered, then everything as it arrives. Pulling ends."""
        pull = self._pulling()
        assert not pull.incoming.is_guarded, "nobody has read the answer to the protocol that was offered"
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
    def unsent(self) -> int:
        """Bytes that were given to `send` and have not left for the peer, as far as that is known. Looked at now and
        then: while they become fewer the peer is there.
        """
        return 0

    @property
    def _incoming(self) -> ReceiveBuffer:
        """What has arrived and was not read."""
        return self._pulling().incoming

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

    async def write(self, *parts: Buffer) -> None:
        check_buffers(parts)
        pull = self._pulling()
        pull.check_open()
        self.send(parts)
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
        self._allowance: Allowance | None = None

    def data_received(self, data: memoryview) -> None:
        self.incoming.feed(data)
        if self.incoming.unclaimed > _PULL_HIGH_WATER:
            self._connection.pause_reading()

    def useless(self, what: str, cost: float = 1.0) -> None:
        if self._allowance is None:
            self._allowance = Allowance(*_USELESS)
        self._allowance.charge(what, asyncio.get_running_loop().time(), cost)

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
            raise copy_of(self._lost)

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

    @property
    def unsent(self) -> int:
        return self._raw.unsent

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    async def close(self) -> None:
        try:
            await self._raw.close()
        except BaseException:  # cancelled, mostly: nobody will wait for the rest to be sent
            self._raw.abort()
            raise

    def abort(self, error: Exception | None = None) -> None:
        self._raw.abort(error)

    def data_received(self, data: memoryview) -> None:
        """See `Sink`."""
        self._sink.data_received(data)

    def useless(self, what: str, cost: float = 1.0) -> None:
        """See `Sink`."""
        self._sink.useless(what, cost)

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
