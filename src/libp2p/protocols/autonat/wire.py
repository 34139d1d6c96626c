"""What AutoNAT v2 puts on the wire. Spec: autonat/autonat-v2.md, "RPC Messages".

    /libp2p/autonat/2/dial-request   Message: one of 1 dialRequest   2 dialResponse   3 dialDataRequest
                                              4 dialDataResponse
    /libp2p/autonat/2/dial-back      DialBack: 1 nonce (fixed64)     DialBackResponse: 1 status

Messages have at most 8 KiB, as go-libp2p has it.
"""

from __future__ import annotations

from enum import IntEnum

from ...connection import Stream
from ...errors import RemoteProtocolError
from ...io import read_protobuf
from .autonat_pb2 import Message

REQUEST_ID = "/libp2p/autonat/2/dial-request"
BACK_ID = "/libp2p/autonat/2/dial-back"

MAX_MESSAGE = 8192
"""Bytes of a message."""

MAX_DATA = 4096
"""Bytes of data in one message."""


class ResponseStatus(IntEnum):
    """What became of a request."""

    E_INTERNAL_ERROR = 0
    E_REQUEST_REJECTED = 100
    E_DIAL_REFUSED = 101
    OK = 200


class DialStatus(IntEnum):
    """What became of the dial."""

    UNUSED = 0
    E_DIAL_ERROR = 100
    E_DIAL_BACK_ERROR = 101
    OK = 200


async def read(stream: Stream, *kinds: str) -> Message:
    """The next message, which must be one of `kinds`, the names of its fields. Raises `RemoteProtocolError`, and what
    reading raises.
    """
    message = await read_protobuf(stream, Message, limit=MAX_MESSAGE, what="autonat message")
    if (kind := message.WhichOneof("msg")) not in kinds:
        raise RemoteProtocolError(f"autonat: {kind or 'an empty message'} came, where {' or '.join(kinds)} was due")
    return message
