"""kubo, told what to do by its own command line."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Self

from libp2p.identity import PeerId

from .contents import Content
from .peers import LISTEN, PATIENCE, Failed

PACKAGE = "github.com/ipfs/kubo/cmd/ipfs"

SETTINGS = {
    "Routing.Type": "dhtserver",
    "Routing.LoopbackAddressesOnLanDHT": True,
}


class Kubo:
    """A node in a process and a repository of its own."""

    addr: str
    gateway: str
    """Where it answers delegated routing, `http://HOST:PORT`."""

    def __init__(self, program: str, transport: str) -> None:
        self._program = program
        self._listen = LISTEN[transport]
        self._repository = Path(tempfile.mkdtemp(prefix="kubo-"))
        self._env = {**os.environ, "IPFS_PATH": str(self._repository), "IPFS_TELEMETRY": "off"}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self._do("init", "--profile=test,autoconf-off")
        for name, value in ({"Addresses.Swarm": [self._listen]} | SETTINGS).items():
            await self._do("config", "--json", name, json.dumps(value))
        pipe, end = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
        self._process = await asyncio.create_subprocess_exec(
            self._program, "daemon", stdout=pipe, stderr=end, env=self._env
        )
        await self._ready()
        self.addr = (await self._do("id", "--format=<addrs>"))[0]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.communicate()
        shutil.rmtree(self._repository)

    async def connect(self, addr: str) -> None:
        await self._do("swarm", "connect", addr)
        peer = addr.rpartition("/")[2]
        async with asyncio.timeout(PATIENCE):
            while not any(peer in line for line in await self._do("stats", "dht", "lan")):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def provide(self, content: Content) -> None:
        form = "v0" if content.cid.version == 0 else "raw"
        kind = {0x12: "sha2-256", 0x13: "sha2-512", 0x1E: "blake3"}[content.cid.multihash[0]]
        added = await self._do("block", "put", f"--format={form}", f"--mhtype={kind}", given=content.data)
        if added != [str(content.cid)]:
            raise Failed(f"kubo calls it {added}, we call it {content.cid}")
        await self._do("routing", "provide", str(content.cid))

    async def find_providers(self, content: Content) -> list[str]:
        return await self._do("routing", "findprovs", "-n", "1", str(content.cid))

    async def put(self, key: bytes, value: bytes) -> None:
        await self._do("routing", "put", _text(key), given=value)

    async def get(self, key: bytes) -> list[bytes]:
        return [await self._bytes("routing", "get", _text(key))]

    async def find_peer(self, peer: str) -> list[str]:
        return await self._do("routing", "findpeer", peer)

    async def publish_name(self, path: str) -> str:
        """Publish `path` under its own key; the name."""
        said = await self._do("name", "publish", "--allow-offline", "--resolve=false", "--quieter", path)
        return said[0]

    async def resolve_name(self, name: str) -> str:
        return (await self._do("name", "resolve", "--nocache", f"/ipns/{name}"))[0]

    async def _ready(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        said = ""
        async with asyncio.timeout(PATIENCE):
            while line := (await self._process.stdout.readline()).decode():
                said += line
                if line.startswith("Routing V1 API exposed at "):
                    self.gateway = line.split()[-1].removesuffix("/routing/v1")
                if line.startswith("Daemon is ready"):
                    return
        raise Failed(f"kubo has ended:\n{said}")

    async def _do(self, *words: str, given: bytes = b"") -> list[str]:
        return (await self._bytes(*words, given=given)).decode().splitlines()

    async def _bytes(self, *words: str, given: bytes = b"") -> bytes:
        """What the command line answers; `given` is its stdin. Raises `Failed`."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            self._program, *words, stdin=pipe, stdout=pipe, stderr=pipe, env=self._env
        )
        try:
            async with asyncio.timeout(PATIENCE):
                answer, errors = await process.communicate(given)
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            raise Failed(f"ipfs {' '.join(words)}: {errors.decode().strip()}")
        return answer


def _text(key: bytes) -> str:
    """A key as kubo's command line writes it: `/ipns/<name>`."""
    return f"/ipns/{PeerId.from_bytes(key.removeprefix(b'/ipns/'))}"
