"""Secure channels without any security, within one process: what a muxer runs over when it is tested alone."""

from __future__ import annotations

from ...connection import RawConnection, SecureChannel
from ...identity import PrivateKey
from ...security.plaintext import PlaintextChannel


def clear_channels(
    left: RawConnection, right: RawConnection, left_key: PrivateKey, right_key: PrivateKey
) -> tuple[SecureChannel, SecureChannel]:
    """Channels over the two ends of a raw connection. The identities are only claimed."""
    return _clear_channel(left, left_key, right_key), _clear_channel(right, right_key, left_key)


def _clear_channel(raw: RawConnection, local: PrivateKey, remote: PrivateKey) -> SecureChannel:
    channel = PlaintextChannel(raw, local_peer=local.public_key.peer_id, remote_key=remote.public_key)
    raw.attach(channel)
    return channel
