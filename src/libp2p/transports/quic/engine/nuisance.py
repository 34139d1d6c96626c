"""What a peer sends that costs more than its bytes: small frames are counted, and those of no use allowed for.

Rules:
- So many small frames and packets are taken in one turn of the loop; the driver hands in the rest later. Data that
  fills its packets is not counted.
- A peer that has used up its allowance of frames of no use is told goodbye, code `RATE_LIMITED`. What may come from
  anybody, such as a packet that can't be decrypted, costs time of the turn but none of the allowance.
- One frame of a kind may be of little use; many in one datagram are of none.
"""

from __future__ import annotations

from typing import Unpack

from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnectionError, QuicReceiveContext

from ....connection import SMALL, StreamErrorCode
from ....io import Allowance, UselessFrames
from ..config import QuicConfig
from .handshake import Origin
from .streams import StreamsEngine

TURN = 64
"""Small frames that are taken in one turn: each costs several times what one of yamux does."""

_REPEATED = 16.0
"""What another PING in the same datagram costs: nobody has a reason for it."""


class CountingEngine(StreamsEngine):
    """Counts frames as they are handled."""

    def __init__(self, configuration: QuicConfiguration, settings: QuicConfig, **origin: Unpack[Origin]) -> None:
        self.frames_left = TURN
        """How many more small frames fit in this turn: set anew by the driver."""
        self._allowance = Allowance(settings.useless_frames_per_second, settings.useless_frames_burst)
        self._pings = 0  # in this datagram
        self._last_stream: int | None = None  # of the STREAM frames in this datagram
        super().__init__(configuration, settings, **origin)

    def _datagram_begins(self) -> None:
        self._pings = 0
        self._last_stream = None

    def _charge(self, what: str, cost: float) -> None:
        """Count a frame; it is of no use to this degree. Raises `QuicConnectionError` where that was too much."""
        self.frames_left -= 1
        try:
            self._allowance.charge(what, self._now, cost)
        except UselessFrames as error:
            raise QuicConnectionError(StreamErrorCode.RATE_LIMITED, None, str(error)) from error  # type: ignore[arg-type]

    def _handle_ping_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._pings += 1
        self._charge("a PING", 1.0 if self._pings == 1 else _REPEATED)
        super()._handle_ping_frame(context, frame_type, buf)

    def _handle_ack_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        waiting = self._spaces[context.epoch].sent_packets
        before = len(waiting)
        super()._handle_ack_frame(context, frame_type, buf)
        if len(waiting) == before:
            self._charge("an ACK of nothing new", 0.5)
        else:
            self.frames_left -= 1

    def _handle_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        stream_id = buf.pull_uint_var()
        offset = buf.pull_uint_var() if frame_type & 4 else 0
        size = buf.pull_uint_var() if frame_type & 2 else buf.capacity - buf.tell()
        buf.seek(start)
        before, self._last_stream = self._last_stream, stream_id
        if size < SMALL:
            if stream_id == before and not frame_type & 1:
                self._charge("a small STREAM frame behind one of the same stream", 1.0)
            elif not size and not frame_type & 1 and offset:
                self._charge("an empty STREAM frame", 1.0)
            else:
                self.frames_left -= 1
        super()._handle_stream_frame(context, frame_type, buf)

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._charge("a CRYPTO frame", 0.25)
        super()._handle_crypto_frame(context, frame_type, buf)

    def _handle_new_token_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._charge("a NEW_TOKEN frame", 1.0)
        super()._handle_new_token_frame(context, frame_type, buf)

    def _handle_reset_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._charge("a reset", 0.5)
        super()._handle_reset_stream_frame(context, frame_type, buf)

    def _handle_stop_sending_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._charge("a STOP_SENDING frame", 0.25)
        super()._handle_stop_sending_frame(context, frame_type, buf)

    def _handle_max_data_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._charge("a MAX_DATA frame", 1 / 16)
        super()._handle_max_data_frame(context, frame_type, buf)

    def _handle_max_stream_data_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._charge("a MAX_STREAM_DATA frame", 1 / 16)
        super()._handle_max_stream_data_frame(context, frame_type, buf)

    def _handle_max_streams_bidi_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._charge("a MAX_STREAMS frame", 1 / 16)
        super()._handle_max_streams_bidi_frame(context, frame_type, buf)

    def _handle_max_streams_uni_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._charge("a MAX_STREAMS frame", 1 / 16)
        super()._handle_max_streams_uni_frame(context, frame_type, buf)

    def _handle_data_blocked_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._charge("a DATA_BLOCKED frame", 0.25)
        super()._handle_data_blocked_frame(context, frame_type, buf)

    def _handle_stream_data_blocked_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._charge("a STREAM_DATA_BLOCKED frame", 0.25)
        super()._handle_stream_data_blocked_frame(context, frame_type, buf)

    def _handle_streams_blocked_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._charge("a STREAMS_BLOCKED frame", 0.25)
        super()._handle_streams_blocked_frame(context, frame_type, buf)

    def _handle_new_connection_id_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._charge("a NEW_CONNECTION_ID frame", 0.5)
        super()._handle_new_connection_id_frame(context, frame_type, buf)

    def _handle_retire_connection_id_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._charge("a RETIRE_CONNECTION_ID frame", 0.5)
        super()._handle_retire_connection_id_frame(context, frame_type, buf)

    def _handle_path_challenge_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._charge("a PATH_CHALLENGE frame", 1.0)
        super()._handle_path_challenge_frame(context, frame_type, buf)
