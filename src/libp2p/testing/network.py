"""A simulated network: machines with IP addresses, joined by links that are slow, narrow, lossy or cut.

    async with Network(seed=1, link=Link(latency=0.05)) as network:
        alice, bob = network.node("10.0.0.1"), network.node("10.0.0.2", "fd00::2")
        transport = alice.transport().use(context)      # dials and listens on /ip4/10.0.0.1/tcp/<port>
        socket = await alice.udp()(("10.0.0.1", 0))     # a UDP socket: see `datagrams`
        network.set_link(alice, bob, Link(latency=0.2, bandwidth=125_000, loss=0.01))
        network.cut(alice, bob)

Rules:
- All delays are in the event loop's time: on a virtual-time loop an hour takes none.
- The same seed, and the same program, give the same run.
- Connections are reliable byte streams, not packets, and congestion control is not simulated: see `links`.
- Datagrams are packets: see `datagrams`.
- The links of two machines carry all they exchange: it shares the bandwidth, in each direction for itself.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from ipaddress import ip_address
from types import TracebackType
from typing import Self, TypeAlias

from ..connection import Accept, Connection, DialOptions, Direction, Listener, LocalPort, StreamTransport
from ..errors import InvalidMultiaddr, ListenError
from ..identity import PeerId
from ..io import time_limit
from ..multiaddr import Multiaddr, from_socket_address, host_port
from ..transports.memory import MAX_PENDING_INBOUND, InProcessListener, MemoryConnection, pipe
from ..transports.quic.datagrams import DatagramSocket, OpenSocket, SocketAddress
from .datagrams import DatagramQueue, Flow, OnDatagram, UdpPorts, socket_address
from .links import SEGMENT, Arrivals, Carrier, Fate, Link, Road

HANDSHAKE = 40
"""Bytes of the segments that open a connection."""

_FIRST_EPHEMERAL_PORT = 49152


ThroughNat: TypeAlias = "Callable[[Node, Node, Multiaddr, Multiaddr], Awaitable[MemoryConnection]]"
"""From a machine to another, or to a NAT, with the addresses of both ends as the dialer has them."""


class Network:
    """A set of machines.

    Used as a context manager: at its end everything that is under way is dropped, and UDP sockets are closed.
    """

    def __init__(self, *, seed: int = 0, link: Link | None = None) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - a simulation's dice
        self._default = link or Link()
        self._arrivals = Arrivals()
        self._nodes: dict[str, Node] = {}
        self._closed = False
        self.through_nat: ThroughNat | None = None
        """Opens a raw connection that a NAT is in the way of; set by the first NAT."""
        self.on_datagram: OnDatagram | None = None
        """Sees each datagram that a machine sends, before a link may lose it; returns False to drop it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._arrivals.close()
        for node in self._nodes.values():
            node.close()

    def node(self, *ips: str) -> Node:
        """A new machine that has the addresses `ips`."""
        if not ips or any(ip in self._nodes for ip in ips):
            raise ValueError(f"a machine needs addresses of its own, not {', '.join(ips) or 'none'}")
        node = Node(self, ips)
        self.add(node)
        return node

    def add(self, node: Node) -> None:
        """`node` is there now. Raises `ValueError` where another has one of its addresses."""
        if any(ip in self._nodes for ip in node.ips):
            raise ValueError(f"a machine needs addresses of its own, not {', '.join(node.ips)}")
        self._nodes.update(dict.fromkeys(node.ips, node))

    def remove(self, node: Node) -> None:
        """`node` is off: nobody answers at its addresses any more, and what its connections have under way is lost."""
        for ip in node.ips:
            del self._nodes[ip]
        for other in list(node.roads):
            self.cut(node, other)
        node.close()

    def at(self, ip: str) -> Node | None:
        """The machine that has the address `ip`."""
        return self._nodes.get(ip)

    def set_link(self, a: Node, b: Node, link: Link) -> None:
        """From now on `link` joins `a` and `b`, in both directions. What is under way is not changed."""
        self.road(a, b).link = self.road(b, a).link = link

    def cut(self, a: Node, b: Node, *, reset: bool = False) -> None:
        """Part `a` from `b`: nothing arrives until `heal`. With `reset` their connections are reset, too.

        Datagrams are lost: those under way, and those that are sent until then.
        """
        for source, target in ((a, b), (b, a)):
            road = self.road(source, target)
            road.close()
            if reset:
                road.reset()
            if (queue := source.queues.get(target)) is not None:
                queue.clear()

    def heal(self, a: Node, b: Node) -> None:
        """Join `a` and `b` again; what connections sent meanwhile arrives, unless it was given up."""
        if not self._closed:
            self.road(a, b).open()
            self.road(b, a).open()

    async def connect(
        self, source: Node, target: Multiaddr, local_port: LocalPort = LocalPort.SHARED
    ) -> MemoryConnection:
        """Open a raw connection. Raises `ConnectionRefusedError`; a machine that is not there never answers."""
        address = host_port(target)
        local_ip = source.ip_like(address.host)
        node = await self.find(address.host)
        if self.through_nat is not None and not (source.is_open_to(node) and node.is_open_to(source)):
            return await self.through_nat(source, node, source.dial_from(local_ip, local_port), target)
        there, back = self.carrier(source, node), self.carrier(node, source)
        await sent(there, HANDSHAKE)
        listener = node.listeners.get(address.port)
        answered = sent(back, HANDSHAKE)
        if not isinstance(listener, InProcessListener):
            await answered
            raise ConnectionRefusedError(f"nobody listens on {target}")
        local_addr = source.dial_from(local_ip, local_port)
        window = there.road.link.window
        ours, theirs = pipe(local_addr, target, there=there, back=back, window=window, segment=SEGMENT)
        there.tell, back.tell = partial(_told, ours), partial(_told, theirs)
        listener.incoming(theirs)
        try:
            await answered
        except BaseException:
            ours.abort()
            raise
        return ours

    def send_datagrams(self, node: Node, datagrams: Sequence[bytes], flow: Flow) -> None:
        """Send them from `node`. Where nobody has the target's address they vanish."""
        if (tap := self.on_datagram) is not None:
            datagrams = [data for data in datagrams if tap(data, *flow)]
        target = self._nodes.get(flow.target[0])
        if target is not None and not node.is_open_to(target):
            node, flow = node.outside, node.leaving(flow)
        if target is not None and (target.outside is target or target.is_open_to(node)):
            self._queue(node, target).send(datagrams, flow)

    def inject(self, data: bytes, source: SocketAddress, target: SocketAddress) -> None:
        """Let a datagram arrive at `target` that seems to come from `source`, which may be anybody.

        It comes in the next turn of the loop; no link delays or loses it, and `on_datagram` does not see it.
        """
        if (node := self._nodes.get(target[0])) is not None:
            self._queue(node, node).arrive(data, Flow(socket_address(*source[:2]), socket_address(*target[:2])))

    async def find(self, ip: str) -> Node:
        """The machine that has the address `ip`; never returns where there is none, as nobody answers from there."""
        if (node := self._nodes.get(ip)) is None:
            await asyncio.get_running_loop().create_future()
            raise AssertionError("unreachable")
        return node

    def road(self, source: Node, target: Node) -> Road:
        """The way from one machine to another."""
        if (road := source.roads.get(target)) is None:
            road = source.roads[target] = Road(Link() if source is target else self._default)
            road.cut = self._closed
        return road

    def carrier(self, source: Node, target: Node) -> Carrier:
        """What carries one direction of a new connection."""
        return Carrier(self.road(source, target), self._arrivals, self._dice)

    def _queue(self, source: Node, target: Node) -> DatagramQueue:
        if (queue := source.queues.get(target)) is None:
            queue = source.queues[target] = DatagramQueue(self.road(source, target), target.ports, self._dice)
        return queue


def _told(connection: MemoryConnection, fate: Fate) -> None:
    if fate is Fate.RESET:
        connection.abort(ConnectionResetError(f"the link to {connection.remote_addr} was cut"))


def sent(carrier: Carrier, size: int) -> asyncio.Future[None]:
    """Send `size` bytes; done when they have arrived."""

    def arrive() -> None:
        if not arrived.done():
            arrived.set_result(None)

    arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    carrier(size, arrive)
    return arrived


def is_tcp(addr: Multiaddr) -> bool:
    """Whether `addr`, with or without /p2p, is /ip4 or /ip6 and /tcp, and nothing else."""
    return [component.name for component in addr.without_peer()] in (["ip4", "tcp"], ["ip6", "tcp"])


class Node:
    """A machine. Made by `Network.node`."""

    def __init__(self, network: Network, ips: tuple[str, ...]) -> None:
        self.network = network
        self.ips = tuple(str(ip_address(ip)) for ip in ips)
        self.roads: dict[Node, Road] = {}
        self.queues: dict[Node, DatagramQueue] = {}
        self.listeners: dict[int, Listener] = {}
        self.ports = UdpPorts(self.ips, partial(network.send_datagrams, self))
        self._last_port = _FIRST_EPHEMERAL_PORT - 1
        self.outside: Node = self
        """Who others see in its place: the NAT before it."""

    def is_open_to(self, other: Node) -> bool:
        """Whether no NAT lies between `other` and what is behind this machine's own."""
        return self.outside in (self, other.outside)

    def leaving(self, flow: Flow) -> Flow:
        """`flow` as those outside see it."""
        return flow

    def transport(
        self, *, connect_timeout: float = 5.0, max_pending_inbound: int = MAX_PENDING_INBOUND
    ) -> SimulatedTransport:
        """The transport of a host on this machine. `connect_timeout` is in seconds, `max_pending_inbound` how many
        connections of a listener may be in the handshake at a time.
        """
        return SimulatedTransport(self, connect_timeout, max_pending_inbound)

    def udp(self) -> OpenSocket:
        """Opens UDP sockets on this machine."""
        return self.ports.open

    def rebind(self, *sockets: DatagramSocket) -> None:
        """Give this machine's UDP sockets (default: all) new ports, as a NAT in front of it does that forgets them.

        Others see datagrams come from the new ports; what they send to the old ones vanishes. The sockets don't notice.
        """
        self.ports.rebind(*sockets)

    def free_port(self) -> int:
        """A port that nobody listens on."""
        self._last_port += 1
        return self._last_port

    def dial_from(self, ip: str, local_port: LocalPort) -> Multiaddr:
        """The address to dial from: by default with a listener's port, so that peers see one address, as real
        transports do it.
        """
        shared = next(iter(self.listeners), None) if local_port is LocalPort.SHARED else None
        return from_socket_address(ip, shared or self.free_port())

    def bind(self, addr: Multiaddr) -> tuple[int, list[Multiaddr]]:
        """The port that a listener on `addr`, which may have port 0 or a wildcard host, is to have, and its addresses.

        Raises `ListenError`.
        """
        if not is_tcp(addr):
            raise ListenError(addr, "it is no TCP address")
        host, port = host_port(addr).host, host_port(addr).port
        wildcard = ip_address(host).is_unspecified
        ips = [ip for ip in self.ips if ip == host or (wildcard and ip_address(ip).version == ip_address(host).version)]
        if not ips:
            raise ListenError(addr, f"it is no address of {self!r}")
        port = port or self.free_port()
        if port in self.listeners:
            raise ListenError(addr, "it is in use")
        return port, [from_socket_address(ip, port) for ip in ips]

    def close(self) -> None:
        """Cut all roads from here, drop what is on them, and close the UDP sockets."""
        for road in self.roads.values():
            road.close()
        for queue in self.queues.values():
            queue.clear()
        self.ports.close()

    def stop_listening(self, port: int) -> None:
        """Free `port`."""
        del self.listeners[port]

    def ip_like(self, other: str) -> str:
        """The address of this machine that is of the same version as `other`. Raises `OSError` where it has none."""
        version = ip_address(other).version
        for ip in self.ips:
            if ip_address(ip).version == version:
                return ip
        raise OSError(errno.ENETUNREACH, f"{self!r} has no IPv{version} address")

    def __repr__(self) -> str:
        return f"<Node {' '.join(self.ips)}>"


class SimulatedTransport(StreamTransport):
    """Dials and listens on `/ip4/<ip>/tcp/<port>` and `/ip6/...` of a simulated network, for one machine of it."""

    def __init__(self, node: Node, connect_timeout: float, max_pending_inbound: int) -> None:
        self._node = node
        self._connect_timeout = connect_timeout
        self._max_pending_inbound = max_pending_inbound

    def can_dial(self, addr: Multiaddr) -> bool:
        return is_tcp(addr)

    def can_listen(self, addr: Multiaddr) -> bool:
        return is_tcp(addr)

    async def dial(self, addr: Multiaddr, peer: PeerId | None, options: DialOptions = DialOptions()) -> Connection:
        if not is_tcp(addr):
            raise InvalidMultiaddr(f"{addr} is no TCP address")
        async with time_limit("connect", self._connect_timeout):
            raw = await self._node.network.connect(self._node, addr.without_peer(), options.local_port)
        return await self.context.upgrader.upgrade(raw, Direction.OUTBOUND, role=options.role, peer=peer)

    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        node = self._node
        port, bound = node.bind(addr)
        listener = InProcessListener(
            bound,
            self.context,
            accept,
            limit=self._max_pending_inbound,
            on_close=partial(node.stop_listening, port),
        )
        node.listeners[port] = listener
        return listener
