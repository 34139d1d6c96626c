"""Counts the records in a stream of TLS bytes, wherever it is cut. What is in them is OpenSSL's to say.

+------+---------+-----------------+----------+
| type | version | length, 2 bytes | fragment |
+------+---------+-----------------+----------+
"""

from __future__ import annotations

_HEADER_SIZE = 5


class RecordCounter:
    """How many records have come to their end."""

    __slots__ = ("_header", "_missing", "count")

    def __init__(self) -> None:
        self.count = 0
        self._header = b""  # of the next record, as far as it has come
        self._missing = 0  # bytes of the fragment

    def feed(self, data: memoryview | bytes) -> None:
        """Take the next bytes of the stream."""
        position, size = 0, len(data)
        while position < size:
            if not self._missing:
                header = self._header + bytes(data[position : position + _HEADER_SIZE - len(self._header)])
                position += len(header) - len(self._header)
                if len(header) < _HEADER_SIZE:
                    self._header = header
                    return
                self._header = b""
                self._missing = header[3] << 8 | header[4]
            taken = min(self._missing, size - position)
            position += taken
            self._missing -= taken
            if not self._missing:
                self.count += 1
