"""Whole networks of hosts in one process, in virtual time: how a protocol behaves among hundreds or thousands of peers.

    async def main():
        async with Simulation(1000, GossipSub, seed=1, link=Link(latency=0.05)) as sim:
            await sim.connect(regular(1000, 10, sim.dice))
            await sim.services[0].publish(...)
            await sim.until(lambda: all(service.seen for service in sim.services), within=10)

    libp2p.testing.loop.run(main())

Rules:
- The same seed, and the same program, give the same run: keys, links and dice are made of the seed.
- Host number i is alone on its machine, `nodes[i]`, whose links can be changed and cut; but hosts for which
  `machine_of` gives the same number share one, and its address, on ports of their own.
- Hosts come (`add`) and go (`remove`) while it runs.
- With `Stack.CHEAP` connections have no cryptography and no frames (see `cheap`), with `Stack.FULL` they are Noise and
  yamux: a protocol can't tell the difference, but for what it costs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from enum import Enum
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..connection import Muxer, Transport
from ..host import Host, HostConfig
from ..identity import KeyType, PrivateKey
from ..muxers.yamux import Yamux
from ..security.noise import Noise
from .cheap import CheapConfig, CheapTransport
from .links import Link
from .network import Network, Node

S = TypeVar("S")

PORT = 4001
"""Where hosts listen; of those that share a machine the first."""

_DIALS = 64
"""Dials side by side while hosts are connected."""

_STEP = 0.05
"""Seconds between two looks at what is waited for."""


class Stack(Enum):
    """What connections are made of."""

    CHEAP = "cheap"
    FULL = "full"


class Simulation(Generic[S]):
    """`count` hosts, each with what `service` makes for it. An async context manager: behind it nothing is left.

    `link` joins any two machines until `network.set_link` says otherwise. `muxer` is the full stack's (default: yamux),
    `cheap` are the settings of cheap connections. The hosts' addresses begin with `first_ip`.
    """

    def __init__(
        self,
        count: int,
        service: Callable[[Host], AbstractAsyncContextManager[S]] | None = None,
        *,
        seed: int = 0,
        link: Link | None = None,
        stack: Stack = Stack.CHEAP,
        config: HostConfig | None = None,
        muxer: Muxer | None = None,
        cheap: CheapConfig | None = None,
        first_ip: str = "10.0.0.1",
        machine_of: Callable[[int], int] | None = None,
    ) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - a simulation's dice
        self.network = Network(seed=seed, link=link)
        self.nodes: list[Node] = []
        self.hosts: list[Host] = []
        self.services: list[S] = []
        self._count = count
        self._service = service
        self._stack = stack
        self._config = config
        self._muxer = muxer or Yamux()
        self._cheap = cheap
        self._first_ip = ip_address(first_ip)
        self._machine_of = machine_of or (lambda number: number)
        self._unused = Noise()  # a host wants a security protocol, though cheap connections need none
        self._exit = AsyncExitStack()
        self._services: list[AbstractAsyncContextManager[S] | None] = []  # of each host
        self._adding = asyncio.Lock()  # hosts are made one by one, so that their numbers are those of the lists

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            await exits.enter_async_context(self.network)
            exits.push_async_callback(self._end_all)
            for _ in range(self._count):
                await self.add()
            self._exit = exits.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.__aexit__(kind, error, trace)

    async def add(self, key: PrivateKey | None = None) -> int:
        """One more host, with its service; its number. `key` is its identity, by default one of the dice's."""
        async with self._adding, AsyncExitStack() as exits:
            number = len(self.hosts)
            ip = str(self._first_ip + self._machine_of(number))
            node = self.network.at(ip) or self.network.node(ip)
            host = await exits.enter_async_context(self._host(node, PORT + len(node.listeners), key))
            service = None if self._service is None else self._service(host)
            if service is not None:
                self.services.append(await exits.enter_async_context(service))
            self.nodes.append(node)
            self.hosts.append(host)
            self._services.append(service)
            exits.pop_all()
        return number

    async def remove(self, number: int) -> None:
        """End a host and its service without a word, as if its machine was off: peers notice in their own time. All
        others keep their numbers. (Whoever shares the machine is off, too.)
        """
        node = self.nodes[number]
        if self.network.at(node.ips[0]) is node:
            self.network.remove(node)
        await self._end(number)

    async def _end(self, number: int) -> None:
        service, self._services[number] = self._services[number], None
        try:
            if service is not None:
                await service.__aexit__(None, None, None)
        finally:
            await self.hosts[number].close()

    async def _end_all(self) -> None:
        """The last one first."""
        async with AsyncExitStack() as exits:
            for number in range(len(self.hosts)):
                exits.push_async_callback(self._end, number)

    async def connect(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Connect these hosts, by index: the first of each pair dials. Raises what `Host.connect` does, in a group."""
        todo = iter(pairs)

        async def work() -> None:
            for dialer, listener in todo:
                await self.hosts[dialer].connect(self.hosts[listener].addrs[0])

        async with asyncio.TaskGroup() as group:
            for _ in range(_DIALS):
                group.create_task(work())

    def part(self, *groups: Iterable[int]) -> None:
        """Cut all links between hosts of different groups."""
        for a, b in _between(groups):
            self.network.cut(self.nodes[a], self.nodes[b])

    def join(self, *groups: Iterable[int]) -> None:
        """Heal all links between hosts of different groups."""
        for a, b in _between(groups):
            self.network.heal(self.nodes[a], self.nodes[b])

    async def until(self, condition: Callable[[], Any], *, within: float) -> float:
        """Wait until `condition` holds; return how many seconds that took. Raises `TimeoutError`."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.timeout(within):
            while not condition():  # noqa: ASYNC110 - what holds, and when it changes, is the program's own
                await asyncio.sleep(_STEP)
        return loop.time() - start

    def _host(self, node: Node, port: int, key: PrivateKey | None) -> Host:
        secret = Ed25519PrivateKey.from_private_bytes(self.dice.randbytes(32))
        cheap = self._stack is Stack.CHEAP
        transport: Transport = CheapTransport(node, self._cheap) if cheap else node.transport()
        return Host(
            key or PrivateKey.from_handle(KeyType.ED25519, secret),
            [f"/{'ip6' if ':' in node.ips[0] else 'ip4'}/{node.ips[0]}/tcp/{port}"],
            transports=[transport],
            security=[self._unused if cheap else Noise()],
            muxers=[self._muxer],
            config=self._config,
        )


def _between(groups: Iterable[Iterable[int]]) -> Iterable[tuple[int, int]]:
    lists = [list(group) for group in groups]
    return [(a, b) for place, one in enumerate(lists) for other in lists[:place] for a in one for b in other]
