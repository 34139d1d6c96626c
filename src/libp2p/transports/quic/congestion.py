"""Congestion control: aioquic's Cubic, whose window does not grow while it is not used.

"When bytes in flight is smaller than the congestion window and sending is not pacing limited, the congestion window is
underutilized. [...] When this occurs, the congestion window SHOULD NOT be increased" (RFC 9002, 7.8). Otherwise an hour
of small messages would end in a window for which no network has room.
"""

from __future__ import annotations

from aioquic.quic.congestion.base import register_congestion_control
from aioquic.quic.congestion.cubic import CubicCongestionControl
from aioquic.quic.packet_builder import QuicSentPacket

NAME = "cubic, not growing unused"
"""By which aioquic knows it."""

_ROOM = 3
"""Datagrams for which the window may have room, and still count as used up."""


class Cubic(CubicCongestionControl):
    """As in RFC 9438."""

    def __init__(self, *, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self._datagram_size = max_datagram_size
        self._acked_at = 0.0
        self._in_flight = 0  # before the acknowledgement that is being worked on

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        if now != self._acked_at:
            self._acked_at, self._in_flight = now, self.bytes_in_flight
        window = self.congestion_window
        super().on_packet_acked(now=now, packet=packet)
        if self.congestion_window > window and not self._was_used(window):
            self.congestion_window = window

    def _was_used(self, window: int) -> bool:
        """In slow start half of the window is enough: it doubles, and so does what is sent."""
        if self.ssthresh is None or window < self.ssthresh:
            return self._in_flight > window // 2
        return window - self._in_flight <= _ROOM * self._datagram_size


register_congestion_control(NAME, Cubic)
