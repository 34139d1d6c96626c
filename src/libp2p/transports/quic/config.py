"""The settings of the QUIC transport."""

from __future__ import annotations

from dataclasses import dataclass

INITIAL_DATAGRAM_SIZE = 1280
"""Bytes of the datagrams sent before the path is known to carry larger ones: what quic-go starts with."""


@dataclass(frozen=True, slots=True)
class QuicConfig:
    """Limits and times of the QUIC transport. The defaults are go-libp2p's where it has such a setting."""

    handshake_timeout: float = 10.0
    """Seconds for a handshake, on either side."""
    idle_timeout: float = 30.0
    """Seconds without a packet from the peer after which the connection is gone; the peer's own may be less."""
    keep_alive: float | None = 15.0
    """Seconds without a packet from the peer after which it is asked for one (None: never); half of the idle timeout
    that both sides agreed on, where that is less."""
    linger: float = 2.0
    """Seconds that `close` waits at most for the peer to acknowledge what was written."""
    max_streams: int = 1024
    """Streams that the peer may have open at a time. As one ends it may open another."""
    stream_window: int = 512 * 1024
    """Bytes that the peer may send on a new stream without any being read."""
    max_stream_window: int = 10 * 1024 * 1024
    """Bytes to which that grows, on a stream that is read as fast as they come."""
    connection_window: int = 15 * 1024 * 1024
    """Bytes to which grows what the peer may send on all streams of a connection together without any being read, as
    far as the connection's `MemoryAccount` has room. It begins with one and a half stream windows."""
    max_datagram_size: int = 1452
    """Bytes of a datagram to which the path is probed; the first ones have 1,280."""
    max_pending_inbound: int = 2048
    """Inbound handshakes at a time; more are refused."""
    max_pending_per_ip: int = 128
    """Of these from one IP address (of IPv6 the first 64 bits). More than may come unvalidated, or who forges addresses
    could shut others out."""
    max_unvalidated_inbound: int = 64
    """Inbound handshakes at a time from which on a peer must first show that it receives at its address (Retry)."""
    useless_frames_per_second: int = 1024
    """Frames of no use that the peer may send each second, in the long run: PING, ACK of nothing new, resets, data in
    needlessly small pieces. Then the connection is closed, code `RATE_LIMITED`."""
    useless_frames_burst: int = 16384
    """Those that it may send at once."""
    socket_buffer: int = 7 * 1024 * 1024
    """Bytes that the system is asked to buffer for a socket, in each direction. It may give less."""

    @property
    def first_connection_window(self) -> int:
        """Bytes with which the window of a connection begins."""
        return min(self.stream_window * 3 // 2, self.connection_window)

    def __post_init__(self) -> None:
        """Raises `ValueError` for what can't work."""
        if not INITIAL_DATAGRAM_SIZE <= self.max_datagram_size <= 16_383:
            raise ValueError(
                f"max_datagram_size is {self.max_datagram_size}, not from {INITIAL_DATAGRAM_SIZE} to 16383"
            )
        if not 0 < self.stream_window <= self.max_stream_window <= self.connection_window:
            raise ValueError("stream_window, max_stream_window and connection_window must not decrease in this order")
        if min(self.max_streams, self.max_pending_inbound, self.handshake_timeout, self.idle_timeout) <= 0:
            raise ValueError("max_streams, max_pending_inbound, handshake_timeout and idle_timeout must be positive")
        if self.linger < 0:
            raise ValueError("linger must not be negative")
        if self.keep_alive is not None and self.keep_alive <= 0:
            raise ValueError("keep_alive must be positive; None turns it off")
