"""Length-delimited messages: a varint length, then as many bytes. One bounded reader serves all protocols.

+----------------+----------------+
| length, varint | message        |
+----------------+----------------+
"""

from __future__ import annotations

from ..errors import InvalidVarint, MessageTooLarge, RemoteProtocolError
from ..varint import MAX_VARINT_LENGTH, decode_varint, encode_varint
from .stream import Buffer, ByteStream, Reader


async def read_delimited(reader: Reader, *, limit: int, what: str = "message") -> bytes:
    """One message of at most `limit` bytes.

    Raises `MessageTooLarge` before anything of a larger one is read, `RemoteProtocolError` for a malformed length and
    `IncompleteRead` where the stream ends before the message does. `what` names the message in errors.
    """
    prefix = b""
    while True:
        prefix += await reader.readexactly(1)
        if prefix[-1] < 0x80 or len(prefix) > MAX_VARINT_LENGTH:
            break
    try:
        length, _ = decode_varint(prefix)
    except InvalidVarint as error:
        raise RemoteProtocolError(f"length of a {what}: {error}") from error
    if length > limit:
        raise MessageTooLarge(what, limit=limit, size=length)
    return await reader.readexactly(length)


async def write_delimited(stream: ByteStream, message: Buffer) -> None:
    """Send `message` behind its length."""
    await stream.write(encode_varint(len(message)) + bytes(message))
