"""The frames of calls: what one stream carries for many requests and their answers.

    +----------------+--------------+---------+-------------------------------+
    | length, varint | call, varint | kind, 1 | body                          |
    +----------------+--------------+---------+-------------------------------+

    kind     sent by   body
    REQUEST  client    time left in ms, varint (0: no deadline); the request       a call of one message each way
    ANSWER   server    the answer, which ends the call
    ERROR    server    length of its type, varint; type; text                      ends the call
    CANCEL   client    -                                                           nobody waits for the answer
    OPEN     client    time left in ms, varint                                     the stream is one call of many
    ITEM     both      one message
    END      both      -                                                           no more messages from this side

`length` counts what is behind it. Calls of one message share a stream, and are told apart by the number that the
client gives each. A call of many messages has a stream for itself, so that the stream's own flow control and its reset
serve it: the call is 0 in all its frames.

Rules:
- Numbers of calls are the client's; one that is in use is not given again.
- Frames for a call that is over are ignored: they crossed its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...errors import InvalidVarint, MessageTooLarge, RemoteProtocolError
from ...varint import MAX_VARINT_LENGTH, decode_varint, encode_varint

PREFIX = "/calls/1.0.0"
"""What stands before the id of an application's protocol where its requests travel in these frames."""

REQUEST, ANSWER, ERROR, CANCEL, OPEN, ITEM, END = range(7)
_KINDS = 7

OVERHEAD = 32
"""Bytes at most that a frame has beside its message."""

_MAX_DEADLINE_MS = (1 << 53) - 1


class Frame(NamedTuple):
    """One frame."""

    call: int
    kind: int
    body: bytes


class FrameParser:
    """Cuts what arrives into frames, each of `limit` bytes at most (its length not counted)."""

    __slots__ = ("_limit", "_needed", "_rest", "_what")

    def __init__(self, *, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._rest = bytearray()  # the beginning of a frame that is not complete
        self._needed = 0  # bytes that it will have at least

    @property
    def is_between_frames(self) -> bool:
        """Whether nothing of a frame has arrived that is not complete yet."""
        return not self._rest

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes. Raises `MessageTooLarge` and `RemoteProtocolError`."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest.clear()
        start, end, self._needed = 0, len(data), 0
        while start < end:
            try:
                length, body = decode_varint(data, start)
            except InvalidVarint as error:
                if end - start >= MAX_VARINT_LENGTH or data[-1] < 0x80:
                    raise RemoteProtocolError(f"length of a {self._what}: {error}") from error
                break
            if length > self._limit:
                raise MessageTooLarge(self._what, limit=self._limit, size=length)
            stop = body + length
            if stop > end:
                self._needed = stop - start
                break
            yield self._frame(data, body, stop)
            start = stop
        self._rest += memoryview(data)[start:]

    def _frame(self, data: bytes, start: int, stop: int) -> Frame:
        try:
            call, start = decode_varint(data, start)
        except InvalidVarint as error:
            raise RemoteProtocolError(f"number of a call: {error}") from error
        if start >= stop or data[start] >= _KINDS:
            raise RemoteProtocolError(f"a {self._what} of no known kind")
        return Frame(call, data[start], data[start + 1 : stop])


def encode_frame(call: int, kind: int, body: bytes = b"") -> bytes:
    """One frame."""
    head = encode_varint(call) + bytes((kind,))
    return encode_varint(len(head) + len(body)) + head + body


def encode_deadline(seconds: float | None) -> bytes:
    """The time that is left, as a frame tells it; None: any."""
    if seconds is None:
        return encode_varint(0)
    return encode_varint(min(_MAX_DEADLINE_MS, max(1, round(seconds * 1000))))


def decode_deadline(body: bytes) -> tuple[float | None, bytes]:
    """The time left in seconds, and what is behind it. Raises `RemoteProtocolError`."""
    try:
        milliseconds, start = decode_varint(body)
    except InvalidVarint as error:
        raise RemoteProtocolError(f"deadline of a call: {error}") from error
    return (milliseconds / 1000 if milliseconds else None), body[start:]


def encode_error(kind: str, text: str) -> bytes:
    """The body of an ERROR frame."""
    name = kind.encode()
    return encode_varint(len(name)) + name + text.encode(errors="replace")


def decode_error(body: bytes) -> tuple[str, str]:
    """Type and text of an error. Raises `RemoteProtocolError`."""
    try:
        length, start = decode_varint(body)
    except InvalidVarint as error:
        raise RemoteProtocolError(f"error of a call: {error}") from error
    name, text = body[start : start + length], body[start + length :]
    if len(name) < length:
        raise RemoteProtocolError("error of a call: it ends within its type")
    return name.decode(errors="replace"), text.decode(errors="replace")
