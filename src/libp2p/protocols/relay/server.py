"""A relay: takes connections for peers that can't be reached directly. Spec: relay/circuit-v2.md.

    client   HopMessage RESERVE ->            <- STATUS, reservation (addresses, until when, voucher), limit
    source   HopMessage CONNECT target ->                            StopMessage CONNECT source -> target
                                              <- STATUS              <- STATUS
             ================ the two streams are one connection, whose bytes the relay passes on ================

Rules:
- Nobody is a relay unless asked to: run a `RelayServer`.
- A reservation holds while its peer is connected directly, and not longer than its time.
- No relaying over relayed connections: neither reservations nor connects are taken there.
- What is refused is told by a status, and what is cut off by the code of a reset.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from ...connection import Connection, Service, Stream, StreamErrorCode
from ...errors import Libp2pError, RemoteProtocolError
from ...figures import Figure, FigureKind
from ...host import Host
from ...identity import PeerId
from ...io import time_limit
from ...multiaddr import Multiaddr, ip_of, is_relayed, may_share, reach_of_remote
from ...swarm.events import ConnectionLost
from .bridge import Bridge
from .config import RelayConfig
from .core import Circuit, RelayBook, RelayRefused
from .events import CircuitClosed, CircuitOpened
from .voucher import Voucher
from .wire import (
    HOP_ID,
    MAX_MESSAGE,
    STOP_ID,
    Answer,
    Connect,
    Limit,
    Reservation,
    Reserve,
    Status,
    decode_hop,
    decode_stop,
    encode_hop,
    encode_stop,
    status_name,
)

logger = logging.getLogger(__name__)

_MAX_ADDRS = 16
"""Addresses of the relay that a reservation names: they must fit in a message."""

_TAG, _WORTH = "relay", 50.0
"""What a peer that has a reservation is worth more, where connections have to make room."""


class RelayGater:
    """For whom a relay works: for everybody, unless a subclass raises a `RelayRefused` that says why not."""

    def check_reserve(self, peer: PeerId, addr: Multiaddr) -> None:
        """May `peer`, which is connected from `addr`, have a reservation?"""

    def check_connect(self, source: PeerId, target: PeerId) -> None:
        """May `source` connect to `target`?"""


class RelayServer(Service):
    """Relays connections. `wall_clock` gives the Unix time in seconds."""

    def __init__(
        self,
        host: Host,
        config: RelayConfig | None = None,
        *,
        gater: RelayGater | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(host)
        self.config = config = config or RelayConfig()
        self.book = RelayBook(config)
        self.bridges: set[Bridge] = set()
        self._bytes_passed = 0  # by those that have ended
        self._limits = host.limits
        self._gater = gater or RelayGater()
        self._wall_clock = wall_clock
        self._requests: Counter[PeerId] = Counter()
        self._limit = Limit(int(config.circuit_duration or 0), config.circuit_bytes or 0)

    async def start(self) -> None:
        """Serve the protocol."""
        self.serve([HOP_ID], self._serve)
        self.follow(ConnectionLost, lambda event: self._left(event.connection.remote_peer))

    def figures(self) -> Iterator[Figure]:
        """See `Host.figures`."""
        yield Figure("relay_reservations", "Peers that connections are taken for.", len(self.book.reservations))
        yield Figure("relay_circuits", "Connections that are relayed.", self.book.circuits)
        passed = self._bytes_passed + sum(bridge.bytes_passed for bridge in self.bridges)
        yield Figure("relay_bytes", "Bytes that were relayed, both ways.", passed, kind=FigureKind.COUNTER)

    def abort(self) -> set[asyncio.Task[Any]]:
        """See `Service`: what is relayed ends too."""
        for bridge in list(self.bridges):
            bridge.cut("the relay has ended", StreamErrorCode.SHUTDOWN)
        return super().abort()

    # Requests

    async def _serve(self, stream: Stream) -> None:
        peer = stream.connection.remote_peer
        config = self.config
        if self._requests[peer] >= config.max_requests_per_peer or self._requests.total() >= config.max_requests:
            stream.reset(StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
            return
        self._requests[peer] += 1
        try:
            async with time_limit("a request to the relay", config.request_timeout):
                data = await stream.read_message(limit=MAX_MESSAGE, what="hop message")
            try:
                await self._do(stream, data)
            except RelayRefused as refused:
                logger.debug("%s refused: %s", peer, refused)
                await self._answer(stream, Answer(refused.status))
        finally:
            self._requests[peer] -= 1
            if not self._requests[peer]:
                del self._requests[peer]

    async def _do(self, stream: Stream, data: bytes) -> None:
        connection = stream.connection
        try:
            request = decode_hop(data)
        except RemoteProtocolError as error:
            raise RelayRefused(Status.MALFORMED_MESSAGE, str(error)) from error
        if _is_relayed(connection):
            raise RelayRefused(Status.PERMISSION_DENIED, "it came over a relayed connection")
        match request:
            case Reserve():
                await self._answer(stream, self._reserve(connection))
            case Connect(target):
                await self._connect(stream, target)
            case Answer():
                raise RelayRefused(Status.UNEXPECTED_MESSAGE, "a status is no request")

    async def _answer(self, stream: Stream, answer: Answer) -> None:
        async with time_limit("the relay's answer", self.config.request_timeout):
            await stream.write_message(encode_hop(answer))

    # Reservations

    def _reserve(self, connection: Connection) -> Answer:
        peer, now = connection.remote_peer, _now()
        self._gater.check_reserve(peer, connection.remote_addr)
        until = self.book.reserve(peer, ip_of(connection.remote_addr), now)
        self._limits.tag(peer, _TAG, _WORTH, half_life=self.config.reservation_ttl)
        expire = int(self._wall_clock() + until - now)
        reach = reach_of_remote(connection.remote_addr)
        addrs = tuple(addr for addr in self.host.addrs if not is_relayed(addr) and may_share(addr, reach))
        voucher = Voucher(self.host.id, peer, expire).seal(self.host.key)
        return Answer(Status.OK, Reservation(expire, addrs[:_MAX_ADDRS], voucher), self._limit)

    def _left(self, peer: PeerId) -> None:
        if all(map(_is_relayed, self.host.connections_to(peer))):
            self.book.leave(peer)
            self._limits.untag(peer, _TAG)

    # Connections

    async def _connect(self, stream: Stream, target: PeerId) -> None:
        """Make a circuit of `stream` and one to `target`."""
        connection = stream.connection
        source = connection.remote_peer
        self._gater.check_connect(source, target)
        circuit = self.book.open_circuit(source, ip_of(connection.remote_addr), target, _now())
        far: Stream | None = None
        try:
            far = await self._stop(circuit)
            await self._answer(stream, Answer(Status.OK, limit=self._limit))
            self._bridge(stream, far, circuit)
        except BaseException:
            circuit.release()
            if far is not None:
                far.reset()
            raise

    async def _stop(self, circuit: Circuit) -> Stream:
        """A stream to the target, which has agreed to take the connection. Raises `RelayRefused`."""
        direct = [one for one in self.host.connections_to(circuit.target) if not (_is_relayed(one) or one.is_closed)]
        if not direct:
            raise RelayRefused(Status.NO_RESERVATION, f"{circuit.target} is not connected")
        stream: Stream | None = None
        try:
            async with time_limit("the target's answer", self.config.connect_timeout):
                stream = await self.host.new_stream(direct[-1], STOP_ID)
                await stream.write_message(encode_stop(Connect(circuit.source, self._limit)))
                answer = decode_stop(await stream.read_message(limit=MAX_MESSAGE, what="stop message"))
            if not isinstance(answer, Answer):
                raise RemoteProtocolError("the target answered with a request")
            if answer.status != Status.OK:
                raise RelayRefused(answer.status, "said the target")
        except BaseException as error:
            if stream is not None:
                stream.reset()
            if isinstance(error, Libp2pError | OSError):
                raise RelayRefused(Status.CONNECTION_FAILED, _reason(error)) from error
            raise
        return stream

    def _bridge(self, near: Stream, far: Stream, circuit: Circuit) -> None:
        def ended(reason: str) -> None:
            circuit.release()
            self.bridges.discard(bridge)
            self._bytes_passed += bridge.bytes_passed
            logger.debug("circuit %s -> %s ended: %s", circuit.source, circuit.target, reason)
            self.host.events.emit(CircuitClosed(circuit.source, circuit.target, bridge.bytes_passed, reason))

        bridge = Bridge(
            near,
            far,
            max_bytes=self.config.circuit_bytes,
            max_seconds=self.config.circuit_duration,
            on_end=ended,
        )
        self.bridges.add(bridge)
        self.host.events.emit(CircuitOpened(circuit.source, circuit.target))


def _is_relayed(connection: Connection) -> bool:
    return connection.is_limited or is_relayed(connection.remote_addr)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _reason(error: Exception) -> str:
    return f"{status_name(error.status)}, {error}" if isinstance(error, RelayRefused) else repr(error)
