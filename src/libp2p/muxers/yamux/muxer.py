"""Yamux as a `Muxer`."""

from typing import ClassVar

from ...connection import Connection, Direction, Muxer, Role, SecureChannel
from ...connection.streamed import lone_account
from ...io import MemoryAccount
from ..connection import MuxedConnection
from .core import YamuxConfig, YamuxSession
from .flow_control import INITIAL_WINDOW
from .wire import HEADER_SIZE


class Yamux(Muxer):
    """`/yamux/1.0.0`. Raises `ValueError` for a configuration below what the specification grants every stream."""

    protocol_id: ClassVar[str] = "/yamux/1.0.0"

    def __init__(self, config: YamuxConfig | None = None) -> None:
        self._config = config or YamuxConfig()
        if self._config.max_stream_window < INITIAL_WINDOW:
            raise ValueError(f"max_stream_window {self._config.max_stream_window} is below {INITIAL_WINDOW} bytes")

    def connect(
        self,
        channel: SecureChannel,
        direction: Direction,
        role: Role | None = None,
        *,
        memory: MemoryAccount | None = None,
    ) -> Connection:
        memory = memory or lone_account()
        session = YamuxSession(
            is_dialer=(role or Role.of(direction)) is Role.INITIATOR,
            config=self._config,
            max_payload=channel.record_size - HEADER_SIZE,
            draw=memory.draw,
        )
        return MuxedConnection(
            channel,
            session,
            direction,
            muxer=self.protocol_id,
            role=role,
            memory=memory,
            open_timeout=self._config.open_timeout,
        )
