"""What every transport does: `TransportSuite`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ...connection import Connection, Direction, Listener, Scope, Transport
from ...errors import InvalidInput, Libp2pError, LimitExceeded, ListenError, PeerIdMismatch
from ...identity import PrivateKey
from ...multiaddr import Multiaddr
from ..transports import AcceptAll, CountedScope
from .connections import Side
from .tools import ENDED, cancelled_at_each_step, ends, raises

DIALER, LISTENER = PrivateKey.generate(), PrivateKey.generate()


class Reports(AcceptAll):
    """What a listener reported. It refuses where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.refuse_with: Libp2pError | None = None
        """Who connects, before the handshake."""
        self.refuse_peer_with: Libp2pError | None = None
        """Who connects, once the peer is proven."""
        self.kept: list[CountedScope] = []
        """Those of the connections handed over."""
        self.opened: asyncio.Queue[Connection] = asyncio.Queue()
        self.everything: asyncio.Queue[Connection | Exception] = asyncio.Queue()

    def admit(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> Scope:
        if self.refuse_with is not None:
            raise self.refuse_with
        scope = super().admit(local_addr, remote_addr)
        self.scopes[-1].refuse_with = self.refuse_peer_with
        return scope

    def connection_opened(self, connection: Connection, scope: Scope) -> None:
        assert isinstance(scope, CountedScope)
        self.kept.append(scope)
        self.opened.put_nowait(connection)
        self.everything.put_nowait(connection)

    def connection_failed(self, local_addr: Multiaddr, remote_addr: Multiaddr, error: Exception) -> None:  # noqa: ARG002
        self.everything.put_nowait(error)


@dataclass
class _Scene:
    """Somebody dials a listener."""

    transport: Transport
    listener: Listener
    reports: Reports
    addr: Multiaddr
    dialing: asyncio.Task[Connection]


class TransportSuite:
    """Tests of a `Transport`. `make` makes one for the owner of a key; those that one test makes reach each other."""

    listen_addr: str
    """The address to listen on, with port 0 or what else asks for a free one."""
    foreign_addrs: tuple[str, ...] = ("/dns4/example.com/tcp/1", "/unix/a/b", "/ip4/127.0.0.1/udp/1/utp")
    """Addresses that are none of this transport's."""

    second_listen_addr: str | None = None
    """What to listen on beside a listener of `listen_addr`; None: the same once more."""
    peer_is_needed: bool = False
    """Whether an address leads to somebody only where the peer is named."""

    async def make(self, key: PrivateKey) -> Transport:
        """A transport of the host that owns `key`."""
        raise NotImplementedError

    def bound(self, addr: Multiaddr) -> Multiaddr:
        """What to listen on for a listener of `listen_addr` that has `addr`."""
        return addr

    async def cleanup(self) -> None:
        """Called at the end of each test."""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[tuple[Transport, Listener, Reports]]:
        """A dialer's transport, and a listener with what it reports."""
        dialer, transport, reports = await self.make(DIALER), await self.make(LISTENER), Reports()
        self.transport = transport
        listener = await transport.listen(Multiaddr(self.listen_addr), reports)
        try:
            yield dialer, listener, reports
        finally:
            await ends(listener.close())
            await self.cleanup()

    async def test_dialer_and_listener_meet(self) -> None:
        async with self.listening() as (transport, listener, reports):
            peer = LISTENER.public_key.peer_id
            for addr in (listener.addrs[0], listener.addrs[0].with_peer(str(peer))):
                assert transport.can_dial(addr)
                dialed = await ends(transport.dial(addr, peer))
                accepted = await ends(reports.opened.get())
                assert (dialed.local_peer, dialed.remote_peer) == (DIALER.public_key.peer_id, peer)
                assert (accepted.local_peer, accepted.remote_peer) == (peer, DIALER.public_key.peer_id)
                assert (dialed.direction, accepted.direction) == (Direction.OUTBOUND, Direction.INBOUND)
                assert dialed.remote_addr.without_peer() == listener.addrs[0]
                assert accepted.local_addr.without_peer() == listener.addrs[0]
                assert dialed.local_addr == accepted.remote_addr
                ours, theirs = await Side(dialed).stream_to(Side(accepted))
                await ours.write(b"question")
                assert await ends(theirs.readexactly(8)) == b"question"
                await theirs.write(b"answer")
                assert await ends(ours.readexactly(6)) == b"answer"
                await _end(dialed, accepted)

    async def test_whoever_answers_may_be_learned(self) -> None:
        async with self.listening() as (transport, listener, reports):
            if self.peer_is_needed:
                with raises(InvalidInput):
                    await transport.dial(listener.addrs[0], None)
                return
            dialed = await ends(transport.dial(listener.addrs[0], None))
            assert dialed.remote_peer == LISTENER.public_key.peer_id
            await _end(dialed, await ends(reports.opened.get()))

    async def test_the_wrong_peer_is_refused(self) -> None:
        async with self.listening() as (transport, listener, reports):
            stranger = PrivateKey.generate().public_key.peer_id
            with raises(PeerIdMismatch) as caught:
                await ends(transport.dial(listener.addrs[0], stranger))
            assert caught.value.expected == stranger
            outcome = await ends(reports.everything.get())
            if isinstance(outcome, Connection):  # with some protocols the listener is done before the dialer objects
                await ends(outcome.wait_closed())
                await _end(outcome)
            else:
                assert isinstance(outcome, ENDED)

    async def test_nobody_listens_any_more(self) -> None:
        async with self.listening() as (transport, listener, reports):
            (addr, *_), peer = listener.addrs, LISTENER.public_key.peer_id
            established = await ends(transport.dial(addr, peer))
            accepted = await ends(reports.opened.get())
            await ends(listener.close())
            await ends(listener.close())
            with raises(*ENDED):
                await ends(transport.dial(addr, peer), within=30)
            ours, theirs = await Side(established).stream_to(Side(accepted))
            await theirs.write(b"connections outlive their listener")
            await ends(ours.readexactly(34))
            await _end(established, accepted)

    async def test_an_address_is_listened_on_again_while_its_connections_live(self) -> None:
        async with self.listening() as (transport, listener, reports):
            addr, peer = listener.addrs[0], LISTENER.public_key.peer_id
            dialed = await ends(transport.dial(addr, peer))
            accepted = await ends(reports.opened.get())
            await ends(listener.close())
            again = await self.transport.listen(self.bound(addr), reports)
            assert addr in again.addrs
            second = [await ends(transport.dial(addr, peer)), await ends(reports.opened.get())]
            await ends(listener.close())  # once more: it is not the one that listens now
            third = [await ends(transport.dial(addr, peer)), await ends(reports.opened.get())]
            ours, theirs = await Side(dialed).stream_to(Side(accepted))
            await theirs.write(b"still here")
            assert await ends(ours.readexactly(10)) == b"still here"
            await ends(again.close())
            await _end(dialed, accepted, *second, *third)

    async def test_listeners_have_addresses_of_their_own(self) -> None:
        async with self.listening() as (_, first, reports):
            transport = self.transport
            assert transport.can_listen(Multiaddr(self.listen_addr))
            second = await transport.listen(Multiaddr(self.second_listen_addr or self.listen_addr), reports)
            assert first.addrs
            assert second.addrs
            assert not set(first.addrs) & set(second.addrs)
            with raises(ListenError):
                await transport.listen(first.addrs[0], reports)
            await ends(second.close())

    async def test_foreign_addresses_are_left_to_others(self) -> None:
        transport = await self.make(DIALER)
        for addr in self.foreign_addrs:
            assert not transport.can_dial(Multiaddr(addr)), addr
            assert not transport.can_listen(Multiaddr(addr)), addr
        await self.cleanup()

    async def test_a_listener_that_is_closed_has_ended_at_each_step(self) -> None:
        """Cancelled or not: its address is free, and who was in the handshake is gone, with what they were granted."""

        async def prepare() -> _Scene:
            dialer, transport, reports = await self.make(DIALER), await self.make(LISTENER), Reports()
            listener = await transport.listen(Multiaddr(self.listen_addr), reports)
            addr = listener.addrs[0]
            dialing = asyncio.ensure_future(dialer.dial(addr, LISTENER.public_key.peer_id))
            await asyncio.sleep(0)
            return _Scene(transport, listener, reports, addr, dialing)

        async def check(scene: _Scene) -> None:
            later = Reports()
            again = await scene.transport.listen(scene.addr, later)
            await asyncio.wait({scene.dialing}, timeout=30)
            opened = [scene.dialing.result()] if scene.dialing.exception() is None else []
            for reports in (scene.reports, later):
                while not reports.opened.empty():
                    opened.append(reports.opened.get_nowait())
            await _end(*opened)
            for scope in scene.reports.scopes:
                assert (scope.released > 0) is (scope not in scene.reports.kept)
            await ends(again.close())

        await cancelled_at_each_step(prepare, lambda scene: scene.listener.close(), check)
        await self.cleanup()

    async def test_what_is_not_admitted_costs_nothing(self) -> None:
        async with self.listening() as (transport, listener, reports):
            reports.refuse_with = LimitExceeded("visitors", scope="a test", value=0)
            with raises(*ENDED):
                await ends(transport.dial(listener.addrs[0], LISTENER.public_key.peer_id), within=30)
            assert await ends(reports.everything.get()) is reports.refuse_with
            reports.refuse_with = None
            dialed = await ends(transport.dial(listener.addrs[0], LISTENER.public_key.peer_id))
            accepted = await ends(reports.opened.get())
            (scope,) = reports.kept
            assert (scope.peer, scope.released) == (DIALER.public_key.peer_id, 0), "it goes with the connection"
            await _end(dialed, accepted)

    async def test_a_peer_that_may_not_come_in_is_refused_once_it_is_proven(self) -> None:
        async with self.listening() as (transport, listener, reports):
            reports.refuse_peer_with = LimitExceeded("friends", scope="a test", value=0)
            try:
                dialed = await ends(transport.dial(listener.addrs[0], LISTENER.public_key.peer_id), within=30)
            except ENDED:
                pass
            else:  # with some transports the dialer is done before the listener objects
                await ends(dialed.wait_closed())
            assert await ends(reports.everything.get()) is reports.refuse_peer_with
            assert [scope.released for scope in reports.scopes] == [1]

    async def test_many_dial_at_once(self) -> None:
        async with self.listening() as (transport, listener, reports):
            peer = LISTENER.public_key.peer_id
            dialed = await ends(
                asyncio.gather(*(transport.dial(listener.addrs[0], peer) for _ in range(30))), within=30
            )
            accepted = [await ends(reports.opened.get()) for _ in dialed]
            await _end(*dialed, *accepted)

    async def test_a_cancelled_dial_leaves_nothing(self) -> None:
        async with self.listening() as (transport, listener, reports):
            for turns in range(12):
                dialing = asyncio.ensure_future(transport.dial(listener.addrs[0], LISTENER.public_key.peer_id))
                for _ in range(turns):
                    await asyncio.sleep(0)
                dialing.cancel()
                await asyncio.wait({dialing})
                if not dialing.cancelled():
                    await _end(dialing.result())
            await _end(await ends(transport.dial(listener.addrs[0], LISTENER.public_key.peer_id)))
            await asyncio.sleep(0.1)
            while not reports.opened.empty():
                await _end(reports.opened.get_nowait())


async def _end(*connections: Connection) -> None:
    for connection in connections:
        connection.abort()
    for connection in connections:
        await ends(connection.wait_closed())
        await ends(connection.close())
