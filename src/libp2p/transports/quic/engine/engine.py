"""What the owner of a QUIC connection asks and is told; the size of its datagrams; how fast they leave."""

from __future__ import annotations

from typing import Any, Unpack

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import END_STATES, PING_FRAME_CAPACITY, QuicConnectionState
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketPacer
from aioquic.tls import Epoch

from ..config import QuicConfig
from ..datagrams import SocketAddress
from .handshake import Origin
from .sending import SendingEngine

_MAX_REASON = 256
"""Bytes of the words that we give as the reason of a close."""

_BURST = 0.002
_MAX_BURST = 64
"""Seconds, and packets, that are sent at once at most: timers of event loops are no finer than a millisecond, and one
system call takes no more."""

_PACING_GAIN = 1.25
"""By how much pacing is faster than a window a round trip, so that the window can be used up (RFC 9002, 7.7)."""


class Pacer(QuicPacketPacer):
    """Lets go as many packets at once as belong to `_BURST` seconds."""

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        super().update_rate(int(_PACING_GAIN * congestion_window), smoothed_rtt)
        assert self.packet_time is not None
        self.bucket_max = max(self.bucket_max, min(_BURST, _MAX_BURST * self.packet_time))


class Engine(SendingEngine):
    """One side of one QUIC connection, without I/O: see aioquic's `QuicConnection` for what is not said here."""

    def __init__(self, configuration: QuicConfiguration, settings: QuicConfig, **origin: Unpack[Origin]) -> None:
        super().__init__(configuration, settings, **origin)
        self._loss._pacer = Pacer(max_datagram_size=self._max_datagram_size)

    @property
    def is_established(self) -> bool:
        """Whether both sides have verified each other: for a dialer once the listener has confirmed the handshake."""
        return self._handshake_confirmed

    @property
    def is_complete(self) -> bool:
        """Whether we have verified the peer."""
        return self._handshake_complete

    @property
    def has_begun(self) -> bool:
        """Whether a packet of the peer could be read, and began a handshake."""
        is_first = self._state is QuicConnectionState.FIRSTFLIGHT
        return not is_first and self._crypto_streams[Epoch.INITIAL].receiver.highest_offset > 0

    @property
    def is_validated(self) -> bool:
        """Whether the peer has shown that it receives at its address."""
        return self._network_paths[0].is_validated

    @property
    def newest(self) -> int:
        """The largest number of a packet behind the handshake that has come; -1 before there was one."""
        return self._space.largest_received_packet

    @property
    def is_over(self) -> bool:
        """Whether the connection is closed, by either side: nothing is sent or received any more."""
        return self._state in END_STATES

    @property
    def has_said_goodbye(self) -> bool:
        """Whether the connection was closed by us, in words: not by silence."""
        return self._state is QuicConnectionState.CLOSING

    @property
    def is_closed_by_peer(self) -> bool:
        """Whether it was the peer who closed the connection."""
        return self._state is QuicConnectionState.DRAINING

    @property
    def close_event(self) -> Any:
        """Why it is closed, or is about to be: aioquic's `ConnectionTerminated`; None while it is open."""
        return self._close_event

    @property
    def agreed_idle_timeout(self) -> float:
        """Seconds of silence after which one of the two sides gives up."""
        return self._idle_timeout()

    @property
    def gives_up_at(self) -> float | None:
        """When the silence of the peer has lasted too long."""
        return self._close_at

    @property
    def probe_timeout(self) -> float:
        """Seconds until something unacknowledged is sent again."""
        return self._loss.get_probe_timeout()

    def close(
        self, error_code: int = QuicErrorCode.NO_ERROR, frame_type: int | None = None, reason_phrase: str = ""
    ) -> None:
        reason = reason_phrase.encode()[:_MAX_REASON].decode(errors="ignore")  # the frame must fit in a packet
        super().close(error_code, frame_type, reason)

    def datagrams(self, now: float) -> list[tuple[bytes, SocketAddress]]:
        """What is to be sent now, and where to."""
        self._now = now
        datagrams = self.datagrams_to_send(now)
        path = self._network_paths[0]
        if self.is_over and not path.can_send(0):
            return []  # "three times the amount of data received" (RFC 9000, 8.1) is the limit of a goodbye, too
        if self._handshake_confirmed and path.is_validated and not self.is_over and (size := self.path_mtu.probe(now)):
            datagrams.append((self._mtu_probe(size, now), path.addr))
        return datagrams

    def _mtu_probe(self, size: int, now: float) -> bytes:
        """A datagram of `size` bytes that carries nothing. Congestion control does not hear of it."""
        builder = QuicPacketBuilder(
            host_cid=self.host_cid,
            is_client=self._is_client,
            max_datagram_size=size,
            packet_number=self._packet_number,
            peer_cid=self._peer_cid.cid,
            spin_bit=self._spin_bit,
            version=self._version or 0,
        )
        builder.start_packet(QuicPacketType.ONE_RTT, self._keys)
        builder.start_frame(QuicFrameType.PING, capacity=PING_FRAME_CAPACITY, handler=self._on_mtu_probe)
        builder._datagram_needs_padding = True
        (datagram,), (packet,) = builder.flush()
        self._packet_number = builder.packet_number
        packet.in_flight = False
        packet.sent_time = now
        self._loss.on_packet_sent(packet=packet, space=self._space)
        self._loss._time_of_last_sent_ack_eliciting_packet = now
        return datagram

    def _on_mtu_probe(self, delivery: QuicDeliveryState) -> None:
        self.path_mtu.on_probe(delivery is QuicDeliveryState.ACKED, self._now)
        self._use_datagram_size()

    def expire(self, now: float) -> None:
        """The time that `get_timer` told has come."""
        self._now = now
        if self._close_at is not None and self._close_at <= now and self._close_event is None:
            self._close_event = ConnectionTerminated(  # aioquic would say "internal error"
                error_code=QuicErrorCode.NO_ERROR, frame_type=None, reason_phrase="idle timeout"
            )
        self.handle_timer(now)
        if self._handshake_confirmed:
            self.path_mtu.on_timeouts(self._loss._pto_count, now)
        else:
            self.path_mtu.on_handshake_timeouts(self._loss._pto_count)
        self._use_datagram_size()
