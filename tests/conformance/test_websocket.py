"""WebSockets: the connection alone, over TLS, and the transport with and without it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from websockets.protocol import Protocol, Side

from libp2p.connection import Connection, RawConnection, Transport
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.testing.conformance import ConnectionSuite, RawConnectionSuite, TransportSuite
from libp2p.testing.conformance.transports import DIALER, LISTENER, Reports
from libp2p.testing.transports import context
from libp2p.transports.memory import pipe
from libp2p.transports.websocket import WebSocket, WebSocketConfig, certificate_context
from libp2p.transports.websocket.connection import WsConnection
from libp2p.transports.websocket.tls import start_tls

CERTIFICATE = str(Path(__file__).parents[1] / "unit/transports/localhost.pem")
ADDR = Multiaddr("/memory/0")


async def tls_pair() -> tuple[RawConnection, RawConnection]:
    left, right = pipe()
    trusting = ssl.create_default_context(cafile=CERTIFICATE)
    memory = memoryview(bytearray(4096))
    return await asyncio.gather(
        start_tls(left, trusting, server_name="localhost", memory=memory),
        start_tls(right, certificate_context(CERTIFICATE), server_name=None, memory=memory),
    )


def websocket_over(left: RawConnection, right: RawConnection) -> tuple[RawConnection, RawConnection]:
    def ws(raw: RawConnection, side: Side) -> RawConnection:
        return WsConnection(raw, Protocol(side), local_addr=ADDR, remote_addr=ADDR, close_timeout=2.0)

    return ws(left, Side.CLIENT), ws(right, Side.SERVER)


class TestWsConnection(RawConnectionSuite):
    max_buffered = 512 * 1024
    max_pushed_while_paused = 64 * 1024  # what came in one piece from below

    async def make(self) -> tuple[RawConnection, RawConnection]:
        return websocket_over(*pipe())


class TestWsConnectionTheOtherWay(TestWsConnection):
    async def make(self) -> tuple[RawConnection, RawConnection]:
        client, server = websocket_over(*pipe())
        return server, client


class TestTlsConnection(RawConnectionSuite):
    max_buffered = 512 * 1024
    max_pushed_while_paused = 64 * 1024

    async def make(self) -> tuple[RawConnection, RawConnection]:
        return await tls_pair()


class TestWsOverTlsConnection(TestTlsConnection):
    async def make(self) -> tuple[RawConnection, RawConnection]:
        return websocket_over(*await tls_pair())


def websocket(key: PrivateKey) -> WebSocket:
    trusting = ssl.create_default_context(cafile=CERTIFICATE)
    config = WebSocketConfig(server_tls=certificate_context(CERTIFICATE), client_tls=trusting)
    return WebSocket(config).use(context(key))


@pytest.mark.real
class TestWs(TransportSuite):
    listen_addr = "/ip4/127.0.0.1/tcp/0/ws"
    foreign_addrs = (
        *TransportSuite.foreign_addrs,
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/127.0.0.1/tcp/1/tls",
        "/ip4/127.0.0.1/udp/1/ws",
        "/ip4/127.0.0.1/tcp/1/ws/ws",
        "/dns4/example.com/tcp/1/ws",
    )

    async def make(self, key: PrivateKey) -> Transport:
        return websocket(key)


@pytest.mark.real
class TestWsIp6(TestWs):
    listen_addr = "/ip6/::1/tcp/0/ws"


@pytest.mark.real
class TestWss(TestWs):
    listen_addr = "/ip4/127.0.0.1/tcp/0/tls/ws"


@pytest.mark.real
class TestWssWithName(TestWs):
    listen_addr = "/ip4/127.0.0.1/tcp/0/tls/sni/node.example.com/ws"


@pytest.mark.real
class TestWsConnections(ConnectionSuite):
    patience = 0.5
    many = 300

    async def make(self) -> tuple[Connection, Connection]:
        reports = Reports()
        listener = await websocket(LISTENER).listen(Multiaddr("/ip4/127.0.0.1/tcp/0/ws"), reports)
        dialed = await websocket(DIALER).dial(listener.addrs[0], LISTENER.public_key.peer_id)
        accepted = await reports.opened.get()
        await listener.close()
        return dialed, accepted
