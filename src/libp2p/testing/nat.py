"""NATs of a simulated network: machines behind one reach everybody, and are reached as it allows (RFC 4787).

    nat = Nat(network, "11.0.0.1", mapping=Depends.NOTHING, filtering=Depends.ADDRESS_AND_PORT)     # port-restricted
    alice = nat.node("192.168.1.2")

Rules:
- A mapping leads from a port of the NAT to a socket behind it. It is made, and kept, by what that socket sends.
- How far it depends on who it is sent to (`mapping`: `ADDRESS_AND_PORT` is a symmetric NAT), and from whom it lets in
  (`filtering`), are told apart, for TCP and UDP alike.
- Strangers hear nothing, or a reset where the NAT `refuses` (TCP only): a dial that hears nothing is repeated after 1,
  2, 4 ... seconds.
- Two TCP dials that cross, each through the hole that the other side's has made, are one connection.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from ..multiaddr import Multiaddr, from_socket_address, host_port
from ..transports.memory import InProcessListener, MemoryConnection, pipe
from .datagrams import Flow, SimulatedSocket, UdpPorts, socket_address
from .links import SEGMENT
from .network import HANDSHAKE, Network, Node, sent

Endpoint: TypeAlias = tuple[str, int]
"""IP address and port."""

_FIRST_PORT = 20_000
_REPEAT = 1.0
"""Seconds after which a dial that heard nothing is repeated, doubled each time."""


class Depends(Enum):
    """What of the other side a NAT looks at."""

    NOTHING = 0
    ADDRESS = 1
    ADDRESS_AND_PORT = 2

    def part(self, remote: Endpoint) -> Endpoint:
        """What it sees of `remote`."""
        return (remote[0] if self is not Depends.NOTHING else "", remote[1] if self is Depends.ADDRESS_AND_PORT else 0)


@dataclass(slots=True)
class _Mapping:
    inner: Endpoint
    key: Endpoint
    used: dict[Endpoint, float] = field(default_factory=dict)
    """When something was last sent, by what the filter sees of whom to."""


class Mappings:
    """The mappings of one NAT for one protocol. Pure: time comes in as `now`, in seconds."""

    def __init__(self, mapping: Depends, filtering: Depends, timeout: float) -> None:
        self._mapping = mapping
        self._filtering = filtering
        self._timeout = timeout
        self._by_port: dict[int, _Mapping] = {}
        self._ports: dict[tuple[Endpoint, Endpoint], int] = {}
        self._next = _FIRST_PORT

    def outbound(self, inner: Endpoint, remote: Endpoint, now: float) -> int:
        """The NAT's port from which what `inner` sends to `remote` comes."""
        key = self._mapping.part(remote)
        port = self._ports.get((inner, key))
        if port is None or not self._lives(self._by_port[port], now):
            if port is not None:
                del self._by_port[port]
            self._next += 1
            port = self._ports[inner, key] = self._next
            self._by_port[port] = _Mapping(inner, key)
        self._by_port[port].used[self._filtering.part(remote)] = now
        return port

    def inbound(self, port: int, remote: Endpoint, now: float) -> Endpoint | None:
        """Who behind the NAT gets what `remote` sends to `port`, if anybody."""
        mapping = self._by_port.get(port)
        if mapping is None or now - mapping.used.get(self._filtering.part(remote), -self._timeout) >= self._timeout:
            return None
        return mapping.inner

    def _lives(self, mapping: _Mapping, now: float) -> bool:
        return any(now - used < self._timeout for used in mapping.used.values())


class Nat(Node):
    """A NAT, whose outside has the address `ip`. Mappings that are not used for `timeout` seconds are gone."""

    def __init__(
        self,
        network: Network,
        ip: str,
        *,
        mapping: Depends = Depends.NOTHING,
        filtering: Depends = Depends.ADDRESS_AND_PORT,
        timeout: float = 120.0,
        refuses: bool = False,
    ) -> None:
        super().__init__(network, (ip,))
        self.refuses = refuses
        self.tcp_mappings = Mappings(mapping, filtering, timeout)
        self.udp_mappings = Mappings(mapping, filtering, timeout)
        self.ports = _NatPorts(self)
        network.add(self)
        network.through_nat = network.through_nat or _Dials(network).connect

    def node(self, *ips: str) -> Node:
        """A machine behind it. Its addresses must be nobody else's in the network."""
        node = _NodeBehind(self, ips)
        self.network.add(node)
        return node

    def is_open_to(self, other: Node) -> bool:  # noqa: ARG002 - see `Node`
        return False

    def behind(self, port: int, remote: Endpoint) -> tuple[Node | None, int]:
        """The machine, and its port, that gets a TCP dial from `remote` to `port`."""
        inner = self.tcp_mappings.inbound(port, remote, _now())
        return (None, 0) if inner is None else (self.network.at(inner[0]), inner[1])


class _NatPorts(UdpPorts):
    """What comes from outside is for a socket of a machine behind the NAT."""

    def __init__(self, nat: Nat) -> None:
        super().__init__(nat.ips, lambda _datagrams, _flow: None)
        self._nat = nat

    def receiver(self, flow: Flow) -> tuple[SimulatedSocket | None, str]:
        inner = self._nat.udp_mappings.inbound(flow.target[1], flow.source[:2], _now())
        node = None if inner is None else self._nat.network.at(inner[0])
        return (None, "") if node is None or inner is None else (node.ports.find(*inner), inner[0])


class _NodeBehind(Node):
    """A machine behind a NAT."""

    def __init__(self, nat: Nat, ips: tuple[str, ...]) -> None:
        super().__init__(nat.network, ips)
        self.outside = nat
        self.nat = nat

    def leaving(self, flow: Flow) -> Flow:
        port = self.nat.udp_mappings.outbound(flow.source[:2], flow.target[:2], _now())
        return Flow(socket_address(self.nat.ips[0], port), flow.target)


class _Dials:
    """The TCP dials of one network that NATs are in the way of."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._under_way: dict[tuple[Endpoint, Endpoint], asyncio.Future[MemoryConnection]] = {}
        """By whom the other side sees, and where they go."""

    async def connect(self, source: Node, node: Node, local: Multiaddr, target: Multiaddr) -> MemoryConnection:
        """See `ThroughNat`."""
        if node.outside not in (node, source.outside):  # a private address of others: nobody answers from there
            await asyncio.get_running_loop().create_future()
        crossed: asyncio.Future[MemoryConnection] = asyncio.get_running_loop().create_future()
        knocking = asyncio.ensure_future(self._knock(source, node, local, target, crossed))
        try:
            await asyncio.wait((knocking, crossed), return_when=asyncio.FIRST_COMPLETED)
            return crossed.result() if crossed.done() else knocking.result()
        finally:
            self._forget(crossed)
            knocking.cancel()
            if knocking.done() and not knocking.cancelled():
                knocking.exception()

    async def _knock(
        self,
        source: Node,
        node: Node,
        local: Multiaddr,
        target: Multiaddr,
        crossed: asyncio.Future[MemoryConnection],
    ) -> MemoryConnection:
        """Dial until somebody answers."""
        network, remote = self._network, _endpoint(target)
        there, back = network.carrier(source.outside, node), network.carrier(node, source.outside)
        pause = _REPEAT
        while True:
            seen = _endpoint(local)
            if isinstance(source, _NodeBehind):
                seen = source.nat.ips[0], source.nat.tcp_mappings.outbound(seen, remote, _now())
            self._under_way[seen, remote] = crossed
            await sent(there, HANDSHAKE)
            inner, port = node.behind(remote[1], seen) if isinstance(node, Nat) else (node, remote[1])
            if inner is not None:
                other = self._under_way.get((remote, seen))
                crosses = other is not None and not other.done()
                listener = inner.listeners.get(port)
                if not crosses and not isinstance(listener, InProcessListener):
                    await sent(back, HANDSHAKE)
                    raise ConnectionRefusedError(f"nobody listens on {target}")
                window = there.road.link.window
                ours, theirs = pipe(local, target, there=there, back=back, window=window, segment=SEGMENT)
                theirs.local_addr = from_socket_address(inner.ip_like(remote[0]), port)
                theirs.remote_addr = from_socket_address(*seen)
                answered = sent(back, HANDSHAKE)
                if other is not None and crosses:
                    self._forget(crossed)
                    self._forget(other)
                    other.set_result(theirs)
                elif isinstance(listener, InProcessListener):
                    listener.incoming(theirs)
                try:
                    await answered
                except BaseException:
                    ours.abort()
                    raise
                return ours
            if isinstance(node, Nat) and node.refuses:
                await sent(back, HANDSHAKE)
                raise ConnectionRefusedError(f"the NAT of {target} lets nobody in")
            await asyncio.sleep(pause)
            pause *= 2

    def _forget(self, dial: asyncio.Future[MemoryConnection]) -> None:
        for key in [key for key, other in self._under_way.items() if other is dial]:
            del self._under_way[key]


def _endpoint(addr: Multiaddr) -> Endpoint:
    return host_port(addr).host, host_port(addr).port


def _now() -> float:
    return asyncio.get_running_loop().time()
