"""What every stream of a connection does, as a byte stream: `StreamSuite` for all, `MuxedStreamSuite` for a muxer's."""

from __future__ import annotations

from ...connection import Connection, Muxer, Stream
from ...transports.memory import pipe
from .byte_streams import ByteStreamSuite
from .connections import Side
from .muxers import connect_by
from .tools import ends


class StreamSuite(ByteStreamSuite[Stream]):
    """Runs the byte stream suite over streams. `connect` gives both ends of a connection."""

    max_buffered = 32 * 1024 * 1024

    async def connect(self) -> tuple[Connection, Connection]:
        """The two ends of a new connection."""
        raise NotImplementedError

    async def make(self) -> tuple[Stream, Stream]:
        self.connections = await self.connect()
        dialer, listener = (Side(connection) for connection in self.connections)
        return await dialer.stream_to(listener)

    async def cleanup(self) -> None:
        for connection in self.connections:
            connection.abort()
            await ends(connection.wait_closed())
            await ends(connection.close())


class MuxedStreamSuite(StreamSuite):
    """Runs the byte stream suite over the streams of a muxer."""

    def muxer(self) -> Muxer:
        """The muxer to test."""
        raise NotImplementedError

    async def connect(self) -> tuple[Connection, Connection]:
        return connect_by(self.muxer(), pipe())
