"""Rendezvous, `/rendezvous/1.0.0`: a point where peers with the same interest meet. Spec: rendezvous/README.md.

    client   <length varint> Message ->             as many as it likes on one stream
    point          <- <length varint> Message       REGISTER and DISCOVER are answered, UNREGISTER is not

Rules:
- Only the peer at the other end of the connection is registered: its signed record must be its own.
- What a point says of peers is believed only as far as they have signed it.
- A client keeps its registrations alive until it unregisters.
- rust-libp2p's points and clients know peer records in a form of their own only (`RecordForm.RUST`): both forms are
  read, and a point that does not take a record in the standard form is told the other.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence

from ...connection import Connection, Service, ServiceHost, Stream, Target
from ...errors import IncompleteRead, InvalidRecord, Libp2pError, RoutingError, StreamReset
from ...identity import PeerId
from ...io import time_limit
from ...io.timers import loop_time
from ...multiaddr import may_share, reach_of_remote
from ...peerstore import ADDRESS_TTL
from ...records import PeerRecord, RecordForm
from ...routing import PeerDiscovered, PeerInfo
from .core import Refused, Registry, RendezvousConfig, Status
from .wire import Discover, Discovered, Register, Registered, Unregister, decode, encode

logger = logging.getLogger(__name__)

PROTOCOL_ID = "/rendezvous/1.0.0"

_MAX_REQUEST = 32 * 1024
_MAX_ANSWER = 1024 * 1024
_MIN_PAUSE = 60.0
"""Seconds at least between two looks for registrations that are over."""
_RENEW = 0.8
"""A registration is renewed when so much of its time has passed."""
_RETRY = 60.0
"""Seconds after which a renewal that failed is tried again."""


def open_record(envelope: bytes, *, expected_peer: PeerId | None = None) -> tuple[PeerRecord, RecordForm]:
    """A record in either form, and which it was. Raises `InvalidRecord`."""
    try:
        return PeerRecord.open(envelope, expected_peer=expected_peer), RecordForm.STANDARD
    except InvalidRecord as error:
        try:
            return PeerRecord.open(envelope, expected_peer=expected_peer, form=RecordForm.RUST), RecordForm.RUST
        except InvalidRecord:
            raise error from None


class RendezvousPoint(Service):
    """Serves as a rendezvous point. `clock` gives the time in seconds, by default the event loop's."""

    def __init__(
        self,
        host: ServiceHost,
        config: RendezvousConfig | None = None,
        *,
        clock: Callable[[], float] = loop_time,
    ) -> None:
        super().__init__(host)
        self.config = config or RendezvousConfig()
        self.registry = Registry(self.config, os.urandom(8))
        self._clock = clock
        self._registered = asyncio.Event()

    async def start(self) -> None:
        """Serve the protocol."""
        self.serve([PROTOCOL_ID], self._serve, max_streams_per_peer=self.config.max_streams_per_peer)
        self.spawn(self._expire(), name="expiring")

    async def _expire(self) -> None:
        """Drop registrations when their time is over; without any, wait for the first."""
        while True:
            self._registered.clear()
            if (expiry := self.registry.next_expiry()) is None:
                await self._registered.wait()
            else:
                await asyncio.sleep(max(_MIN_PAUSE, expiry - self._clock()))
                self.registry.expire(self._clock())

    async def _serve(self, stream: Stream) -> None:
        peer = stream.connection.remote_peer
        while (data := await self._next(stream)) is not None:
            answer = self._answer(data, peer)
            if answer is not None:
                async with time_limit("answering a rendezvous request", self.config.timeout):
                    await stream.write_message(answer)

    async def _next(self, stream: Stream) -> bytes | None:
        """The next request; None at the end."""
        try:
            async with time_limit("a rendezvous request", self.config.idle_timeout):
                return await stream.read_message(limit=_MAX_REQUEST, what="rendezvous request")
        except IncompleteRead as error:
            if error.partial:
                raise
            return None

    def _answer(self, data: bytes, peer: PeerId) -> bytes | None:
        now = self._clock()
        match decode(data):
            case Register() as request:
                try:
                    self._check_record(request.record, peer)
                    ttl = self.registry.register(peer, request.namespace, request.record, request.ttl, now)
                    self._registered.set()
                except Refused as refused:
                    return encode(Registered(refused.status, text=str(refused)))
                return encode(Registered(Status.OK, ttl))
            case Unregister(namespace):
                self.registry.unregister(peer, namespace)
                return None
            case Discover() as request:
                try:
                    found, cookie = self.registry.discover(request.namespace, request.cookie, request.limit, now)
                except Refused as refused:
                    return encode(Discovered(refused.status, text=str(refused)))
                registrations = tuple(Register(one.namespace, one.record, one.ttl(now)) for one in found)
                return encode(Discovered(Status.OK, registrations, cookie))
            case answer:
                raise Refused(Status.INTERNAL_ERROR, f"{type(answer).__name__} is no request")

    def _check_record(self, record: bytes, peer: PeerId) -> None:
        try:
            if len(record) > self.config.max_record_size:
                raise InvalidRecord(f"{len(record)} bytes, the limit is {self.config.max_record_size}")
            open_record(record, expected_peer=peer)
        except InvalidRecord as error:
            raise Refused(Status.INVALID_SIGNED_PEER_RECORD, str(error)) from error


class RendezvousClient(Service):
    """Registers this peer at the rendezvous point `point`, and finds others there: it is a `Discovery`.

    `wall_clock` gives the Unix time in nanoseconds, which orders our signed records. `forms` are those of the record
    that is registered, the second where the point does not take the first. Whatever the point is, peers that run
    rust-libp2p read only `RecordForm.RUST`, and all others only `RecordForm.STANDARD`.
    """

    def __init__(
        self,
        host: ServiceHost,
        point: Target,
        *,
        timeout: float = 10.0,
        forms: Sequence[RecordForm] = tuple(RecordForm),
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(host)
        self._point = point
        self._timeout = timeout
        self._forms = list(forms)
        self._wall_clock = wall_clock
        self._renewals: dict[str, asyncio.Task[None]] = {}

    async def register(self, namespace: str, *, ttl: int | None = None) -> int:
        """Register in `namespace`, and keep that alive until `unregister`; the seconds that the point grants. `ttl` is
        what is asked for, in seconds; None: what the point chooses.

        Raises `Refused`, `RoutingError` where this peer has no address that the point's peers could use, and what
        talking to the point may raise.
        """
        granted = await self._register(namespace, ttl)
        if (before := self._renewals.pop(namespace, None)) is not None:
            before.cancel()
        task = self.spawn(self._renew(namespace, ttl, granted), name=f"renewing {namespace}")
        if task is not None:
            self._renewals[namespace] = task
        return granted

    async def unregister(self, namespace: str) -> None:
        """Leave `namespace`. Raises what talking to the point may raise."""
        if (renewal := self._renewals.pop(namespace, None)) is not None:
            renewal.cancel()
        async with time_limit("rendezvous", self._timeout):
            stream = await self.host.new_stream(self._point, PROTOCOL_ID)
            await stream.write_message(encode(Unregister(namespace)))
            await stream.close()

    async def discover(
        self, namespace: str = "", *, limit: int = 0, cookie: bytes = b""
    ) -> tuple[list[PeerInfo], bytes]:
        """Peers in `namespace` ("": in all) that came behind `cookie`, and the cookie for the next call.

        Their addresses are in the peer store by then. Records that are not validly signed are left out. Raises as
        `register` does.
        """
        infos, cookie, _ = await self._discover(namespace, limit, cookie)
        return infos, cookie

    async def _discover(self, namespace: str, limit: int, cookie: bytes) -> tuple[list[PeerInfo], bytes, int]:
        """As `discover`, with how many registrations the answer held."""
        answer, connection = await self._ask(Discover(namespace, limit or None, cookie))
        if not isinstance(answer, Discovered):
            raise Refused(Status.INTERNAL_ERROR, f"DISCOVER was answered by {type(answer).__name__}")
        if answer.status != Status.OK:
            raise Refused(answer.status, answer.text)
        found: dict[PeerId, PeerInfo] = {}
        for registration in answer.registrations:
            info = self._take(registration, connection)
            if info is not None and info.peer != self.host.id:
                found[info.peer] = info
        for info in found.values():
            self.host.events.emit(PeerDiscovered(info, "rendezvous"))
        return list(found.values()), answer.cookie, len(answer.registrations)

    async def advertise(self, namespace: str) -> float:
        """See `Discovery.advertise`."""
        return _RENEW * await self.register(namespace)

    async def find_peers(self, namespace: str, *, limit: int = 20) -> AsyncGenerator[PeerInfo, None]:
        """See `Discovery.find_peers`."""
        seen: set[PeerId] = set()
        cookie = b""
        while True:
            infos, cookie, count = await self._discover(namespace, 100, cookie)
            for info in infos:
                if info.peer not in seen:
                    seen.add(info.peer)
                    yield info
                    if limit and len(seen) >= limit:
                        return
            if not count:
                return

    async def _renew(self, namespace: str, ttl: int | None, granted: int) -> None:
        pause = _RENEW * granted
        while True:
            await asyncio.sleep(pause)
            try:
                pause = _RENEW * await self._register(namespace, ttl)
            except (Libp2pError, OSError) as error:
                logger.debug("the registration in %s was not renewed: %s", namespace, error)
                pause = _RETRY

    async def _register(self, namespace: str, ttl: int | None) -> int:
        connection = await self.host.connect(self._point)
        reach = reach_of_remote(connection.remote_addr)
        addrs = tuple(addr for addr in self.host.listen_addrs if may_share(addr, reach))
        if not addrs:
            raise RoutingError("this peer has no address that others at the rendezvous point could use")
        record = PeerRecord(self.host.id, self._wall_clock(), addrs)
        form, *others = self._forms
        try:
            return await self._register_as(record, form, namespace, ttl)
        except (Refused, IncompleteRead, StreamReset) as error:  # rust-libp2p's point just ends the stream
            refused_otherwise = isinstance(error, Refused) and error.status != Status.INVALID_SIGNED_PEER_RECORD
            if not others or refused_otherwise:
                raise
        granted = await self._register_as(record, others[0], namespace, ttl)
        self._forms = others
        return granted

    async def _register_as(self, record: PeerRecord, form: RecordForm, namespace: str, ttl: int | None) -> int:
        answer, _ = await self._ask(Register(namespace, record.seal(self.host.key, form).to_bytes(), ttl))
        if not isinstance(answer, Registered):
            raise Refused(Status.INTERNAL_ERROR, f"REGISTER was answered by {type(answer).__name__}")
        if answer.status != Status.OK:
            raise Refused(answer.status, answer.text)
        return answer.ttl or int(RendezvousConfig().default_ttl)

    async def _ask(self, request: Register | Discover) -> tuple[object, Connection]:
        async with time_limit("rendezvous", self._timeout):
            stream = await self.host.new_stream(self._point, PROTOCOL_ID)
            try:
                await stream.write_message(encode(request))
                data = await stream.read_message(limit=_MAX_ANSWER, what="rendezvous answer")
            except BaseException:
                stream.reset()
                raise
            await stream.close()
        return decode(data), stream.connection

    def _take(self, registration: Register, connection: Connection) -> PeerInfo | None:
        """The peer that a registration is of, if it has signed it."""
        reach = reach_of_remote(connection.remote_addr)
        ttl = min(float(registration.ttl or 0) or ADDRESS_TTL, ADDRESS_TTL)
        try:
            record, form = open_record(registration.record)
            if form is RecordForm.STANDARD:
                self.host.peerstore.consume_peer_record(registration.record, ttl, told=reach)
            else:
                self.host.peerstore.add_addrs(record.peer_id, record.addrs, ttl, told=reach)
        except Libp2pError as error:
            logger.debug("a registration of the rendezvous point was left out: %s", error)
            return None
        return PeerInfo(record.peer_id, tuple(addr for addr in record.addrs if may_share(addr, reach)))
