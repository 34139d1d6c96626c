"""The two kinds of nodes, with the same commands: see `main.go`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Protocol, Self

from interop.build import CACHE, HERE, content_hash, need, run, sources
from libp2p.cid import Cid
from libp2p.errors import InvalidRecord
from libp2p.host import Host
from libp2p.identity import PeerId
from libp2p.protocols.kad import KadConfig, KadDht, Mode

PROTOCOL = "/interop/kad/1.0.0"
LISTEN = {"tcp": "/ip4/127.0.0.1/tcp/0", "quic-v1": "/ip4/127.0.0.1/udp/0/quic-v1"}


class Failed(Exception):
    """A node could not do what it was told."""


class Node(Protocol):
    """A server of the DHT."""

    addr: str

    async def connect(self, addr: str) -> None: ...
    async def provide(self, cid: str) -> None: ...
    async def find_providers(self, cid: str) -> list[str]: ...
    async def put(self, key: bytes, value: bytes) -> None: ...
    async def get(self, key: bytes) -> bytes: ...
    async def find_peer(self, peer: str) -> list[str]: ...


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

    def __init__(self, transport: str) -> None:
        self._host = Host(listen_addrs=[LISTEN[transport]])
        config = KadConfig(protocol=PROTOCOL, mode=Mode.SERVER, validators={"v": Largest()})
        self._dht = KadDht(self._host, config)
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._exit.enter_async_context(self._host)
        await self._exit.enter_async_context(self._dht)
        self.addr = str(self._host.addrs[0])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def connect(self, addr: str) -> None:
        connection = await self._host.connect(addr)
        async with asyncio.timeout(10):
            while connection.remote_peer not in self._dht.table:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await self._dht.refresh()

    async def provide(self, cid: str) -> None:
        await self._dht.provide(Cid.parse(cid))

    async def find_providers(self, cid: str) -> list[str]:
        return [str(info.peer) async for info in self._dht.find_providers(Cid.parse(cid), limit=1)]

    async def put(self, key: bytes, value: bytes) -> None:
        await self._dht.put_value(key, value)

    async def get(self, key: bytes) -> bytes:
        return await self._dht.get_value(key)

    async def find_peer(self, peer: str) -> list[str]:
        return [str(addr) for addr in (await self._dht.find_peer(PeerId.from_string(peer))).addrs]


class Go:
    """A node of go-libp2p-kad-dht, in a process of its own."""

    addr: str

    def __init__(self, transport: str) -> None:
        self._listen = LISTEN[transport]
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(build_go(), self._listen, stdin=pipe, stdout=pipe)
        self.addr = await self._line()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.communicate()

    async def connect(self, addr: str) -> None:
        await self._do("connect", addr)

    async def provide(self, cid: str) -> None:
        await self._do("provide", cid)

    async def find_providers(self, cid: str) -> list[str]:
        return await self._do("find-providers", cid)

    async def put(self, key: bytes, value: bytes) -> None:
        await self._do("put", key.hex(), value.hex())

    async def get(self, key: bytes) -> bytes:
        return bytes.fromhex((await self._do("get", key.hex()))[0])

    async def find_peer(self, peer: str) -> list[str]:
        return await self._do("find-peer", peer)

    async def _do(self, *words: str) -> list[str]:
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
        async with asyncio.timeout(30):
            line = await self._process.stdout.readline()
        if not line:
            raise Failed("the go node has ended")
        return line.decode().rstrip("\n")


def build_go() -> str:
    """The go node, built if need be. Raises `BuildError`."""
    go = need("go", "install Go 1.26 or newer")
    CACHE.mkdir(parents=True, exist_ok=True)
    peer = CACHE / f"go-dht-{content_hash(sources('dht', '*.go', 'go.*'))}"
    if not peer.exists():
        run([go, "build", "-p", "2", "-trimpath", "-ldflags=-s -w", "-o", peer, "."], HERE / "dht")
    return str(peer)


KINDS: dict[str, type[Us] | type[Go]] = {"us": Us, "go": Go}
