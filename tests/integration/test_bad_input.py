"""Bytes that are wrong, at every stage of a connection over real sockets.

Each costs just its connection, or its stream, and has a name; the host goes on serving everybody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from libp2p import multistream
from libp2p.connection import Connection, Direction, SecureChannel, Stream
from libp2p.errors import (
    HandshakeError,
    IncompleteRead,
    Libp2pError,
    MessageTooLarge,
    RemoteProtocolError,
    StageTimeout,
    StreamReset,
)
from libp2p.host import Host, HostConfig
from libp2p.host.identify import IdentifyConfig
from libp2p.host.identify.service import ID, IdentifyFailed
from libp2p.identity import PrivateKey
from libp2p.multiaddr import host_port
from libp2p.muxers.yamux import Yamux
from libp2p.muxers.yamux.wire import DATA, GO_AWAY, HEADER, PING, WINDOW_UPDATE, Flag
from libp2p.security.noise import Noise
from libp2p.swarm import ConnectionLost, InboundFailed, SwarmConfig
from libp2p.testing.transports import RawUpgrader, context
from libp2p.transports.tcp import Tcp
from libp2p.upgrader import UpgraderConfig

pytestmark = pytest.mark.real

QUIET = HostConfig(
    identify=IdentifyConfig(automatic=False),
    upgrader=UpgraderConfig(0.3, 0.3),
    swarm=SwarmConfig(unlimited_prefixes=("127.0.0.0/8",)),  # all attacks come from there
    negotiation_timeout=0.3,
)
MULTISTREAM = b"\x13/multistream/1.0.0\n"
NOISE = MULTISTREAM + b"\x07/noise\n"
RANDOM = random.Random(1).randbytes(200)


class Target:
    """A host under attack, an honest peer of it, and what the host tells."""

    def __init__(self) -> None:
        self.host = Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"], config=QUIET)
        self.honest = Host(config=QUIET)
        self.told: asyncio.Queue[Any] = asyncio.Queue()
        self.host.events.on(InboundFailed, self.told.put_nowait)
        self.host.events.on(ConnectionLost, self.told.put_nowait)

        @self.host.handle("/echo")
        async def echo(stream: Stream) -> None:
            async for chunk in stream:
                await stream.write(chunk)

    async def __aenter__(self) -> Target:
        await self.host.__aenter__()
        self.stream = await self.honest.new_stream(self.host.addrs[0], "/echo")
        await self.check()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.honest.close()
        await self.host.close()

    async def check(self) -> None:
        """An old stream and a new one are served."""
        for stream in (self.stream, await self.honest.new_stream(self.host.id, "/echo")):
            await stream.write(b"still there?")
            assert await asyncio.wait_for(stream.readexactly(12), 5) == b"still there?"
            if stream is not self.stream:
                await stream.close()

    async def raw(self) -> Any:
        """A connection to the host on which nothing was said yet."""
        return await Tcp().use(context(upgrader=RawUpgrader())).dial(self.host.listen_addrs[0], None)

    async def secure(self) -> tuple[Any, SecureChannel]:
        raw = await self.raw()
        await multistream.select(raw, raw.write, ["/noise"])
        key = PrivateKey.generate()
        return raw, await Noise().secure_outbound(raw, key, expected_peer=self.host.id, muxers=["/yamux/1.0.0"])


@contextlib.asynccontextmanager
async def attack(target: Target) -> AsyncIterator[list[Any]]:
    """The raw connections put in the list must be closed by the host; then all must be well."""
    connections: list[Any] = []
    yield connections
    for connection in connections:
        with contextlib.suppress(OSError, EOFError, Libp2pError):
            while await asyncio.wait_for(connection.read(65536), 5):
                pass
        connection.abort()
    await target.check()
    assert len(target.host.connections) == 1


def noise_message(size: int, length: int | None = None) -> bytes:
    return (size if length is None else length).to_bytes(2, "big") + RANDOM[:size]


@pytest.mark.parametrize(
    ("sent", "half_close", "error", "message"),
    [
        (RANDOM, False, RemoteProtocolError, "multistream"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(100), False, RemoteProtocolError, "multistream"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + RANDOM, False, RemoteProtocolError, "multistream"),
        (b"\x13/multistream/9.9.9\n", False, RemoteProtocolError, "/multistream/1.0.0"),
        (b"\x07/noise\n" + MULTISTREAM, False, RemoteProtocolError, "/multistream/1.0.0"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", False, MessageTooLarge, "1024"),
        (b"\x81\x08" + bytes(2000), False, MessageTooLarge, "1025"),
        (b"\x00", False, RemoteProtocolError, "no bytes"),
        (b"\x80\x00", False, RemoteProtocolError, "length"),
        (b"\x04\xff\xfe\xfd\n", False, RemoteProtocolError, "UTF-8"),
        (MULTISTREAM + b"\x0d/secio/1.0.0\n", True, RemoteProtocolError, "/secio/1.0.0 is not supported"),
        (MULTISTREAM + b"\x0d/secio/1.0.0\n" * 200, False, Libp2pError, "MAX_PROPOSALS"),
        (MULTISTREAM + b"\x0b/tls/1.0.0\n", True, HandshakeError, "tls: the peer ended the connection"),
        (MULTISTREAM + b"\x0b/tls/1.0.0\n" + bytes(200), False, HandshakeError, "tls: "),
        (MULTISTREAM + b"\x0b/tls/1.0.0\n\x16\x03\x01\xff\xff" + bytes(70000), False, HandshakeError, "tls: "),
        (MULTISTREAM + b"\x03ls\n" * 200, False, Libp2pError, "MAX_PROPOSALS"),
        (MULTISTREAM[:7], True, IncompleteRead, "ended"),
        (b"", True, IncompleteRead, "ended"),
        (b"", False, StageTimeout, "security negotiation"),
        (MULTISTREAM, False, StageTimeout, "security negotiation"),
        (NOISE, False, StageTimeout, "/noise handshake"),
        (NOISE + noise_message(0), False, HandshakeError, "message 1: 0 bytes"),
        (NOISE + noise_message(31), False, HandshakeError, "message 1: 31 bytes"),
        (NOISE + noise_message(20, 32), True, HandshakeError, "message 1"),
        (NOISE + b"\x01", True, HandshakeError, "message 1"),
        (NOISE + noise_message(200, 0xFFFF), False, StageTimeout, "/noise handshake"),
        (NOISE + b"\x00\x20" + bytes(32), False, HandshakeError, "no secret"),
        (NOISE + noise_message(32) + noise_message(10), False, HandshakeError, "message 3: 10 bytes"),
        (NOISE + noise_message(32) + noise_message(100), False, HandshakeError, "static key failed authentication"),
        (NOISE + noise_message(32) + b"\xff\xff" + bytes(65535), False, HandshakeError, "failed authentication"),
        (NOISE + noise_message(32) + noise_message(90, 91), True, HandshakeError, "message 3"),
    ],
    ids=lambda value: value.hex()[:60] if isinstance(value, bytes) else None,
)
async def test_before_the_peer_is_known(sent: bytes, half_close: bool, error: type, message: str) -> None:
    async with Target() as target, attack(target) as connections:
        raw = await target.raw()
        connections.append(raw)
        raw.send((sent,))
        if half_close:
            raw._transport.write_eof()
        event = await asyncio.wait_for(target.told.get(), 5)
        assert isinstance(event, InboundFailed)
        assert isinstance(event.error, error), repr(event.error)
        assert message in str(event.error)
        assert (event.local_addr, event.remote_addr) == (raw.remote_addr, raw.local_addr)


def frame(kind: int, flags: int, stream_id: int, length: int, version: int = 0) -> bytes:
    return HEADER.pack(version, kind, flags, stream_id, length)


SYN, OPEN = Flag.SYN, frame(WINDOW_UPDATE, Flag.SYN, 1, 0)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (frame(DATA, SYN, 1, 0, version=1), "version 1"),
        (frame(9, 0, 1, 0), "unknown type 9"),
        (frame(DATA, 0x8000, 1, 0), "unknown flags"),
        (frame(DATA, SYN, 0, 0), "stream 0"),
        (frame(WINDOW_UPDATE, SYN, 2, 0), "ours to give"),
        (OPEN + OPEN, "opened twice"),
        (OPEN + frame(DATA, 0, 1, 0xFFFFFFFF), "window"),
        (OPEN + frame(WINDOW_UPDATE, 0, 1, 0xFFFFFFFF), "window of stream 1 grows"),
        (OPEN + frame(DATA, Flag.FIN, 1, 0) + frame(DATA, 0, 1, 1) + b"x", "behind its end"),
        (b"\xff" * 500, "version 255"),
        (RANDOM, "yamux"),
        (frame(PING, SYN, 0, 1)[:7], "ended"),
        (OPEN + frame(DATA, 0, 1, 100) + b"too little", "ended"),
        (frame(GO_AWAY, 0, 0, 2), "gave up with go-away code 2"),
        (None, "failed authentication"),
        (b"", "ended"),
    ],
    ids=lambda value: value.hex()[:60] if isinstance(value, bytes) else None,
)
@pytest.mark.parametrize("early", [False, True], ids=["late", "early"])
async def test_frames_of_a_proven_peer(frames: bytes | None, message: str, early: bool) -> None:
    """Early: together with the last message of the handshake."""
    async with Target() as target, attack(target):
        raw, channel = await target.secure()
        async with asyncio.timeout(5):
            while len(target.host.connections) < 2 and not early:  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0.001)
        if frames is None:
            raw.send((noise_message(100),))
        else:
            channel.send((frames,))
        if "ended" in message or "go-away" in message:
            raw._transport.write_eof()
        event = await asyncio.wait_for(target.told.get(), 5)
        if isinstance(event, ConnectionLost):
            assert message in event.reason.reason
            assert event.connection.remote_peer == channel.local_peer
        else:
            assert early
            assert isinstance(event.error, RemoteProtocolError)
            assert message in str(event.error)
        channel.abort()


@contextlib.asynccontextmanager
async def muxed(target: Target) -> AsyncIterator[Connection]:
    """An honest connection to the host, on whose streams anything may be said."""
    _, channel = await target.secure()
    connection = Yamux().connect(channel, Direction.OUTBOUND)
    connection.serve(lambda _: None, lambda _: None)
    yield connection
    assert not connection.is_closed, "it costs its stream only"
    connection.abort()


@pytest.mark.parametrize(
    "sent",
    [
        RANDOM,
        b"\xff" * 11,
        b"\x13/multistream/9.9.9\n",
        MULTISTREAM + b"\x00",
        MULTISTREAM + b"\x05/ech\xff",
        MULTISTREAM + b"\x05/nope\n" * 300,
        MULTISTREAM,
        b"",
    ],
)
async def test_negotiation_on_a_stream(sent: bytes) -> None:
    async with Target() as target, attack(target), muxed(target) as connection:
        stream = await connection.open_stream()
        with contextlib.suppress(StreamReset):
            await stream.write(sent)
        with pytest.raises(StreamReset) as caught:
            await asyncio.wait_for(stream.read(), 5)
        assert caught.value.code == 0x1001
        await (good := await connection.open_stream()).write(MULTISTREAM + b"\x06/echo\n" + b"hello")
        assert await good.readexactly(20 + 7 + 5) == MULTISTREAM + b"\x06/echo\nhello"


@pytest.mark.parametrize(
    "answer",
    [RANDOM, b"\x05\x0a\x00\x00\x00\x00", b"\xff" * 12, b"\x10" + bytes(3), bytes(200_000)],
)
async def test_identify(answer: bytes) -> None:
    """Both who answers, and who pushes, may lie."""
    async with Target() as target:
        liar = Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"], config=QUIET)

        async def lie(stream: Stream) -> None:
            await stream.write(answer)

        async with liar:
            liar.remove_handler(ID)
            liar.handle(ID)(lie)
            failed: list[Any] = []
            target.host.events.on(IdentifyFailed, failed.append)
            connection = await target.host.connect(liar.addrs[0])
            with pytest.raises(RemoteProtocolError):
                await target.host.identify.identify(connection)
            assert isinstance(failed[0].error, RemoteProtocolError)
            push = await liar.new_stream(target.host.id if liar.connections else "", "/ipfs/id/push/1.0.0")
            with contextlib.suppress(StreamReset):
                await push.write(answer)
                await push.close_write()
            with pytest.raises(StreamReset):
                await asyncio.wait_for(push.read(), 5)
            assert not connection.is_closed
            stream = await target.host.new_stream(connection, "/ipfs/ping/1.0.0")
            await stream.write(bytes(32))
            assert await stream.readexactly(32) == bytes(32)
            await target.check()


Garbage = Callable[[random.Random], bytes]
GARBAGE: list[Garbage] = [
    lambda dice: dice.randbytes(dice.randrange(1, 300)),
    lambda dice: MULTISTREAM[: dice.randrange(20)],
    lambda dice: NOISE + dice.randbytes(dice.randrange(300)),
    lambda dice: NOISE + noise_message(32) + dice.randbytes(dice.randrange(200)),
    lambda dice: b"\xff" * dice.randrange(1, 20),
    lambda dice: b"",
]


async def test_ten_thousand_garbage_connections_leave_nothing_behind() -> None:
    total, batch, dice = 10_000, 200, random.Random(7)
    loop = asyncio.get_running_loop()
    loop.set_debug(False)  # it takes ten times as long otherwise

    async def one(address: tuple[str, int]) -> None:
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(sock, dice.choice(GARBAGE)(dice))
                if dice.random() < 0.7:
                    sock.shutdown(socket.SHUT_WR)
                    while await loop.sock_recv(sock, 4096):
                        pass

    async with Target() as target:
        target.host.events.on(InboundFailed, failures := Counting())
        address = ("127.0.0.1", host_port(target.host.listen_addrs[0]).port)

        async def attack_in_batches(count: int) -> None:
            for _ in range(count // batch):
                await asyncio.gather(*(one(address) for _ in range(batch)))
                while not target.told.empty():
                    target.told.get_nowait()

        async def settled() -> tuple[int, int, dict[str, int]]:
            async with asyncio.timeout(10):
                while len(asyncio.all_tasks()) > 1 + resting:  # noqa: ASYNC110 - until the last handshake gave up
                    await asyncio.sleep(0.02)
            while not target.told.empty():
                target.told.get_nowait()
            gc.collect()
            return len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), ours()

        resting = len(asyncio.all_tasks()) - 1
        await attack_in_batches(2 * batch)
        before = await settled()
        await attack_in_batches(total)
        after = await settled()
        assert after == before
        assert failures.count == total + 2 * batch
        await target.check()


class Counting:
    """Counts calls."""

    count = 0

    def __call__(self, _: object) -> None:
        self.count += 1


def ours() -> dict[str, int]:
    """How many objects of each class of this package there are, and of what they keep alive."""
    counts: dict[str, int] = {}
    for thing in gc.get_objects():
        kind = type(thing)
        if kind.__module__.startswith(("libp2p", "asyncio", "_asyncio", "cryptography")) or kind is socket.socket:
            counts[kind.__qualname__] = counts.get(kind.__qualname__, 0) + 1
    return counts
