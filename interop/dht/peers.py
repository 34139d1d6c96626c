"""The kinds of nodes: ours, and programs of others that do what they are told on stdin, one command a line."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from interop.build import CACHE, HERE, Command, content_hash, need, run, sources
from libp2p.errors import InvalidRecord
from libp2p.host import Host
from libp2p.identity import PeerId, PrivateKey
from libp2p.protocols.kad import KadConfig, KadDht, Mode
from libp2p.protocols.rendezvous import RendezvousPoint

from .contents import Content

LISTEN = {"tcp": "/ip4/127.0.0.1/tcp/0", "quic-v1": "/ip4/127.0.0.1/udp/0/quic-v1"}
PATIENCE = 30.0
"""Seconds for what a program does for one command."""


class Failed(Exception):
    """A node could not do what it was told."""


class Largest:
    """Any value under /v/, the largest is the best."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:  # noqa: ARG002
        if value.startswith(b"bad"):
            raise InvalidRecord("a bad value")

    def select(self, key: bytes, values: Sequence[bytes]) -> int:  # noqa: ARG002
        return list(values).index(max(values))


class Us:
    """A node of this library, in this process."""

    addr: str

    def __init__(self, transport: str, protocol: str) -> None:
        self.key = PrivateKey.generate()
        self.host = Host(self.key, listen_addrs=[LISTEN[transport]])
        config = KadConfig(protocol=protocol, mode=Mode.SERVER, validators={"v": Largest()})
        self.dht = KadDht(self.host, config)
        self._point = RendezvousPoint(self.host)
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._exit.enter_async_context(self.host)
        await self._exit.enter_async_context(self.dht)
        await self._exit.enter_async_context(self._point)
        self.addr = str(self.host.addrs[0])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def connect(self, addr: str) -> None:
        connection = await self.host.connect(addr)
        async with asyncio.timeout(10):
            while connection.remote_peer not in self.dht.table:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await self.dht.refresh()

    async def provide(self, content: Content) -> None:
        await self.dht.provide(content.cid)

    async def find_providers(self, content: Content) -> list[str]:
        return [str(info.peer) async for info in self.dht.find_providers(content.cid, limit=1)]

    async def put(self, key: bytes, value: bytes) -> None:
        await self.dht.put_value(key, value)

    async def get(self, key: bytes) -> list[bytes]:
        return [await self.dht.get_value(key)]

    async def find_peer(self, peer: str) -> list[str]:
        return [str(addr) for addr in (await self.dht.find_peer(PeerId.from_string(peer))).addrs]


class Program:
    """A node of another implementation, in a process of its own."""

    addr: str

    def __init__(self, command: Command, transport: str) -> None:
        self._command = command
        stack = {"TRANSPORT": transport, "SECURE_CHANNEL": "noise", "MUXER": "yamux"}
        # Its Python, where it is one, has packages of its own.
        self._env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | stack
        self._process: asyncio.subprocess.Process | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, stderr=self._errors, env=self._env
        )
        self.addr = await self._line()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()
        self._errors.close()

    async def connect(self, addr: str) -> None:
        await self.do("connect", addr)

    async def provide(self, content: Content) -> None:
        await self.do("provide", str(content.cid), content.cid.multihash.hex())

    async def find_providers(self, content: Content) -> list[str]:
        return await self.do("find-providers", str(content.cid), content.cid.multihash.hex())

    async def put(self, key: bytes, value: bytes) -> None:
        await self.do("put", key.hex(), value.hex())

    async def get(self, key: bytes) -> list[bytes]:
        return [bytes.fromhex(line) for line in await self.do("get", key.hex())]

    async def find_peer(self, peer: str) -> list[str]:
        return await self.do("find-peer", peer)

    async def do(self, *words: str) -> list[str]:
        """Tell the program, and return what it answers. Raises `Failed`."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words).encode() + b"\n")
        answer = []
        while (line := await self._line()) != "done":
            if line.startswith("error "):
                await self._line()
                raise Failed(line)
            answer.append(line)
        return answer

    async def _line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise Failed(f"{Path(self._command[0]).name} has ended: {self._errors.read().decode()[-2000:]}")
        return line.decode().rstrip("\n")


def build_go(folder: str = "", package: str = ".") -> str:
    """A program of the Go module in `folder`, built if need be. Raises `BuildError`."""
    go = need("go", "install Go 1.26 or newer")
    CACHE.mkdir(parents=True, exist_ok=True)
    place = f"dht/{folder}".rstrip("/")
    program = CACHE / f"go-{place.replace('/', '-')}-{content_hash(sources(place, '*.go', 'go.*'))}"
    if not program.exists():
        run([go, "build", "-p", "2", "-trimpath", "-ldflags=-s -w", "-o", program, package], HERE / place)
    return str(program)
