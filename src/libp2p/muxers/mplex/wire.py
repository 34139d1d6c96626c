"""Mplex messages. Each starts with two varints:

    +----------------------------+------------------+----------------+
    | stream id << 3 | flag      | length           | data           |
    | varint, 1 to 9 bytes       | varint           | `length` bytes |
    +----------------------------+------------------+----------------+

    flag               data is
    0    new stream    its name, which nobody reads
    1, 2 message       the stream's bytes, 1 MiB at most
    3, 4 close         empty
    5, 6 reset         empty

Each side counts its own streams, so both may have one with the same id; the flag tells which is meant: the odd ones are
sent by the receiver of a stream, who did not open it, the even ones by its initiator.

Specification: libp2p/specs mplex.
"""

from __future__ import annotations

from ...errors import InvalidVarint
from ...io import Buffer
from ...varint import MAX_VARINT_LENGTH, decode_varint, encode_varint

NEW_STREAM = 0
MESSAGE = 2
CLOSE = 4
RESET = 6
"""The flags of an initiator; a receiver's is one less."""

MAX_MESSAGE = 1024 * 1024
"""Bytes of data in one message ("up to 1MiB per message")."""

MAX_HEADER_SIZE = 2 * MAX_VARINT_LENGTH


def encode_header(stream_id: int, flag: int, length: int) -> bytes:
    """What comes before `length` bytes of data."""
    return encode_varint(stream_id << 3 | flag) + encode_varint(length)


def decode_header(data: Buffer, offset: int = 0) -> tuple[int, int, int, int] | None:
    """The header at `data[offset]`: stream id, flag, length, and the offset behind it. None where it has not arrived
    whole. Raises `InvalidVarint`.
    """
    varints = 0
    for position in range(offset, min(len(data), offset + MAX_HEADER_SIZE)):
        if data[position] < 0x80:
            varints += 1
            if varints == 2:
                first, middle = decode_varint(data, offset)
                length, stop = decode_varint(data, middle)
                return first >> 3, first & 7, length, stop
    if len(data) - offset >= MAX_HEADER_SIZE:
        raise InvalidVarint(f"header longer than {MAX_HEADER_SIZE} bytes")
    return None
