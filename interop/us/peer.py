"""Our own peer of the interop matrix. ../README.md says what it is told and what it answers.

It keeps the contract of libp2p's community test framework (transport and perf tests), so it can be entered there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

from certificate import secure_websocket
from checks import CHECKS, CheckFailed, Dialed
from measure import measure_all
from pubsub import serve_pubsub
from redis import Redis
from relay import play
from serve import serve

from libp2p.connection import Muxer, SecurityProtocol, Transport
from libp2p.errors import Libp2pError
from libp2p.host import Host
from libp2p.host.ping import ping
from libp2p.multiaddr import Multiaddr
from libp2p.muxers.mplex import Mplex
from libp2p.muxers.yamux import Yamux
from libp2p.protocols.perf import Perf, PerfConfig
from libp2p.protocols.pubsub import GossipSub
from libp2p.security.noise import Noise
from libp2p.security.tls import Tls
from libp2p.transports.quic import Quic
from libp2p.transports.tcp import Tcp
from libp2p.transports.websocket import WebSocket

PATIENCE = 60  # seconds for the other side to come up
CHECK_TIME = 30  # seconds for one check

TRANSPORTS: dict[str, tuple[Callable[[], Transport], str]] = {
    "tcp": (Tcp, "tcp/0"),
    "ws": (WebSocket, "tcp/0/ws"),
    "wss": (secure_websocket, "tcp/0/tls/ws"),
    "quic-v1": (Quic, "udp/0/quic-v1"),
}
SECURITY: dict[str, Callable[[], SecurityProtocol]] = {
    "noise": Noise,
    "tls": Tls,
}
MUXERS: dict[str, Callable[[], Muxer]] = {
    "yamux": Yamux,
    "mplex": Mplex,
}


class Unsupported(Exception):
    """A transport, secure channel or muxer that we have not."""


def host(*listen_on: str) -> Host:
    """The host that the environment asks for; a transport that brings its own security and muxer needs none named."""
    transport, _ = chosen(TRANSPORTS, "TRANSPORT")
    return Host(
        listen_addrs=listen_on,
        transports=[transport()],
        security=[chosen(SECURITY, "SECURE_CHANNEL")()] if os.environ.get("SECURE_CHANNEL") else None,
        muxers=[chosen(MUXERS, "MUXER")()] if os.environ.get("MUXER") else None,
    )


T = TypeVar("T")


def chosen(table: dict[str, T], variable: str) -> T:
    name = os.environ.get(variable, "")
    if name not in table:
        raise Unsupported(f"{variable}={name}: there is {', '.join(table)}")
    return table[name]


def own_ip() -> str:
    """An address of this machine that others can dial: where it would send to a far one from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])


def redis_key() -> str:
    return f"{os.environ['TEST_KEY']}_listener_multiaddr"


async def listen() -> None:
    ip = os.environ.get("LISTENER_IP", "0.0.0.0")
    _, suffix = chosen(TRANSPORTS, "TRANSPORT")
    addr = f"/ip4/{own_ip() if ip == '0.0.0.0' else ip}/{suffix}"
    async with host(addr) as ours, Perf(ours, PerfConfig(max_streams_per_peer=1000)), GossipSub(ours) as pubsub:
        serve(ours)
        ours.spawn(serve_pubsub(pubsub), name="pubsub")
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        async with Redis(os.environ["REDIS_ADDR"]) as redis:
            await redis.send("RPUSH", redis_key(), str(ours.addrs[0]))
        await stopped.wait()


async def dial() -> bool:
    async with Redis(os.environ["REDIS_ADDR"]) as redis:
        addr = Multiaddr(await redis.send("BLPOP", redis_key(), str(PATIENCE)))
    async with host() as ours:
        start = time.perf_counter()
        connection = await ours.connect(addr)
        (rtt,) = await ping(ours, connection)
        handshake = time.perf_counter() - start
        if "UPLOAD_BYTES" in os.environ:
            await measure_all(ours, connection)
            return True
        print(f"latency:\n  handshake_plus_one_rtt: {handshake * 1000:.3f}\n  ping_rtt: {rtt * 1000:.3f}\n  unit: ms")
        return await run_checks(Dialed(ours, connection, addr, host))


async def run_checks(dialed: Dialed) -> bool:
    """Run those that CHECKS names, one after the other; print how each went."""
    names = [name for name in os.environ.get("CHECKS", "").split(",") if name]
    if names:
        print("checks:")
    passed = True
    for name in names:
        try:
            async with asyncio.timeout(CHECK_TIME):
                await CHECKS[name](dialed)
            verdict = "ok"
        except (Libp2pError, OSError, TimeoutError, CheckFailed, KeyError, ExceptionGroup) as error:
            passed = False
            verdict = f"fail: {error!r}"
        print(f"  {name}: {json.dumps(verdict)}", flush=True)
    return passed


def main() -> int:
    logging.basicConfig(level=logging.DEBUG if os.environ.get("DEBUG") == "true" else logging.WARNING)
    try:
        if sys.argv[1:2] == ["relay"]:
            asyncio.run(play(sys.argv[2:]))
            return 0
        if os.environ.get("IS_DIALER") == "true":
            return 0 if asyncio.run(dial()) else 1
        asyncio.run(listen())
    except (Libp2pError, OSError, Unsupported, ValueError, ExceptionGroup) as error:
        traceback.print_exception(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
