"""Who may begin a handshake: decided by a dialer's first datagram, before anything is kept of it.

    dialer                                   listener
      | -- Initial: ClientHello ---------------> |
      | <-- Retry: token, a new connection id -- |     only where there are many unfinished handshakes
      | -- Initial: token, ClientHello --------> |

- Answers go to any address that somebody has written into a datagram, so they are smaller than that datagram.
- A token is bound to the address and the connection ids, and good for half a minute (RFC 9000, 8.1.4). The key that
  makes and checks tokens is a socket's own, and is never stored.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from aioquic.buffer import Buffer  # type: ignore[attr-defined] # documented there
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicHeader,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from .config import QuicConfig
from .credentials import CONNECTION_ID_LENGTH
from .datagrams import SocketAddress
from .engine import is_readable, refusal

_VERSION = QuicProtocolVersion.VERSION_1

_MIN_SIZE = 1200
"""Bytes of a datagram with a dialer's Initial packet: "MUST expand the payload [...] to at least [...] 1200 bytes"."""


_DISTRUST = 60.0
"""Seconds for which first packets are decrypted beforehand, which takes a third of what making an engine takes, but is
done once more then."""


class Admitted(NamedTuple):
    """A handshake may begin."""

    destination_cid: bytes
    """The connection id to which the dialer sends for now."""
    original_cid: bytes
    """The one that it sent to at first."""
    retry_cid: bytes | None
    """The one that it was told by a Retry, if it was."""
    refuse: Callable[[], bytes | None]
    """The answer where it may not begin after all; None where nobody could have sent that datagram in earnest."""


class Admission:
    """Decides about first datagrams, for one socket."""

    def __init__(self, settings: QuicConfig) -> None:
        self._settings = settings
        self._distrust_until = 0.0

    @cached_property
    def _tokens(self) -> QuicRetryTokenHandler:
        return QuicRetryTokenHandler()

    def distrust(self, now: float) -> None:
        """What looked like a first packet could not be read: for a while make sure of that before an engine is made."""
        self._distrust_until = now + _DISTRUST

    def decide(
        self, datagram: bytes, addr: SocketAddress, *, pending: int | None, now: float
    ) -> Admitted | bytes | None:
        """What to do with a datagram of no connection, with a long header, that came from `addr`: begin a handshake,
        answer it, or nothing. `pending` is how many handshakes are unfinished; None: nobody listens.
        """
        version = int.from_bytes(datagram[1:5], "big")
        if len(datagram) < _MIN_SIZE or version == QuicProtocolVersion.NEGOTIATION:
            return None
        if version != _VERSION:
            return _version_negotiation(datagram)
        initial = _initial(datagram)
        return None if initial is None else self._admit(datagram, *initial, addr, pending=pending, now=now)

    def _admit(
        self,
        datagram: bytes,
        header: QuicHeader,
        encrypted_offset: int,
        addr: SocketAddress,
        *,
        pending: int | None,
        now: float,
    ) -> Admitted | bytes | None:
        if pending is None or pending >= self._settings.max_pending_inbound:
            return refusal(header, QuicErrorCode.CONNECTION_REFUSED)
        original = self._original_cid(header, addr, now) if header.token else None
        if original is None and pending >= self._settings.max_unvalidated_inbound:
            # "the server SHOULD immediately close [...] the connection with an INVALID_TOKEN error" (8.1.2)
            return refusal(header, QuicErrorCode.INVALID_TOKEN) if header.token else self._retry(header, addr, now)
        if now < self._distrust_until and not is_readable(header, datagram, encrypted_offset):
            return None
        cid = header.destination_cid

        def refuse() -> bytes | None:
            if not is_readable(header, datagram, encrypted_offset):
                return None
            return refusal(header, QuicErrorCode.CONNECTION_REFUSED)

        return Admitted(cid, original or cid, cid if original is not None else None, refuse)

    def _original_cid(self, header: QuicHeader, addr: SocketAddress, now: float) -> bytes | None:
        """What the token says; None for one that is not ours, not for this address, or too old."""
        try:
            return self._tokens.validate_token(
                address=addr, destination_cid=header.destination_cid, token=header.token, now=now
            )
        except ValueError:
            return None

    def _retry(self, header: QuicHeader, addr: SocketAddress, now: float) -> bytes:
        cid = os.urandom(CONNECTION_ID_LENGTH)
        token = self._tokens.create_token(
            address=addr,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=cid,
            now=now,
        )
        return encode_quic_retry(
            version=_VERSION,
            source_cid=cid,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )


def _initial(datagram: bytes) -> tuple[QuicHeader, int] | None:
    """The header of the Initial packet at the head of `datagram`, and where it ends; None where there is none."""
    buf = Buffer(data=datagram)
    try:
        header = pull_quic_header(buf)
    except ValueError:
        return None
    if header.packet_type is not QuicPacketType.INITIAL or len(header.destination_cid) < CONNECTION_ID_LENGTH:
        return None
    return header, buf.tell()


def _version_negotiation(datagram: bytes) -> bytes:
    """The answer to a first datagram of another version, of which no more is known than RFC 8999, 5.1 tells."""
    buf = Buffer(data=datagram)
    buf.seek(5)
    destination = buf.pull_bytes(buf.pull_uint8())
    source = buf.pull_bytes(buf.pull_uint8())
    return encode_quic_version_negotiation(
        source_cid=destination, destination_cid=source, supported_versions=[_VERSION]
    )
