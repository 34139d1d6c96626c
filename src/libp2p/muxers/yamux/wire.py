"""Yamux frames. Every frame starts with this header, all numbers in network order:

    0        1        2                 4                                   8                                  12
    +--------+--------+-----------------+-----------------------------------+-----------------------------------+
    | version| type   | flags           | stream id                         | length                            |
    +--------+--------+-----------------+-----------------------------------+-----------------------------------+

    type            length is                   stream id
    0 data          bytes that follow           a stream
    1 window update bytes more may be sent;     a stream
                    with RST: the error code
    2 ping          an opaque value             0
    3 go away       why                         0

Specification: libp2p/specs yamux. That the length of a window update with RST carries an error code is the convention
of go-yamux 5 and the specs' error codes; a peer that doesn't know it sees a plain reset.
"""

from enum import IntEnum, IntFlag
from struct import Struct

HEADER = Struct(">BBHII")
HEADER_SIZE = HEADER.size
VERSION = 0

DATA = 0
WINDOW_UPDATE = 1
PING = 2
GO_AWAY = 3


class Flag(IntFlag):
    """Flags of a frame, combined."""

    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


class GoAwayCode(IntEnum):
    """Why a session ends."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
