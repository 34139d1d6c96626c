"""A source, a relay and a target, each on a machine of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from libp2p.connection import Connection, Stream
from libp2p.host import Host
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.relay import CircuitConfig, RelayClient, RelayConfig, RelayServer
from libp2p.testing.links import Link
from libp2p.testing.simulation import Simulation, Stack

ECHO = "/echo/1"


class Triangle:
    """Host 0 is the relay; the others use it: 1 is the source, 2 the target, which listens there."""

    def __init__(self, sim: Simulation[object], server: RelayServer, clients: list[RelayClient]) -> None:
        self.sim = sim
        self.server = server
        self.clients = clients
        self.relay, self.source, self.target = sim.hosts[:3]

    @property
    def relay_addr(self) -> Multiaddr:
        return self.relay.addrs[0]

    @property
    def circuit(self) -> Multiaddr:
        """The target's address, through the relay."""
        return self.relay_addr / "p2p-circuit" / f"/p2p/{self.target.id}"

    async def inbound(self) -> Connection:
        """The target's end of the connection that the source has made."""
        await self.sim.until(lambda: self.target.connections_to(self.source.id), within=5)
        return self.target.connections_to(self.source.id)[0]


@asynccontextmanager
async def triangle(
    config: RelayConfig | None = None,
    *,
    hosts: int = 3,
    stack: Stack = Stack.FULL,
    client: CircuitConfig | None = None,
    listens: bool = True,
) -> AsyncIterator[Triangle]:
    """Where it `listens`, the target has its reservation already."""
    async with Simulation(hosts, stack=stack, link=Link(latency=0.02)) as sim, AsyncExitStack() as stack_:
        server = await stack_.enter_async_context(RelayServer(sim.hosts[0], config))
        clients = [
            await stack_.enter_async_context(RelayClient(host, client, hole_punching=False)) for host in sim.hosts[1:]
        ]
        some = Triangle(sim, server, clients)
        serve_echo(some.target)
        if listens:
            await clients[1].listen(some.relay_addr)
        yield some


def serve_echo(host: Host) -> None:
    @host.handle(ECHO)
    async def echo(stream: Stream) -> None:
        async for chunk in stream:
            await stream.write(chunk)
