"""What attackers are made of: connections from addresses of their own, without a host behind them."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator
from typing import Any

import libp2p.transports.tcp.transport as tcp
from libp2p import Multiaddr
from libp2p.connection import TransportContext
from libp2p.identity import PrivateKey
from libp2p.muxers.yamux import Yamux
from libp2p.security.noise import Noise
from libp2p.security.tls import Tls
from libp2p.transports.quic import Quic
from libp2p.transports.quic.udp import open_udp
from libp2p.transports.tcp import Tcp, TcpConfig
from libp2p.transports.websocket import WebSocket
from libp2p.upgrader import Upgrader

ONE = ("127.0.0.66",)
MANY = tuple(f"127.0.1.{n}" for n in range(1, 65))
_sources: Iterator[str] = itertools.cycle(ONE)
_open = tcp.open_socket


def come_from(*sources: str) -> None:
    """Connections come from these addresses from now on, in turns."""
    global _sources  # noqa: PLW0603 - one process attacks in one way
    _sources = itertools.cycle(sources)


def source() -> str:
    """The next one."""
    return next(_sources)


def _open_from(target: Any) -> socket.socket:
    sock = _open(target)
    sock.bind((source(), 0))
    return sock


tcp.open_socket = _open_from


async def connect(addr: str, key: PrivateKey | None = None, *, tls: bool = False) -> Any:
    """A connection of `key` (None: a fresh one) that answers nothing, by whatever transport `addr` asks for."""
    key = key or PrivateKey.generate()
    upgrader = Upgrader(key, security=[Tls() if tls else Noise()], muxers=[Yamux()])
    if "/quic-v1" in addr:
        where = source()
        transport: Any = Quic(open_socket=lambda target: open_udp((where, target[1]), buffer_size=1 << 20))
    else:
        transport = WebSocket() if "/ws" in addr else Tcp(TcpConfig(reuse_port=False))
    to = Multiaddr(addr).without_peer()
    connection = await transport.use(TransportContext(key, upgrader)).dial(to, None)
    connection.serve(lambda _: None, lambda _: None)
    return connection


async def patient(addr: str, key: PrivateKey | None = None) -> Any:
    """The same, again and again until it is let in."""
    while True:
        try:
            return await connect(addr, key)
        except Exception:
            await asyncio.sleep(0.1)


async def send(connection: Any, pieces: Iterator[bytes], *, below: bool = False) -> int:
    """Send `pieces` on the muxer's channel, or `below` that, while there is a connection; how many were sent."""
    sent = 0
    channel = connection._channel._raw if below else connection._channel
    for piece in pieces:
        if connection.close_reason is not None:
            break
        channel.send((piece,))
        sent += 1
        await asyncio.sleep(0.002)
        while connection.close_reason is None and channel.unsent > 256 * 1024:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    return sent
