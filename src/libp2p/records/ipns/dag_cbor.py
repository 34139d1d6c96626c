"""DAG-CBOR, the strict form of CBOR in which one value has one encoding. Spec: ipld.io/specs/codecs/dag-cbor/spec.

    head   <3 bits kind> <5 bits argument, or 24..27: the argument follows in 1, 2, 4, 8 bytes>
    kinds  0 int   1 negative int   2 bytes   3 text   4 list   5 map   6 tag (42: a link)   7 false, true, null, float

Rules: shortest heads, definite lengths, text in UTF-8, map keys are text, each once, the shorter and then the smaller
first; floats have 64 bits and are finite; nothing may stand behind the value. A link is read as its bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import TypeAlias

from ...errors import InvalidRecord

Value: TypeAlias = "int | bytes | str | bool | float | list[Value] | dict[str, Value] | None"

MAX_DEPTH = 32
"""Lists and maps within each other that are read."""

_SIMPLE: dict[int, bool | None] = {20: False, 21: True, 22: None}


def encode_map(values: dict[str, int | bytes]) -> bytes:
    """Encode a map of numbers and bytes, which is what an IPNS record is made of."""
    encoded = sorted((key.encode(), value) for key, value in values.items())
    encoded.sort(key=lambda item: len(item[0]))
    return _head(5, len(encoded)) + b"".join(
        _head(3, len(key)) + key + (_head(0, value) if isinstance(value, int) else _head(2, len(value)) + value)
        for key, value in encoded
    )


def decode(data: bytes) -> Value:
    """Read one value that takes all of `data`. Raises `InvalidRecord`."""
    reader = _Reader(data)
    value = reader.value(0)
    if reader.offset != len(data):
        raise InvalidRecord(f"DAG-CBOR: {len(data) - reader.offset} bytes stand behind the value")
    return value


def _head(kind: int, argument: int) -> bytes:
    if argument < 24:
        return bytes((kind << 5 | argument,))
    for extra, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * size:
            return bytes((kind << 5 | extra,)) + argument.to_bytes(size, "big")
    raise InvalidRecord(f"{argument} is too large for DAG-CBOR")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.offset = 0

    def value(self, depth: int) -> Value:
        if depth > MAX_DEPTH:
            raise InvalidRecord(f"DAG-CBOR: nested deeper than {MAX_DEPTH}")
        kind, extra = divmod(self._take(1)[0], 32)
        if kind == 7:
            return self._simple(extra)
        argument = self._argument(extra)
        readers: tuple[Callable[[int, int], Value], ...] = (
            lambda number, _: number,
            lambda number, _: -1 - number,
            lambda size, _: self._take(size),
            lambda size, _: self._text(size),
            self._list,
            self._map,
            self._link,
        )
        return readers[kind](argument, depth)

    def _take(self, size: int) -> bytes:
        end = self.offset + size
        if end > len(self._data):
            raise InvalidRecord("DAG-CBOR: the data ends within a value")
        piece, self.offset = self._data[self.offset : end], end
        return piece

    def _fitting(self, count: int) -> int:
        if count > len(self._data) - self.offset:
            raise InvalidRecord("DAG-CBOR: a list or map is longer than the data")
        return count

    def _argument(self, extra: int) -> int:
        if extra < 24:
            return extra
        if extra > 27:
            raise InvalidRecord("DAG-CBOR: no definite length")
        size = 1 << extra - 24
        argument = int.from_bytes(self._take(size), "big")
        if argument < (24 if size == 1 else 1 << 4 * size):
            raise InvalidRecord("DAG-CBOR: a number is not in its shortest form")
        return argument

    def _text(self, size: int) -> str:
        try:
            return self._take(size).decode()
        except UnicodeDecodeError as error:
            raise InvalidRecord(f"DAG-CBOR: text is no UTF-8: {error}") from error

    def _list(self, count: int, depth: int) -> list[Value]:
        return [self.value(depth + 1) for _ in range(self._fitting(count))]

    def _map(self, count: int, depth: int) -> dict[str, Value]:
        values: dict[str, Value] = {}
        last: tuple[int, bytes] | None = None
        for _ in range(self._fitting(count)):
            key = self.value(depth + 1)
            if not isinstance(key, str):
                raise InvalidRecord("DAG-CBOR: the key of a map is no text")
            order = len(key.encode()), key.encode()
            if last is not None and order <= last:
                raise InvalidRecord("DAG-CBOR: the keys of a map are not in order")
            last = order
            values[key] = self.value(depth + 1)
        return values

    def _link(self, tag: int, depth: int) -> bytes:
        content = self.value(depth + 1) if tag == 42 else None
        if not isinstance(content, bytes) or content[:1] != b"\0":
            raise InvalidRecord(f"DAG-CBOR: tag {tag} is no link")
        return content

    def _simple(self, extra: int) -> bool | float | None:
        if extra in _SIMPLE:
            return _SIMPLE[extra]
        if extra != 27:
            raise InvalidRecord(f"DAG-CBOR: {extra} is no simple value")
        (number,) = struct.unpack(">d", self._take(8))
        if not math.isfinite(number):
            raise InvalidRecord("DAG-CBOR: a float is not finite")
        return float(number)
