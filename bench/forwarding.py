"""How many messages a pubsub node forwards in a second of its CPU time.

    8 peers, each message by another -> the node measured, a process of its own -> 6 peers that are in its mesh

The peers are streams of RPCs by hand, so that they cost little, in this process. No more than a window of messages is
under way, so that no queue overflows; the first tenth is not counted.
"""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from libp2p.connection import Stream
from libp2p.errors import Libp2pError
from libp2p.host import Host
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.pubsub.config import GOSSIPSUB_11
from libp2p.protocols.pubsub.frames import FrameReader
from libp2p.protocols.pubsub.wire import Rpc, SubOpts, WireMessage, decode_rpc, encode_rpc, frame
from libp2p.transports.tcp import Tcp

from .measure import MeasurementError
from .rivals import Implementation

TOPIC = "blocks"
SOURCES, MEMBERS = 8, 6
SIZE = 1024
WINDOW = 160
BURST = 5  # messages of one peer in a row
TIME_LIMIT = 120.0
OPTIONS = {"HashIDs": True, "NoSign": True, "Quiet": True}


def forwarded_per_second(implementation: Implementation, count: int) -> float:
    """Messages by CPU second. Raises `MeasurementError`."""
    return asyncio.run(_measure(implementation, count))


async def _measure(implementation: Implementation, count: int) -> float:
    try:
        async with asyncio.timeout(TIME_LIMIT), _node(implementation) as (process, addr), AsyncExitStack() as stack:
            # The older Python tells messages apart by author and number, too: nameless ones are all the same to it.
            load = Load(named=implementation.hub[-1] == "pubsubnode.py")
            for n in range(SOURCES + MEMBERS):
                host = await stack.enter_async_context(Host(transports=[Tcp()]))
                await load.add(host, addr, member=n < MEMBERS)
            await load.send_until_all_get_some()
            await load.send(max(WINDOW, count // 10))
            before = _cpu_seconds(process.pid)
            await load.send(count)
            return count / (_cpu_seconds(process.pid) - before)
    except TimeoutError as error:
        raise MeasurementError(f"not finished within {TIME_LIMIT:.0f} s") from error
    except (Libp2pError, OSError, ValueError) as error:
        raise MeasurementError(f"{type(error).__name__}: {error}") from error


class Load:
    """The peers of the node measured."""

    def __init__(self, *, named: bool) -> None:
        self._named = named
        self._sources: list[tuple[bytes, Stream]] = []
        self._got: list[int] = []
        self._progress = asyncio.Event()
        self._sent = 0

    async def add(self, host: Host, addr: Multiaddr, *, member: bool) -> None:
        """One more peer: of the mesh, or a source."""
        place = len(self._got)

        async def read(stream: Stream) -> None:
            reader = FrameReader(limit=1 << 20)
            while chunk := await stream.read(1 << 16):
                for rpc in reader.feed(chunk):
                    if member:
                        self._got[place] += len(decode_rpc(rpc, max_entries=10_000).messages)
                        self._progress.set()

        if member:
            self._got.append(0)
        host.handle(GOSSIPSUB_11)(read)
        stream = await host.new_stream(await host.connect(addr), GOSSIPSUB_11)
        await stream.agreed()
        if member:
            await stream.write(frame(encode_rpc(Rpc(subscriptions=[SubOpts(TOPIC)], graft=[TOPIC]))))
        else:
            self._sources.append((host.id.to_bytes(), stream))

    async def send_until_all_get_some(self) -> None:
        """Wait until all members are in the mesh; then for what is under way."""
        while min(self._got) == 0:
            await self._write(1)
            await asyncio.sleep(0.2)
        await asyncio.sleep(2)
        self._sent = 0
        self._got[:] = [0] * MEMBERS

    async def send(self, count: int) -> None:
        """Send so many, and wait until all members have them."""
        end = self._sent + count
        while self._sent < end:
            await self._until_got(self._sent + BURST - WINDOW)
            await self._write(min(BURST, end - self._sent))
        await self._until_got(end)

    async def _until_got(self, count: int) -> None:
        while min(self._got) < count:
            self._progress.clear()
            await self._progress.wait()

    async def _write(self, count: int) -> None:
        author, stream = self._sources[self._sent // BURST % SOURCES]
        frames = []
        for _ in range(count):
            number = os.urandom(8)
            data = number.ljust(SIZE, b"\0")
            message = WireMessage(TOPIC, data, author, number) if self._named else WireMessage(TOPIC, data)
            frames.append(frame(encode_rpc(Rpc(messages=[message]))))
            self._sent += 1
        await stream.write(b"".join(frames))


@asynccontextmanager
async def _node(implementation: Implementation) -> AsyncIterator[tuple[Process, Multiaddr]]:
    """The node measured, in the topic, and where it listens."""
    process = await asyncio.create_subprocess_exec(
        *implementation.hub,
        json.dumps(OPTIONS),
        cwd=implementation.folder,
        env={**implementation.env, "TRANSPORT": "tcp"},
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        process.stdin.write(json.dumps({"Do": "subscribe", "Topic": TOPIC}).encode() + b"\n")
        yield process, Multiaddr(json.loads(line)["addr"])
    finally:
        process.kill()
        await process.wait()


def _cpu_seconds(pid: int) -> float:
    """What all threads of a process have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
