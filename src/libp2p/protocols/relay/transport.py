"""`/p2p-circuit` as a transport: dialing peers through a relay, and listening there. Spec: relay/circuit-v2.md.

    dial      <relay>/p2p/R/p2p-circuit/p2p/TARGET    connect to R, CONNECT TARGET; the stream is the raw connection
    listen    <relay>/p2p/R/p2p-circuit               connect to R, RESERVE, and keep that; R opens STOP streams to us

Both ends know each other as /p2p/R/p2p-circuit.

Rules:
- A connection is secured from end to end: the relay sees who talks to whom, and how much, not what.
- Nobody is dialed, and no connection taken, over a relayed connection.
- Only relays that we listen at may bring connections.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ...connection import (
    Accept,
    Connection,
    DialOptions,
    Direction,
    Listener,
    RawConnection,
    ServiceHost,
    Stream,
    StreamTransport,
)
from ...errors import InvalidMultiaddr, InvalidPeerId, Libp2pError, LimitExceeded, ListenError, RemoteProtocolError
from ...identity import PeerId
from ...io import TaskSupervisor, time_limit
from ...multiaddr import Multiaddr, is_relayed
from ...transports.inbound import InboundUpgrades
from ...varint import encode_varint
from .circuit import CircuitConnection, CircuitUpgrader
from .config import CircuitConfig
from .core import RelayRefused
from .reservation import CIRCUIT, HeldReservation
from .wire import (
    HOP_ID,
    MAX_MESSAGE,
    Answer,
    Connect,
    Limit,
    Status,
    decode_hop,
    decode_stop,
    encode_hop,
    encode_stop,
)


def relay_of(addr: Multiaddr) -> tuple[Multiaddr, PeerId] | None:
    """The relay that `addr`, with or without a peer behind it, leads through: its address and id. None where it leads
    through none, or several, or does not name the relay.
    """
    relay, rest = addr.split("p2p-circuit")
    text = relay.peer_id_text
    if text is None or rest.without_peer() != CIRCUIT:
        return None
    try:
        return relay, PeerId.from_string(text)
    except InvalidPeerId:
        return None


def _known_as(relay: PeerId) -> Multiaddr:
    """What the ends of a circuit through `relay` are known by."""
    return Multiaddr(f"/p2p/{relay}/p2p-circuit")


class CircuitTransport(StreamTransport):
    """Dials and listens through relays, to which `host` connects. `wall_clock` gives the Unix time in seconds."""

    def __init__(
        self,
        host: ServiceHost,
        config: CircuitConfig | None = None,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._config = config or CircuitConfig()
        self._wall_clock = wall_clock
        self._listeners: dict[PeerId, CircuitListener] = {}

    def can_dial(self, addr: Multiaddr) -> bool:
        return relay_of(addr) is not None

    def can_listen(self, addr: Multiaddr) -> bool:
        return relay_of(addr) is not None and addr.peer_id_text is None

    async def dial(self, addr: Multiaddr, peer: PeerId | None, options: DialOptions = DialOptions()) -> Connection:
        found = relay_of(addr)
        if peer is None and (text := addr.peer_id_text) is not None:
            peer = PeerId.from_string(text)
        if found is None or peer is None:
            raise InvalidMultiaddr(f"{addr} names no relay, or no peer behind it")
        target, relay = found
        if relay in (peer, self._host.id):
            raise InvalidMultiaddr(f"{addr}: a relay leads to others, not to itself")
        through = await self._host.connect(target)
        if through.is_limited or is_relayed(through.remote_addr):
            raise RelayRefused(Status.PERMISSION_DENIED, f"the relay {relay} is reached through a relay itself")
        stream = await self._host.new_stream(through, HOP_ID)
        try:
            async with time_limit(f"connecting through {relay}", self._config.dial_timeout):
                await stream.write_message(encode_hop(Connect(peer)))
                answer = decode_hop(await stream.read_message(limit=MAX_MESSAGE, what="hop message"))
            if not isinstance(answer, Answer):
                raise RemoteProtocolError("the relay answered with a request")
            if answer.status != Status.OK:
                raise RelayRefused(answer.status, f"the relay {relay} does not connect us to {peer}")
        except BaseException:
            stream.reset()
            raise
        raw = CircuitConnection(
            stream,
            local_addr=_known_as(relay),
            remote_addr=addr.without_peer(),
            peer=peer,
            limit=answer.limit,
        )
        upgrader = CircuitUpgrader(self.context.upgrader)
        return await upgrader.upgrade(raw, Direction.OUTBOUND, role=options.role, peer=peer)

    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        found = relay_of(addr)
        if found is None or not self.can_listen(addr):
            raise ListenError(addr, "it does not name a relay, as /p2p/ID/p2p-circuit does")
        target, relay = found
        if relay in self._listeners:
            raise ListenError(addr, "this host listens at that relay already")
        listener = CircuitListener(self, addr, target, relay, accept)
        self._listeners[relay] = listener
        try:
            await listener.begin()
        except BaseException as error:
            await listener.close()
            if isinstance(error, Libp2pError | OSError):
                raise ListenError(addr, str(error)) from error
            raise
        return listener

    async def stopped(self, stream: Stream) -> None:
        """A relay brings a connection: the handler of the stop protocol."""
        relay = stream.connection.remote_peer
        async with time_limit("a connection's announcement by the relay", self._config.reserve_timeout):
            data = await stream.read_message(limit=MAX_MESSAGE, what="stop message")
        try:
            request = decode_stop(data)
        except RemoteProtocolError:
            await stream.write_message(encode_stop(Answer(Status.MALFORMED_MESSAGE)))
            raise
        listener = self._listeners.get(relay)
        if not isinstance(request, Connect):
            status: int = Status.UNEXPECTED_MESSAGE
        elif listener is None or is_relayed(stream.connection.remote_addr):
            status = Status.PERMISSION_DENIED
        else:
            status = listener.incoming(stream, request.peer, request.limit)
        if status != Status.OK:
            await stream.write_message(encode_stop(Answer(status)))

    def abort(self) -> None:
        """See `Transport`: listeners that nobody has closed hold a reservation each."""
        for listener in list(self._listeners.values()):
            listener.abort()

    def make_reservation(self, target: Multiaddr, relay: PeerId, changed: Callable[[], None]) -> HeldReservation:
        """The reservation of a listener."""
        return HeldReservation(self._host, target, relay, self._config, changed, wall_clock=self._wall_clock)

    def make_upgrades(self, addr: Multiaddr, accept: Accept) -> InboundUpgrades:
        """What takes in the connections of a listener."""
        return InboundUpgrades(
            addr,
            CircuitUpgrader(self.context.upgrader),
            accept,
            limit=self._config.max_pending_inbound,
            prepare=_accepted,
        )

    def forget(self, listener: CircuitListener) -> None:
        """`listener` has ended."""
        if self._listeners.get(listener.relay) is listener:
            del self._listeners[listener.relay]


class CircuitListener(Listener):
    """Takes connections through one relay, at which it keeps a reservation."""

    def __init__(
        self, transport: CircuitTransport, addr: Multiaddr, target: Multiaddr, relay: PeerId, accept: Accept
    ) -> None:
        self.relay = relay
        self._transport = transport
        self._reservation = transport.make_reservation(target, relay, self._changed)
        self._accept = accept
        self._upgrades = transport.make_upgrades(addr, accept)
        self._tasks = TaskSupervisor(f"listener {addr}")
        self._begun = False

    async def begin(self) -> None:
        """Get the reservation, and keep it from then on. Raises what `HeldReservation.acquire` does."""
        seconds = await self._reservation.acquire()
        self._begun = True
        self._tasks.spawn(self._reservation.keep(seconds), name="reservation")

    @property
    def addrs(self) -> Sequence[Multiaddr]:
        return self._reservation.addrs

    def incoming(self, stream: Stream, source: PeerId, limit: Limit) -> Status:
        """The relay brings a connection of `source`: whether it is taken."""
        known_as = _known_as(self.relay)
        local_addr = next(iter(self.addrs), known_as)
        try:
            scope = self._upgrades.admit(local_addr, known_as)
        except LimitExceeded:
            return Status.RESOURCE_LIMIT_EXCEEDED
        except Libp2pError:
            return Status.PERMISSION_DENIED
        raw = CircuitConnection(stream, local_addr=local_addr, remote_addr=known_as, peer=source, limit=limit)
        self._upgrades.begin(raw, scope)
        return Status.OK

    def abort(self) -> None:
        self._transport.forget(self)
        self._reservation.close()
        self._tasks.abort()
        self._upgrades.abort()

    async def close(self) -> None:
        self.abort()
        await self._tasks.close()
        await self._upgrades.close()

    def _changed(self) -> None:
        if self._begun:
            self._accept.addrs_changed(self)


async def _accepted(raw: RawConnection) -> RawConnection:
    """Tell the relay that the connection is taken; what comes next is the connection itself."""
    message = encode_stop(Answer(Status.OK))
    await raw.write(encode_varint(len(message)) + message)
    return raw
