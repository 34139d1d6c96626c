"""The data phase of plaintext: everything passes as it is. "Actual payloads [...] are NOT prefixed with their lengths,
but sent as-is."
"""

from __future__ import annotations

from ...connection import RawConnection, SecureChannel
from ...identity import PeerId, PublicKey


class PlaintextChannel(SecureChannel):
    """A connection that is neither encrypted nor authenticated: the peer is who it claims to be, if nobody lies."""

    def __init__(self, raw: RawConnection, *, local_peer: PeerId, remote_key: PublicKey) -> None:
        super().__init__(
            raw, protocol="/plaintext/2.0.0", local_peer=local_peer, remote_key=remote_key, stream_muxer=None
        )
        self.record_size = raw.record_size
