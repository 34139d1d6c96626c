"""Length-delimited messages: a varint length, then as many bytes. One bounded reader serves all protocols.

+----------------+----------------+
| length, varint | message        |
+----------------+----------------+

Cancelling loses nothing: a message is taken as a whole, with its length.
"""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from ..errors import InvalidVarint, MessageTooLarge, RemoteProtocolError
from ..varint import MAX_VARINT_LENGTH, decode_varint
from .buffer import ReceiveBuffer
from .stream import ByteStream

M = TypeVar("M", bound=Message)


async def read_message(buffer: ReceiveBuffer, *, limit: int, what: str = "message") -> bytes:
    """See `ByteStream.read_message`."""
    length, size = await _peek_varint(buffer, f"length of a {what}")
    if length > limit:
        raise MessageTooLarge(what, limit=limit, size=length)
    await buffer.fill(size + length)
    if buffer.available < size + length:
        return await buffer.readexactly(size + length)  # which says what is missing
    await buffer.readexactly(size)
    return await buffer.readexactly(length)


async def read_varint(buffer: ReceiveBuffer, *, limit: int, what: str = "varint") -> int:
    """See `ByteStream.read_varint`."""
    value, size = await _peek_varint(buffer, what)
    if value > limit:
        raise RemoteProtocolError(f"{what}: {value}, the limit is {limit}")
    await buffer.readexactly(size)
    return value


async def read_protobuf(stream: ByteStream, kind: type[M], *, limit: int, what: str = "") -> M:
    """One message of the protobuf class `kind`, of at most `limit` bytes, behind its length.

    Raises what `ByteStream.read_message` does, and `RemoteProtocolError` for bytes that are no such message. `what`
    names it in errors, by default its class does.
    """
    what = what or kind.__name__
    message = kind()
    try:
        message.ParseFromString(await stream.read_message(limit=limit, what=what))
    except DecodeError as error:
        raise RemoteProtocolError(f"malformed {what}: {error}") from error
    return message


async def write_protobuf(stream: ByteStream, message: Message) -> None:
    """Send `message` behind its length."""
    await stream.write_message(message.SerializeToString(deterministic=True))


async def _peek_varint(buffer: ReceiveBuffer, what: str) -> tuple[int, int]:
    """The varint that comes next, which stays where it is, and how many bytes it takes."""
    await buffer.unguarded()
    while True:
        prefix = buffer.peek(MAX_VARINT_LENGTH)
        if len(prefix) == MAX_VARINT_LENGTH or any(byte < 0x80 for byte in prefix):
            try:
                return decode_varint(prefix)
            except InvalidVarint as error:
                raise RemoteProtocolError(f"{what}: {error}") from error
        await buffer.fill(len(prefix) + 1)
        if buffer.available <= len(prefix):
            await buffer.readexactly(len(prefix) + 1)  # which says why no more comes
