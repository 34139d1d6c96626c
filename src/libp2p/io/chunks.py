"""Bytes in a queue of pieces: appended by copy, cut off at the front.

Rules:
- Small pieces are gathered in one chunk, so many of them take little memory.
- The first chunk may have been read in part: `_offset` says how far.
"""

from __future__ import annotations

from collections import deque

_SMALL = 4096
"""Pieces below this many bytes are gathered in one chunk instead of being kept as an object each."""

_GATHERED = 64 * 1024
"""Bytes that one such chunk gathers."""

_HANDY = 16 * 1024
"""Bytes that are worth a read of their own."""


class Chunks:
    """The bytes themselves. Who owns them may look at `_size`, and changes nothing but by these methods."""

    __slots__ = ("_chunks", "_offset", "_size")

    def __init__(self) -> None:
        self._chunks: deque[bytes | bytearray] = deque()
        self._offset = 0  # bytes of the first chunk that were read already
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def peek(self, n: int) -> bytes:
        """The first `n` bytes, which stay, or as many as there are. Never waits."""
        head = b""
        for chunk in self._chunks:
            start = 0 if head else self._offset
            head += chunk[start : start + n - len(head)]
            if len(head) == n:
                break
        return head

    def _append(self, data: bytes | memoryview, length: int) -> None:
        """Append a copy of `data`, which has `length` bytes."""
        if length >= _SMALL:
            self._chunks.append(bytes(data))
        elif self._chunks and type(tail := self._chunks[-1]) is bytearray and len(tail) < _GATHERED:
            tail += data
        else:
            self._chunks.append(bytearray(data))
        self._size += length

    def _gathered(self) -> bytes | bytearray:
        """The whole content as one chunk, which then is the only one."""
        if not self._size:
            return b""
        if len(self._chunks) > 1 or self._offset:
            self._chunks.append(bytearray(self._peel(self._size)))
        return self._chunks[0]

    def _handy(self) -> int:
        """How many bytes are best returned in one piece: the first chunk, with those behind it while they are small.
        (Joining large chunks costs a copy, and memory beyond 128 KiB is slow to get.)
        """
        size = -self._offset
        for chunk in self._chunks:
            size += len(chunk)
            if size >= _HANDY:
                break
        return size

    def _peel(self, n: int) -> bytes:
        """Cut the first `n` bytes off the chunks."""
        chunks = self._chunks
        if not self._offset and len(chunks[0]) == n:
            return bytes(chunks.popleft())  # which copies no `bytes`
        if len(chunks[0]) - self._offset > n:
            start, self._offset = self._offset, self._offset + n
            return bytes(memoryview(chunks[0])[start : self._offset])
        pieces: list[bytes | bytearray | memoryview] = []
        while n:
            head = chunks[0]
            available = len(head) - self._offset
            if available > n:
                pieces.append(memoryview(head)[self._offset : self._offset + n])
                self._offset += n
                break
            pieces.append(memoryview(head)[self._offset :] if self._offset else head)
            chunks.popleft()
            self._offset = 0
            n -= available
        if len(pieces) == 1:
            return bytes(pieces[0])
        return b"".join(pieces)
