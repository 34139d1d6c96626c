"""Runs one engine: gives it datagrams and time, sends what it wants sent, and passes on what it reports.

Rules:
- What is written in one tick of the loop leaves together.
- A fault within a connection ends that connection. All ends lead to `_end`: `_finish` (closed by either side, or by
  silence), `_break` (a fault), `forget` (a stateless reset), `drop` (nothing could be read).
- Whoever is told something may abort the connection: what follows looks whether it is still there.
- What a peer sends in many small frames is taken in turns of the loop, and dropped beyond what may wait.
- One timer, which is set anew only when it must ring earlier; where it rings too early it is set again.
- The connection exists from when the peer has proven who it is. A dialer is told of it only when the listener has
  accepted it, which the HANDSHAKE_DONE frame says: the dialer's own handshake is over before the listener has looked at
  its certificate. That takes a round trip more than to return at once, and no connection is handed out that the peer
  refuses a moment later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from ...connection import Direction
from ...errors import By, ConnectionClosed
from .application import Application
from .closing import handshake_failure, reason_of
from .config import QuicConfig
from .datagrams import SocketAddress
from .engine import TURN, Engine, Lane

logger = logging.getLogger(__name__)

_MAX_HELD = 128 * 1024
"""Bytes of datagrams with many small frames that wait for a turn; what comes beyond is dropped."""

_LATE = 1e-6
"""Seconds that the timer rings behind the time asked for: the engine compares sums of rounded numbers, and by then what
is due is so by any of them."""


class _Arrived(NamedTuple):
    data: bytes
    size: int
    addr: SocketAddress
    local_ip: str | None


class SharedSocket(Protocol):
    """What a driver asks of the endpoint whose socket it shares."""

    def is_blocked(self, driver: Driver) -> bool:
        """Whether the socket takes nothing now; `driver` is then asked to process again when it does."""

    def send(self, datagrams: Sequence[tuple[bytes, SocketAddress]], local_ip: str | None) -> None:
        """Send datagrams, in batches of one size and address."""

    def route(self, cid: bytes, driver: Driver) -> None:
        """`driver` has issued `cid`."""

    def unroute(self, cid: bytes) -> None:
        """The peer uses `cid` no more."""

    def in_turn(self, call: Callable[[], None]) -> None:
        """Call now or soon: so many in one turn of the loop."""

    def established(self, driver: Driver) -> None:
        """Both sides of `driver` have accepted each other."""

    def retire(self, driver: Driver, farewell: bytes | None = None) -> None:
        """`driver` has come to its end. `farewell` is the goodbye that was sent last."""


class Driver:
    """One connection's engine, and the endpoint whose socket it shares. `start` makes what runs over it, once our side
    of the handshake is over.
    """

    def __init__(
        self,
        engine: Engine,
        endpoint: SharedSocket,
        addr: SocketAddress,
        *,
        direction: Direction,
        start: Callable[[Driver], Application],
        settings: QuicConfig,
    ) -> None:
        self.engine = engine
        self.addr = addr
        self.direction = direction
        self.local_ip: str | None = None
        """Which of our addresses the peer sends to, where the socket is bound to all of them."""
        self.application: Application | None = None
        self._endpoint = endpoint
        self._start = start
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self.established: asyncio.Future[None] = self._loop.create_future()
        """Both sides have accepted each other; or why it came to nothing."""
        self.failure: Exception | None = None
        """Why the handshake failed."""
        self.cids: set[bytes] = set()
        """The connection ids that lead here; the endpoint's."""
        self._gone = self._loop.create_future()
        self._last_sent: bytes | None = None
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0
        self._keep_alive_at = float("inf")
        self.heard_at = self._loop.time()
        """When a new packet of the peer last arrived."""
        self._held: deque[_Arrived] = deque()  # what has come, and waits for its turn
        self._held_size = 0
        self._goodbye: str | None = None
        self._goodbye_code = 0
        self._linger_until = float("inf")

    def probe(self) -> None:
        """Ask the peer for a sign of life."""
        if not self._gone.done():
            self.engine.send_ping(0)
            self.soon()

    # What the endpoint reports

    def receive(self, data: bytes, size: int, addr: SocketAddress, local_ip: str | None, now: float) -> None:
        """Datagrams have arrived for this connection; `process` follows when all of a batch are there."""
        if not self._held:
            taken = self._receive(data, size, addr, local_ip, now)
            if taken < len(data):
                self._hold(_Arrived(data[taken:], size, addr, local_ip))
                self._loop.call_soon(self._next_turn)
        elif self._held_size + len(data) <= _MAX_HELD:  # else it is lost, as the network might have lost it
            self._hold(_Arrived(data, size, addr, local_ip))

    def _hold(self, arrived: _Arrived) -> None:
        self._held.append(arrived)
        self._held_size += len(arrived.data)

    def _next_turn(self) -> None:
        """Take what waits, as far as it fits in this turn."""
        engine, now = self.engine, self._loop.time()
        engine.frames_left = TURN
        while self._held and engine.frames_left > 0 and not self._gone.done():
            data, size, addr, local_ip = self._held.popleft()
            taken = self._receive(data, size, addr, local_ip, now)
            self._held_size -= min(taken, len(data))
            if taken < len(data):
                self._held.appendleft(_Arrived(data[taken:], size, addr, local_ip))
        self.process()
        if self._gone.done():
            self._held.clear()
        elif self._held:
            self._loop.call_soon(self._next_turn)

    def _receive(self, data: bytes, size: int, addr: SocketAddress, local_ip: str | None, now: float) -> int:
        """Have the engine take datagrams; how many bytes of them fit in this turn."""
        newest, life, taken = self.engine.newest, self.engine.gives_up_at, len(data)
        if not self._gone.done():
            try:
                taken = self.engine.receive(data, size, addr, now)
            except Exception as error:
                self._break(error)
        if self.engine.newest > newest:
            self.heard_at = now
        if local_ip is not None and (self.local_ip is None or self.engine.newest > newest):
            self.local_ip = local_ip  # where the newest packet of the peer came to: anybody can send some garbage
        if self.application is not None and self.engine.gives_up_at != life:  # any packet of the peer's, and no other
            self._move_keep_alive(now)
        return taken

    def process(self) -> None:
        """Pass on what has happened, send what there is to send, set the timer."""
        if not self._held:
            self.engine.frames_left = TURN
        if not self._gone.done():
            try:
                self._process()
            except Exception as error:
                self._break(error)

    def _process(self) -> None:
        self._pass_on()
        self._check_handshake()  # first: a listener that has no room says so before it confirms the handshake
        if self._gone.done():  # who was told has aborted it
            return
        if self._goodbye is not None and (self.engine.is_delivered or self._loop.time() >= self._linger_until):
            self.engine.close(error_code=self._goodbye_code, reason_phrase=self._goodbye)
        self._transmit()
        if self.engine.is_over:
            self._finish()
        else:
            self._set_timer()

    # What the connection asks

    def soon(self) -> None:
        """There is something to send: at the end of this tick."""
        if not self._scheduled and not self._gone.done():
            self._scheduled = True
            self._loop.call_soon(self._tick)

    def close(self, reason: str, code: int = 0) -> None:
        """Say goodbye when all that was written has arrived, or after the time for that."""
        self._goodbye, self._goodbye_code = reason, code
        self._linger_until = self._loop.time() + self._settings.linger
        self.soon()

    def abort(self, reason: str, failure: Exception | None = None, *, code: int = 0) -> None:
        """Say goodbye now. `failure` is what the handshake fails by, where it is not over yet; `code` is told where it
        is. Idempotent.
        """
        if not self._gone.done():
            self.failure = failure
            if self.engine.is_complete:
                self.engine.close(error_code=code, reason_phrase=reason)
            else:
                self.engine.close(QuicErrorCode.NO_ERROR, QuicFrameType.PADDING, reason)
            self.process()

    def forget(self) -> None:
        """The peer does not know this connection."""
        self._end(ConnectionClosed("the peer does not know this connection any more (stateless reset)", by="remote"))

    def drop(self, reason: str = "nothing that came could be read") -> None:
        """End without a word."""
        self._end(ConnectionClosed(reason, by="local"))

    async def wait_gone(self) -> None:
        """Wait until the goodbye is sent."""
        await asyncio.shield(self._gone)

    # Inside

    def _tick(self) -> None:
        self._scheduled = False
        self.process()

    def _transmit(self) -> None:
        if self._endpoint.is_blocked(self):
            return
        if datagrams := self.engine.datagrams(self._loop.time()):
            self._endpoint.send(datagrams, self.local_ip)
            self._last_sent = datagrams[-1][0]
            self._pass_on()  # connection ids that were issued
        if self.application is not None:
            self.application.progressed()

    def _pass_on(self) -> None:
        """Pass on the events of the engine. Bytes of one stream that follow each other are joined."""
        engine = self.engine
        if self.application is None and engine.is_complete:
            self.application = self._start(self)
            self._move_keep_alive(self._loop.time())
        if lanes := engine.opened(self._loop.time()):
            assert self.application is not None
            self.application.lanes_opened(lanes)
        lane: Lane | None = None
        pieces: list[bytes] = []
        for event in engine.take_events():
            if type(event) is tuple:
                if event[0] is not lane:
                    self._deliver(lane, pieces)
                    lane, pieces = event[0], []
                pieces.append(event[1])
                continue
            self._deliver(lane, pieces)
            lane, pieces = None, []
            if isinstance(event, StreamDataReceived | StreamReset | StopSendingReceived):
                assert self.application is not None
                self.application.handle(event)
            elif isinstance(event, ConnectionIdIssued):
                self._endpoint.route(event.connection_id, self)
            elif isinstance(event, ConnectionIdRetired):
                self._endpoint.unroute(event.connection_id)
        self._deliver(lane, pieces)

    def _deliver(self, lane: Lane | None, pieces: list[bytes]) -> None:
        if lane is not None:
            assert self.application is not None
            self.application.data_received(lane, b"".join(pieces) if len(pieces) > 1 else pieces[0])

    def _check_handshake(self) -> None:
        if self.engine.is_established and not self.established.done():
            self.established.set_result(None)
            self._endpoint.established(self)

    def _move_keep_alive(self, now: float) -> None:
        if self._settings.keep_alive is not None:
            self._keep_alive_at = now + min(self._settings.keep_alive, self.engine.agreed_idle_timeout / 2)

    def _set_timer(self) -> None:
        at = float("inf")
        if not self._endpoint.is_blocked(self):
            at = min(self._keep_alive_at, self._linger_until, self.engine.get_timer() or at)
        elif (over := self.engine.gives_up_at) is not None:  # nothing else is of use until the socket takes data again
            at = over
        if self._timer is not None:
            if self._rings_at <= at:
                return
            self._timer.cancel()
        self._rings_at = at + _LATE
        self._timer = self._loop.call_at(self._rings_at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._endpoint.in_turn(self._rung)

    def _rung(self) -> None:
        if self._gone.done():
            return
        try:
            self._expire(max(self._loop.time(), self._rings_at))
        except Exception as error:
            self._break(error)
        self.process()

    def _expire(self, now: float) -> None:
        at = self.engine.get_timer()
        if at is not None and at <= now:
            self.engine.expire(now)
        if self._keep_alive_at <= now:
            self.engine.send_ping(0)
            self._move_keep_alive(now)

    def _finish(self) -> None:
        """The engine is at its end."""
        engine, event = self.engine, self.engine.close_event
        by: By = "remote" if engine.is_closed_by_peer else "local"
        self.failure = self.failure or engine.refusal or handshake_failure(event, by)
        self._end(reason_of(event, by), self._last_sent if engine.has_said_goodbye and engine.is_validated else None)

    def _break(self, error: Exception) -> None:
        """A fault of ours, or of aioquic's: it costs this connection, and nothing else."""
        logger.error("the connection with %s is given up, by a fault", self.addr, exc_info=error)
        self.failure = self.failure or error
        self._end(ConnectionClosed(f"internal error: {error!r}", by="local", code=QuicErrorCode.INTERNAL_ERROR))

    def _end(self, reason: ConnectionClosed, farewell: bytes | None = None) -> None:
        """Tell everybody, and let the endpoint forget this connection. Once."""
        if self._gone.done():
            return
        if self._timer is not None:
            self._timer.cancel()
        self._gone.set_result(None)
        if not self.established.done():
            self.established.set_exception(self.failure or reason)
            self.established.exception()  # nobody may be waiting
        if self.application is not None:
            self.application.lost(reason)
        self._endpoint.retire(self, farewell)
