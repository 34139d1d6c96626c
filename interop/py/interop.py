"""The older Python peer of the interop matrix, on the host, streams and handlers of peer.py.

../README.md says what it is told and what it answers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import trio
from libp2p.abc import IHost, INetStream, ISecureTransport
from libp2p.crypto.keys import KeyPair
from libp2p.custom_types import TProtocol
from libp2p.host.exceptions import StreamFailure
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID as PeerID  # noqa: N811
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from libp2p.security.tls.transport import PROTOCOL_ID as TLS
from libp2p.security.tls.transport import TLSTransport
from libp2p.stream_muxer.mplex.mplex import MPLEX_PROTOCOL_ID as MPLEX
from libp2p.transport.quic.config import QUICTransportConfig
from multiaddr import Multiaddr
from peer import (
    ECHO,
    HANDLERS,
    SLOW_READ,
    YAMUX,
    chunks,
    exactly,
    noise,
    run_perf,
    running_host,
    serve_echo,
    write_random,
)
from peer import identify as ask_who

from libp2p.host.ping import PingService

HALF_CLOSE = "/interop/half-close/1.0.0"
RESET = "/interop/reset/1.0.0"
SEEN = "/interop/seen/1.0.0"
PATIENCE = 60  # seconds for the other side to come up, and for connecting
CHECK_TIME = 30  # seconds for one check
NOTED_TIME = 5  # seconds for an end or a reset to come through
MIB = 1 << 20
SOMEONE = "12D3KooWSahP5pFRCEfaziPEba7urXGeif6T1y8jmodzdFUvzBHj"  # a peer that nobody here is


T = TypeVar("T")


def tls(key_pair: KeyPair) -> dict[TProtocol, ISecureTransport]:
    return {TLS: TLSTransport(key_pair)}


TRANSPORTS = {"tcp": "tcp/0", "ws": "tcp/0/ws", "quic-v1": "udp/0/quic-v1"}
SECURITY = {"noise": noise, "tls": tls}
MUXERS = {"yamux": YAMUX, "mplex": MPLEX}
# Its QUIC drops what a slow reader leaves past a limit, though it has confirmed it to the sender: all has to be kept.
QUIC = QUICTransportConfig(MAX_STREAM_RECEIVE_BUFFER=32 * MIB)
OPTIONS = {"ws": {"enable_websocket": True}, "quic-v1": {"enable_quic": True, "quic_transport_opt": QUIC}}


def ensure(holds: bool, what: str) -> None:
    if not holds:
        raise ConnectionError(what)


def host(*listen_on: str, **options: object) -> AbstractAsyncContextManager[IHost]:
    env = os.environ
    return running_host(
        *listen_on,
        security=SECURITY[env.get("SECURE_CHANNEL") or "noise"],
        muxer=MUXERS[env.get("MUXER") or "yamux"],
        **OPTIONS.get(env["TRANSPORT"], {}),
        **options,
    )


def redis(*words: str) -> str:
    """Send one command; the last line of the answer: all that RPUSH and BLPOP need."""
    address, _, port = os.environ["REDIS_ADDR"].rpartition(":")
    with socket.create_connection((address, int(port))) as connection:
        connection.sendall(" ".join(words).encode() + b"\r\n")
        answer = connection.makefile("r")
        line = answer.readline().strip()
        ensure(line != "" and line[0] != "-" and line != "*-1", f"redis: {line}")
        return [answer.readline().strip() for _ in range(4)][-1] if line == "*2" else line


def redis_key() -> str:
    return f"{os.environ['TEST_KEY']}_listener_multiaddr"


def own_ip() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return probe.getsockname()[0]


notes: list[str] = []  # what only a later question can tell the dialer: whether its end or reset has come through


async def half_close(stream: INetStream) -> None:
    await stream.close_write()
    notes.append(f"end {await read_slowly(stream, 0)}\n")


async def reset(stream: INetStream) -> None:
    who = await exactly(stream, 1)
    await stream.write(who)
    if who == b"l":
        await trio.sleep(0.1)  # the byte arrives first
        await stream.reset()
        return
    notes.append("reset\n" if await was_reset(stream) else "no reset, but an end\n")


async def was_reset(stream: INetStream) -> bool:
    """Read to the end. This library can show a reset as an end of reading; but then writing fails too."""
    try:
        async for _ in chunks(stream):
            pass
        await stream.write(b"\0")
    except Exception:
        return True
    return False


async def seen(stream: INetStream) -> None:
    if notes:
        await stream.write("".join(notes).encode())
    await stream.close_write()


SERVED = {**HANDLERS, ECHO: serve_echo, HALF_CLOSE: half_close, RESET: reset, SEEN: seen}


async def listen() -> None:
    ip = os.environ.get("LISTENER_IP", "0.0.0.0")
    suffix = TRANSPORTS[os.environ["TRANSPORT"]]
    async with host(f"/ip4/{own_ip() if ip == '0.0.0.0' else ip}/{suffix}", handlers=SERVED) as ours:
        redis("RPUSH", redis_key(), str(ours.get_addrs()[0]))
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                return


async def read_slowly(stream: INetStream, pause: float) -> str:
    """First do nothing for `pause` seconds, then read to the end, at most 256 KiB each 10 ms; the SHA-256 of it all."""
    await trio.sleep(pause)
    digest = hashlib.sha256()
    since_rest = 0
    async for chunk in chunks(stream):
        digest.update(chunk)
        since_rest += len(chunk)
        if since_rest >= 1 << 18:
            since_rest = 0
            await trio.sleep(0.01)
    return digest.hexdigest()


async def insistently(ask: Callable[[], Awaitable[T]]) -> T:
    """What a listener says that ends or closes the stream with it. Over QUIC the latter is a STOP_SENDING, which this
    library takes for the end of reading too, and an end can hide the data it came with: so it may take some tries."""
    end = time.monotonic() + NOTED_TIME
    while True:
        try:
            return await ask()
        except (StreamFailure, StreamError, ConnectionError):
            if os.environ["TRANSPORT"] != "quic-v1" or time.monotonic() > end:
                raise


class Dialer:
    """The host under test, connected to the listener."""

    def __init__(self, host: IHost, listener: PeerInfo) -> None:
        self.host = host
        self.listener = listener

    @property
    def peer(self) -> PeerID:
        return self.listener.peer_id

    async def open(self, protocol: str) -> INetStream:
        return await self.host.new_stream(self.peer, [protocol])

    async def echo_of(self, total: int, pause: float) -> None:
        stream = await self.open(ECHO)
        sent = ""

        async def write() -> None:
            nonlocal sent
            sent = await write_random(stream, total)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            got = await read_slowly(stream, pause)
        ensure(sent == got, "other bytes came back than were sent")

    async def seen(self) -> str:
        stream = await self.open(SEEN)
        text = b"".join([chunk async for chunk in chunks(stream)]).decode()
        await stream.close()
        return text

    async def noted(self, line: str) -> None:
        """Wait until the listener has seen this."""
        end = time.monotonic() + NOTED_TIME
        while True:
            text = await insistently(self.seen)
            if line in text:
                return
            ensure(time.monotonic() < end, f"the listener did not see {line!r}, but {text!r}")
            await trio.sleep(0.1)

    async def open_for_reset(self, who: bytes) -> INetStream:
        stream = await self.open(RESET)
        await stream.write(who)
        await exactly(stream, 1)
        return stream


async def identify(dialer: Dialer) -> None:
    await insistently(lambda: identify_once(dialer))


async def identify_once(dialer: Dialer) -> None:
    seen_there = await ask_who(dialer.host, dialer.peer)
    ensure(bool(seen_there["agent_version"]), "no agent version")
    missing = {"/ipfs/ping/1.0.0", ECHO} - set(seen_there["protocols"])
    ensure(not missing, f"{missing} not among {seen_there['protocols']}")
    parts = seen_there["observed_addr"].split("/")
    ensure(parts[1] == "ip4" and parts[3] in {"tcp", "udp"} and parts[4] != "0", f"observed at {'/'.join(parts)}")


async def echo(dialer: Dialer) -> None:
    await dialer.echo_of(MIB, 0)


async def slow_dialer(dialer: Dialer) -> None:
    await dialer.echo_of(10 * MIB, 1)


async def slow_listener(dialer: Dialer) -> None:
    stream = await dialer.open(SLOW_READ)
    await stream.write(struct.pack(">I", 1000))
    sent = await write_random(stream, 10 * MIB)
    ensure((await exactly(stream, 32)).hex() == sent, "other bytes arrived than were sent")


async def streams(dialer: Dialer) -> None:
    """All streams stay open until each has had its echo."""
    held: list[INetStream] = []

    async def one(number: int) -> None:
        stream = await dialer.open(ECHO)
        held.append(stream)
        data = f"stream {number}".encode()
        await stream.write(data)
        answer = await exactly(stream, len(data))
        ensure(answer == data, f"{answer!r} came back on stream {number}")

    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(one, number)
    for stream in held:
        await stream.close()


async def check_half_close(dialer: Dialer) -> None:
    """End our direction first, on perf; then have the listener end its own first."""
    await run_perf(dialer.host, dialer.peer, MIB, MIB)
    stream = await insistently(lambda: dialer.open(HALF_CLOSE))
    ensure([chunk async for chunk in chunks(stream, 1)] == [], "no end of the listener's direction")
    sent = await write_random(stream, 1 << 16)
    await dialer.noted(f"end {sent}\n")


async def check_reset(dialer: Dialer) -> None:
    """Reset a stream in the middle of data, then have the listener reset one; the connection goes on."""
    stream = await dialer.open_for_reset(b"d")
    await stream.write(bytes(10_000))
    await stream.reset()
    await dialer.noted("reset\n")
    stream = await dialer.open_for_reset(b"l")
    ensure(await was_reset(stream), "the listener reset the stream, which shows as its end")
    await echo(dialer)


async def unsupported(dialer: Dialer) -> None:
    try:
        await dialer.open("/no/such/protocol")
    except Exception as error:
        ensure("protocol" in str(error.__cause__ or error), repr(error))
        await echo(dialer)
    else:
        raise ConnectionError("the stream was opened")


async def wrong_peer(dialer: Dialer) -> None:
    try:
        await dialer.host.connect(PeerInfo(PeerID.from_base58(SOMEONE), dialer.listener.addrs))
    except Exception:
        await echo(dialer)
    else:
        raise ConnectionError("the listener passed for somebody else")


CHECKS: dict[str, Callable[[Dialer], Awaitable[None]]] = {
    "identify": identify,
    "echo": echo,
    "streams": streams,
    "half-close": check_half_close,
    "reset": check_reset,
    "unsupported": unsupported,
    "wrong-peer": wrong_peer,
    "slow-listener": slow_listener,
    "slow-dialer": slow_dialer,
}


async def dial() -> bool:
    addr = await trio.to_thread.run_sync(redis, "BLPOP", redis_key(), str(PATIENCE))
    info = info_from_p2p_addr(Multiaddr(addr))
    async with host() as ours:
        start = time.perf_counter()
        with trio.fail_after(PATIENCE):
            await ours.connect(info)
            (rtt,) = await PingService(ours).ping(info.peer_id, ping_amt=1)
        handshake = (time.perf_counter() - start) * 1000
        print(f"latency:\n  handshake_plus_one_rtt: {handshake:.3f}\n  ping_rtt: {rtt}\n  unit: ms", flush=True)
        return await run_checks(Dialer(ours, info))


async def run_checks(dialer: Dialer) -> bool:
    """Run those that CHECKS names, one after the other; print how each went."""
    names = [name for name in os.environ.get("CHECKS", "").split(",") if name]
    if names:
        print("checks:", flush=True)
    passed = True
    for name in names:
        verdict = "ok"
        try:
            with trio.fail_after(CHECK_TIME):
                await CHECKS[name](dialer)
        except Exception as error:
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            passed = False
            verdict = f"fail: {error!r}"
        print(f"  {name}: {json.dumps(verdict)}", flush=True)
    return passed


def main() -> int:
    logging.disable(logging.ERROR)
    if os.environ.get("IS_DIALER") == "true":
        return 0 if trio.run(dial) else 1
    trio.run(listen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
