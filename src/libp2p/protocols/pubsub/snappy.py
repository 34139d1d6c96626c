"""Snappy's block format, which Ethereum's messages travel in (google/snappy, format_description.txt).

    <length varint> element*
    element   literal   LLLLLL00 [length]  bytes               length - 1 in the tag below 60, else in 1 to 4 bytes
              copy      OOOLLL01 offset               4 to 11 bytes from up to 2 KiB back
                        LLLLLL10 offset (2 bytes)     1 to 64 bytes from up to 64 KiB back
                        LLLLLL11 offset (4 bytes)

Rules: the length is checked against a bound before anything is made; an element that leads outside of what is there is
an error. Where `cramjam` is installed (the extra `snappy`) it does the work: it compresses 128 KiB of text in 0.15 ms
and decompresses it in 0.05 ms, where the Python here takes 12 ms and 10 ms.
"""

from __future__ import annotations

from ...errors import InvalidInput, InvalidVarint
from ...varint import decode_varint, encode_varint

try:
    import cramjam
except ImportError:
    _has_cramjam = False
else:
    _has_cramjam = True

_SEGMENT = 1 << 16
"""Bytes within which copies are looked for."""


class Snappy:
    """The `DataTransform` of Ethereum's topics; `limit` is in bytes of the data."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit

    def encode(self, data: bytes) -> bytes:
        """Compress `data`."""
        return compress(data)

    def decode(self, data: bytes) -> bytes:
        """Decompress to at most `limit` bytes. Raises `InvalidInput`."""
        return decompress(data, limit=self._limit)


def compress(data: bytes) -> bytes:
    """`data` as a snappy block."""
    return bytes(cramjam.snappy.compress_raw(data)) if _has_cramjam else compress_in_python(data)


def compress_in_python(data: bytes) -> bytes:
    """The same, without any library."""
    out = bytearray(encode_varint(len(data)))
    for start in range(0, len(data), _SEGMENT):
        _compress_segment(data[start : start + _SEGMENT], out)
    return bytes(out)


def decompress(block: bytes, *, limit: int) -> bytes:
    """The data of a snappy block. Raises `InvalidInput` where it is malformed or holds more than `limit` bytes."""
    if not _has_cramjam:
        return decompress_in_python(block, limit=limit)
    _length(block, limit)
    try:
        return bytes(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError as error:
        raise InvalidInput(f"snappy block: {error}") from error


def decompress_in_python(block: bytes, *, limit: int) -> bytes:
    """The same, without any library."""
    length, at = _length(block, limit)
    out = bytearray()
    while at < len(block):
        kind = block[at] & 3
        if kind == 0:
            size, at = _literal_size(block, at)
            if at + size > len(block):
                raise InvalidInput("snappy block ends within a literal")
            out += block[at : at + size]
            at += size
        else:
            size, offset, at = _copy(block, at, kind)
            _append_copy(out, size, offset)
        if len(out) > length:
            raise InvalidInput(f"snappy block holds more than the {length} bytes that it announces")
    if len(out) != length:
        raise InvalidInput(f"snappy block holds {len(out)} bytes, and announces {length}")
    return bytes(out)


def _length(block: bytes, limit: int) -> tuple[int, int]:
    """How long the data is, and where the elements begin."""
    try:
        length, at = decode_varint(block)
    except InvalidVarint as error:
        raise InvalidInput(f"snappy block: {error}") from error
    if length > limit:
        raise InvalidInput(f"snappy block of {length} bytes, the limit is {limit}")
    return length, at


def _literal_size(block: bytes, at: int) -> tuple[int, int]:
    """How long a literal is, and where it begins."""
    size = block[at] >> 2
    if size < 60:
        return size + 1, at + 1
    extra = size - 59
    if at + 1 + extra > len(block):
        raise InvalidInput("snappy block ends within a literal's length")
    return int.from_bytes(block[at + 1 : at + 1 + extra], "little") + 1, at + 1 + extra


def _copy(block: bytes, at: int, kind: int) -> tuple[int, int, int]:
    """How many bytes are copied, from how far back, and where the next element begins."""
    width = (1, 2, 4)[kind - 1]
    if at + 1 + width > len(block):
        raise InvalidInput("snappy block ends within a copy")
    tag, offset = block[at], int.from_bytes(block[at + 1 : at + 1 + width], "little")
    if kind == 1:
        return (tag >> 2 & 7) + 4, (tag >> 5) << 8 | offset, at + 2
    return (tag >> 2) + 1, offset, at + 1 + width


def _append_copy(out: bytearray, size: int, offset: int) -> None:
    if not 0 < offset <= len(out):
        raise InvalidInput(f"snappy block copies from {offset} bytes back, where {len(out)} are")
    start = len(out) - offset
    if offset >= size:
        out += out[start : start + size]
    else:  # the copy repeats what it has copied
        pattern = bytes(out[start:])
        out += (pattern * (size // offset + 1))[:size]


def _compress_segment(data: bytes, out: bytearray) -> None:
    """Literals and copies of up to 64 bytes, each from the last place that began with the same 4 bytes."""
    last: dict[bytes, int] = {}
    at = literal = 0
    while at + 4 <= len(data):
        head = data[at : at + 4]
        found = last.get(head)
        last[head] = at
        if found is None:
            at += 1
            continue
        size = 4
        while size < 64 and at + size < len(data) and data[found + size] == data[at + size]:
            size += 1
        _put_literal(data[literal:at], out)
        out.append((size - 1) << 2 | 2)
        out += (at - found).to_bytes(2, "little")
        at += size
        literal = at
    _put_literal(data[literal:], out)


def _put_literal(data: bytes, out: bytearray) -> None:
    if not data:
        return
    size = len(data) - 1
    if size < 60:
        out.append(size << 2)
    else:
        width = (size.bit_length() + 7) // 8
        out.append((59 + width) << 2)
        out += size.to_bytes(width, "little")
    out += data
