"""What runs over a QUIC connection, as its driver sees it. `QuicConnection` is libp2p's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from aioquic.quic.events import StopSendingReceived, StreamDataReceived, StreamReset

from ...errors import ConnectionClosed
from .engine import Lane


class Application(Protocol):
    """Is told what happens to the streams of a connection."""

    def lanes_opened(self, lanes: Iterable[Lane]) -> None:
        """The peer has opened these streams."""

    def data_received(self, lane: Lane, data: bytes) -> None:
        """These bytes follow on a stream."""

    def handle(self, event: StreamDataReceived | StreamReset | StopSendingReceived) -> None:
        """Something else has happened to a stream."""

    def progressed(self) -> None:
        """Datagrams were sent or received: writers and openers may go on."""

    def lost(self, reason: ConnectionClosed) -> None:
        """The connection is over."""
