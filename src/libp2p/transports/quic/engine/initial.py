"""Initial packets outside of any connection: whether one can be read, and how one is turned down."""

from __future__ import annotations

from aioquic._crypto import CryptoError
from aioquic.quic.connection import TRANSPORT_CLOSE_FRAME_CAPACITY
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicHeader, QuicPacketType, QuicProtocolVersion
from aioquic.quic.packet_builder import QuicPacketBuilder

from ..config import INITIAL_DATAGRAM_SIZE


def is_readable(header: QuicHeader, packet: bytes, encrypted_offset: int) -> bool:
    """Whether the Initial packet at the head of `packet` was made by somebody who knows the connection id in it."""
    try:
        _keys(header).decrypt_packet(packet[: header.packet_length], encrypted_offset, 0)
    except CryptoError:
        return False
    return True


def refusal(header: QuicHeader, code: QuicErrorCode) -> bytes:
    """A datagram that tells who sent an Initial packet that there will be no connection, and why."""
    builder = QuicPacketBuilder(
        host_cid=header.destination_cid,
        is_client=False,
        max_datagram_size=INITIAL_DATAGRAM_SIZE,
        peer_cid=header.source_cid,
        version=QuicProtocolVersion.VERSION_1,
    )
    builder.start_packet(QuicPacketType.INITIAL, _keys(header))
    buf = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=TRANSPORT_CLOSE_FRAME_CAPACITY)
    for value in (code, QuicFrameType.PADDING, 0):
        buf.push_uint_var(value)
    (datagram,), _ = builder.flush()
    return datagram


def _keys(header: QuicHeader) -> CryptoPair:
    pair = CryptoPair()
    pair.setup_initial(cid=header.destination_cid, is_client=False, version=QuicProtocolVersion.VERSION_1)
    return pair
