"""The byte-stream interfaces: what is read and written by tasks (`ByteStream`) and what is pushed to (`Sink`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from ..varint import MAX_VARINT, encode_varint
from .buffer import DEFAULT_READ_LIMIT

Buffer = bytes | bytearray | memoryview
"""What can be written."""


def check_buffers(parts: Sequence[object]) -> None:
    """Raises `TypeError` for what can't be written."""
    for part in parts:
        if isinstance(part, str):
            raise TypeError(f"bytes can be written, a str can't: encode it first, as {part[:16]!r}.encode() does")
        if not isinstance(part, Buffer):
            raise TypeError(
                f"bytes, a bytearray or a memoryview can be written, {type(part).__name__} can't: {part!r:.60}"
            )


def joined(parts: Sequence[Buffer]) -> bytes:
    """The bytes of all parts, in memory that does not change. Raises `TypeError` for what can't be written."""
    check_buffers(parts)
    return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)


_CHUNK = 256 * 1024
"""Bytes at most that one step of `async for chunk in stream` yields."""


class ByteStream(ABC):
    """A reliable, ordered stream of bytes in both directions.

    Cancelling any call works, at once, and loses no received byte. A cancelled `write` may have sent a part.
    Used as a context manager it is closed at the end, or torn down where the block raised.
    """

    @abstractmethod
    async def read(self, n: int = -1, *, limit: int = DEFAULT_READ_LIMIT) -> bytes:
        """Up to `n` bytes, as soon as there are any; b"" at the end. With n = -1 all bytes up to the end, `limit` bytes
        at most (else `MessageTooLarge`). Raises what ended the stream, once everything before it was read.
        """

    @abstractmethod
    async def readexactly(self, n: int) -> bytes:
        """Just `n` bytes. Raises `IncompleteRead` where the stream ends before."""

    @abstractmethod
    async def readuntil(self, separator: bytes = b"\n", *, limit: int = 65536) -> bytes:
        """Bytes up to and with `separator`, `limit` bytes at most (else `MessageTooLarge`). Raises `IncompleteRead`
        where the stream ends before.
        """

    @abstractmethod
    async def read_message(self, *, limit: int, what: str = "message") -> bytes:
        """One message of at most `limit` bytes, which has its length before it, a varint.

        Raises `MessageTooLarge` before anything of a larger one is read, `RemoteProtocolError` for a malformed length
        and `IncompleteRead` where the stream ends before the message does; its `partial` is empty where the stream
        ended between messages. `what` names the message in errors.
        """

    @abstractmethod
    async def read_varint(self, *, limit: int = MAX_VARINT, what: str = "varint") -> int:
        """An unsigned varint. Raises `RemoteProtocolError` for a malformed one and for one above `limit`, and
        `IncompleteRead` where the stream ends before. `what` names it in errors.
        """

    async def write_message(self, data: Buffer) -> None:
        """Send `data` behind its length, a varint. Raises what `write` does."""
        check_buffers((data,))
        await self.write(encode_varint(data.nbytes if isinstance(data, memoryview) else len(data)), data)

    @abstractmethod
    async def write(self, *parts: Buffer) -> None:
        """Send the bytes of all `parts`, as one; returns when all of it was accepted. Waits, without limit, while the
        other side can take no more. Where several tasks write, each waits its turn: what one call sends is not mixed
        with another's. Raises `TypeError` for what is no bytes, and what ended the stream.
        """

    @abstractmethod
    async def close(self) -> None:
        """Send what was written, then end both directions. Idempotent."""

    @abstractmethod
    def abort(self, error: Exception | None = None) -> None:
        """End both directions at once; what was not sent yet is dropped. `error` is what pending calls raise.
        Idempotent.
        """

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if chunk := await self.read(_CHUNK):
            return chunk
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            self.abort()


class Sink(Protocol):
    """Takes the bytes of a connection as they arrive, without a task in between: the push side of `RawConnection`.

    `data_received` gets memory that is valid only during the call. It may raise a `Libp2pError`: the connection is then
    aborted with it. `connection_lost` is called exactly once, and nothing behind it.
    """

    def data_received(self, data: memoryview) -> None:
        """More bytes; never empty."""

    def useless(self, what: str, cost: float = 1.0) -> None:
        """A layer below has received something of no use, `what` says what. Raises `UselessFrames` where that was
        too much of it.
        """

    def eof_received(self) -> None:
        """The peer will send no more."""

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone; `error` is None where this side closed it in order."""

    def pause_writing(self) -> None:
        """The connection holds enough unsent bytes: send no more data until `resume_writing`."""

    def resume_writing(self) -> None:
        """The connection takes data again."""
