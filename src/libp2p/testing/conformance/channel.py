"""A "secure" channel without any security, within one process: what a muxer runs over when it is tested alone."""

from __future__ import annotations

from collections.abc import Sequence

from ...connection import RawConnection, SecureChannel
from ...identity import PrivateKey
from ...io import Buffer


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
        self._raw = raw
        raw.attach(self)

    def send(self, buffers: Sequence[Buffer]) -> None:
        self._raw.send(buffers)

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    async def close(self) -> None:
        await self._raw.close()

    def abort(self, error: Exception | None = None) -> None:
        self._raw.abort(error)

    def data_received(self, data: memoryview) -> None:
        self._sink.data_received(data)

    def eof_received(self) -> None:
        self._sink.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._sink.connection_lost(error)

    def pause_writing(self) -> None:
        self._sink.pause_writing()

    def resume_writing(self) -> None:
        self._sink.resume_writing()


def clear_channels(
    left: RawConnection, right: RawConnection, left_key: PrivateKey, right_key: PrivateKey
) -> tuple[SecureChannel, SecureChannel]:
    """Channels over the two ends of a raw connection."""
    return ClearChannel(left, left_key, right_key), ClearChannel(right, right_key, left_key)
