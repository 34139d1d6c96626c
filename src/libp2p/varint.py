"""Unsigned varints, as every libp2p length prefix and code uses them.

Format (multiformats/unsigned-varint): seven bits a byte, least significant group first, the high bit set on every
byte but the last; at most nine bytes, so values below 2**63; the shortest encoding only.

    300 = 0b10_0101100  ->  1 0101100  0 0000010  ->  ac 02
"""

from .ground_errors import InvalidVarint

MAX_VARINT_LENGTH = 9
"""Bytes in the longest varint that the multiformats specification allows."""

MAX_VARINT = (1 << 63) - 1
"""The largest value that nine bytes can carry."""

_SINGLE_BYTES = [bytes((value,)) for value in range(0x80)]


def encode_varint(value: int) -> bytes:
    """Encode `value`, between 0 and `MAX_VARINT`, in its shortest form. Raises `InvalidVarint` outside that range."""
    if 0 <= value < 0x80:
        return _SINGLE_BYTES[value]
    if not 0 <= value <= MAX_VARINT:
        raise InvalidVarint(f"{value} is outside the range of a varint, 0 to 2**63 - 1")
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_varint(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int]:
    """Decode the varint that starts at `data[offset]`; return its value and the offset just behind it.

    Raises `InvalidVarint` where `data` ends within it, where it is longer than nine bytes and where a shorter encoding
    of the same value exists.
    """
    value = shift = 0
    for position in range(offset, min(len(data), offset + MAX_VARINT_LENGTH)):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and position > offset:
                raise InvalidVarint(f"varint {bytes(data[offset : position + 1]).hex()} is not in its shortest form")
            return value, position + 1
        shift += 7
    if len(data) - offset >= MAX_VARINT_LENGTH:
        raise InvalidVarint(f"varint longer than {MAX_VARINT_LENGTH} bytes")
    raise InvalidVarint("the data ends within a varint")
