"""WebSocket frames: what breaks the protocol, and how connections end. In virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from libp2p.connection import RawConnection
from libp2p.connection.negotiation import incoming_of
from libp2p.errors import ConnectionClosed, RemoteProtocolError
from libp2p.multiaddr import Multiaddr
from libp2p.testing.conformance.one_end import settle, transcribed
from libp2p.testing.conformance.tools import Recorder
from libp2p.transports.memory import pipe
from libp2p.transports.websocket.connection import WsConnection
from libp2p.transports.websocket.core import Framing

ADDR = Multiaddr("/memory/0")


KEY = bytes(4)


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, mask: bool = True) -> bytes:
    """A frame, whose masking key is 0: what is masked by it stays as it is."""
    plain = Frame(Opcode(opcode), data, fin).serialize(mask=False)
    return bytes([plain[0], plain[1] | 0x80]) + KEY + plain[2:] if mask else plain


BINARY = frame(Opcode.BINARY, b"ok")
BEGUN = frame(Opcode.BINARY, b"begun", fin=False)


@pytest.mark.parametrize(
    ("wire", "code", "message"),
    [
        (frame(Opcode.TEXT, b"hello"), 1003, "text frame"),
        (frame(Opcode.BINARY, b"x", mask=False), 1002, "unmasked"),
        (frame(Opcode.PING, mask=False), 1002, "incorrect masking"),
        (frame(Opcode.CONT, b"x"), 1002, "the continuation of no message"),
        (BEGUN + BINARY, 1002, "a message within another"),
        (BEGUN + frame(Opcode.CLOSE, b"\x03\xe8"), 1002, "closed within a message"),
        (b"\xc2\x80\0\0\0\0", 1002, "reserved bits"),
        (b"\x83\x80\0\0\0\0", 1002, "opcode 3 is reserved"),
        (b"\x8b\x80\0\0\0\0", 1002, "invalid opcode"),
        (b"\x89\xfe\x01\0\0\0\0\0", 1002, "more than 125 bytes"),
        (b"\x09\x80\0\0\0\0", 1002, "fragmented control frame"),
        (frame(Opcode.CLOSE, b"\x03"), 1002, "too short"),
        (frame(Opcode.CLOSE, b"\x03\xed"), 1002, "invalid status code"),
        (frame(Opcode.CLOSE, b"\x03\xe8\xff"), 1007, "utf-8"),
        (b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 1002, "a payload of"),
    ],
)
def test_violations(wire: bytes, code: int, message: str) -> None:
    framing, got = Framing(Protocol(Side.SERVER)), bytearray()
    framing.receive(memoryview(BINARY), got.extend)
    with pytest.raises(RemoteProtocolError, match=message):
        framing.receive(memoryview(wire), got.extend)
    assert got[:2] == b"ok"
    (notice,) = framing.answer()
    assert notice[0] == 0x88
    assert int.from_bytes(notice[2:4], "big") == code
    assert not framing.is_open


def test_a_server_must_not_mask() -> None:
    with pytest.raises(RemoteProtocolError, match="masked by a server"):
        Framing(Protocol(Side.CLIENT)).receive(memoryview(BINARY), lambda data: None)


def test_a_frame_of_any_size_is_passed_on_as_it_comes() -> None:
    framing, size, pushed = Framing(Protocol(Side.CLIENT)), 1 << 40, []
    framing.receive(memoryview(b"\x82\x7f" + size.to_bytes(8, "big")), pushed.append)
    piece = memoryview(bytes(100_000))
    for _ in range(3):
        framing.receive(piece, pushed.append)
    assert [len(data) for data in pushed] == [100_000] * 3
    assert pushed[0].obj is piece.obj, "an unmasked payload is not copied"


def test_small_buffers_share_a_frame_and_large_ones_are_cut() -> None:
    framing = Framing(Protocol(Side.SERVER))
    assert framing.seal([b"ab", memoryview(b"cd"), b"", bytearray(b"ef")]) == [b"\x82\x06abcdef"]
    assert framing.seal([b"", b""]) == []
    assert [len(sent) for sent in framing.seal([bytes(65537)] * 2)] == [65547, 65547], (
        "each record in a frame of its own"
    )
    assert [len(sent) for sent in framing.seal([b"x", bytes(200_000)])] == [3, 98304 + 10, 98304 + 10, 3392 + 4]


def peers(close_timeout: float = 2.0) -> tuple[RawConnection, WsConnection]:
    """A client played by hand, and our side as the server."""
    client, server = pipe()
    protocol = Protocol(Side.SERVER)
    return client, WsConnection(server, protocol, local_addr=ADDR, remote_addr=ADDR, close_timeout=close_timeout)


async def end(*connections: RawConnection) -> None:
    for connection in connections:
        connection.abort()
        await connection.close()


async def test_pings_are_answered_the_last_of_those_in_a_turn() -> None:
    client, server = peers()
    await client.write(b"".join(frame(Opcode.PING, b"%03d" % n) for n in range(1000)) + BINARY)
    assert await server.readexactly(2) == b"ok"
    pongs = [await client.readexactly(5) for _ in range(63)]
    assert pongs == [b"\x8a\x03%03d" % min(n, 999) for n in range(15, 1015, 16)]
    await client.write(frame(Opcode.PING, b"again") + frame(Opcode.PONG, b"unasked"))
    assert await client.readexactly(7) == b"\x8a\x05again"
    assert incoming_of(client).available == 0
    await end(client, server)


async def test_a_peer_that_pings_and_reads_nothing_costs_no_memory() -> None:
    client, server = peers()
    sink = Recorder(server)
    server.attach(sink)
    await asyncio.sleep(10)
    server.send((bytes(200_000),))
    assert sink.paused
    for n in range(1000):
        client.send((frame(Opcode.PING, b"%03d" % n),))
        await asyncio.sleep(0.01)
    client.send((BINARY,))
    await sink.until(size=2)
    assert server._raw.unsent < 201_000  # type: ignore[attr-defined]
    await client.readexactly(200_000 + 10 + 10 + 4)
    assert await client.readexactly(5) == b"\x8a\x03999"
    await end(client, server)


@pytest.mark.parametrize(
    ("useless", "cost"), [(frame(Opcode.PING), 1), (frame(Opcode.BINARY), 1), (frame(Opcode.BINARY, b"x"), 0.125)]
)
async def test_small_frames_wait_for_their_turns_and_count(useless: bytes, cost: float) -> None:
    client, server = peers()
    async with transcribed(server, client, join=True) as told:
        client.send((useless * 1000 + BINARY * 2 + frame(Opcode.CLOSE, b"\x03\xe8"),))
        turns = 0
        while not told.told or not told.told[0].endswith(b"okok"):
            turns += 1
            await asyncio.sleep(0)
        assert turns > 1000 // 128
        assert told.useless_cost == 1000 * cost + 0.25 + 1, "the Close frame too"
        await settle()
        assert told.told[1:] == ["eof"], "the end comes behind what waited"


async def test_a_peer_that_sends_too_much_of_no_use_during_the_handshake_is_refused() -> None:
    client, server = peers()
    client.send((frame(Opcode.BINARY) * 2000,))
    with pytest.raises(RemoteProtocolError, match="of a few bytes"):
        await server.read()
    await end(client, server)


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe9bye"])
async def test_a_close_in_order_is_the_end_of_the_stream(payload: bytes) -> None:
    client, server = peers()
    await client.write(BINARY + frame(Opcode.CLOSE, payload) + b"what comes behind it")
    assert await server.read() == b"ok"
    assert await client.readexactly(2 + len(payload)) == bytes([0x88, len(payload)]) + payload
    server.send((b"too late",))
    await asyncio.sleep(0.01)
    with pytest.raises(ConnectionClosed):
        await server.write(b"too late")
    await end(client, server)


async def test_a_close_for_a_reason_is_an_error_that_tells_it() -> None:
    client, server = peers()
    await client.write(frame(Opcode.CLOSE, b"\x03\xf3overloaded"))
    with pytest.raises(ConnectionClosed, match="by the peer: overloaded") as caught:
        await server.read(1)
    assert (caught.value.code, caught.value.by) == (1011, "remote")
    await end(client, server)


async def test_an_end_without_close_is_an_error() -> None:
    client, server = peers()
    await client.write(BINARY)
    closing = asyncio.ensure_future(client.close())
    assert await server.readexactly(2) == b"ok"
    with pytest.raises(ConnectionClosed, match="without a WebSocket Close frame"):
        await server.read(1)
    await closing
    await end(server)


async def test_what_breaks_the_protocol_ends_the_connection() -> None:
    client, server = peers()
    sink = Recorder(server)
    server.attach(sink)
    await client.write(BINARY + frame(Opcode.TEXT, b"hello") + BINARY)
    await sink.until(lost=True)
    assert sink.data == b"ok"
    assert isinstance(sink.lost[0], RemoteProtocolError)
    await end(client, server)


async def test_nothing_is_pushed_behind_an_abort() -> None:
    client, server = peers()

    class Sink(Recorder):
        def data_received(self, data: memoryview) -> None:
            super().data_received(data)
            server.abort()

    sink = Sink(server)
    server.attach(sink)
    await client.write(BINARY * 3)
    await sink.until(lost=True)
    assert sink.data == b"ok"
    await end(client, server)


async def test_closing_waits_for_the_peers_close_but_not_for_ever() -> None:
    loop = asyncio.get_running_loop()
    for answers in (True, False):
        client, server = peers(close_timeout=3.0)
        began = loop.time()
        closing: Any = asyncio.ensure_future(server.close())
        assert await client.readexactly(4) == b"\x88\x02\x03\xe8"
        server.send((b"not sent any more",))
        if answers:
            await client.write(frame(Opcode.CLOSE, b"\x03\xe8"))
        assert await client.read() == b""
        await client.close()
        await closing
        assert loop.time() - began < 0.1 if answers else 2.9 < loop.time() - began < 3.1
