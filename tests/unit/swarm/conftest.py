"""A transport whose dials do as they are told, and connections that are nothing but that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from libp2p.connection import Accept, Connection, DialOptions, Direction, Listener, Stream, Transport
from libp2p.errors import ConnectionClosed
from libp2p.identity import PeerId, PrivateKey
from libp2p.multiaddr import Multiaddr

KEY = PrivateKey.generate()


class FakeConnection(Connection):
    """A connection that carries nothing."""

    heard_at: float | None = None  # type: ignore[assignment]

    def __init__(self, addr: Multiaddr, key: PrivateKey = KEY, direction: Direction = Direction.OUTBOUND) -> None:
        self.local_addr, self.remote_addr, self.direction = Multiaddr("/memory/999"), addr, direction
        self.remote_key = key.public_key
        self.remote_peer = key.public_key.peer_id
        self.security, self.muxer = "/fake", "/fake"
        self.reason: ConnectionClosed | None = None
        self.probes = 0
        self.open_streams: tuple[Any, ...] = ()
        self.on_closed: Callable[[ConnectionClosed], None] | None = None
        self.on_stream_closed: Callable[[Stream], None] | None = None

    def serve(self, on_stream: Any, on_closed: Any, on_stream_closed: Any = None, **_: Any) -> None:
        self.on_closed, self.on_stream_closed = on_closed, on_stream_closed
        if self.reason is not None:
            on_closed(self.reason)

    @property
    def streams(self) -> Sequence[Stream]:
        return self.open_streams

    @property
    def bytes_read(self) -> int:
        return 0

    @property
    def bytes_written(self) -> int:
        return 0

    @property
    def rtt(self) -> float | None:
        return None

    @property
    def close_reason(self) -> ConnectionClosed | None:
        return self.reason

    def probe(self) -> None:
        self.probes += 1

    async def open_stream(self) -> Stream:
        raise NotImplementedError

    async def close(self, reason: str = "closed", code: int = 0) -> None:
        self.abort(reason)

    def abort(self, reason: str = "aborted", code: int | None = None) -> None:
        if self.reason is None:
            self.reason = ConnectionClosed(reason, by="local")
            if self.on_closed is not None:
                self.on_closed(self.reason)

    async def wait_closed(self) -> ConnectionClosed:
        raise NotImplementedError


@dataclass
class Plan:
    """What a dial of an address does: after `delay` seconds it fails with `error`, or there is a connection."""

    delay: float = 0.0
    error: BaseException | None = None
    stubborn: float = 0.0
    """Seconds that a cancelled dial takes to end."""
    deaf: bool = False
    """The dial succeeds although it was cancelled."""


@dataclass
class FakeTransport(Transport):
    """Dials by plan. `log` tells when each dial started, `made` holds the connections that came out."""

    plans: dict[str, Plan] = field(default_factory=dict)
    key: PrivateKey = KEY
    log: list[tuple[float, str]] = field(default_factory=list)
    made: list[FakeConnection] = field(default_factory=list)
    listeners: list[FakeListener] = field(default_factory=list)
    ended: bool = False
    running: int = 0
    most: int = 0

    def can_dial(self, addr: Multiaddr) -> bool:
        return "tcp" in addr

    def can_listen(self, addr: Multiaddr) -> bool:
        return "tcp" in addr

    async def dial(self, addr: Multiaddr, peer: PeerId | None, options: DialOptions = DialOptions()) -> Connection:
        plan = self.plans.get(str(addr), Plan())
        self.log.append((asyncio.get_running_loop().time(), str(addr)))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(plan.delay)
            if plan.error is not None:
                raise plan.error
        except asyncio.CancelledError:
            await asyncio.sleep(plan.stubborn)
            if not plan.deaf:
                raise
        finally:
            self.running -= 1
        self.made.append(FakeConnection(addr, self.key))
        return self.made[-1]

    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        self.listeners.append(FakeListener(addr))
        return self.listeners[-1]

    def abort(self) -> None:
        self.ended = True


class FakeListener(Listener):
    """Listens to nothing."""

    def __init__(self, addr: Multiaddr) -> None:
        self.bound: tuple[Multiaddr, ...] = (addr,)

    @property
    def addrs(self) -> Sequence[Multiaddr]:
        return self.bound

    def abort(self) -> None:
        self.bound = ()

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.abort()


@pytest.fixture
def fake() -> Any:
    """The classes of this file."""

    class Fake:
        key = KEY
        connection = FakeConnection
        transport = FakeTransport
        plan = Plan

    return Fake
