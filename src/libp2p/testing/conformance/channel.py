"""A "secure" channel without any security, within one process: what a muxer runs over when it is tested alone."""

from __future__ import annotations

from ...connection import RawConnection, SecureChannel
from ...identity import PrivateKey


class ClearChannel(SecureChannel):
    """Passes everything on as it is. The identities are only claimed."""

    def __init__(self, raw: RawConnection, local: PrivateKey, remote: PrivateKey) -> None:
        super().__init__(
            raw,
            protocol="/none",
            local_peer=local.public_key.peer_id,
            remote_key=remote.public_key,
            stream_muxer=None,
        )
        raw.attach(self)


def clear_channels(
    left: RawConnection, right: RawConnection, left_key: PrivateKey, right_key: PrivateKey
) -> tuple[SecureChannel, SecureChannel]:
    """Channels over the two ends of a raw connection."""
    return ClearChannel(left, left_key, right_key), ClearChannel(right, right_key, left_key)
