"""The older Python peer (PyPI `libp2p`, on trio) that py-libp2p is tested and measured against: TCP, Noise, yamux.

    python peer.py listen [MULTIADDR]        prints {"ready": true, "addrs": [...]}, serves until stdin closes, exits 0
    python peer.py dial ADDR COMMAND ARG...  prints one JSON object, {"command", "ok", ...}; exits 0 if ok, else 1

The commands, the protocols served and the lines printed are those of `../js/peer.mjs`. Limits on how many connections
and streams one peer may open, and how fast, are lifted; all else is that library's default. It needs an environment of
its own, for its package has the same import name as ours: `python -m venv .venv`, then
`.venv/bin/pip install -r requirements.txt`.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import logging
import os
import statistics
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import psutil
import trio
from libp2p.abc import IHost, INetStream, ISecureTransport
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import identify_handler_for, parse_identify_response
from libp2p.network.config import ConnectionConfig
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.peer.id import ID as PeerID  # noqa: N811
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from libp2p.peer.peerstore import PeerStore
from libp2p.rcmgr import ResourceLimits, ResourceManager
from libp2p.rcmgr.connection_limits import ConnectionLimits
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.transport.quic.exceptions import QUICStreamClosedError
from libp2p.transport.quic.stream import QUICStream
from multiaddr import Multiaddr

from libp2p import create_yamux_muxer_option, new_host
from libp2p.host.ping import ID as PING
from libp2p.host.ping import PingService, handle_ping

ECHO = "/echo/1.0.0"
PERF = "/perf/1.0.0"
SLOW_READ = "/interop/slow-read/1.0.0"
RSS = "/bench/rss/1.0.0"
MANY = 100_000  # more connections and streams than any test opens
BLOCK = 1 << 16
IN_FLIGHT = 64  # streams at once in `bench streams`
SETTLE = 0.01  # seconds between two connects: lets identify and the hang-up end, so they are not timed

Line = dict[str, Any]
Handler = Callable[[INetStream], Awaitable[None]]


async def read(stream: INetStream, size: int) -> bytes:
    """What comes next, nothing at the end; this library says that by an exception or by nothing read. Its QUIC can
    tell of the end before it has given the last data, and tells of it as a reset when our own direction has ended."""
    try:
        return await stream.read(size)
    except (StreamEOF, StreamReset) as error:
        muxed = stream.muxed_stream
        if isinstance(muxed, QUICStream) and not muxed.is_reset():
            with suppress(MuxedStreamEOF, QUICStreamClosedError):
                return await muxed.read(size)
        elif isinstance(error, StreamReset):
            raise
        return b""


async def chunks(stream: INetStream, size: int = BLOCK) -> AsyncIterator[bytes]:
    """The stream to its end."""
    while chunk := await read(stream, size):
        yield chunk


async def exactly(stream: INetStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = await read(stream, count - len(data))
        if not chunk:
            raise ConnectionError(f"the stream ended after {len(data)} of {count} bytes")
        data += chunk
    return data


async def write_zeros(stream: INetStream, total: int) -> None:
    block = bytes(BLOCK)
    for left in range(total, 0, -BLOCK):
        await stream.write(block if left >= BLOCK else block[:left])


async def serve_echo(stream: INetStream) -> None:
    async for chunk in chunks(stream):
        await stream.write(chunk)
    await stream.close_write()


async def serve_perf(stream: INetStream) -> None:
    (wanted,) = struct.unpack(">Q", await exactly(stream, 8))
    async for _ in chunks(stream):
        pass
    await write_zeros(stream, wanted)
    await stream.close_write()


async def serve_slow_read(stream: INetStream) -> None:
    (pause,) = struct.unpack(">I", await exactly(stream, 4))
    await trio.sleep(pause / 1000)
    digest = hashlib.sha256()
    since_rest = 0
    async for chunk in chunks(stream):
        digest.update(chunk)
        since_rest += len(chunk)
        if since_rest > 1 << 18:
            since_rest = 0
            await trio.sleep(0.01)
    await stream.write(digest.digest())
    await stream.close_write()


async def serve_rss(stream: INetStream) -> None:
    gc.collect()
    await stream.write(str(psutil.Process().memory_info().rss).encode())
    await stream.close_write()


def guarded(handler: Handler) -> Handler:
    """Resets the stream when `handler` fails: here an exception that leaves a handler would end the whole host."""

    async def run(stream: INetStream) -> None:
        try:
            await handler(stream)
        except Exception as error:
            print(f"handler failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            await stream.reset()

    return run


HANDLERS: dict[str, Handler] = {ECHO: serve_echo, PERF: serve_perf, SLOW_READ: serve_slow_read, RSS: serve_rss}


def noise(key_pair: KeyPair) -> dict[TProtocol, ISecureTransport]:
    return {NOISE: NoiseTransport(key_pair, noise_privkey=create_new_noise_key_pair().private_key)}


@asynccontextmanager
async def running_host(
    *listen: str,
    security: Callable[[KeyPair], dict[TProtocol, ISecureTransport]] = noise,
    muxer: TProtocol = YAMUX,
    handlers: Mapping[str, Handler] = HANDLERS,
    **options: Any,
) -> AsyncIterator[IHost]:
    key_pair = create_new_key_pair()
    host = new_host(
        key_pair=key_pair,
        sec_opt=security(key_pair),
        muxer_opt={muxer: create_yamux_muxer_option()[muxer]},
        connection_config=ConnectionConfig(
            max_connections=MANY,
            high_watermark=MANY,
            max_connections_per_peer=1,  # with more, each dial waits 250 ms for a further address, though it succeeded
        ),
        peerstore_opt=PeerStore(max_peers=MANY),  # past 1,000 peers it drops the host's own keys
        resource_manager=ResourceManager(
            limits=ResourceLimits(max_connections=MANY, max_memory_mb=1 << 16, max_streams=MANY),
            connection_limits=ConnectionLimits(),
            enable_rate_limiting=False,
        ),
        **options,
    )
    async with host.run(listen_addrs=[Multiaddr(address) for address in listen]):
        host.set_stream_handler(PING, handle_ping)
        host.set_stream_handler(IDENTIFY, identify_handler_for(host))
        for protocol, handler in handlers.items():
            host.set_stream_handler(protocol, guarded(handler))
        yield host


async def echo_once(host: IHost, peer: PeerID, data: bytes) -> None:
    stream = await host.new_stream(peer, [ECHO])
    await stream.write(data)
    answer = await exactly(stream, len(data))
    await stream.close()
    if answer != data:
        raise ConnectionError("the echo differs from what was sent")


async def write_random(stream: INetStream, total: int) -> str:
    digest = hashlib.sha256()
    for left in range(total, 0, -BLOCK):
        block = os.urandom(min(left, BLOCK))
        digest.update(block)
        await stream.write(block)
    await stream.close_write()
    return digest.hexdigest()


async def run_perf(host: IHost, peer: PeerID, up: int, down: int) -> float:
    start = time.perf_counter()
    stream = await host.new_stream(peer, [PERF])
    await stream.write(struct.pack(">Q", down))
    await write_zeros(stream, up)
    await stream.close_write()
    received = 0
    async for chunk in chunks(stream):
        received += len(chunk)
    if received != down:
        raise ConnectionError(f"{received} of {down} bytes arrived")
    return time.perf_counter() - start


async def ping(host: IHost, peer: PeerID, count: str) -> Line:
    rtts = await PingService(host).ping(peer, ping_amt=int(count))
    return {"count": len(rtts), "rtt_ms": rtts}


async def identify(host: IHost, peer: PeerID) -> Line:
    await trio.sleep(0.5)  # the host has asked by itself, and js-libp2p refuses a second identify stream meanwhile
    stream = await host.new_stream(peer, [IDENTIFY])
    message = b""
    async for chunk in chunks(stream):
        message += chunk
    seen = parse_identify_response(message)
    return {
        "peer_id": peer.to_base58(),
        "protocol_version": seen.protocol_version,
        "agent_version": seen.agent_version,
        "listen_addrs": [str(Multiaddr(address)) for address in seen.listen_addrs],
        "observed_addr": str(Multiaddr(seen.observed_addr)),
        "protocols": list(seen.protocols),
        "signed_record": bool(seen.signedPeerRecord),
    }


async def perf(host: IHost, peer: PeerID, up: str, down: str) -> Line:
    return {"up": int(up), "down": int(down), "seconds": await run_perf(host, peer, int(up), int(down))}


async def echo(host: IHost, peer: PeerID, count: str) -> Line:
    stream = await host.new_stream(peer, [ECHO])
    answer = hashlib.sha256()
    received = 0
    sent = ""

    async def write() -> None:
        nonlocal sent
        sent = await write_random(stream, int(count))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        async for chunk in chunks(stream):
            answer.update(chunk)
            received += len(chunk)
    ok = received == int(count) and answer.hexdigest() == sent
    return {"bytes": received, "sha256": answer.hexdigest(), "ok": ok}


async def slow_read(host: IHost, peer: PeerID, count: str, pause: str = "1000") -> Line:
    stream = await host.new_stream(peer, [SLOW_READ])
    await stream.write(struct.pack(">I", int(pause)))
    sent = await write_random(stream, int(count))
    digest = (await exactly(stream, 32)).hex()
    return {"bytes": int(count), "sha256": digest, "ok": digest == sent}


async def streams(host: IHost, peer: PeerID, count: str) -> Line:
    await in_flight(int(count), int(count), lambda: echo_once(host, peer, os.urandom(100)))
    return {"streams": int(count)}


async def unsupported(host: IHost, peer: PeerID) -> Line:
    try:
        stream = await host.new_stream(peer, ["/no/such/protocol"])
    except Exception as error:
        cause = error.__cause__ or error
        return {"refusal": f"{type(error).__name__}: {cause}", "ok": "protocol" in str(cause)}
    await stream.reset()
    return {"ok": False, "error": "the stream was opened"}


async def in_flight(count: int, width: int, run: Callable[[], Awaitable[None]]) -> None:
    turns = itertools.repeat(None, count)

    async def work() -> None:
        for _ in turns:
            await run()

    async with trio.open_nursery() as nursery:
        for _ in range(width):
            nursery.start_soon(work)


async def bench_connect(host: IHost, peer: PeerID, count: int, address: PeerInfo) -> Line:
    """The same host, hanging up between; the time until `connect` returns, ready for streams."""
    await host.disconnect(peer)
    times = []
    for turn in range(-(count // 10) - 1, count):
        await trio.sleep(SETTLE)
        start = time.perf_counter()
        await host.connect(address)
        if turn >= 0:
            times.append(time.perf_counter() - start)
        await trio.sleep(SETTLE)
        await host.disconnect(peer)
    return {"connect_ms": statistics.median(times) * 1000}


async def bench_rtt(host: IHost, peer: PeerID, count: int, _: PeerInfo) -> Line:
    """Open a stream (agreeing on its protocol), a byte there, a byte back, close."""
    times = []
    for turn in range(-(count // 10) - 1, count):
        start = time.perf_counter()
        await echo_once(host, peer, b"\0")
        if turn >= 0:
            times.append(time.perf_counter() - start)
    return {"rtt_ms": statistics.median(times) * 1000}


async def bench_upload(host: IHost, peer: PeerID, size: int, _: PeerInfo) -> Line:
    await run_perf(host, peer, size // 10, 0)
    return {"upload_mb_per_s": size / 1e6 / await run_perf(host, peer, size, 0)}


async def bench_download(host: IHost, peer: PeerID, size: int, _: PeerInfo) -> Line:
    await run_perf(host, peer, 0, size // 10)
    return {"download_mb_per_s": size / 1e6 / await run_perf(host, peer, 0, size)}


async def bench_streams(host: IHost, peer: PeerID, count: int, _: PeerInfo) -> Line:
    async def run() -> None:
        await echo_once(host, peer, b"\0")

    await in_flight(count // 10, IN_FLIGHT, run)
    start = time.perf_counter()
    await in_flight(count, IN_FLIGHT, run)
    return {"streams_per_s": count / (time.perf_counter() - start), "in_flight": IN_FLIGHT}


async def bench_idle(host: IHost, peer: PeerID, count: int, address: PeerInfo) -> Line:
    """Each connection from a host and an identity of its own, all in this process; best given a fresh listener."""
    hosts: list[IHost] = []
    done = trio.Event()

    async def hold(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with running_host() as other:
            await other.connect(address)
            hosts.append(other)
            task_status.started()
            await done.wait()

    async def resident_bytes() -> int:
        stream = await host.new_stream(peer, [RSS])
        return int(b"".join([chunk async for chunk in chunks(stream)]))

    async with trio.open_nursery() as nursery:

        async def grow(more: int) -> None:
            await in_flight(more, 16, lambda: nursery.start(hold))
            await trio.sleep(1)

        await grow(50)  # warms up the listener
        before = await resident_bytes()
        await grow(count)
        after = await resident_bytes()
        still_open = sum(len(other.get_connected_peers()) == 1 for other in hosts)
        done.set()
    return {
        "open": still_open,
        "rss_before": before,
        "rss_after": after,
        "bytes_per_connection": (after - before) / count,
    }


COMMANDS: dict[str, Callable[..., Awaitable[Line]]] = {
    "ping": ping,
    "identify": identify,
    "perf": perf,
    "echo": echo,
    "slow-read": slow_read,
    "streams": streams,
    "unsupported": unsupported,
}
BENCHES: dict[str, Callable[[IHost, PeerID, int, PeerInfo], Awaitable[Line]]] = {
    "connect": bench_connect,
    "rtt": bench_rtt,
    "upload": bench_upload,
    "download": bench_download,
    "streams": bench_streams,
    "idle": bench_idle,
}


def report(line: Line) -> None:
    print(json.dumps(line), flush=True)


async def listen(address: str = "/ip4/127.0.0.1/tcp/0") -> None:
    async with running_host(address) as host:
        report({"ready": True, "addrs": [str(address) for address in host.get_addrs()]})
        await trio.to_thread.run_sync(sys.stdin.read)


async def dial(address: str, name: str, *args: str) -> bool:
    info = info_from_p2p_addr(Multiaddr(address))
    try:
        async with running_host() as host:
            await host.connect(info)
            if name != "bench":
                result = {"command": name, "ok": True, **await COMMANDS[name](host, info.peer_id, *args)}
                report(result)
                return bool(result["ok"])
            for what, count in zip(args[::2], args[1::2], strict=True):
                await host.connect(info)
                result = await BENCHES[what](host, info.peer_id, int(count), info)
                report({"command": "bench", "ok": True, "what": what, "count": int(count), **result})
            return True
    except Exception as error:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        report({"command": name, "ok": False, "error": f"{type(error).__name__}: {error}"})
        return False


def main() -> int:
    logging.disable(logging.ERROR)
    role, *args = sys.argv[1:] or [""]
    if role == "listen":
        trio.run(listen, *args)
        return 0
    if role == "dial" and len(args) > 1 and args[1] in {*COMMANDS, "bench"}:
        return 0 if trio.run(dial, *args) else 1
    print("usage: python peer.py listen [MULTIADDR] | dial ADDR COMMAND ARG...", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
