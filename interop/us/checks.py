"""What the dialer checks beyond ping. Each check raises what went wrong."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pubsub import check_pubsub
from serve import ECHO, HALF_CLOSE, RESET, SEEN, SLOW_READ, read_slowly

from libp2p.connection import Connection, Stream
from libp2p.errors import DialError, PeerIdMismatch, ProtocolNotSupported, StreamReset
from libp2p.host import Host
from libp2p.host.identify import IdentifyFailed
from libp2p.host.ping import PROTOCOL_ID as PING
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.perf import measure
from libp2p.protocols.pubsub import GossipSub

MIB = 1 << 20
BLOCK = 1 << 16
NOTED_TIME = 5  # seconds for an end or a reset to come through
SOMEONE = "12D3KooWSahP5pFRCEfaziPEba7urXGeif6T1y8jmodzdFUvzBHj"  # a peer that nobody here is


class CheckFailed(Exception):
    """What the peer did is not what the check expects."""


def ensure(holds: object, what: str) -> None:
    if not holds:
        raise CheckFailed(what)


@dataclass(frozen=True, slots=True)
class Dialed:
    """The connection under test; `addr` is where it leads, with the listener's peer id."""

    host: Host
    connection: Connection
    addr: Multiaddr
    new_host: Callable[[], Host]
    """Makes another host of the same kind."""

    async def open(self, protocol: str) -> Stream:
        return await self.host.new_stream(self.connection, protocol)


async def write_random(stream: Stream, total: int) -> bytes:
    """The SHA-256 of what was written; the direction is ended behind it."""
    digest = hashlib.sha256()
    for left in range(total, 0, -BLOCK):
        block = os.urandom(min(left, BLOCK))
        digest.update(block)
        await stream.write(block)
    await stream.close_write()
    return digest.digest()


async def identify(dialed: Dialed) -> None:
    seen = await dialed.host.identify.identify(dialed.connection)
    ensure(seen.agent_version, "no agent version")
    ensure({PING, ECHO} <= set(seen.protocols), f"ping or echo is missing: {seen.protocols}")
    local = list(dialed.connection.local_addr)[:2]
    observed = list(seen.observed_addr or ())[:2]
    ensure(observed == local, f"observed at {observed}, not {local}")


async def echo_of(dialed: Dialed, total: int, pause: float = 0) -> None:
    async with await dialed.open(ECHO) as stream, asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(write_random(stream, total))
        got = await read_slowly(stream, pause)
    ensure(got == await writing, "other bytes came back than were sent")


async def echo(dialed: Dialed) -> None:
    await echo_of(dialed, MIB)


async def slow_dialer(dialed: Dialed) -> None:
    await echo_of(dialed, 10 * MIB, pause=1)


async def slow_listener(dialed: Dialed) -> None:
    async with await dialed.open(SLOW_READ) as stream:
        await stream.write((1000).to_bytes(4, "big"))
        sent = await write_random(stream, 10 * MIB)
        ensure(await stream.read() == sent, "other bytes arrived than were sent")


async def streams(dialed: Dialed) -> None:
    """All streams stay open until each has had its echo."""
    held: list[Stream] = []

    async def one(number: int) -> None:
        stream = await dialed.open(ECHO)
        held.append(stream)
        data = f"stream {number}".encode()
        await stream.write(data)
        answer = await stream.readexactly(len(data))
        ensure(answer == data, f"{answer!r} came back on stream {number}")

    await asyncio.gather(*map(one, range(200)))
    for stream in held:
        await stream.close()


async def half_close(dialed: Dialed) -> None:
    """End our direction first, on perf; then have the listener end its own first."""
    await measure(dialed.host, dialed.connection, upload=MIB, download=MIB)
    async with await dialed.open(HALF_CLOSE) as stream:
        ensure(await stream.read(1) == b"", "no end of the listener's direction")
        sent = await write_random(stream, BLOCK)
        await noted(dialed, f"end {sent.hex()}\n")


async def noted(dialed: Dialed, line: str) -> None:
    """Wait until the listener has seen this."""
    end = time.monotonic() + NOTED_TIME
    while True:
        async with await dialed.open(SEEN) as stream:
            await stream.close_write()
            text = (await stream.read()).decode()
        if line in text:
            return
        ensure(time.monotonic() < end, f"the listener did not see {line!r}, but {text!r}")
        await asyncio.sleep(0.1)


async def reset(dialed: Dialed) -> None:
    """Reset a stream in the middle of data, then have the listener reset one; the connection goes on."""
    stream = await dialed.open(RESET)
    await stream.write(b"d")
    await stream.readexactly(1)
    await stream.write(bytes(10_000))
    stream.reset()
    await noted(dialed, "reset\n")
    stream = await dialed.open(RESET)
    await stream.write(b"l")
    await stream.readexactly(1)
    try:
        data = await stream.read(1)
    except StreamReset:
        await echo(dialed)
    else:
        raise CheckFailed(f"the listener reset the stream, which shows as {data!r}")


async def unsupported(dialed: Dialed) -> None:
    stream = await dialed.open("/no/such/protocol")
    try:
        await stream.agreed()
    except ProtocolNotSupported:
        await echo(dialed)
    else:
        raise CheckFailed("the stream was opened")


async def refusals(dialed: Dialed) -> None:
    """Many at once, however the answer is waited for."""

    async def one(number: int) -> None:
        try:
            if number % 4 == 0:
                await dialed.host.new_stream(dialed.connection, f"/no/such/{number}", f"/nor/that/{number}")
            stream = await dialed.open(f"/no/such/{number}")
            if number % 4 == 1:
                await stream.agreed()
            if number % 4 == 2:
                await stream.write(bytes(100))
            await stream.close_write()
            await stream.read()
        except ProtocolNotSupported:
            return
        raise CheckFailed("the stream was opened")

    for start in range(0, 60, 12):  # in rounds: some peers lose streams that come all at once
        await asyncio.gather(*map(one, range(start, start + 12)))
    await echo(dialed)


async def identify_at_once(dialed: Dialed) -> None:
    """The first thing on a new connection, while our host asks by itself: js-libp2p refuses a second stream."""
    async with dialed.new_host() as another:
        failed: list[IdentifyFailed] = []
        another.events.on(IdentifyFailed, failed.append)
        connection = await another.connect(dialed.addr)
        for _ in range(3):
            seen = await another.identify.identify(connection)
            ensure({PING, ECHO} <= set(seen.protocols), f"ping or echo is missing: {seen.protocols}")
        ensure(not failed, f"asked by itself, our host got {[event.error for event in failed]}")


async def wrong_peer(dialed: Dialed) -> None:
    try:
        await dialed.host.connect(dialed.addr.without_peer().with_peer(SOMEONE))
    except DialError as error:
        ensure(all(isinstance(cause, PeerIdMismatch) for cause in error.attempts.values()), str(error))
        await echo(dialed)
    else:
        raise CheckFailed("the listener passed for somebody else")


async def pubsub(dialed: Dialed) -> None:
    """By a host that speaks pubsub when it connects: rust-libp2p asks once on a connection, and believes a no."""
    async with dialed.new_host() as host, GossipSub(host) as gossip:
        await host.connect(dialed.addr)
        fault = await check_pubsub(gossip)
    ensure(not fault, fault)


CHECKS: dict[str, Callable[[Dialed], Awaitable[None]]] = {
    "identify": identify,
    "echo": echo,
    "streams": streams,
    "half-close": half_close,
    "reset": reset,
    "unsupported": unsupported,
    "refusals": refusals,
    "identify-at-once": identify_at_once,
    "wrong-peer": wrong_peer,
    "slow-listener": slow_listener,
    "slow-dialer": slow_dialer,
    "pubsub": pubsub,
}
