"""The raw connections."""

from __future__ import annotations

import asyncio

import pytest

from libp2p.connection import RawConnection
from libp2p.testing.conformance import RawConnectionSuite
from libp2p.transports.memory import pipe
from libp2p.transports.tcp.connection import TcpConnection


class TestMemoryConnection(RawConnectionSuite):
    max_buffered = 512 * 1024

    async def make(self) -> tuple[RawConnection, RawConnection]:
        return pipe()


@pytest.mark.real
class TestTcpConnection(RawConnectionSuite):
    abort_is_told = False  # the system closes an aborted socket like any other

    @pytest.fixture(autouse=True)
    def _no_lingering(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("libp2p.transports.tcp.connection._LINGER", 0.05)

    async def make(self) -> tuple[RawConnection, RawConnection]:
        loop = asyncio.get_running_loop()
        memory = memoryview(bytearray(65536))
        accepted: asyncio.Future[TcpConnection] = loop.create_future()
        server = await loop.create_server(lambda: TcpConnection(memory, accepted.set_result), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        _, dialed = await loop.create_connection(lambda: TcpConnection(memory), *address)
        server.close()
        return dialed, await accepted
