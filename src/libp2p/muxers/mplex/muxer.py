"""Mplex as a `Muxer`."""

from typing import ClassVar

from ...connection import Connection, Direction, Muxer, Role, SecureChannel
from ...connection.muxed_stream import MAX_DISCARDED
from ...io import MemoryAccount
from ..connection import MuxedConnection
from .core import MplexConfig, MplexSession
from .wire import MAX_HEADER_SIZE, MAX_MESSAGE


class Mplex(Muxer):
    """`/mplex/6.7.0`, which the specifications call deprecated: offer it behind `Yamux`, for peers that have no other.

    It has no flow control of its own. A stream that is not read holds all streams of its connection once it has
    `MplexConfig.max_unread` bytes, until it is read, closed or reset; so does a peer's to us, or it resets the stream
    (go-libp2p after 5 seconds, js-libp2p and rust-libp2p at once). Programs whose handlers wait for each other across
    streams can lock up by that. It also has no keep-alive: that a peer is gone shows only when the channel below says
    so.

    Raises `ValueError` for a configuration whose `max_unread` is below what a closed stream may still receive.
    """

    protocol_id: ClassVar[str] = "/mplex/6.7.0"

    def __init__(self, config: MplexConfig | None = None) -> None:
        self._config = config or MplexConfig()
        if self._config.max_unread < MAX_DISCARDED:
            raise ValueError(f"max_unread {self._config.max_unread} is below {MAX_DISCARDED} bytes")

    def connect(
        self,
        channel: SecureChannel,
        direction: Direction,
        role: Role | None = None,
        *,
        memory: MemoryAccount | None = None,
    ) -> Connection:
        session = MplexSession(
            is_dialer=(role or Role.of(direction)) is Role.INITIATOR,
            config=self._config,
            max_payload=min(channel.record_size - MAX_HEADER_SIZE, MAX_MESSAGE),
        )
        return MuxedConnection(channel, session, direction, muxer=self.protocol_id, role=role, memory=memory)
