"""What the listener serves beside ping, identify and perf: the other half of each check."""

from __future__ import annotations

import asyncio
import hashlib

from libp2p.connection import Stream
from libp2p.errors import StreamReset
from libp2p.host import Host

ECHO = "/echo/1.0.0"
SLOW_READ = "/interop/slow-read/1.0.0"
HALF_CLOSE = "/interop/half-close/1.0.0"
RESET = "/interop/reset/1.0.0"
SEEN = "/interop/seen/1.0.0"

SLOW_BYTES = 1 << 18
SLOW_REST = 0.01


async def read_slowly(stream: Stream, pause: float) -> bytes:
    """First do nothing for `pause` seconds, then read to the end, at most 256 KiB each 10 ms; the SHA-256 of it all."""
    await asyncio.sleep(pause)
    digest = hashlib.sha256()
    since_rest = 0
    while chunk := await stream.read(SLOW_BYTES - since_rest):
        digest.update(chunk)
        since_rest += len(chunk)
        if since_rest == SLOW_BYTES:
            since_rest = 0
            await asyncio.sleep(SLOW_REST)
    return digest.digest()


async def echo(stream: Stream) -> None:
    async for chunk in stream:
        await stream.write(chunk)


async def slow_read(stream: Stream) -> None:
    pause = int.from_bytes(await stream.readexactly(4), "big")
    await stream.write(await read_slowly(stream, pause / 1000))


def serve(host: Host) -> None:
    """Serve all of it on `host`."""
    notes: list[str] = []  # what only a later question can tell the dialer: whether its end or reset has come through

    async def half_close(stream: Stream) -> None:
        await stream.close_write()
        notes.append(f"end {(await read_slowly(stream, 0)).hex()}\n")

    async def reset(stream: Stream) -> None:
        who = await stream.readexactly(1)
        await stream.write(who)
        if who == b"l":
            await asyncio.sleep(0.1)  # the byte arrives first
            stream.reset()
            return
        try:
            async for _ in stream:
                pass
        except StreamReset:
            notes.append("reset\n")
        else:
            notes.append("no reset, but an end\n")

    async def seen(stream: Stream) -> None:
        await stream.write("".join(notes).encode())

    handlers = {ECHO: echo, SLOW_READ: slow_read, HALF_CLOSE: half_close, SEEN: seen}
    for protocol, handler in handlers.items():
        host.handle(protocol)(handler)
    host.handle(RESET, cancel_on_reset=False)(reset)
