"""A private network: those who have its key.

Who is in one talks to nobody outside it: every raw connection is protected before the secure channel is negotiated.
Transports that have no raw connection (QUIC, WebTransport, WebRTC) can't be protected, and must not be used.
"""

from __future__ import annotations

import os
from hashlib import shake_128
from typing import NoReturn

from ...connection import RawConnection
from .connection import ProtectedConnection
from .swarm_key import check_psk
from .xsalsa20 import NONCE_SIZE, salsa20

_GREETING = b"\x13/multistream/1.0.0\n"
"""What every libp2p connection begins with, in both directions: the header of multistream-select."""


class PrivateNetwork:
    """The network of all who have `psk`, 32 bytes, such as `load_swarm_key` reads.

    Raises `InvalidKey`, and `ImportError` without the extra `pnet`.
    """

    def __init__(self, psk: bytes) -> None:
        self._psk = check_psk(psk)
        # Salsa20 before the hash, and half of the bits: as other implementations show it.
        self.fingerprint = shake_128(salsa20(self._psk, b"finprint")(bytes(64))).hexdigest(16)
        """Tells networks apart without telling the key; the same that Kubo logs."""

    def protect(self, raw: RawConnection, *, greeting: bytes = _GREETING) -> RawConnection:
        """Take over `raw`, of which nothing was read or written yet, and return what to use in its place.

        `greeting` is what the peer's first bytes are. Where they are not, it has another key: reading the result then
        raises `HandshakeError`, or this call does if they have arrived already; the caller aborts `raw`.
        """
        protected = ProtectedConnection(
            raw, self._psk, os.urandom(NONCE_SIZE), network=f"network {self.fingerprint[:8]}", greeting=greeting
        )
        raw.attach(protected)
        return protected

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PrivateNetwork is not pickled: its key would leave with it")

    def __repr__(self) -> str:
        return f"<PrivateNetwork {self.fingerprint}>"
