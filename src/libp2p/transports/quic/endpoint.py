"""One UDP socket, and the QUIC connections that share it: those dialed from it, and those accepted on it.

    datagram -> connection id -> driver
             -> unknown, Initial packet: a new connection, or Retry, or a refusal
             -> unknown, another version: Version Negotiation
             -> unknown, of an established connection: a stateless reset
             -> anything else: dropped, without an answer

Rules:
- A datagram belongs to the connection that issued the connection id it bears, wherever it comes from.
- Whoever only sends leaves nothing behind: a first packet that can't be read creates nothing; one that can creates a
  handshake that has its time limit; and of many of those, senders must first show that they receive (admission.py).
- For a while after the end a connection's goodbye is sent again to who still sends (RFC 9000, 10.2.1).
- The socket is closed when nobody listens on it and no connection is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

from ...connection import Accept, Direction, Scope
from ...errors import Libp2pError, LocalProtocolError, StageTimeout
from ...identity import PeerId
from ...io import time_limit
from ...multiaddr import Multiaddr
from .address import from_socket, network
from .admission import Admission, Admitted
from .config import QuicConfig
from .connection import QuicConnection
from .credentials import CONNECTION_ID_LENGTH, Credentials
from .datagrams import DatagramSocket, Received, SocketAddress
from .driver import Driver
from .engine import Engine
from .farewells import Farewells
from .stateless_reset import StatelessResets, is_reset

logger = logging.getLogger(__name__)


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
        self._half_open: dict[Driver, asyncio.TimerHandle] = {}  # inbound
        self._scopes: dict[Driver, Scope] = {}  # of those
        self._half_open_from: Counter[bytes] = Counter()
        self._farewells = Farewells()
        self._accept: Accept | None = None
        self._admission = Admission(settings)
        self._blocked: set[Driver] | None = None  # who waits for the socket to take data again
        self.is_closed = False
        socket.attach(self)

    # What the transport asks

    def listen(self, accept: Accept) -> None:
        """Report inbound connections to `accept`."""
        self._accept = accept

    def stop_listening(self) -> None:
        """Accept no more, and end the handshakes that are under way. Idempotent."""
        self._accept = None
        for driver in list(self._half_open):
            driver.abort("the listener was closed")
        self._close_if_unused()

    @property
    def is_listening(self) -> bool:
        """Whether connections are accepted."""
        return self._accept is not None

    async def dial(self, target: SocketAddress, peer: PeerId | None) -> QuicConnection:
        """Connect to `target`. Raises `StageTimeout`, `HandshakeError` (`PeerIdMismatch`) and `ConnectionClosed`."""
        engine = Engine(
            self._credentials.for_dialer,
            self._settings,
            expected_peer=peer,
            reset_token=self._resets.token,
        )
        driver = self._add(engine, target, Direction.OUTBOUND)
        engine.connect(target, self._loop.time())
        driver.process()
        try:
            async with time_limit("QUIC handshake", self._settings.handshake_timeout):
                return await driver.established
        except BaseException:
            driver.abort("the dial was given up")
            raise

    # What the socket reports

    def datagrams_received(self, batch: Sequence[Received]) -> None:
        """See `DatagramReceiver`."""
        now = self._loop.time()
        touched: dict[Driver, None] = {}
        for data, size, addr, local_ip in batch:
            start, end = 0, len(data)
            while start < end:
                cid = _destination(data, start)
                stop = start + size
                while stop < end and _destination(data, stop) == cid:
                    stop += size
                part = data if stop - start >= end else data[start:stop]
                start = stop
                driver = self._routes.get(cid) or self._unknown(part[:size], cid, addr, local_ip)
                if driver is not None:
                    driver.receive(part, size, addr, local_ip, now)
                    if driver in self._half_open and not driver.engine.has_begun:
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

    def established(self, driver: Driver) -> None:
        """Both sides of `driver` have accepted each other."""
        if self._no_longer_half_open(driver):
            self._hand_over(driver, self._scopes.pop(driver))

    def _hand_over(self, driver: Driver, scope: Scope) -> None:
        """Give a finished connection of a peer's to who listens, unless it may not come in."""
        connection, accept = driver.connection, self._accept
        assert connection is not None
        if accept is None:
            scope.release()
            driver.abort("the listener was closed")
            return
        try:
            scope.identified(connection.remote_peer)
        except Libp2pError as error:
            scope.release()
            driver.abort(str(error))
            accept.connection_failed(connection.local_addr, connection.remote_addr, error)
        else:
            accept.connection_opened(connection, scope)

    def retire(self, driver: Driver, farewell: bytes | None = None) -> None:
        """`driver` has come to its end. `farewell` is the goodbye that was sent last."""
        self._drivers.discard(driver)
        if (others := self._by_addr.get(driver.addr)) is not None:
            others.discard(driver)
            if not others:
                del self._by_addr[driver.addr]
        if self._blocked is not None:
            self._blocked.discard(driver)
        if self._no_longer_half_open(driver):
            self._scopes.pop(driver).release()
            self._report_failure(driver)
        for cid in driver.cids:
            self._routes.pop(cid, None)
        if farewell is not None:
            self._farewells.keep(driver.cids, farewell, 3 * driver.engine.probe_timeout)
        self._close_if_unused()

    # Inside

    def _add(self, engine: Engine, addr: SocketAddress, direction: Direction) -> Driver:
        driver = Driver(
            engine,
            self,
            addr,
            direction=direction,
            make_connection=self._make_connection,
            settings=self._settings,
        )
        self._drivers.add(driver)
        self._by_addr.setdefault(addr, set()).add(driver)
        self.route(engine.host_cid, driver)
        return driver

    def _make_connection(self, driver: Driver) -> QuicConnection:
        engine = driver.engine
        if engine.remote_key is None:
            raise LocalProtocolError("no connection is handed out before its peer is proven")
        return QuicConnection(
            driver,
            engine,
            local_peer=self._credentials.peer_id,
            remote_key=engine.remote_key,
            local_addr=self._local_addr(driver.addr, driver.local_ip),
            remote_addr=from_socket(driver.addr),
            direction=driver.direction,
        )

    def _local_addr(self, remote: SocketAddress, local_ip: str | None) -> Multiaddr:
        addr = self.socket.addr
        if local_ip is not None:
            addr = (local_ip, *addr[1:])
            if len(remote) == 4 and local_ip.startswith("fe80:"):
                addr = (*addr[:3], remote[3])  # both are on one link
        return from_socket(addr)

    def _send(self, batch: Sequence[bytes], addr: SocketAddress, local_ip: str | None) -> None:
        if not self.socket.send(batch, addr, local_ip) and self._blocked is None:
            self._blocked = set()

    def _unknown(self, data: bytes, cid: bytes, addr: SocketAddress, local_ip: str | None) -> Driver | None:
        """A datagram for no connection that there is: the driver of a new one, if it begins one."""
        now = self._loop.time()
        if cid in self._farewells:
            decision: Admitted | bytes | None = self._farewells.answer(cid)
        elif not data[0] & 0x80:
            decision = self._stray(data, cid, addr)
        else:
            pending = self._pending_for(addr) if self.is_listening else None
            decision = self._admission.decide(data, addr, pending=pending, now=now)
        if isinstance(decision, Admitted):
            return self._inbound(decision, addr, local_ip)
        if decision is not None:
            self._send([decision], addr, local_ip)
        return None

    def _pending_for(self, addr: SocketAddress) -> int:
        """How many handshakes are unfinished, as far as it matters to `addr`: one that has too many is out of turn."""
        if self._half_open_from[network(addr)] >= self._settings.max_pending_per_ip:
            return self._settings.max_pending_inbound
        return len(self._half_open)

    def _no_longer_half_open(self, driver: Driver) -> bool:
        if (timer := self._half_open.pop(driver, None)) is None:
            return False
        timer.cancel()
        self._half_open_from -= Counter((network(driver.addr),))
        return True

    def _stray(self, data: bytes, cid: bytes, addr: SocketAddress) -> bytes | None:
        """What to answer to a packet of an established connection, which there is not, or not any more. Or the sender
        says so of one of ours.
        """
        for driver in self._by_addr.get(addr, ()):
            if is_reset(data, driver.engine.peer_reset_token):
                driver.forget()
                return None
        return self._resets.answer(cid, len(data), self._loop.time())

    def _inbound(self, admitted: Admitted, addr: SocketAddress, local_ip: str | None) -> Driver | None:
        assert self._accept is not None
        addrs = self._local_addr(addr, local_ip), from_socket(addr)
        try:
            scope = self._accept.admit(*addrs)
        except Libp2pError as error:
            self._accept.connection_failed(*addrs, error)
            return None
        engine = Engine(
            self._credentials.for_listener,
            self._settings,
            original_destination_cid=admitted.original_cid,
            retry_source_cid=admitted.retry_cid,
            reset_token=self._resets.token,
        )
        driver = self._add(engine, addr, Direction.INBOUND)
        self.route(admitted.destination_cid, driver)
        timer = self._loop.call_later(self._settings.handshake_timeout, self._handshake_timed_out, driver)
        self._half_open[driver] = timer
        self._scopes[driver] = scope
        self._half_open_from[network(addr)] += 1
        return driver

    def _handshake_timed_out(self, driver: Driver) -> None:
        driver.abort("the handshake took too long", StageTimeout("QUIC handshake", self._settings.handshake_timeout))

    def _report_failure(self, driver: Driver) -> None:
        error = driver.failure
        if self._accept is not None and error is not None:
            self._accept.connection_failed(
                self._local_addr(driver.addr, driver.local_ip), from_socket(driver.addr), error
            )

    def _close_if_unused(self) -> None:
        if not self.is_closed and self._accept is None and not self._drivers:
            self.is_closed = True
            self._farewells.clear()
            self.socket.close()


def _destination(data: bytes, start: int) -> bytes:
    """The destination connection id of the datagram at `start`; empty where it has none."""
    if len(data) - start < 7:
        return b""
    if data[start] & 0x80:
        return data[start + 6 : start + 6 + data[start + 5]]
    return data[start + 1 : start + 1 + CONNECTION_ID_LENGTH]
