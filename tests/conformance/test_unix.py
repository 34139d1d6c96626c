"""Unix sockets: the connection and the transport."""

from __future__ import annotations

import asyncio
import itertools
import socket
from pathlib import Path

import pytest

from libp2p.connection import RawConnection, Transport
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.testing.conformance import RawConnectionSuite, TransportSuite
from libp2p.testing.conformance.connections import Side
from libp2p.testing.conformance.tools import ends
from libp2p.testing.conformance.transports import LISTENER
from libp2p.testing.transports import context
from libp2p.transports.unix import Unix
from libp2p.transports.unix.transport import UnixConnection

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="the system has no Unix sockets"),
]


class TestUnixConnection(RawConnectionSuite):
    abort_is_told = False  # the system closes an aborted socket like any other

    @pytest.fixture(autouse=True)
    def _no_lingering(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("libp2p.transports.tcp.connection._LINGER", 0.05)

    async def make(self) -> tuple[RawConnection, RawConnection]:
        loop, memory, addr = asyncio.get_running_loop(), memoryview(bytearray(65536)), Multiaddr("/unix/somewhere")
        one, other = socket.socketpair()
        _, left = await loop.create_unix_connection(lambda: UnixConnection(addr, memory), sock=one)
        _, right = await loop.create_unix_connection(lambda: UnixConnection(addr, memory), sock=other)
        return left, right


class TestUnix(TransportSuite):
    foreign_addrs = ("/ip4/127.0.0.1/tcp/1", "/dns4/example.com/tcp/1", "/memory/1")

    @pytest.fixture(autouse=True)
    def _paths(self, tmp_path: Path) -> None:
        self.fresh = (f"/unix{tmp_path}/{number}" for number in itertools.count())

    @property
    def listen_addr(self) -> str:  # type: ignore[override]
        return next(self.fresh)

    async def make(self, key: PrivateKey) -> Transport:
        return Unix().use(context(key))

    async def test_dialer_and_listener_meet(self) -> None:
        """In place of the suite's: no /p2p can stand behind a path."""
        async with self.listening() as (transport, listener, reports):
            (addr,), peer = listener.addrs, LISTENER.public_key.peer_id
            dialed = await ends(transport.dial(addr, peer))
            accepted = await ends(reports.opened.get())
            assert {dialed.local_addr, dialed.remote_addr, accepted.local_addr, accepted.remote_addr} == {addr}
            ours, theirs = await Side(dialed).stream_to(Side(accepted))
            await ours.write(b"question")
            assert await ends(theirs.readexactly(8)) == b"question"
            for connection in (dialed, accepted):
                connection.abort()
                await ends(connection.wait_closed())
