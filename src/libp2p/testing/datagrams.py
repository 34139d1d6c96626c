"""The datagram half of the simulated network: UDP sockets of its machines, and what happens to datagrams on its roads.

    socket = await alice.udp()(("0.0.0.0", 4001))       # a `DatagramSocket`
    socket.attach(receiver)
    socket.send([b"hello"], ("10.0.0.2", 4001))

Rules:
- A datagram is late, lost, doubled or overtaken as the `Link` says, and never comes again. What is sent to nobody, or
  reaches a socket that nobody is attached to, vanishes; so does what is on a road when it is cut.
- Datagrams and streams queue for the same bandwidth. Only datagrams are dropped when too many of them wait.
- Those of one sender that arrive at the same instant, in one size (the last may be smaller), are handed over as one
  batch, as a system's receive offload does it.
- A socket takes everything it is given to send, at once.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import NamedTuple, TypeAlias

from ..transports.interfaces import Interfaces
from ..transports.quic.datagrams import DatagramReceiver, DatagramSocket, Received, SocketAddress
from .links import Road

MAX_SEGMENTS = 64
"""Datagrams at most in one batch (Linux: UDP_GRO_CNT_MAX)."""

_MAX_BATCH = 65_507
"""Bytes at most of one batch: those of the largest UDP datagram over IPv4."""

_MAX_UNDER_WAY = 100_000
"""Datagrams on one road; beyond that they are dropped. Only a road without a bandwidth comes near it."""

_HEADERS = {4: 20 + 8, 6: 40 + 8}
"""Bytes of the IP and UDP headers, by IP version."""

_EPHEMERAL_PORTS = range(49152, 65536)

OnDatagram: TypeAlias = Callable[[bytes, SocketAddress, SocketAddress], bool]
"""Called with a datagram, where it comes from and where it goes to; what it returns False for is dropped."""


class Flow(NamedTuple):
    """From whom to whom a datagram goes."""

    source: SocketAddress
    target: SocketAddress


class DatagramQueue:
    """The datagrams on one road, which leads to the machine that has `ports`: one timer for all, set for the first that
    arrives.
    """

    def __init__(self, road: Road, ports: UdpPorts, dice: random.Random) -> None:
        self._road = road
        self._ports = ports
        self._dice = dice
        self._under_way: list[tuple[float, int, bytes, Flow]] = []  # a heap
        self._waiting: deque[tuple[float, int]] = deque()  # when a datagram leaves the queue, and its size
        self._bytes_waiting = 0
        self._counter = 0
        self._timer: asyncio.TimerHandle | None = None

    def send(self, datagrams: Iterable[bytes], flow: Flow) -> None:
        """Take them along; not all need arrive."""
        road, link, dice = self._road, self._road.link, self._dice
        if road.cut:
            return
        now = asyncio.get_running_loop().time()
        room = link.mtu - _HEADERS[_version(flow.target[0])]
        for data in datagrams:
            if len(data) > room or self._full(now):
                continue
            left = road.busy(len(data), now)
            if link.bandwidth is not None:
                self._waiting.append((left, len(data)))
                self._bytes_waiting += len(data)
            if link.loss and dice.random() < link.loss:
                continue
            copies = 2 if link.duplicate and dice.random() < link.duplicate else 1
            for _ in range(copies):
                late = dice.random() * link.jitter if link.jitter else 0.0
                self._push(left + link.latency + late, data, flow)
        self._wake()

    def arrive(self, data: bytes, flow: Flow) -> None:
        """Hand `data` over in the next turn of the loop, whatever the link is like."""
        self._push(asyncio.get_running_loop().time(), data, flow)
        self._wake()

    def clear(self) -> None:
        """Drop all that is under way."""
        self._under_way.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _full(self, now: float) -> bool:
        """Whether as much waits for the bandwidth as may wait."""
        while self._waiting and self._waiting[0][0] <= now:
            self._bytes_waiting -= self._waiting.popleft()[1]
        link = self._road.link
        if link.bandwidth is not None and self._bytes_waiting > link.queue * link.bandwidth:
            return True
        return len(self._under_way) >= _MAX_UNDER_WAY

    def _push(self, when: float, data: bytes, flow: Flow) -> None:
        self._counter += 1  # what arrives at the same instant does so in the order of sending
        heappush(self._under_way, (when, self._counter, data, flow))

    def _wake(self) -> None:
        """Set the timer for the first arrival."""
        if not self._under_way:
            return
        when = self._under_way[0][0]
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._due)

    def _due(self) -> None:
        self._timer = None
        now = max(asyncio.get_running_loop().time(), self._under_way[0][0])  # a timer may be early by a clock's tick
        arrived: dict[SimulatedSocket, list[Received]] = {}
        for flow, batch in _batches(self._pop(now)):
            socket, ip = self._ports.receiver(flow)
            if socket is not None:
                data = batch[0] if len(batch) == 1 else b"".join(batch)
                local_ip = ip if socket.is_wildcard else None
                arrived.setdefault(socket, []).append(Received(data, len(batch[0]), flow.source, local_ip))
        self._wake()
        for socket, batches in arrived.items():
            socket.deliver(batches)

    def _pop(self, now: float) -> Iterator[tuple[bytes, Flow]]:
        while self._under_way and self._under_way[0][0] <= now:
            yield heappop(self._under_way)[2:]


def _batches(arrived: Iterable[tuple[bytes, Flow]]) -> Iterator[tuple[Flow, list[bytes]]]:
    """Put together what a system's receive offload would."""
    batch: list[bytes] = []
    last: Flow | None = None
    for data, flow in arrived:
        if last is not None and not (flow == last and _joins(batch, data)):
            yield last, batch
            batch = []
        batch.append(data)
        last = flow
    if last is not None:
        yield last, batch


def _joins(batch: list[bytes], data: bytes) -> bool:
    size, count = len(batch[0]), len(batch)
    fits = count < MAX_SEGMENTS and count * size + len(data) <= _MAX_BATCH
    return fits and len(batch[-1]) == size and 0 < len(data) <= size


class SimulatedSocket(DatagramSocket):
    """A UDP socket of a simulated machine. Made by `UdpPorts.open`."""

    def __init__(self, ports: UdpPorts, ip: str, port: int) -> None:
        self.addr = socket_address(ip, port)
        self.port = port
        """The port that others see, which a rebinding changes."""
        self._ports = ports
        self._closed = False
        self._receiver: DatagramReceiver | None = None

    def local_ips(self, interfaces: Interfaces) -> Sequence[str]:  # noqa: ARG002 - this machine is another one
        ip = self.addr[0]
        return [own for own in self._ports.ips if own == ip or (self.is_wildcard and _version(own) == _version(ip))]

    def attach(self, receiver: DatagramReceiver) -> None:
        if not self._closed:
            self._receiver = receiver

    def send(self, datagrams: Sequence[bytes], addr: SocketAddress, local_ip: str | None = None) -> bool:
        """Always True: a simulated socket takes everything.

        What can't be sent, as it has no source address of the target's kind or `local_ip` is not the machine's, is
        lost. Raises `ValueError` for a batch that no system would take: all but the last must be of one size.
        """
        size = len(datagrams[0]) if datagrams else 0
        if any(len(data) != size for data in datagrams[:-1]) or (datagrams and len(datagrams[-1]) > size):
            raise ValueError(f"a batch to {addr} is not of one size: {[len(data) for data in datagrams]}")
        source_ip = self._source(addr[0], local_ip)
        if source_ip is not None and not self._closed:
            flow = Flow(socket_address(source_ip, self.port), socket_address(addr[0], addr[1]))
            self._ports.send(datagrams, flow)
        return True

    def close(self) -> None:
        self._closed = True
        self._receiver = None
        self._ports.release(self)

    def deliver(self, batches: Sequence[Received]) -> None:
        """These have come for this socket."""
        if self._receiver is not None:
            self._receiver.datagrams_received(batches)

    def _source(self, target: str, local_ip: str | None) -> str | None:
        if _version(self.addr[0]) != _version(target):
            return None
        if not self.is_wildcard:
            return self.addr[0]
        ips = [ip for ip in self._ports.ips if _version(ip) == _version(target) and local_ip in (None, ip)]
        return ips[0] if ips else None


class UdpPorts:
    """The UDP ports of one machine, which has `ips`: who is bound to which, as the machine and as others see it.

    What its sockets send goes to `send`.
    """

    def __init__(self, ips: Sequence[str], send: Callable[[Sequence[bytes], Flow], None]) -> None:
        self.ips = ips
        self.send = send
        self._sockets: dict[tuple[str, int], SimulatedSocket] = {}  # by IP and port; also the ports of dead mappings
        self._next = 0

    async def open(self, addr: SocketAddress) -> SimulatedSocket:
        """A socket bound to `addr`; it is an `OpenSocket`.

        Raises `OSError`: EADDRNOTAVAIL where the IP is not the machine's, EADDRINUSE where another has the port.
        """
        ip, port = addr[:2]
        if not any(ip in (own, _any(own)) for own in self.ips):
            raise OSError(errno.EADDRNOTAVAIL, f"{ip} is no address of the machine {' '.join(self.ips)}")
        port = port or self._free(ip)
        if self._taken(ip, port):
            raise OSError(errno.EADDRINUSE, f"port {port} of {ip} is in use")
        socket = self._sockets[ip, port] = SimulatedSocket(self, ip, port)
        return socket

    def find(self, ip: str, port: int) -> SimulatedSocket | None:
        """Who gets what is sent to `ip` and `port`."""
        socket = self._sockets.get((ip, port)) or self._sockets.get((_any(ip), port))
        return socket if socket is not None and socket.port == port else None

    def receiver(self, flow: Flow) -> tuple[SimulatedSocket | None, str]:
        """Who gets what comes by `flow`, and at which address of the machine."""
        ip, port = flow.target[:2]
        return self.find(ip, port), ip

    def rebind(self, *sockets: DatagramSocket) -> None:
        """Let others see `sockets` (default: all) at new ports. What is sent to the old ones vanishes."""
        for socket in dict.fromkeys(self._sockets.values()):
            if not sockets or socket in sockets:
                ip = socket.addr[0]
                socket.port = self._free(ip)
                self._sockets[ip, socket.port] = socket

    def release(self, socket: SimulatedSocket) -> None:
        """Free its ports."""
        for key in [key for key, owner in self._sockets.items() if owner is socket]:
            del self._sockets[key]

    def close(self) -> None:
        """Close all sockets."""
        for socket in list(self._sockets.values()):
            socket.close()

    def _free(self, ip: str) -> int:
        """The next free port: one that was given back is not given out again soon."""
        count = len(_EPHEMERAL_PORTS)
        for step in range(self._next, self._next + count):
            port = _EPHEMERAL_PORTS[step % count]
            if not self._taken(ip, port):
                self._next = step + 1
                return port
        raise OSError(errno.EADDRINUSE, f"all ports of {ip} are in use")

    def _taken(self, ip: str, port: int) -> bool:
        if ip != _any(ip):
            return (ip, port) in self._sockets or (_any(ip), port) in self._sockets
        return any((own, port) in self._sockets for own in (ip, *self.ips) if _any(own) == ip)


def socket_address(ip: str, port: int) -> SocketAddress:
    """As the `socket` module has it."""
    return (ip, port) if _version(ip) == 4 else (ip, port, 0, 0)


def _version(ip: str) -> int:
    return 6 if ":" in ip else 4


def _any(ip: str) -> str:
    """The wildcard address of the same version."""
    return "::" if ":" in ip else "0.0.0.0"  # noqa: S104 - simulated
