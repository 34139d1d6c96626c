"""One UDP socket, and the QUIC connections that share it: those dialed from it, and those accepted on it.

    datagram -> connection id -> driver
             -> unknown, Initial packet: a new connection, or Retry, or a refusal
             -> unknown, another version: Version Negotiation
             -> unknown, of an established connection: a stateless reset
             -> unknown, and STUN's or DTLS' by its first byte: whoever has asked for these
             -> anything else: dropped, without an answer

Rules:
- A datagram belongs to the connection that issued the connection id it bears, wherever it comes from.
- Datagrams of no connection are looked at so many at a time, however many come.
- Whoever only sends leaves nothing behind: a first packet that can't be read creates nothing; one that can creates a
  handshake that has its time limit; and of many of those, senders must first show that they receive (admission.py).
- For a while after the end a connection's goodbye is sent again to who still sends (RFC 9000, 10.2.1).
- The socket is closed when nobody listens on it and no connection is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from functools import partial

from ...connection import Direction, Scope
from ...errors import Libp2pError, LocalProtocolError, StageTimeout
from ...identity import PeerId
from ...io import time_limit
from ...multiaddr import Multiaddr
from .address import from_socket
from .admission import Admission, Admitted
from .application import Application
from .config import QuicConfig
from .credentials import CONNECTION_ID_LENGTH, Credentials
from .datagrams import DatagramSocket, Received, SocketAddress
from .driver import Driver
from .engine import Engine, Terms
from .farewells import Farewells
from .handshakes import Handshakes, PendingHandshake, QueuedHandshake
from .rings import Rings
from .service import Service
from .stateless_reset import StatelessResets, is_reset

logger = logging.getLogger(__name__)

TakeDatagram = Callable[[bytes, SocketAddress, str | None], None]
"""Gets a datagram that is not QUIC's: its bytes, who sent it, and to which of our addresses."""


class Foreign(Enum):
    """What else may come to the socket, by the first byte of its datagrams (RFC 9443, section 3)."""

    STUN = range(4)
    DTLS = range(20, 64)


_QUIC = 64
"""The first byte of QUIC's datagrams is this at least: of STUN's and DTLS' it is less."""


_MAX_UNKNOWN = 256
"""Datagrams of no connection that are looked at in one turn of the loop; more are dropped."""

_COMPARED = 16
"""Connections of one address with which a stray packet is compared in the time that looking at it takes."""


class Endpoint:
    """Routes the datagrams of one socket."""

    def __init__(self, socket: DatagramSocket, credentials: Credentials, settings: QuicConfig) -> None:
        self.socket = socket
        self._credentials = credentials
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._routes: dict[bytes, Driver] = {}
        self._drivers: set[Driver] = set()
        self._by_addr: dict[SocketAddress, set[Driver]] = {}  # by where they began: to find who has sent a reset
        self._resets = StatelessResets(credentials.reset_secret, socket.addr)
        self._handshakes = Handshakes(settings)  # inbound
        self._queued: dict[tuple[bytes, SocketAddress], QueuedHandshake] = {}  # those that wait for their turn
        self._farewells = Farewells()
        self._services: dict[str, Service] = {}
        self._for_listener = credentials.for_listener
        self._foreign: dict[Foreign, TakeDatagram] = {}
        self._admission = Admission(settings)
        self._blocked: set[Driver] | None = None  # who waits for the socket to take data again
        self._rings = Rings(self._loop)
        self.is_closed = False
        socket.attach(self)

    # What the transport asks

    def serve(self, service: Service) -> None:
        """Give `service` the connections whose dialers ask for its protocol; who asks for several gets the one that is
        served longest. Raises `LocalProtocolError` where another has that protocol.
        """
        if service.alpn in self._services:
            raise LocalProtocolError(f"{service.alpn} is served on {from_socket(self.socket.addr)} already")
        self._services[service.alpn] = service
        self._for_listener = replace(self._credentials.for_listener, alpn_protocols=list(self._services))

    def stop_serving(self, service: Service) -> None:
        """Accept no more for `service`, and end its handshakes that are under way. Idempotent."""
        if self._services.get(service.alpn) is service:
            del self._services[service.alpn]
            self._for_listener = replace(self._credentials.for_listener, alpn_protocols=list(self._services))
            for driver, handshake in self._handshakes:
                if handshake.service is service or not self._services:
                    driver.abort("the listener was closed")
            for queued in list(self._queued.values()) if not self._services else ():
                queued.give_up()
            self._close_if_unused()

    def serves(self, alpn: str) -> bool:
        """Whether connections for this protocol are accepted."""
        return alpn in self._services

    @property
    def is_listening(self) -> bool:
        """Whether connections are accepted."""
        return bool(self._services)

    def divert(self, kind: Foreign, take: TakeDatagram | None) -> None:
        """Give `take` the datagrams of another protocol that come to the socket from now on; None: drop them again."""
        if take is None:
            self._foreign.pop(kind, None)
        else:
            self._foreign[kind] = take

    def send_raw(self, datagram: bytes, target: SocketAddress) -> None:
        """Send bytes that belong to no connection. Whether they leave nobody knows."""
        if not self.is_closed:
            self._send([datagram], target, None)

    async def dial(
        self, target: SocketAddress, peer: PeerId | None, start: Callable[[Driver], Application]
    ) -> Application:
        """Connect to `target`; return what `start` has made of it. Raises `StageTimeout`, `HandshakeError`
        (`PeerIdMismatch`), `ConnectionClosed`, and `OSError` where the system sends nothing there.
        """
        engine = Engine(
            self._credentials.for_dialer,
            self._settings,
            expected_peer=peer,
            reset_token=self._resets.token,
        )
        driver = self._add(engine, target, Direction.OUTBOUND, start)
        engine.connect(target, self._loop.time())
        driver.process()
        try:
            async with time_limit("QUIC handshake", self._settings.handshake_timeout):
                await driver.established
        except BaseException:
            driver.abort("the dial was given up")
            raise
        assert driver.application is not None
        return driver.application

    def close(self, reason: str) -> None:
        """End everything at once, with a goodbye. Idempotent."""
        for service in list(self._services.values()):
            self.stop_serving(service)
        for driver in list(self._drivers):
            driver.abort(reason)
        self._close_if_unused()

    # What the socket reports

    def datagrams_received(self, batch: Sequence[Received]) -> None:
        """See `DatagramReceiver`."""
        now = self._loop.time()
        touched: dict[Driver, None] = {}
        unknown = _MAX_UNKNOWN
        for data, size, addr, local_ip in batch:
            start, end = 0, len(data)
            while start < end:
                cid = _destination(data, start)
                stop = start + size
                while stop < end and _destination(data, stop) == cid:
                    stop += size
                part = data if stop - start >= end else data[start:stop]
                start = stop
                driver = self._routes.get(cid)
                if driver is None:
                    if part[0] < _QUIC:
                        self._pass_by(part, size, addr, local_ip)
                        continue
                    unknown -= 1 if part[0] & 0x80 else 1 + len(self._by_addr.get(addr, ())) // _COMPARED
                    if unknown < 0:
                        continue
                    driver = self._unknown(part[:size], cid, addr, local_ip)
                if driver is not None:
                    driver.receive(part, size, addr, local_ip, now)
                    if driver in self._handshakes and not driver.engine.has_begun:
                        driver.drop()  # at once: it must not count for the rest of the batch
                        self._admission.distrust(now)
                    else:
                        touched[driver] = None
        for driver in touched:
            driver.process()

    def writable(self) -> None:
        """See `DatagramReceiver`."""
        waiting, self._blocked = self._blocked, None
        for driver in waiting or ():
            driver.process()

    def refused(self, addr: SocketAddress, error: OSError) -> None:
        """See `DatagramReceiver`. Dials to there have failed; connections go on, for routes may come back."""
        for driver in list(self._by_addr.get(addr, ())):
            if driver.direction is Direction.OUTBOUND and not driver.established.done():
                driver.abort("the system does not send there", error)

    def lost(self, error: Exception) -> None:
        """See `DatagramReceiver`."""
        services = list(self._services.values())
        for driver in list(self._drivers):
            driver.drop(f"the socket has broken: {error}")
        self.close("the socket has broken")
        for service in services:
            service.died(error)

    # What drivers ask

    def is_blocked(self, driver: Driver) -> bool:
        """Whether the socket takes nothing now; `driver` is then asked to process again when it does."""
        if self._blocked is None:
            return False
        self._blocked.add(driver)
        return True

    def send(self, datagrams: Sequence[tuple[bytes, SocketAddress]], local_ip: str | None) -> None:
        """Send datagrams, in batches of one size and address."""
        batch: list[bytes] = []
        size, target = 0, datagrams[0][1]
        for data, addr in datagrams:
            if batch and (len(data) > size or len(batch[-1]) < size or addr is not target):
                self._send(batch, target, local_ip)
                batch = []
            if not batch:
                size, target = len(data), addr
            batch.append(data)
        self._send(batch, target, local_ip)

    def route(self, cid: bytes, driver: Driver) -> None:
        """`driver` has issued `cid`."""
        self._routes[cid] = driver
        driver.cids.add(cid)

    def unroute(self, cid: bytes) -> None:
        """The peer uses `cid` no more."""
        if (driver := self._routes.pop(cid, None)) is not None:
            driver.cids.discard(cid)

    def in_turn(self, call: Callable[[], None]) -> None:
        """Call now or soon: so many in one turn of the loop."""
        self._rings.call(call)

    def established(self, driver: Driver) -> None:
        """Both sides of `driver` have accepted each other."""
        if (handshake := self._handshakes.remove(driver)) is None:
            return
        service = handshake.service
        assert service is not None
        if self._services.get(service.alpn) is service:
            service.opened(driver, handshake.scope)
        else:
            handshake.scope.release()
            driver.abort("the listener was closed")

    def retire(self, driver: Driver, farewell: bytes | None = None) -> None:
        """`driver` has come to its end. `farewell` is the goodbye that was sent last."""
        self._drivers.discard(driver)
        if (others := self._by_addr.get(driver.addr)) is not None:
            others.discard(driver)
            if not others:
                del self._by_addr[driver.addr]
        if self._blocked is not None:
            self._blocked.discard(driver)
        if (handshake := self._handshakes.remove(driver)) is not None:
            handshake.scope.release()
            if driver.failure is not None:
                self._report_failure(self._addrs(driver.addr, driver.local_ip), driver.failure, handshake.service)
        for cid in driver.cids:
            self._routes.pop(cid, None)
        if farewell is not None:
            self._farewells.keep(driver.cids, farewell, 3 * driver.engine.probe_timeout)
        self._close_if_unused()

    # Inside

    def _add(
        self, engine: Engine, addr: SocketAddress, direction: Direction, start: Callable[[Driver], Application]
    ) -> Driver:
        driver = Driver(engine, self, addr, direction=direction, start=start, settings=self._settings)
        self._drivers.add(driver)
        self._by_addr.setdefault(addr, set()).add(driver)
        self.route(engine.host_cid, driver)
        return driver

    def local_addr(self, remote: SocketAddress, local_ip: str | None) -> Multiaddr:
        """Which of our addresses a peer at `remote` sees, by the one that it sends to, where that is known."""
        addr = self.socket.addr
        if local_ip is not None:
            addr = (local_ip, *addr[1:])
            if len(remote) == 4 and local_ip.startswith("fe80:"):
                addr = (*addr[:3], remote[3])  # both are on one link
        return from_socket(addr)

    def _addrs(self, remote: SocketAddress, local_ip: str | None) -> tuple[Multiaddr, Multiaddr]:
        return self.local_addr(remote, local_ip), from_socket(remote)

    def _send(self, batch: Sequence[bytes], addr: SocketAddress, local_ip: str | None) -> None:
        if not self.socket.send(batch, addr, local_ip) and self._blocked is None:
            self._blocked = set()

    def _unknown(self, data: bytes, cid: bytes, addr: SocketAddress, local_ip: str | None) -> Driver | None:
        """A datagram for no connection that there is: the driver of a new one, if it begins one."""
        now = self._loop.time()
        if (queued := self._queued.get((cid, addr))) is not None:
            queued.add(data)
            return None
        if cid in self._farewells:
            decision: Admitted | bytes | None = self._farewells.answer(cid)
        elif not data[0] & 0x80:
            decision = self._stray(data, cid, addr)
        else:
            pending = self._handshakes.pending_for(addr) if self.is_listening else None
            decision = self._admission.decide(data, addr, pending=pending, now=now)
        if isinstance(decision, Admitted):
            if (scope := self._admit(addr, local_ip)) is not None:
                return self._begin_or_wait(decision, scope, data, addr, local_ip)
            decision = decision.refuse()
        if decision is not None:
            self._send([decision], addr, local_ip)
        return None

    def _pass_by(self, data: bytes, size: int, addr: SocketAddress, local_ip: str | None) -> None:
        """Give datagrams that are not QUIC's to who has asked for them."""
        for start in range(0, len(data), size):
            kind = next((kind for kind in self._foreign if data[start] in kind.value), None)
            if kind is not None:
                self._foreign[kind](data[start : start + size], addr, local_ip)

    def _stray(self, data: bytes, cid: bytes, addr: SocketAddress) -> bytes | None:
        """What to answer to a packet of an established connection, which there is not, or not any more. Or the sender
        says so of one of ours.
        """
        for driver in self._by_addr.get(addr, ()):
            if is_reset(data, driver.engine.peer_reset_token):
                driver.forget()
                return None
        return self._resets.answer(cid, len(data), self._loop.time())

    def _admit(self, addr: SocketAddress, local_ip: str | None) -> Scope | None:
        """Whether who listens has room for one more handshake."""
        addrs = self._addrs(addr, local_ip)
        try:
            return next(iter(self._services.values())).accept.admit(*addrs)
        except Libp2pError as error:
            self._report_failure(addrs, error, None)
            return None

    def _begin_or_wait(
        self, admitted: Admitted, scope: Scope, data: bytes, addr: SocketAddress, local_ip: str | None
    ) -> Driver | None:
        """Begin a handshake, which costs milliseconds, when it is its turn: now, or later."""
        key, driver, in_time = (admitted.destination_cid, addr), None, True
        too_late = self._loop.time() + self._settings.handshake_timeout / 2

        def begin() -> bool:
            nonlocal driver
            if in_time:
                driver = self._inbound(admitted, scope, addr)
                return True
            if (queued := self._unqueue(key)) is None:
                return False
            if not self._services or self._loop.time() > too_late:
                scope.release()
                return False
            self._begin_queued(self._inbound(admitted, scope, addr), queued, addr, local_ip)
            return True

        def forget() -> None:
            if self._unqueue(key) is not None:
                scope.release()

        scope.when_due(begin)
        in_time = False
        if driver is None:
            self._queued[key] = queued = QueuedHandshake(data, forget)
            self._handshakes.queued(addr, 1)
            scope.held_by(queued)
        return driver

    def _unqueue(self, key: tuple[bytes, SocketAddress]) -> QueuedHandshake | None:
        """It waits no more, if it did."""
        queued = self._queued.pop(key, None)
        if queued is not None:
            self._handshakes.queued(key[1], -1)
        return queued

    def _begin_queued(self, driver: Driver, queued: QueuedHandshake, addr: SocketAddress, local_ip: str | None) -> None:
        now = self._loop.time()
        for datagram in queued.datagrams:
            driver.receive(datagram, len(datagram), addr, local_ip, now)
        if driver.engine.has_begun:
            driver.process()
        else:
            driver.drop()
            self._admission.distrust(now)

    def _inbound(self, admitted: Admitted, scope: Scope, addr: SocketAddress) -> Driver:
        """Begin a handshake."""
        handshake = PendingHandshake(scope)
        engine = Engine(
            self._for_listener,
            self._settings,
            original_destination_cid=admitted.original_cid,
            retry_source_cid=admitted.retry_cid,
            reset_token=self._resets.token,
            choose=partial(self._choose, handshake),
        )
        driver = self._add(engine, addr, Direction.INBOUND, partial(_start, handshake))
        self.route(admitted.destination_cid, driver)
        handshake.timer = self._loop.call_later(self._settings.handshake_timeout, self._handshake_timed_out, driver)
        self._handshakes.add(driver, handshake)
        return driver

    def _choose(self, handshake: PendingHandshake, alpn: str) -> Terms | None:
        handshake.service = self._services.get(alpn)
        return handshake.service.terms if handshake.service is not None else None

    def _handshake_timed_out(self, driver: Driver) -> None:
        driver.abort("the handshake took too long", StageTimeout("QUIC handshake", self._settings.handshake_timeout))

    def _report_failure(self, addrs: tuple[Multiaddr, Multiaddr], error: Exception, service: Service | None) -> None:
        """Tell whom the handshake was for, as long as somebody listens."""
        if self._services:
            (service or next(iter(self._services.values()))).accept.connection_failed(*addrs, error)

    def _close_if_unused(self) -> None:
        if not self.is_closed and not self._services and not self._drivers:
            self.is_closed = True
            self._farewells.clear()
            self.socket.close()


def _start(handshake: PendingHandshake, driver: Driver) -> Application:
    assert handshake.service is not None
    return handshake.service.start(driver)


def _destination(data: bytes, start: int) -> bytes:
    """The destination connection id of the datagram at `start`; empty where it has none."""
    if len(data) - start < 7:
        return b""
    if data[start] & 0x80:
        return data[start + 6 : start + 6 + data[start + 5]]
    return data[start + 1 : start + 1 + CONNECTION_ID_LENGTH]
