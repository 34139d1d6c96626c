"""One stream of a QUIC connection. Its two directions end separately, in as many ways (RFC 9000, 3):

close_write     FIN                            the peer reads to the end
close           FIN, STOP_SENDING(0)           besides, what the peer still writes fails there
reset           RESET_STREAM, STOP_SENDING     with the code, which the calls of both sides tell
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from contextlib import suppress

from ...connection import Direction
from ...connection.muxed_stream import MuxedStream
from ...connection.streamed import StreamedConnection
from ...errors import StreamReset
from .engine import Lane


class QuicStreams(StreamedConnection["QuicStream"]):
    """What a stream asks of its connection, besides what all streams do."""

    @property
    @abstractmethod
    def loop(self) -> asyncio.AbstractEventLoop:
        """The one that the connection lives on."""

    @abstractmethod
    def abandon(self, stream: QuicStream) -> None:
        """Nobody reads the stream any more: what has arrived is dropped, and the peer asked for no more."""

    @abstractmethod
    def forsaken(self, lane: Lane) -> None:
        """Nobody holds the ended stream any more: what was not read of it must not hold the connection's window."""


class QuicStream(MuxedStream):
    """A stream of a `QuicConnection`."""

    def __init__(self, lane: Lane, connection: QuicStreams, direction: Direction) -> None:
        super().__init__(lane.id, connection, direction, to_the_end=True)
        self.lane = lane
        self._quic = connection
        lane.stream = self

    def __del__(self) -> None:
        if self.lane.is_read:
            return
        with suppress(RuntimeError):  # the loop is closed. This may run in any thread
            self._quic.loop.call_soon_threadsafe(self._quic.forsaken, self.lane)

    @property
    def is_over(self) -> bool:
        """Whether both directions have ended."""
        return self._write_error is not None and self._incoming.ended

    # Called by the connection

    def data_received(self, data: bytes | memoryview) -> None:
        if self._incoming.ended:  # we have reset or closed it: the bytes count as read
            self._quic.abandon(self)
        else:
            super().data_received(data)

    def reset_received(self, code: int) -> None:
        """The peer has reset its direction."""
        self._incoming.set_error(StreamReset(code, by="remote"))
        self._given_up()

    def stop_received(self, code: int) -> None:
        """The peer reads nothing more. With a code, and behind the end of its own direction, that is a reset; without,
        it may be how the peer closes.
        """
        error = StreamReset(code, by="remote")
        if self._write_error is None:
            self._write_error = error
            self._end_write()
        if code and self._incoming.ended:
            self._incoming.set_error(error, instead_of_end=True)
            self._given_up()

    def _abandon(self, unread: int, ended: bool) -> None:  # noqa: ARG002 - the engine knows better
        self._quic.abandon(self)
