"""Cuts what a stream brings into RPCs: each a varint length and as many bytes."""

from __future__ import annotations

from ...errors import InvalidVarint, MessageTooLarge, RemoteProtocolError
from ...varint import MAX_VARINT_LENGTH, decode_varint


class FrameReader:
    """Takes chunks as they come; gives whole RPCs of at most `limit` bytes. It keeps one unfinished RPC."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._needed = 1

    @property
    def unfinished(self) -> int:
        """Bytes that are kept of an RPC that is not whole yet."""
        return len(self._rest)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The RPCs that `chunk` completes. Raises `MessageTooLarge`, before the bytes of a larger one are waited for,
        and `RemoteProtocolError` for a malformed length.
        """
        if not self._rest:
            data: bytes | bytearray = chunk
        else:
            self._rest += chunk
            if len(self._rest) < self._needed:
                return []
            data = self._rest
        frames, offset = [], 0
        while (end := self._end(data, offset)) is not None:
            start, stop = end
            if stop > len(data):
                self._needed = stop - offset
                break
            frames.append(bytes(data[start:stop]))
            offset = stop
        self._rest = bytearray(data[offset:])
        return frames

    def _end(self, data: bytes | bytearray, offset: int) -> tuple[int, int] | None:
        """Where the RPC at `offset` begins, behind its length, and ends; None: its length is not whole yet."""
        self._needed = 1
        try:
            length, start = decode_varint(data, offset)
        except InvalidVarint as error:
            if len(data) - offset < MAX_VARINT_LENGTH and all(byte & 0x80 for byte in data[offset:]):
                return None
            raise RemoteProtocolError(f"length of a pubsub RPC: {error}") from error
        if length > self._limit:
            raise MessageTooLarge("pubsub RPC", limit=self._limit, size=length)
        return start, start + length
