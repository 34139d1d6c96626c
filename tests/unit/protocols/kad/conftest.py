"""Networks of DHT nodes in one process, in virtual time."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from libp2p.errors import InvalidRecord
from libp2p.host import Host
from libp2p.identity import KeyType, PrivateKey
from libp2p.peerstore import MemoryPeerStore
from libp2p.protocols.kad import KadConfig, KadDht, Mode, RecordStore
from libp2p.security.plaintext import InsecurePlaintext
from libp2p.testing.cheap import CheapTransport
from libp2p.testing.links import Link
from libp2p.testing.network import Network


class Largest:
    """Rules of `/v/`: values without an x, the largest is the best."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        if b"x" in value:
            raise InvalidRecord("an x")

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        return list(values).index(max(values))


CONFIG = KadConfig(protocol="/test/kad/1.0.0", mode=Mode.SERVER, validators={"v": Largest()})


def wall_clock() -> float:
    """The Unix time of these networks: the loop's, from some day on."""
    return 1_750_000_000.0 + asyncio.get_running_loop().time()


@dataclass
class Nodes:
    """Makes nodes, each on a machine of its own."""

    network: Network
    stack: AsyncExitStack
    made: list[tuple[Host, KadDht]]
    full: bool
    dice: random.Random
    wall_clock = staticmethod(wall_clock)

    def host(
        self, ip: str | Sequence[str] | None = None, *, listen: bool = True, key: PrivateKey | None = None
    ) -> Host:
        """A host on a machine of its own, of another /16 than the others."""
        number = len(self.made) + len(self.network._nodes)
        ip = ip or f"{20 + number // 200}.{number % 200}.0.1"
        ips = [ip] if isinstance(ip, str) else ip
        node = self.network.node(*ips)
        return Host(
            key or self.key(),
            [f"/ip4/{one}/tcp/{4001 + n}" for n, one in enumerate(ips)] if listen else [],
            transports=[node.transport() if self.full else CheapTransport(node)],
            security=[InsecurePlaintext()],
            peerstore=MemoryPeerStore(clock=asyncio.get_running_loop().time),
        )

    def key(self) -> PrivateKey:
        """A key; the same in each run."""
        secret = Ed25519PrivateKey.from_private_bytes(self.dice.randbytes(32))
        return PrivateKey.from_handle(KeyType.ED25519, secret)

    async def add(
        self,
        config: KadConfig = CONFIG,
        *,
        ip: str | None = None,
        bootstrap: Sequence[Host] | None = None,
        store: RecordStore | None = None,
        key: PrivateKey | None = None,
    ) -> tuple[Host, KadDht]:
        """A node; by default it begins with the first one that there is."""
        host = await self.stack.enter_async_context(self.host(ip, key=key))
        first = [host for host, _ in self.made[:1]] if bootstrap is None else bootstrap
        config = replace(config, bootstrap=tuple(one.addrs[0] for one in first))
        dht = KadDht(host, config, store=store, wall_clock=wall_clock, dice=random.Random(len(self.made)))
        await self.stack.enter_async_context(dht)
        await dht.ready()
        self.made.append((host, dht))
        return host, dht


@asynccontextmanager
async def _nodes(
    count: int = 0, config: KadConfig = CONFIG, latency: float = 0.01, *, full: bool = False
) -> AsyncIterator[Nodes]:
    async with Network(seed=1, link=Link(latency=latency)) as network, AsyncExitStack() as stack:
        nodes = Nodes(network, stack, [], full, random.Random(1))
        for _ in range(count):
            await nodes.add(config)
        yield nodes


@pytest.fixture
def nodes() -> Callable[..., object]:
    return _nodes


@pytest.fixture
def full_nodes() -> Callable[..., object]:
    """The same, with a real muxer below: what misbehaving peers meet."""
    return functools.partial(_nodes, full=True)


@pytest.fixture
def config() -> KadConfig:
    return CONFIG
