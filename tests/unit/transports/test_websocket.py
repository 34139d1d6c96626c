"""The WebSocket transport over real sockets: other people's clients and servers, TLS, refusals, proxies."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from libp2p.connection import DialOptions
from libp2p.errors import HandshakeError, InvalidInput, LimitExceeded, ListenError, StageTimeout
from libp2p.multiaddr import Component, Multiaddr, host_port
from libp2p.testing.transports import AcceptAll, RawUpgrader, context
from libp2p.transports.websocket import WebSocket, WebSocketConfig, certificate_context
from libp2p.transports.websocket.address import read_address

pytestmark = pytest.mark.real

CERTIFICATE = str(Path(__file__).with_name("localhost.pem"))
"""For localhost, node.example.com and 127.0.0.1, with its key."""

WS = "/ip4/127.0.0.1/tcp/0/ws"
WSS = "/ip4/127.0.0.1/tcp/0/tls/ws"


class Accepted(AcceptAll):
    def __init__(self) -> None:
        super().__init__()
        self.opened: asyncio.Queue[Any] = asyncio.Queue()
        self.failed: asyncio.Queue[tuple[Multiaddr, Multiaddr, Exception]] = asyncio.Queue()

    def connection_opened(self, connection: Any, scope: Any) -> None:
        self.opened.put_nowait(connection)

    def connection_failed(self, local_addr: Multiaddr, remote_addr: Multiaddr, error: Exception) -> None:
        self.failed.put_nowait((local_addr, remote_addr, error))

    async def failure(self) -> Exception:
        return (await asyncio.wait_for(self.failed.get(), 5))[2]


def websocket(*, trust: bool = True, **settings: Any) -> Any:
    trusting = ssl.create_default_context(cafile=CERTIFICATE) if trust else None
    config = WebSocketConfig(server_tls=certificate_context(CERTIFICATE), client_tls=trusting, **settings)
    return WebSocket(config).use(context(upgrader=RawUpgrader()))


async def listen(addr: str, **settings: Any) -> tuple[Any, Accepted, int]:
    accepted = Accepted()
    listener = await websocket(**settings).listen(Multiaddr(addr), accepted)
    return listener, accepted, host_port(listener.addrs[0]).port


async def end(*connections: Any) -> None:
    for connection in connections:
        connection.abort()
        await connection.close()


async def ask(port: int, request: bytes) -> bytes:
    """What the listener answers to `request`, up to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        await hang_up(writer)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


# Addresses


@pytest.mark.parametrize(
    ("text", "host", "port", "form", "name", "path"),
    [
        ("/ip4/192.0.2.1/tcp/1234/ws", "192.0.2.1", 1234, "/ws", "192.0.2.1", "/"),
        ("/ip4/192.0.2.1/tcp/1234/tls/ws", "192.0.2.1", 1234, "/tls/ws", "192.0.2.1", "/"),
        ("/ip4/192.0.2.1/tcp/1234/tls/sni/a.b/ws", "192.0.2.1", 1234, "/tls/sni/a.b/ws", "a.b", "/"),
        ("/ip4/192.0.2.1/ws", "192.0.2.1", 80, "/ws", "192.0.2.1", "/"),
        ("/ip4/192.0.2.1/tls/ws", "192.0.2.1", 443, "/tls/ws", "192.0.2.1", "/"),
        ("/ip4/192.0.2.1/wss", "192.0.2.1", 443, "/wss", "192.0.2.1", "/"),
        ("/ip6zone/eth0/ip6/fe80::1/tcp/1/wss", "fe80::1%eth0", 1, "/wss", "fe80::1", "/"),
        ("/ip6/::1/tcp/1/ws/http-path/a%2Fb%20c", "::1", 1, "/ws/http-path/a%2Fb%20c", "::1", "/a/b%20c"),
    ],
)
def test_addresses(text: str, host: str, port: int, form: str, name: str, path: str) -> None:
    for addr in (Multiaddr(text), Multiaddr(text) / "/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"):
        address = read_address(addr)
        assert address is not None
        assert (address.target.host, address.target.port, address.form) == (host, port, Multiaddr(form))
        assert (address.name, address.path, address.secure) == (
            name,
            path,
            not form.startswith("/ws/") and form != "/ws",
        )


# Other people's clients


async def test_the_messages_of_another_client_are_one_stream() -> None:
    listener, accepted, port = await listen(WS)
    async with connect(f"ws://127.0.0.1:{port}/anything?at=all", origin="https://example.com") as client:  # type: ignore[arg-type]
        inbound = await accepted.opened.get()
        assert client.protocol.extensions == [], "it offered compression"
        await client.send(b"one")
        await client.send([b"two ", b"three ", b"", b"four"])  # fragments
        assert await inbound.readexactly(17) == b"onetwo three four"
        await client.send(b"")
        sending = asyncio.ensure_future(client.send(bytes(5_000_000)))
        assert await inbound.readexactly(5_000_000) == bytes(5_000_000)
        await sending
        await asyncio.wait_for(await client.ping(b"there?"), 5)
        await inbound.write(b"answer")
        assert await client.recv() == b"answer"
        inbound.send((bytes(200_000),))
        assert [len(await client.recv()) for _ in range(3)] == [98304, 98304, 3392]
        closing = asyncio.ensure_future(client.close(1000, "bye"))
        assert await inbound.read() == b""
        await inbound.close()
        await closing
    await listener.close()


async def test_text_is_refused_and_the_other_side_told_why() -> None:
    listener, accepted, port = await listen(WS)
    async with connect(f"ws://127.0.0.1:{port}") as client:
        inbound = await accepted.opened.get()
        await client.send("text")
        with pytest.raises(ConnectionClosedError) as caught:
            await client.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1003
        with pytest.raises(Exception, match="text frame"):
            await inbound.read(1)
        await end(inbound)
    await listener.close()


async def test_our_close_is_one_that_another_client_understands() -> None:
    listener, accepted, port = await listen(WS)
    async with connect(f"ws://127.0.0.1:{port}") as client:
        inbound = await accepted.opened.get()
        await inbound.write(b"last words")
        closing = asyncio.ensure_future(inbound.close())
        assert [message async for message in client] == [b"last words"]
        await closing
        assert client.protocol.close_code == 1000
    await listener.close()


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
async def test_the_client_of_node() -> None:
    listener, accepted, port = await listen(WS)
    script = """
        if (typeof WebSocket === 'undefined') { console.log('none'); process.exit(0) }
        const ws = new WebSocket(`ws://127.0.0.1:${process.argv[1]}`)
        ws.binaryType = 'arraybuffer'
        let got = 0
        ws.onopen = () => { ws.send(new Uint8Array(300000).fill(7)); ws.send(new Uint8Array([1, 2, 3])) }
        ws.onmessage = event => { got += event.data.byteLength; if (got === 200000) ws.close(1000) }
        ws.onclose = event => console.log(got, event.code, event.wasClean)
    """
    node = await asyncio.create_subprocess_exec("node", "-e", script, str(port), stdout=subprocess.PIPE)
    output = asyncio.ensure_future(node.communicate())
    taking = asyncio.ensure_future(accepted.opened.get())
    await asyncio.wait({output, taking}, return_when=asyncio.FIRST_COMPLETED)
    if taking.done():
        inbound = taking.result()
        assert await inbound.readexactly(300_003) == b"\\x07" * 300_000 + b"\\x01\\x02\\x03"
        await inbound.write(bytes(200_000))
        assert await inbound.read() == b""
        await inbound.close()
        assert (await output)[0].split() == [b"200000", b"1000", b"true"]
    taking.cancel()
    await listener.close()


# Other people's servers


async def test_another_server_echoes() -> None:
    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, ping_interval=0.05) as server:
        number = server.sockets[0].getsockname()[1]
        dialed = await websocket().dial(Multiaddr(f"/ip4/127.0.0.1/tcp/{number}/ws"), None)
        writing = asyncio.ensure_future(dialed.write(bytes(1_000_000)))
        assert await dialed.readexactly(1_000_000) == bytes(1_000_000)
        await writing
        await asyncio.sleep(0.2)  # for its pings
        await dialed.write(b"still there")
        assert await dialed.readexactly(11) == b"still there"
        await asyncio.wait_for(dialed.close(), 1)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone", "404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200"),
        (b"HTTP/1.1 101 Fine\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", "Sec-WebSocket-Accept"),
        (
            b"HTTP/1.1 101 Fine\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: bm8=\r\n\r\n",
            "Sec-WebSocket-Accept",
        ),
        (b"\x13/multistream/1.0.0\n", "HTTP"),
        (b"HTTP/1.1 101 Fine\r\n" + (b"X: " + b"y" * 4000 + b"\r\n") * 5, "more than 16384 bytes"),
        (b"HTTP/1.1 1", "ended the connection"),
    ],
)
async def test_servers_that_speak_something_else(answer: bytes, message: str) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.write_eof()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    addr = Multiaddr(f"/ip4/127.0.0.1/tcp/{server.sockets[0].getsockname()[1]}/ws")
    with pytest.raises(HandshakeError, match=message):
        await websocket().dial(addr, None)
    server.close()
    await server.wait_closed()


# What dialers may do


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 426 ", "missing Connection header"),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"", "POST"),
        (b"\x13/multistream/1.0.0\n", b"", "HTTP"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 9000 + b"\r\n\r\n", b"", "8192|too long"),
        (b"GET / HTTP/1.1\r\n" + (b"X: " + b"y" * 4000 + b"\r\n") * 5, b"", "more than 16384 bytes"),
    ],
)
async def test_requests_that_are_refused(request_: bytes, status: bytes, message: str) -> None:
    listener, accepted, port = await listen(WS)
    try:
        answer = await ask(port, request_)
    except ConnectionResetError:  # it had sent more than was read
        answer = b""
    assert answer.startswith(status)
    local, remote, error = await asyncio.wait_for(accepted.failed.get(), 5)
    assert isinstance(error, HandshakeError)
    assert re.search(message, str(error))
    assert local == listener.addrs[0]
    assert str(remote).endswith("/ws")
    await listener.close()


async def test_a_handshake_has_its_time_however_it_is_stretched() -> None:
    for addr in (WS, WSS):
        listener, accepted, port = await listen(addr, handshake_timeout=0.3)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        slow = asyncio.ensure_future(reader.read())
        for byte in b"GET / HTTP/1.1\r\n"[:8] if addr == WS else b"\x16\x03\x01\x02\x00\x01":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
        assert await asyncio.wait_for(slow, 5) == b""
        error = await accepted.failure()
        assert isinstance(error, StageTimeout)
        assert error.stage == "WebSocket handshake"
        await hang_up(writer)
        await listener.close()


async def test_unfinished_handshakes_are_bounded() -> None:
    listener, accepted, port = await listen(WS, max_pending_inbound=2)
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    error = await accepted.failure()
    assert isinstance(error, LimitExceeded)
    assert f"listener {listener.addrs[0].decapsulate('/ws')}" in str(error)
    await listener.close()
    for reader, writer in silent:
        assert await asyncio.wait_for(reader.read(), 5) == b""
        await hang_up(writer)


async def test_small_frames_are_sent_at_once() -> None:
    listener, accepted, _ = await listen(WS)
    dialed = await websocket().dial(listener.addrs[0], None)
    inbound = await accepted.opened.get()
    for connection in (dialed, inbound):
        sock = connection._raw._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await end(dialed, inbound)
    await listener.close()


async def test_a_path_that_is_asked_for() -> None:
    listener, accepted, port = await listen(WS + "/http-path/p2p%2Fnode")
    dialed = await websocket().dial(listener.addrs[0], None)
    await end(dialed, await accepted.opened.get())
    async with connect(f"ws://127.0.0.1:{port}/p2p/node?x=y"):
        await end(await accepted.opened.get())
    with pytest.raises(InvalidStatus, match="404"):
        await connect(f"ws://127.0.0.1:{port}/p2p")
    assert isinstance(await accepted.failure(), HandshakeError)
    await listener.close()


# TLS


async def test_the_certificate_is_checked() -> None:
    listener, accepted, port = await listen(WSS)
    refused = [
        (websocket(trust=False), f"/ip4/127.0.0.1/tcp/{port}/tls/ws", "certificate is refused: self"),
        (websocket(), f"/ip4/127.0.0.1/tcp/{port}/tls/sni/other.example.com/ws", "other.example.com"),
    ]
    for dialer, addr, message in refused:
        with pytest.raises(HandshakeError, match=message) as caught:
            await dialer.dial(Multiaddr(addr), None)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        error = await accepted.failure()
        assert isinstance(error, HandshakeError)
        assert "ALERT" in str(error), "the dialer says why"
    for form in ("/tls/ws", "/wss", "/tls/sni/node.example.com/ws"):
        dialed = await websocket().dial(Multiaddr(f"/ip4/127.0.0.1/tcp/{port}{form}"), None)
        inbound = await accepted.opened.get()
        await dialed.write(b"hello")
        assert await inbound.readexactly(5) == b"hello"
        await asyncio.gather(dialed.close(), inbound.close())
    await listener.close()


@pytest.mark.parametrize("name", [".example.com", "a..b", "x" * 64 + ".com", "b\u00fccher.example"])
async def test_names_that_are_none_are_refused_like_others(name: str) -> None:
    listener, accepted, port = await listen(WSS)
    base = Multiaddr(f"/ip4/127.0.0.1/tcp/{port}/tls")
    with pytest.raises(HandshakeError, match="TLS with"):
        await websocket().dial(base / Component.from_text("sni", name) / "/ws", None)
    assert isinstance(await accepted.failure(), HandshakeError)
    await listener.close()


async def test_another_client_over_tls_that_sends_at_once() -> None:
    listener, accepted, port = await listen(WSS)
    async with connect(f"wss://localhost:{port}", ssl=ssl.create_default_context(cafile=CERTIFICATE)) as client:
        inbound = await accepted.opened.get()
        await client.send(bytes(300_000))
        assert await inbound.readexactly(300_000) == bytes(300_000)
        inbound.send((bytes(90_000),))
        assert await client.recv() == bytes(90_000)
        closing = asyncio.ensure_future(client.close())
        assert await inbound.read() == b""
        await inbound.close()
        await closing
    await listener.close()


async def test_a_refusal_is_read_to_its_end_and_tls_ended_in_order() -> None:
    listener, accepted, port = await listen(WSS)

    def ask_for_a_page() -> bytes:
        context = ssl.create_default_context(cafile=CERTIFICATE)
        raw = socket.create_connection(("127.0.0.1", port), timeout=5)
        with context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return b"".join(iter(lambda: client.recv(4096), b""))  # SSLEOFError where TLS did not say that it ends

    assert (await asyncio.to_thread(ask_for_a_page)).startswith(b"HTTP/1.1 426 ")
    assert isinstance(await accepted.failure(), HandshakeError)
    await listener.close()


async def test_with_and_without_tls_do_not_meet() -> None:
    for served, dialed, fails in ((WSS, "/ws", "ended|valid HTTP"), (WS, "/tls/ws", "TLS with")):
        listener, accepted, port = await listen(served)
        with pytest.raises((HandshakeError, ConnectionResetError), match=fails):
            await websocket().dial(Multiaddr(f"/ip4/127.0.0.1/tcp/{port}{dialed}"), None)
        assert isinstance(await accepted.failure(), HandshakeError)
        await listener.close()


async def test_no_listening_on_a_secure_address_without_a_certificate() -> None:
    with pytest.raises(ListenError, match="server_tls"):
        await WebSocket().use(context(upgrader=RawUpgrader())).listen(Multiaddr(WSS), Accepted())
    with pytest.raises(OSError, match="such file"):
        certificate_context("/nowhere.pem")


# Reverse proxies


@pytest.mark.parametrize(
    ("trusted", "headers", "origin"),
    [
        ((), ["198.51.100.7"], None),
        (("10.0.0.0/8",), ["198.51.100.7"], None),
        (("127.0.0.0/8",), [], None),
        (("127.0.0.0/8",), ["forged"], None),
        (("127.0.0.0/8",), ["198.51.100.7"], "/ip4/198.51.100.7/tcp/0/ws"),
        (("127.0.0.0/8",), ["203.0.113.9, 198.51.100.7"], "/ip4/198.51.100.7/tcp/0/ws"),
        (("127.0.0.0/8",), ["203.0.113.9", "198.51.100.7"], "/ip4/198.51.100.7/tcp/0/ws"),
        (("127.0.0.0/8", "198.51.100.0/24"), ["2001:db8::9, 198.51.100.7"], "/ip6/2001:db8::9/tcp/0/ws"),
    ],
)
async def test_whom_a_proxy_speaks_for(trusted: tuple[str, ...], headers: list[str], origin: str | None) -> None:
    listener, accepted, port = await listen(WS, trusted_proxies=trusted)
    extra = [("X-Forwarded-For", header) for header in headers]
    async with connect(f"ws://127.0.0.1:{port}", additional_headers=extra) as client:
        inbound = await accepted.opened.get()
        own = f"/ip4/127.0.0.1/tcp/{client.local_address[1]}/ws"
        assert inbound.remote_addr == Multiaddr(origin or own)
        await end(inbound)
    await listener.close()


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="trusted_proxies"):
        WebSocketConfig(trusted_proxies=["127.0.0.1/8"])


# Lightness


def test_the_library_is_loaded_when_it_is_used() -> None:
    code = "import sys, libp2p.transports.websocket; sys.exit('websockets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("node.example.com", "node.example.com"),
        ("b\u00fccher.example", "xn--bcher-kva.example"),
        ("", "127.0.0.1"),
        ("x\r\nEvil: yes", "127.0.0.1"),
        ("a..b", "127.0.0.1"),
    ],
)
async def test_the_server_is_asked_by_the_name_that_led_to_it(name: str, host: str) -> None:
    heads: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await hang_up(writer)

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(HandshakeError, match="404"):
            await websocket().dial(Multiaddr(f"/ip4/127.0.0.1/tcp/{port}/ws"), None, DialOptions(host_name=name))
    (line,) = [line for line in heads[0].split(b"\r\n") if line.startswith(b"Host:")]
    assert line == f"Host: {host}:{port}".encode()
    assert b"Evil" not in heads[0]
