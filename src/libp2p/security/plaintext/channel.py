"""The data phase of plaintext: everything passes as it is. "Actual payloads [...] are NOT prefixed with their lengths,
but sent as-is."
"""

from __future__ import annotations

from collections.abc import Sequence

from ...connection import RawConnection, SecureChannel
from ...identity import PeerId, PublicKey
from ...io import Buffer


class PlaintextChannel(SecureChannel):
    """A connection that is neither encrypted nor authenticated: the peer is who it claims to be, if nobody lies."""

    def __init__(self, raw: RawConnection, *, local_peer: PeerId, remote_key: PublicKey) -> None:
        super().__init__(
            raw, protocol="/plaintext/2.0.0", local_peer=local_peer, remote_key=remote_key, stream_muxer=None
        )
        self.record_size = raw.record_size
        self._raw = raw

    def send(self, buffers: Sequence[Buffer]) -> None:
        self._raw.send(buffers)

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

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    async def close(self) -> None:
        await self._raw.close()

    def abort(self, error: Exception | None = None) -> None:
        self._raw.abort(error)
