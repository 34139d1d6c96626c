"""Ping, `/ipfs/ping/1.0.0`: is the peer there, and how far away? Spec: libp2p/specs, ping/ping.md.

    dialer    32 random bytes ->             repeated on one stream, as often as the dialer likes
    listener            <- the same bytes    until the dialer ends its direction

Rules:
- "The dialing peer MUST NOT keep more than one outbound stream for the ping protocol per peer": a second `Ping` of the
  same peer waits until the first is closed.
- "The listening peer SHOULD accept at most two streams per peer": one more is reset.
- go-libp2p ends a ping stream 30 s after it was opened and 10 s after its last ping; so a `Ping` renews it in time.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Protocol, Self, TypeAlias
from weakref import WeakValueDictionary

from ..connection import Connection, Service, ServiceHost, Stream, StreamErrorCode, Target
from ..errors import IncompleteRead, LocalProtocolError, RemoteProtocolError
from ..identity import PeerId
from ..io import time_limit

Clock: TypeAlias = Callable[[], float]

PROTOCOL_ID = "/ipfs/ping/1.0.0"
PAYLOAD_SIZE = 32
"""Bytes in a ping and in its answer."""


@dataclass(frozen=True)
class PingConfig:
    """Settings of ping; times in seconds."""

    timeout: float = 10.0
    """How long the answer to one ping may take."""
    idle_timeout: float = 60.0
    """A stream that the peer opened is reset when no ping came for so long. go-libp2p has 10 s; rust-libp2p keeps one
    stream open and pings on it every 15 s."""
    max_inbound_streams: int = 2
    """Streams that one peer may have open for its pings."""
    max_stream_age: float = 20.0
    """An outbound stream is replaced before the next ping once it is older than this."""
    max_stream_idle: float = 8.0
    """An outbound stream is replaced before the next ping once its last ping is longer ago than this."""


class PingService(Service):
    """Answers the pings of peers, and pings them. `clock` measures round trips, in seconds."""

    def __init__(
        self, host: ServiceHost, config: PingConfig | None = None, *, clock: Clock = time.perf_counter
    ) -> None:
        super().__init__(host)
        self._config = config or PingConfig()
        self._clock = clock

    @cached_property
    def _outbound(self) -> WeakValueDictionary[PeerId, asyncio.Lock]:
        """What keeps a second `Ping` of a peer waiting."""
        return WeakValueDictionary()

    async def start(self) -> None:
        self.serve([PROTOCOL_ID], self._answer, max_streams_per_peer=self._config.max_inbound_streams)

    def open(self, target: Target) -> Ping:
        """Pings of one peer, a context manager: `async with host.ping.open(peer) as pinger: rtt = await pinger.ping()`.

        Entering connects, if need be, and raises what `Host.connect` does, `ProtocolNotSupported` and `StageTimeout`;
        it waits while another `Ping` of the same peer is open.
        """
        return Ping(self.host, target, self._config, self._clock, self._outbound)

    async def _answer(self, stream: Stream) -> None:
        """ "The listening peer SHOULD loop and echo the next payload." """
        while True:
            try:
                async with asyncio.timeout(self._config.idle_timeout):
                    await stream.write(await stream.readexactly(PAYLOAD_SIZE))
            except IncompleteRead as error:
                if error.partial:
                    raise
                return  # "The dialing peer SHOULD close the write operation of the stream after the last payload"
            except TimeoutError:
                stream.reset(StreamErrorCode.GARBAGE_COLLECTED)
                return


class Ping:
    """Pings of one peer over one stream, which is replaced when it gets old and after an error: `PingService.open`."""

    def __init__(
        self,
        host: ServiceHost,
        target: Target,
        config: PingConfig,
        clock: Clock,
        locks: WeakValueDictionary[PeerId, asyncio.Lock],
    ) -> None:
        self._host = host
        self._target = target
        self._config = config
        self._clock = clock
        self._locks = locks
        self._connection: Connection | None = None
        self._stream: Stream | None = None
        self._opened = 0.0
        self._used = 0.0
        self._outbound: asyncio.Lock | None = None  # held while there may be a stream
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._connection = await self._host.connect(self._target)
        outbound = self._locks.setdefault(self._connection.remote_peer, asyncio.Lock())
        await outbound.acquire()
        try:
            async with time_limit("opening a ping stream", self._config.timeout):
                await self._open_stream(self._connection)
        except BaseException:
            outbound.release()
            raise
        self._outbound = outbound
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stream, self._stream = self._stream, None
        outbound, self._outbound = self._outbound, None
        try:
            if stream is not None:
                await stream.close()
        finally:
            if outbound is not None:
                outbound.release()

    async def ping(self) -> float:
        """One ping; the round-trip time in seconds.

        Raises `StageTimeout` where the answer takes longer than the setting, `RemoteProtocolError` where it is not what
        was sent, `LocalProtocolError` outside of `async with`, and what ended the stream or the connection. The next
        call starts over on a new stream. Calls of several tasks take turns.
        """
        async with self._turn:
            if self._outbound is None or self._connection is None:
                raise LocalProtocolError("this Ping is not open: use it within `async with`")
            try:
                async with time_limit(f"ping of {self._connection.remote_peer}", self._config.timeout):
                    return await self._round_trip(self._connection)
            except BaseException:
                if self._stream is not None:
                    self._stream.reset()
                    self._stream = None
                raise

    async def _round_trip(self, connection: Connection) -> float:
        clock, payload = self._clock, os.urandom(PAYLOAD_SIZE)
        stream = self._stream
        if stream is not None and (
            clock() - self._opened > self._config.max_stream_age or clock() - self._used > self._config.max_stream_idle
        ):
            self._stream = None
            await stream.close()
            stream = None
        stream = stream or await self._open_stream(connection)
        self._used = sent = clock()
        await stream.write(payload)
        answer = await stream.readexactly(PAYLOAD_SIZE)
        rtt = clock() - sent
        if answer != payload:
            raise RemoteProtocolError(f"{connection.remote_peer} answered a ping with other bytes than were sent")
        return rtt

    async def _open_stream(self, connection: Connection) -> Stream:
        stream = await self._host.new_stream(connection, PROTOCOL_ID)
        try:
            await stream.agreed()
        except BaseException:
            stream.reset()
            raise
        self._stream = stream
        self._opened = self._used = self._clock()
        return stream


class Pinging(Protocol):
    """A host that speaks ping."""

    @property
    def ping(self) -> PingService: ...


async def ping(host: Pinging, target: Target, *, count: int = 1, interval: float = 1.0) -> list[float]:
    """Ping `count` times, `interval` seconds apart; the round-trip times in seconds. Raises what `PingService.open` and
    `Ping.ping` do.
    """
    times: list[float] = []
    async with host.ping.open(target) as pinger:
        for n in range(count):
            if n:
                await asyncio.sleep(interval)
            times.append(await pinger.ping())
    return times
