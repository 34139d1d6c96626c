"""What makes raw connections secure, and what they are then."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from ..identity import PeerId, PrivateKey, PublicKey
from .raw import RawConnection
from .turns import TurnedConnection

Turn = Callable[[], Awaitable[None]]
"""Waits until it is a handshake's turn."""


class SecureChannel(TurnedConnection):
    """A raw connection whose bytes are encrypted for, and authenticated by, one proven peer."""

    def __init__(
        self,
        raw: RawConnection,
        *,
        protocol: str,
        local_peer: PeerId,
        remote_key: PublicKey,
        stream_muxer: str | None,
    ) -> None:
        super().__init__(raw)
        self.protocol = protocol
        """The security protocol's id, such as `/noise`."""
        self.local_peer = local_peer
        self.remote_key = remote_key
        self.remote_peer = remote_key.peer_id
        self.stream_muxer = stream_muxer
        """The muxer that the handshake agreed on (inlined negotiation), None where it agreed on none."""


class SecurityProtocol(ABC):
    """A protocol that secures raw connections: `/noise`, `/tls/1.0.0`."""

    protocol_id: ClassVar[str]

    @abstractmethod
    async def secure_outbound(
        self, raw: RawConnection, key: PrivateKey, *, expected_peer: PeerId | None, muxers: Sequence[str]
    ) -> SecureChannel:
        """Run the dialer's handshake over `raw`, as the owner of `key`.

        `expected_peer` is who must answer (None: anybody, who is then known by the channel's `remote_peer`); `muxers`
        are the ids of the muxers to offer within the handshake, best first. Raises `PeerIdMismatch`,
        `HandshakeError`, and what reading `raw` raises. On an error the caller aborts `raw`.
        """

    @abstractmethod
    async def secure_inbound(
        self,
        raw: RawConnection,
        key: PrivateKey,
        *,
        expected_peer: PeerId | None = None,
        muxers: Sequence[str],
        turn: Turn | None = None,
    ) -> SecureChannel:
        """Run the listener's handshake; else like `secure_outbound`. A peer is expected where both sides dialed. With
        `turn` that is awaited before each step that takes long to compute.
        """
