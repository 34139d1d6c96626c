"""What the engine keeps of a stream, and of a packet under way."""

from __future__ import annotations

from typing import Any

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.stream import QuicStream

from ..flow_control import ReceiveWindow

ONE_RTT = tls.Epoch.ONE_RTT
"""The packets behind the handshake."""


class Lane:
    """One stream, as the engine sees it."""

    __slots__ = ("end_told", "head", "id", "queued", "quic", "receiver", "sender", "stream", "window")

    def __init__(self, quic: QuicStream, window: ReceiveWindow) -> None:
        assert quic.stream_id is not None
        self.id = quic.stream_id
        self.quic = quic
        self.sender = quic.sender
        self.receiver = quic.receiver
        self.window = window
        self.queued = False
        """Whether it waits for its turn to send."""
        self.end_told = False
        """Whether the owner knows that the peer's direction has ended."""
        self.head = bytes((QuicFrameType.STREAM_BASE | 4,)) + _varint(self.id)
        """How a STREAM frame with an offset, and up to the end of its packet, begins."""
        self.stream: Any = None
        """The engine's owner's: the `QuicStream`, once that is made."""

    @property
    def unsent(self) -> int:
        """Bytes written that were not sent yet."""
        return self.sender._buffer_stop - self.sender.highest_offset

    @property
    def is_read(self) -> bool:
        """Whether everything that has arrived was read."""
        return self.window.read >= self.receiver._buffer_start

    @property
    def has_more(self) -> bool:
        """Whether there is something to send: bytes, or the end of the stream."""
        sender = self.sender
        if sender.buffer_is_empty:
            return False
        if not len(sender._pending) and not sender._pending_eof:
            sender.buffer_is_empty = True
            return False
        return True

    @property
    def is_delivered(self) -> bool:
        """Whether the peer has acknowledged everything that was written."""
        sender = self.sender
        if sender.is_finished or sender._reset_error_code is not None:
            return True
        return sender._buffer_start == sender._buffer_stop and sender._buffer_fin is None


class SentPacket:
    """What aioquic remembers of a packet under way (its `QuicSentPacket`), with no room for what bulk data lacks."""

    __slots__ = ("delivery_handlers", "packet_number", "sent_bytes", "sent_time")

    epoch = ONE_RTT
    in_flight = is_ack_eliciting = True
    is_crypto_packet = False
    packet_type = QuicPacketType.ONE_RTT
    quic_logger_frames = ()

    def __init__(self, packet_number: int, sent_bytes: int, handlers: list[Any]) -> None:
        self.packet_number = packet_number
        self.sent_bytes = sent_bytes
        self.delivery_handlers = handlers
        self.sent_time = 0.0


def _varint(value: int) -> bytes:
    buf = Buffer(capacity=8)
    buf.push_uint_var(value)
    return buf.data
