"""A stream of a muxed connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..connection import Direction
from ..connection.muxed_stream import MuxedStream

if TYPE_CHECKING:
    from .connection import MuxedConnection
    from .session import Substream


class FramedStream(MuxedStream):
    """A stream that a muxer's session frames: what users have of its `Substream`."""

    def __init__(self, substream: Substream, connection: MuxedConnection) -> None:
        direction = Direction.OUTBOUND if substream.outbound else Direction.INBOUND
        super().__init__(substream.id, connection, direction)
        self.substream = substream
        substream.owner = self
