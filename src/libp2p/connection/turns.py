"""Layers that take what arrives in bounded turns of the event loop: small frames cost more than their bytes.

    below -> data_received -> _take -> the sink
                               '- what does not fit in this turn is held, and nothing more is read until it is taken

Rules:
- A turn takes one piece at least. Full frames are not counted, so bulk data is never held.
- The end comes behind what is held.
- While the sink has paused reading, what is held waits too.
"""

from __future__ import annotations

import asyncio

from ..errors import Libp2pError
from .raw import LayeredConnection, RawConnection

TURN = 128
"""Small frames, or what costs as much, of one connection that one layer takes in a turn of the loop."""

SMALL = 64
"""Bytes below which a frame counts as a small one."""


class TurnedConnection(LayeredConnection):
    """A layer whose `_take` says how much of what has arrived fits in this turn."""

    _stalled = False
    """Whether the layer itself wants nothing read."""

    def __init__(self, raw: RawConnection) -> None:
        super().__init__(raw)
        self._held: bytes | None = None  # what has arrived, and waits from...
        self._position = 0
        self._sink_paused = False
        self._eof_held = False  # the end of the data is behind what is held
        self._loss_held: list[Exception | None] | None = None  # and the end of the connection

    def _take(self, data: memoryview) -> int:
        """Take `data`, and push it on; how many bytes that were. Less than all is held for the next turn."""
        self._sink.data_received(data)
        return len(data)

    def _ended(self) -> None:
        """The peer sends no more."""
        self._sink.eof_received()

    def _lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._sink.connection_lost(error)

    # The sink of the connection below

    def data_received(self, data: memoryview) -> None:
        """Take what fits in this turn. Raises what `_take` raises."""
        if self._held is not None:
            self._held += data
        elif (taken := self._take(data)) < len(data):
            self._held, self._position = bytes(data[taken:]), 0
            self.read_or_not()
            asyncio.get_running_loop().call_soon(self._next_turn)

    def eof_received(self) -> None:
        """See `Sink`."""
        if self._held is None:
            self._ended()
        else:
            self._eof_held = True

    def connection_lost(self, error: Exception | None) -> None:
        """See `Sink`."""
        if self._held is None:
            self._lost(error)
        else:
            self._loss_held = [error]
            asyncio.get_running_loop().call_soon(self._next_turn)  # whether the sink has paused or not

    # What the sink asks

    def pause_reading(self) -> None:
        self._sink_paused = True
        self.read_or_not()

    def resume_reading(self) -> None:
        self._sink_paused = False
        if self._held is None:
            self.read_or_not()
        else:
            asyncio.get_running_loop().call_soon(self._next_turn)

    def abort(self, error: Exception | None = None) -> None:
        self._drop()
        super().abort(error)

    # Inside

    def read_or_not(self) -> None:
        """Have the connection below read, or not."""
        if self._sink_paused or self._stalled or self._held is not None:
            self._raw.pause_reading()
        else:
            self._raw.resume_reading()

    def _drop(self) -> None:
        """Take nothing more of what is held."""
        if self._held is not None:
            self._held, self._position = b"", 0

    def _next_turn(self) -> None:
        if self._held is None or (self._sink_paused and self._loss_held is None):
            return
        data = memoryview(self._held)[self._position :]
        try:
            taken = self._take(data) if data else 0
        except Libp2pError as error:
            self.abort(error)
            taken = 0
        self._position += taken
        if self._position < len(self._held):
            if not self._sink_paused or self._loss_held is not None:
                asyncio.get_running_loop().call_soon(self._next_turn)
            return
        self._held = None
        if self._eof_held:
            self._eof_held = False
            self._ended()
        if (lost := self._loss_held) is not None:
            self._loss_held = None
            self._lost(lost[0])
        else:
            self.read_or_not()
