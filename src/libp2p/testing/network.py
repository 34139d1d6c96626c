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
- Connections are reliable byte streams, not packets: of what is sent in segments of 1,400 bytes, a lost one comes
  late by a retransmission delay, and everything behind it waits for it. Congestion control is not simulated.
- Datagrams are packets: see `datagrams`.
- The links of two machines carry all they exchange: it shares the bandwidth, in each direction for itself.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

from ..connection import Accept, Connection, DialOptions, Direction, Listener, LocalPort, StreamTransport
from ..errors import InvalidMultiaddr, ListenError
from ..identity import PeerId
from ..io import time_limit
from ..multiaddr import Multiaddr, from_socket_address, host_port
from ..transports.memory import MAX_PENDING_INBOUND, InProcessListener, MemoryConnection, pipe
from ..transports.quic.datagrams import DatagramSocket, OpenSocket, SocketAddress
from .datagrams import Flow, Lane, OnDatagram, UdpPorts, socket_address

SEGMENT = 1400
"""Bytes at most that travel, and are lost, in one piece."""

_WINDOW = 4 * 1024 * 1024
"""Bytes of one connection that may be under way in one direction..."""

_MIN_WINDOW = 64 * 1024
_QUEUE = 0.1
"""...or fewer on a narrow link: what it carries in a round trip and this many seconds, but not less than 64 KiB."""

_HANDSHAKE = 40
"""Bytes of the segments that open a connection."""

_RETRANSMISSION = 0.2
"""Seconds at least until a lost segment is sent again (RFC 6298 says 1, today's systems 0.2)."""

_FIRST_EPHEMERAL_PORT = 49152


@dataclass(frozen=True, slots=True)
class Link:
    """How bytes travel from one machine to another. What comes behind `loss` is for datagrams only."""

    latency: float = 0.0
    """Seconds, one way."""
    bandwidth: float | None = None
    """Bytes per second, headers not counted; None: no bound."""
    loss: float = 0.0
    """Probability that a segment, or a datagram, is lost; below 1 where there are connections."""
    jitter: float = 0.0
    """Seconds at most that a datagram is late in addition, at random: datagrams overtake each other."""
    duplicate: float = 0.0
    """Probability that a datagram arrives twice."""
    mtu: int = 1500
    """Bytes of an IP packet at most: a datagram that is larger, with its 28 (IPv4) or 48 (IPv6) bytes of headers, is
    dropped silently."""
    queue: float = 0.1
    """Seconds of bandwidth that the datagrams waiting for it may take; a datagram that comes when they take more is
    dropped. Without a bandwidth none waits."""

    @property
    def window(self) -> int:
        """Bytes of one connection that may be under way in one direction."""
        if self.bandwidth is None:
            return _WINDOW
        return min(_WINDOW, max(_MIN_WINDOW, int(self.bandwidth * (2 * self.latency + _QUEUE))))


class Road:
    """One direction of a link, shared by all connections and datagrams that go along it."""

    def __init__(self, link: Link, target: Node, dice: random.Random) -> None:
        self.link = link
        self.cut = False
        self.busy_until = 0.0
        self.carriers: WeakValueDictionary[int, _Carrier] = WeakValueDictionary()
        self.lane = Lane(self, target, dice)

    def close(self) -> None:
        """Cut it: what connections have under way is held up, datagrams are dropped."""
        self.cut = True
        for carrier in self.carriers.values():
            carrier.stop()
        self.lane.clear()


class _Carrier:
    """One direction of one connection: calls back what has arrived, in order. It is a `Carry`."""

    def __init__(self, road: Road, dice: random.Random) -> None:
        self._road = road
        self._dice = dice
        self._under_way: deque[tuple[float, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0

    def __call__(self, size: int, arrive: Callable[[], None]) -> None:
        road, link = self._road, self._road.link
        now = asyncio.get_running_loop().time()
        left = max(now, road.busy_until)
        if link.bandwidth is not None and size:
            left += size / link.bandwidth
            road.busy_until = left
        delay, again = link.latency, max(_RETRANSMISSION, 2 * link.latency)
        while size and self._dice.random() < link.loss:
            delay, again = delay + again, 2 * again
        self._last = max(self._last, (left if size else now) + delay)
        self._under_way.append((self._last, arrive))
        self.wake()

    def wake(self) -> None:
        """Set the timer for the next arrival; on a road that is cut there is none."""
        if self._under_way and self._timer is None and not self._road.cut:
            self._timer = asyncio.get_running_loop().call_at(self._under_way[0][0], self._due)

    def heal(self) -> None:
        """What was sent while the road was cut is sent again now."""
        self._last = max(self._last, asyncio.get_running_loop().time() + self._road.link.latency)
        self._under_way = deque((max(when, self._last), arrive) for when, arrive in self._under_way)
        self.wake()

    def stop(self) -> None:
        """Nothing arrives until `wake` or `heal`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._under_way and self._under_way[0][0] <= now and not self._road.cut:
            self._under_way.popleft()[1]()
        self.wake()


class Network:
    """A set of machines.

    Used as a context manager: at its end everything that is under way is dropped, and UDP sockets are closed.
    """

    def __init__(self, *, seed: int = 0, link: Link | None = None) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - a simulation's dice
        self._default = link or Link()
        self._roads: dict[tuple[Node, Node], Road] = {}
        self._connections: WeakValueDictionary[int, MemoryConnection] = WeakValueDictionary()
        self._nodes: dict[str, Node] = {}
        self._counter = 0
        self._closed = False
        self.on_datagram: OnDatagram | None = None
        """Sees each datagram that a machine sends, before a link may lose it; returns False to drop it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for road in self._roads.values():
            road.close()
        for node in self._nodes.values():
            node.ports.close()

    def node(self, *ips: str) -> Node:
        """A new machine that has the addresses `ips`."""
        if not ips or any(ip in self._nodes for ip in ips):
            raise ValueError(f"a machine needs addresses of its own, not {', '.join(ips) or 'none'}")
        node = Node(self, ips)
        self._nodes.update(dict.fromkeys(node.ips, node))
        return node

    def set_link(self, a: Node, b: Node, link: Link) -> None:
        """From now on `link` joins `a` and `b`, in both directions. What is under way is not changed."""
        self._road(a, b).link = self._road(b, a).link = link

    def cut(self, a: Node, b: Node, *, reset: bool = False) -> None:
        """Part `a` from `b`: nothing arrives until `heal`. With `reset` their connections are reset, too.

        Datagrams are lost: those under way, and those that are sent until then.
        """
        for road in (self._road(a, b), self._road(b, a)):
            road.close()
        if reset:
            ends = {*a.ips, *b.ips}
            for connection in list(self._connections.values()):
                if {host_port(addr).host for addr in (connection.local_addr, connection.remote_addr)} <= ends:
                    connection.abort(ConnectionResetError(f"the link to {connection.remote_addr} was cut"))

    def heal(self, a: Node, b: Node) -> None:
        """Join `a` and `b` again; what connections sent meanwhile arrives, unless it was given up."""
        for road in (self._road(a, b), self._road(b, a)):
            if road.cut and not self._closed:
                road.cut = False
                for carrier in list(road.carriers.values()):
                    carrier.heal()

    async def connect(
        self, source: Node, target: Multiaddr, local_port: LocalPort = LocalPort.SHARED
    ) -> MemoryConnection:
        """Open a raw connection. Raises `ConnectionRefusedError`; a machine that is not there never answers."""
        address = host_port(target)
        local_ip = source.ip_like(address.host)
        loop = asyncio.get_running_loop()
        node = self._nodes.get(address.host)
        if node is None:
            await loop.create_future()
            raise AssertionError("unreachable")
        there, back = self._carrier(source, node), self._carrier(node, source)
        arrived: asyncio.Future[None] = loop.create_future()
        answered: asyncio.Future[None] = loop.create_future()
        there(_HANDSHAKE, partial(_answer, arrived))
        await arrived
        listener = node.listeners.get(address.port)
        back(_HANDSHAKE, partial(_answer, answered))
        if listener is None:
            await answered
            raise ConnectionRefusedError(f"nobody listens on {target}")
        port = source.source_port() if local_port is LocalPort.SHARED else source.free_port()
        local_addr = from_socket_address(local_ip, port)
        window = self._road(source, node).link.window
        ours, theirs = pipe(local_addr, target, there=there, back=back, window=window, segment=SEGMENT)
        self._connections[self._next()], self._connections[self._next()] = ours, theirs
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
        if (target := self._nodes.get(flow.target[0])) is not None:
            self._road(node, target).lane.send(datagrams, flow)

    def inject(self, data: bytes, source: SocketAddress, target: SocketAddress) -> None:
        """Let a datagram arrive at `target` that seems to come from `source`, which may be anybody.

        It comes in the next turn of the loop; no link delays or loses it, and `on_datagram` does not see it.
        """
        if (node := self._nodes.get(target[0])) is not None:
            self._road(node, node).lane.arrive(data, Flow(socket_address(*source[:2]), socket_address(*target[:2])))

    def _road(self, source: Node, target: Node) -> Road:
        if (road := self._roads.get((source, target))) is None:
            link = Link() if source is target else self._default
            road = self._roads[source, target] = Road(link, target, self._dice)
            road.cut = self._closed
        return road

    def _carrier(self, source: Node, target: Node) -> _Carrier:
        road = self._road(source, target)
        carrier = road.carriers[self._next()] = _Carrier(road, self._dice)
        return carrier

    def _next(self) -> int:
        self._counter += 1
        return self._counter


def _answer(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class Node:
    """A machine. Made by `Network.node`."""

    def __init__(self, network: Network, ips: tuple[str, ...]) -> None:
        self.network = network
        self.ips = tuple(str(ip_address(ip)) for ip in ips)
        self.listeners: dict[int, InProcessListener] = {}
        self.ports = UdpPorts(self)
        self._last_port = _FIRST_EPHEMERAL_PORT - 1

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

    def source_port(self) -> int:
        """The port to dial from: a listener's, so that peers see one address, as real transports do it."""
        return next(iter(self.listeners), None) or self.free_port()

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
        return [component.name for component in addr.without_peer()] in (["ip4", "tcp"], ["ip6", "tcp"])

    def can_listen(self, addr: Multiaddr) -> bool:
        return self.can_dial(addr)

    async def dial(self, addr: Multiaddr, peer: PeerId | None, options: DialOptions = DialOptions()) -> Connection:
        if not self.can_dial(addr):
            raise InvalidMultiaddr(f"{addr} is no TCP address")
        async with time_limit("connect", self._connect_timeout):
            raw = await self._node.network.connect(self._node, addr.without_peer(), options.local_port)
        return await self.context.upgrader.upgrade(raw, Direction.OUTBOUND, role=options.role, peer=peer)

    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        if not self.can_listen(addr):
            raise ListenError(addr, "it is no TCP address")
        node, (host, port) = self._node, (host_port(addr).host, host_port(addr).port)
        wildcard = ip_address(host).is_unspecified
        ips = [ip for ip in node.ips if ip == host or (wildcard and ip_address(ip).version == ip_address(host).version)]
        if not ips:
            raise ListenError(addr, f"it is no address of {node!r}")
        port = port or node.free_port()
        if port in node.listeners:
            raise ListenError(addr, "it is in use")
        bound = [from_socket_address(ip, port) for ip in ips]
        listener = InProcessListener(
            bound,
            self.context,
            accept,
            limit=self._max_pending_inbound,
            on_close=partial(node.stop_listening, port),
        )
        node.listeners[port] = listener
        return listener
