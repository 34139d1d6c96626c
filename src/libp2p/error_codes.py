"""The codes by which peers say why they reset a stream or closed a connection. Spec: libp2p/specs, error-codes."""

from __future__ import annotations

from enum import IntEnum


class StreamErrorCode(IntEnum):
    """Why a stream was reset: the codes that go-libp2p sends, and one of ours, from the range for applications (above
    10000). Over QUIC only a code tells a reset from a stream's close, where the direction has ended before.
    """

    NONE = 0
    PROTOCOL_NEGOTIATION_FAILED = 0x1001
    RESOURCE_LIMIT_EXCEEDED = 0x1002
    RATE_LIMITED = 0x1003
    PROTOCOL_VIOLATION = 0x1004
    SUPPLANTED = 0x1005
    GARBAGE_COLLECTED = 0x1006
    SHUTDOWN = 0x1007
    GATED = 0x1008
    ABANDONED = 0x10000
    """The task that used the stream was cancelled, or failed: nobody waits for more."""


_NAMES = {code.value: f"{code.name} ({code.value:#06x})" for code in StreamErrorCode if code}


def code_text(code: int) -> str:
    """The code as people read it: `PROTOCOL_NEGOTIATION_FAILED (0x1001)`, or a number that has no name here."""
    return _NAMES.get(code) or f"{int(code):#x}"
