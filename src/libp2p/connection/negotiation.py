"""What protocol negotiation has to do with a byte stream, and its users have not: reading below an agreement that is
still awaited, and having it awaited.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..error_codes import StreamErrorCode
from ..errors import ProtocolNotSupported, RemoteProtocolError
from ..io import ReceiveBuffer
from .raw import RawConnection
from .streams import Stream


def incoming_of(stream: Stream | RawConnection) -> ReceiveBuffer:
    """The bytes that `stream` has received. Raises `RuntimeError` for a raw connection that pushes to a sink."""
    return stream._incoming


def expect_agreement(stream: Stream | RawConnection, agreement: Callable[[], Awaitable[None]]) -> None:
    """A protocol was offered, the peer's answer is still to come: `agreement` reads it before anything else is read,
    and raises `ProtocolNotSupported` where the peer declines. It must survive being cancelled and called again. A
    stream on which nothing could be agreed is reset; a raw connection is its owner's to end.
    """
    incoming_of(stream).guard(_or_reset(stream, agreement) if isinstance(stream, Stream) else agreement)


def _or_reset(stream: Stream, agreement: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def agreed() -> None:
        try:
            await agreement()
        except (ProtocolNotSupported, RemoteProtocolError):
            stream.reset(StreamErrorCode.PROTOCOL_NEGOTIATION_FAILED)
            raise

    return agreed
