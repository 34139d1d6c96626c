"""One TCP port for several transports, told apart by the first byte."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from libp2p.connection import Direction, RawConnection
from libp2p.errors import HandshakeError, ListenError
from libp2p.multiaddr import Multiaddr, host_port
from libp2p.testing.transports import AcceptAll, context
from libp2p.transports.tcp import Tcp
from libp2p.transports.websocket import WebSocket, WebSocketConfig, certificate_context

pytestmark = pytest.mark.real

CERTIFICATE = str(Path(__file__).with_name("localhost.pem"))
HELLO = b"\x13/multistream/1.0.0\n"


class Hello:
    """In place of an upgrader: the dialer says the first words of any, the listener checks and remembers them."""

    async def upgrade(self, raw: RawConnection, direction: Direction, **_: Any) -> Any:
        if direction is Direction.OUTBOUND:
            await raw.write(HELLO)
            return raw
        try:
            if (got := await raw.readexactly(len(HELLO))) != HELLO:
                raise HandshakeError(f"{got!r}")
        except BaseException:
            raw.abort()
            raise
        return raw


class Accepted(AcceptAll):
    def __init__(self) -> None:
        super().__init__()
        self.opened: asyncio.Queue[Any] = asyncio.Queue()
        self.failed: asyncio.Queue[Exception] = asyncio.Queue()

    def connection_opened(self, connection: Any, scope: Any) -> None:
        self.opened.put_nowait(connection)

    def connection_failed(self, local_addr: Multiaddr, remote_addr: Multiaddr, error: Exception) -> None:
        self.failed.put_nowait(error)


def transports(*, private: bool = False) -> tuple[Any, Any]:
    trusting = ssl.create_default_context(cafile=CERTIFICATE)
    config = WebSocketConfig(server_tls=certificate_context(CERTIFICATE), client_tls=trusting)
    ours = context(upgrader=Hello())
    ours.is_private = private
    return Tcp().use(ours), WebSocket(config).use(ours)


async def listen_to_all(order: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Accepted], int]:
    """Listeners of the kinds in `order` on one port."""
    tcp, websocket = transports()
    listeners: dict[str, Any] = {}
    accepted = {kind: Accepted() for kind in order}
    number = 0
    for kind in order:
        addr = Multiaddr(f"/ip4/127.0.0.1/tcp/{number}{kind}")
        listeners[kind] = await (websocket if kind else tcp).listen(addr, accepted[kind])
        number = host_port(listeners[kind].addrs[0]).port
    assert {str(addr) for one in listeners.values() for addr in one.addrs} == {
        f"/ip4/127.0.0.1/tcp/{number}{kind}" for kind in order
    }
    return listeners, accepted, number


async def dial(number: int, kind: str) -> Any:
    tcp, websocket = transports()
    return await (websocket if kind else tcp).dial(Multiaddr(f"/ip4/127.0.0.1/tcp/{number}{kind}"), None)


def is_free(number: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", number)) == errno.ECONNREFUSED


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    "order", [("", "/ws"), ("/ws", ""), ("", "/ws", "/tls/ws"), ("/tls/ws", "/ws", ""), ("/wss", "/ws")]
)
async def test_each_gets_its_own(order: tuple[str, ...]) -> None:
    listeners, accepted, number = await listen_to_all(order)
    for kind in order * 2:
        dialed = await dial(number, kind)
        inbound = await asyncio.wait_for(accepted[kind].opened.get(), 5)
        assert inbound.local_addr == listeners[kind].addrs[0]
        await dialed.write(b"question")
        assert await inbound.readexactly(8) == b"question"
        await inbound.write(b"answer")
        assert await dialed.readexactly(6) == b"answer"
        await asyncio.gather(dialed.close(), inbound.close())
    for kind in order:
        assert not is_free(number)
        await listeners[kind].close()
        await listeners[kind].close()
    assert is_free(number)
    assert all(one.opened.empty() and one.failed.empty() for one in accepted.values())


async def test_a_kind_that_is_there_already_is_refused() -> None:
    tcp, websocket = transports()
    listener = await tcp.listen(Multiaddr("/ip4/127.0.0.1/tcp/0"), Accepted())
    number = host_port(listener.addrs[0]).port
    for one, addr in ((tcp, listener.addrs[0]), (transports()[1], Multiaddr(f"/ip4/127.0.0.1/tcp/{number}/ws"))):
        with pytest.raises(ListenError, match="in use"):
            await one.listen(addr, Accepted())
    second = await websocket.listen(Multiaddr(f"/ip4/127.0.0.1/tcp/{number}/ws"), Accepted())
    await listener.close()
    again = await tcp.listen(listener.addrs[0], Accepted())
    for one in (again, second):
        await one.close()
    assert is_free(number)


@pytest.mark.parametrize("order", [("", "/ws"), ("/tls/ws", ""), ("/ws", "/tls/ws", "")])
async def test_in_a_private_network_tcp_shares_no_port(order: tuple[str, ...]) -> None:
    """One nonce in nine begins like an HTTP request or a TLS record."""
    tcp, websocket = transports(private=True)
    listeners: list[Any] = []
    number = 0
    for kind in order:
        listen = (websocket if kind else tcp).listen(Multiaddr(f"/ip4/127.0.0.1/tcp/{number}{kind}"), Accepted())
        if kind == order[-1]:
            with pytest.raises(ListenError, match="private network TCP shares no port"):
                await listen
        else:
            listeners.append(await listen)
            number = host_port(listeners[0].addrs[0]).port
    for listener in listeners:
        await listener.close()
    alone = await tcp.listen(Multiaddr(f"/ip4/127.0.0.1/tcp/{number}"), Accepted())
    await alone.close()


async def test_a_listener_that_leaves_takes_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libp2p.transports.tcp.connection._LINGER", 0.05)
    listeners, accepted, number = await listen_to_all(("", "/ws"))
    await listeners[""].close()
    dialed = await dial(number, "")
    assert isinstance(await asyncio.wait_for(accepted["/ws"].failed.get(), 5), HandshakeError)
    assert accepted[""].failed.empty()
    dialed.abort()
    await listeners["/ws"].close()


@pytest.mark.parametrize("order", [("", "/ws"), ("/ws", "")])
async def test_nonsense_and_silence_go_to_the_first(order: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libp2p.transports.tcp.ports._FIRST_BYTE_TIMEOUT", 0.1)
    monkeypatch.setattr("libp2p.transports.tcp.connection._LINGER", 0.05)
    listeners, accepted, number = await listen_to_all(order)
    _, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(b"\0" * 20 + b"\n")
    assert isinstance(await asyncio.wait_for(accepted[order[0]].failed.get(), 5), HandshakeError)
    await hang_up(writer)
    _, writer = await asyncio.open_connection("127.0.0.1", number)
    await asyncio.sleep(0.2)
    writer.write(b"too late for a choice\n")
    assert isinstance(await asyncio.wait_for(accepted[order[0]].failed.get(), 5), HandshakeError)
    await hang_up(writer)
    assert accepted[order[1]].failed.empty()
    for listener in listeners.values():
        await listener.close()


async def test_who_has_said_nothing_yet_is_bounded_and_goes_with_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libp2p.transports.tcp.ports._MAX_UNDECIDED", 3)
    monkeypatch.setattr("libp2p.transports.tcp.ports._MAX_UNDECIDED_PER_PREFIX", 2)
    listeners, _, number = await listen_to_all(("", "/ws"))
    silent = [await asyncio.open_connection("127.0.0.1", number) for _ in range(3)]
    assert await asyncio.wait_for(silent[2][0].read(), 5) == b"", "one prefix has its share"
    silent += [await asyncio.open_connection("127.0.0.1", number, local_addr=(f"127.0.0.{n}", 0)) for n in (2, 3)]
    assert await asyncio.wait_for(silent[0][0].read(), 5) == b"", "the oldest makes room"
    for listener in listeners.values():
        await listener.close()
    for reader, writer in silent:
        assert await asyncio.wait_for(reader.read(), 5) == b""
        await hang_up(writer)
