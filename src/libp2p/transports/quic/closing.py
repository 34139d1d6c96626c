"""What the codes mean with which a QUIC connection ends: RFC 9000, 20; RFC 9001, 4.8; libp2p's error codes. Pure."""

from __future__ import annotations

from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription

from ...connection import StreamErrorCode
from ...errors import By, ConnectionClosed, HandshakeError

CERTIFICATE_REQUIRED = 116
"""The TLS alert of a listener that was shown no certificate (RFC 8446, 6.2)."""

_ALERTS = {int(alert): alert.name for alert in AlertDescription} | {CERTIFICATE_REQUIRED: "certificate_required"}
_TRANSPORT = {int(code): code.name.lower() for code in QuicErrorCode if code < QuicErrorCode.CRYPTO_ERROR}
_APPLICATION = {int(code): code.name.lower() for code in StreamErrorCode if code}


def explain(event: ConnectionTerminated) -> str:
    """Why the connection ended, in words: the name of the code, and the phrase that came with it."""
    code = event.error_code
    if event.frame_type is None:
        name = _APPLICATION.get(code, "" if not code else f"application error {code:#x}")
    elif 0x100 <= code <= 0x1FF:
        name = f"TLS alert {_ALERTS.get(code - 0x100, code - 0x100)}"
    else:
        name = _TRANSPORT.get(code, f"transport error {code:#x}")
    words = [name.replace("_", " "), event.reason_phrase]
    return ": ".join(word for word in words if word) or "no reason given"


def reason_of(event: ConnectionTerminated, by: By) -> ConnectionClosed:
    """What ended an established connection."""
    return ConnectionClosed(explain(event), by=by, code=event.error_code)


def handshake_failure(event: ConnectionTerminated, by: By) -> Exception:
    """What ended a handshake: `HandshakeError` where TLS failed, else `ConnectionClosed`."""
    if event.frame_type is not None and 0x100 <= event.error_code <= 0x1FF:
        who = "the peer refused us" if by == "remote" else "the peer failed"
        return HandshakeError(f"quic: {who}: {explain(event)}")
    return reason_of(event, by)
