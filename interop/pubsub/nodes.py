"""The two kinds of nodes: programs of others, which are told what to do by lines of JSON, and hosts in this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from interop.build import HERE, Command, build
from libp2p.connection import Transport
from libp2p.host import Host
from libp2p.identity import PeerId
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.pubsub import GossipSub, GossipSubConfig, Message, Tracer
from libp2p.protocols.pubsub.wire import Rpc
from libp2p.transports.quic import Quic
from libp2p.transports.tcp import Tcp

LISTEN: dict[str, tuple[Callable[[], Transport], str]] = {
    "tcp": (Tcp, "/ip4/127.0.0.1/tcp/0"),
    "quic-v1": (Quic, "/ip4/127.0.0.1/udp/0/quic-v1"),
}
TAIL = 2000  # characters of a failed program's messages that are shown


class Failed(Exception):
    """What a node did is not what the check expects."""


def command_of(implementation: str) -> Command:
    """How its program is started; built if need be. Raises `BuildError`."""
    command = build(implementation)
    if implementation == "js":
        node, program = command
        return node, str(Path(program).with_name("pubsubnode.mjs"))
    if implementation == "py":
        return command[0], str(HERE / "py" / "pubsubnode.py")
    return (*command, "pubsub")


class Them:
    """A node of another implementation."""

    def __init__(self, process: Process, transport: str) -> None:
        self.addr = ""
        self.got: dict[str, list[tuple[str, str]]] = {}
        """Of each topic: numbers of the messages that came, each with the peer that brought it."""
        self.parts: list[dict[str, str]] = []
        self._process = process
        self._transport = transport
        self._answers: set[str] = set()
        self._changed = asyncio.Event()

    @property
    def id(self) -> str:
        return self.addr.rpartition("/")[2]

    async def do(self, what: str, **arguments: str | int) -> None:
        """Tell it to do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"Do": what} | arguments).encode() + b"\n")
        await self._process.stdin.drain()

    async def publish(self, topic: str, count: int, *, first: int = 0, size: int = 0) -> None:
        """Have it publish so many messages without a pause."""
        await self.do("publish", Topic=topic, First=first, Count=count, Size=size)

    async def wait_for_peers(self, topic: str, n: int = 1) -> None:
        """Wait until it knows so many peers in the topic."""
        self._answers.discard(f"waited {topic}")
        await self.do("wait", Topic=topic, Peers=n)
        await self.until(lambda: f"waited {topic}" in self._answers, f"waiting for {n} peers of {topic}")

    async def until(self, holds: Callable[[], bool], what: str, limit: float = 20) -> None:
        """Wait until something holds of what it has said."""
        try:
            async with asyncio.timeout(limit):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise Failed(f"{what}: not within {limit:g} s") from None

    async def expect(self, topic: str, count: int) -> None:
        """Wait for messages 0 to `count` - 1, each once."""
        try:
            await self.until(lambda: len(self.got.get(topic, ())) >= count, f"{count} messages of {topic}")
        except Failed as failed:
            raise Failed(f"{failed}: there are {len(self.got.get(topic, ()))}") from None
        check_counts(Counter(number for number, _ in self.got[topic]), count)

    async def read(self) -> None:
        """Take in what it says, to its end."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said: dict[str, Any] = json.loads(line)
            if "addr" in said and not self.addr and (self._transport == "tcp") == ("/tcp/" in said["addr"]):
                self.addr = said["addr"]
            elif "got" in said:
                self.got.setdefault(said["got"], []).append((said["n"], said["from"]))
            elif "part" in said:
                self.parts.append(said)
            else:
                self._answers.update(f"{key} {value}" for key, value in said.items())
            self._changed.set()


@asynccontextmanager
async def them(command: Command, transport: str, **options: bool | int) -> AsyncIterator[Them]:
    """A node of another implementation, which listens."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "TRANSPORT": transport,
        "SECURE_CHANNEL": "noise",
        "MUXER": "yamux",
        "LISTENER_IP": "127.0.0.1",
    }
    with TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            *command, json.dumps(options), env=env, stdin=PIPE, stdout=PIPE, stderr=said
        )
        node = Them(process, transport)
        reading = asyncio.create_task(node.read())
        try:
            await node.until(lambda: bool(node.addr), "starting")
            yield node
        except Failed as failed:
            said.seek(0)
            text = said.read().decode(errors="replace").strip()[-TAIL:]
            raise Failed(f"{failed}\n{text}" if text else str(failed)) from failed
        finally:
            reading.cancel()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.gather(reading, process.wait(), return_exceptions=True)


class Watch(Tracer):
    """Notes what a node of ours says and hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Rpc]] = []
        self.said: list[tuple[str, Rpc]] = []
        self.copies: Counter[str] = Counter()
        """Of messages that were here before, by the peer that brought them."""

    def received(self, peer: PeerId, rpc: Rpc) -> None:
        self.heard.append((str(peer), rpc))

    def sent(self, peer: PeerId, rpc: Rpc) -> None:
        self.said.append((str(peer), rpc))

    def duplicate(self, peer: PeerId, topic: str, mid: bytes) -> None:  # noqa: ARG002
        self.copies[str(peer)] += 1


@dataclass(frozen=True, slots=True)
class Us:
    """A node of this library, in this process."""

    host: Host
    pubsub: GossipSub
    watch: Watch

    @property
    def id(self) -> str:
        return str(self.host.id)

    @property
    def addr(self) -> str:
        return str(self.host.addrs[0])

    async def connect(self, node: Them | Us) -> None:
        await self.host.connect(Multiaddr(node.addr))

    async def publish(self, topic: str, count: int, *, first: int = 0, size: int = 0) -> None:
        """Publish so many messages without a pause."""
        for number in range(first, first + count):
            await self.pubsub.publish(topic, str(number).ljust(size, ".").encode())


@asynccontextmanager
async def us(transport: str, config: GossipSubConfig) -> AsyncIterator[Us]:
    """A node of this library, which listens."""
    make, addr = LISTEN[transport]
    watch = Watch()
    async with Host(listen_addrs=[addr], transports=[make()]) as host, GossipSub(host, config, tracer=watch) as pubsub:
        yield Us(host, pubsub, watch)


def number_of(message: Message) -> str:
    """Which of the messages it is."""
    return message.data.decode().rstrip(".")


def check_counts(got: Counter[str], count: int) -> None:
    """Each of the messages, once."""
    wanted = Counter(str(number) for number in range(count))
    if got != wanted:
        raise Failed(f"of {count} messages {len(got)} came, in {got.total()} copies")
