"""The messages of multistream-select 1.0, without I/O (specs: connections/README.md, "multistream-select").

    +----------------+--------------+------+
    | length, varint | text, UTF-8  | "\\n" |     the length counts the text and the newline
    +----------------+--------------+------+

    dialer                                 listener
      /multistream/1.0.0   ------------>
      /echo/2.0.0          ------------>
                           <------------   /multistream/1.0.0
                           <------------   na                    not available
      /echo/1.0.0          ------------>
                           <------------   /echo/1.0.0           agreed: the protocol's own bytes follow

The answer to `ls` is one message that holds the listener's protocols, each as a message, then a newline. The
specification does not give its format; this is what go-multistream sent, and what rust and js send.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from ..errors import InvalidInput, InvalidVarint, MessageTooLarge, RemoteProtocolError
from ..varint import decode_varint, encode_varint

PROTOCOL_ID = "/multistream/1.0.0"
NOT_AVAILABLE = "na"
LIST = "ls"

MAX_MESSAGE = 1024
"""Bytes that a message may have, the newline counted: the limit of go-libp2p and js-libp2p."""

MAX_LIST = 16383
"""Bytes of the answer to `ls`, the most that rust-libp2p reads; protocols that do not fit are left out."""

_SHOWN = 64  # bytes of a malformed message that its error shows


def _is_line(line: bytes) -> bool:
    """Whether there is text, and a newline at its end only."""
    return len(line) > 1 and line.find(b"\n") == len(line) - 1


def shown(data: bytes) -> str:
    """`data` for an error message: printable and short."""
    return repr(data[:_SHOWN])[1:] + ("..." if len(data) > _SHOWN else "")


@lru_cache(maxsize=1024)
def encode_message(text: str) -> bytes:
    """The message for `text`, a protocol id. Raises `InvalidInput` where it is empty, too long or more than a line."""
    line = text.encode() + b"\n"
    if len(line) > MAX_MESSAGE:
        raise InvalidInput(f"a protocol id of {len(line) - 1} bytes, the limit is {MAX_MESSAGE - 1}: {shown(line)}")
    if not _is_line(line):
        raise InvalidInput(f"a protocol id is a line of text, not {text!r}")
    return encode_varint(len(line)) + line


HEADER_MESSAGE = encode_message(PROTOCOL_ID)
NOT_AVAILABLE_MESSAGE = encode_message(NOT_AVAILABLE)


def encode_list(protocols: Iterable[str]) -> bytes:
    """The answer to `ls`."""
    content = bytearray()
    for protocol in protocols:
        entry = encode_message(protocol)
        if len(content) + len(entry) + 1 > MAX_LIST:
            break
        content += entry
    content += b"\n"
    return encode_varint(len(content)) + bytes(content)


class MessageParser:
    """Cuts messages out of a byte stream, taking no byte beyond them: give it just `needed` bytes, again and again."""

    __slots__ = ("_in_text", "_prefix", "needed")

    def __init__(self) -> None:
        self.needed = 1
        self._prefix = b""  # the first byte of a length that has two; none up to MAX_MESSAGE has more
        self._in_text = False

    @property
    def started(self) -> bool:
        """Whether a part of a message has been taken."""
        return self._in_text or bool(self._prefix)

    def feed(self, data: bytes) -> str | None:
        """Take the `needed` bytes; return the text of the message that they complete, if they do.

        Raises `MessageTooLarge` behind the length, and `RemoteProtocolError` for what is no message.
        """
        if self._in_text:
            self._in_text = False
            self.needed = 1
            return _decode_text(data)
        if data[0] >= 0x80 and not self._prefix:
            self._prefix = data
            return None
        self.needed = self._length(self._prefix + data)
        self._prefix = b""
        self._in_text = True
        return None

    @staticmethod
    def _length(prefix: bytes) -> int:
        if prefix[-1] >= 0x80:
            raise MessageTooLarge("multistream message", limit=MAX_MESSAGE)
        try:
            length, _ = decode_varint(prefix)
        except InvalidVarint as error:
            raise RemoteProtocolError(f"length of a multistream message: {error}") from error
        if length > MAX_MESSAGE:
            raise MessageTooLarge("multistream message", limit=MAX_MESSAGE, size=length)
        if length == 0:
            raise RemoteProtocolError("a multistream message of no bytes")
        return length


def _decode_text(line: bytes) -> str:
    """The text of a message, "always followed by a \\n newline character"."""
    if not _is_line(line):
        raise RemoteProtocolError(f"a multistream message that is not a line of text: {shown(line)}")
    try:
        return line[:-1].decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"a multistream message that is not UTF-8: {shown(line)}") from error


OFFER_SIZE = len(HEADER_MESSAGE) + 128
"""Bytes of the longest offer that `parse_offer` knows: the length of its proposal has one byte."""


def parse_offer(head: bytes) -> tuple[str, bytes] | None:
    """The header and a proposal, where `head` begins with both: the protocol, and their bytes. None for anything else:
    a message at a time, `MessageParser` says what is there.
    """
    start = len(HEADER_MESSAGE) + 1
    if not head.startswith(HEADER_MESSAGE) or len(head) < start:
        return None
    stop = start + head[start - 1]
    line = head[start:stop]
    if len(head) < stop or not _is_line(line):
        return None
    try:
        return line[:-1].decode(), head[:stop]
    except UnicodeDecodeError:
        return None


def unexpected(text: str, expected: str) -> RemoteProtocolError:
    """The error for a message other than the one that had to come."""
    return RemoteProtocolError(f"multistream: expected {expected!r}, received {shown(text.encode())}")
