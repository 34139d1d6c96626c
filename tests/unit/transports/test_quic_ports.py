"""The UDP ports of QUIC: listened on again, shared by several protocols, dialed from, punched through."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection as Plain
from aioquic.quic.events import HandshakeCompleted
from aioquic.quic.packet import QuicErrorCode

from libp2p.connection import Connection, DialOptions, Direction, LocalPort, Role, Scope
from libp2p.errors import ConnectionClosed, LimitExceeded, ListenError, LocalProtocolError, StageTimeout
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr, host_port
from libp2p.security.tls.certificate import make_certificate
from libp2p.testing.conformance.connections import Side
from libp2p.testing.conformance.tools import cancel, ends, is_held, raises, started
from libp2p.testing.conformance.transports import DIALER, LISTENER, Reports
from libp2p.testing.network import Link, Network, Node
from libp2p.testing.transports import context
from libp2p.transports.quic import Quic, QuicConfig
from libp2p.transports.quic.datagrams import SocketAddress
from libp2p.transports.quic.driver import Driver
from libp2p.transports.quic.endpoint import Foreign
from libp2p.transports.quic.engine import Terms
from libp2p.transports.quic.ports import QuicPorts
from libp2p.transports.quic.service import Service
from libp2p.transports.quic.transport import QuicListener

PEER, DIALING_PEER = LISTENER.public_key.peer_id, DIALER.public_key.peer_id
ADDR = Multiaddr("/ip4/10.0.0.2/udp/4001/quic-v1")
BACK = Multiaddr("/ip4/10.0.0.1/udp/4001/quic-v1")
TARGET: SocketAddress = ("10.0.0.2", 4001)


class Scene:
    """Two machines with a transport each, 5 ms apart, and what passed between them."""

    def __init__(self) -> None:
        self.network = Network(seed=5, link=Link(latency=0.005))
        self.network.on_datagram = self._tap
        self.near, self.far = self.network.node("10.0.0.1"), self.network.node("10.0.0.2")
        self.dialer, self.transport = self._quic(DIALER, self.near), self._quic(LISTENER, self.far)
        self.reports = Reports()
        self.sent: list[tuple[bytes, SocketAddress, SocketAddress]] = []

    def _quic(self, key: PrivateKey, node: Node) -> Quic:
        return Quic(QuicConfig(), open_socket=node.udp()).use(context(key))

    def _tap(self, data: bytes, source: SocketAddress, target: SocketAddress) -> bool:
        self.sent.append((data, source, target))
        return True

    async def listen(self, addr: Multiaddr = ADDR, reports: Reports | None = None) -> QuicListener:
        transport = self.transport if addr == ADDR else self.dialer
        listener = await transport.listen(addr, reports or self.reports)
        assert isinstance(listener, QuicListener)
        return listener

    async def connect(self) -> tuple[Connection, Connection]:
        return await ends(self.dialer.dial(ADDR, PEER)), await ends(self.reports.opened.get())


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    async with made.network:
        yield made
        for transport in (made.dialer, made.transport):
            for endpoint in list(transport.context.shared(QuicPorts)._endpoints.values()):
                endpoint.close("the test is over")
            await transport.close()
        await asyncio.sleep(1)
        assert not made.near.ports._sockets
        assert not made.far.ports._sockets


async def check_works(ours: Connection, theirs: Connection) -> None:
    near, far = await Side(ours).stream_to(Side(theirs))
    await near.write(b"question")
    assert await ends(far.readexactly(8)) == b"question"


# Listening again


async def test_the_socket_is_the_same_when_it_is_listened_on_again() -> None:
    async with scene() as at:
        first = await at.listen()
        dialed, accepted = await at.connect()
        await first.close()
        with raises(ConnectionClosed):
            await ends(at.dialer.dial(ADDR, PEER))
        second = await at.listen()
        assert second.endpoint is first.endpoint
        await first.close()  # this one no longer has anything to stop
        assert second.endpoint.is_listening
        again, _ = await at.connect()
        await check_works(dialed, accepted)
        await second.close()
        for connection in (dialed, again):
            await ends(connection.close())
        await asyncio.sleep(1)
        third = await at.listen()  # by now the socket was closed
        assert third.endpoint is not first.endpoint


async def test_one_address_has_one_listener_at_a_time() -> None:
    async with scene() as at:
        outcomes = await asyncio.gather(at.listen(), at.listen(), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ListenError", "QuicListener"]
        with pytest.raises(ListenError, match="in use"):
            await at.listen()


async def test_a_listener_that_is_given_up_at_any_step_holds_nothing() -> None:
    for turns in range(6):
        async with scene() as at:
            listening = await started(at.transport.listen(ADDR, at.reports))
            for _ in range(turns):
                await asyncio.sleep(0)
            if listening.done():
                await listening.result().close()
            else:
                await cancel(listening)
            assert not at.far.ports._sockets
            await (await at.listen()).close()


async def test_a_listener_that_closes_at_any_step_of_a_handshake_leaves_nothing() -> None:
    for milliseconds in range(0, 40, 3):
        async with scene() as at:
            listener = await at.listen()
            dialing = await started(at.dialer.dial(ADDR, PEER))
            await asyncio.sleep(milliseconds / 1000)
            await listener.close()
            assert not len(listener.endpoint._handshakes)
            again = await at.listen()
            await asyncio.wait((dialing,), timeout=5)
            if dialing.exception() is not None:
                assert isinstance(dialing.exception(), ConnectionClosed)
            assert all(scope.released == 1 for scope in at.reports.scopes) or dialing.exception() is None
            await check_works(*await at.connect()) if dialing.exception() else None
            await again.close()


# Several protocols on one port


class Plainly(Service):
    """A protocol whose dialers show no certificate."""

    def __init__(self, reports: Reports) -> None:
        certificate, key = make_certificate(PrivateKey.generate(), now=datetime.now(UTC))
        super().__init__("plainly/1", Terms(certificate, key, demands_certificate=False), reports)
        self.drivers: asyncio.Queue[Driver] = asyncio.Queue()
        self.data = bytearray()
        self.death: Exception | None = None

    def start(self, driver: Driver) -> Any:
        assert driver.engine.remote_key is None
        return self

    def opened(self, driver: Driver, scope: Scope) -> None:
        scope.release()
        self.drivers.put_nowait(driver)

    def died(self, error: Exception) -> None:
        self.death = error

    # What the driver reports

    def lanes_opened(self, lanes: Any) -> None:
        pass

    def data_received(self, lane: Any, data: bytes) -> None:
        self.data += data

    def handle(self, event: Any) -> None:
        self.data += event.data

    def progressed(self) -> None:
        pass

    def lost(self, reason: ConnectionClosed) -> None:
        pass


class PlainClient:
    """aioquic as it is, over a socket of the simulated network."""

    def __init__(self, alpn: str) -> None:
        self.quic = Plain(
            configuration=QuicConfiguration(is_client=True, alpn_protocols=[alpn], verify_mode=ssl.CERT_NONE)
        )
        self.events: list[Any] = []

    @property
    def refused_with(self) -> int:
        """The code by which the listener has closed the connection."""
        assert self.quic._close_event is not None
        return self.quic._close_event.error_code

    async def run(self, node: Node, *, seconds: float) -> None:
        loop, sock = asyncio.get_running_loop(), await node.udp()(("0.0.0.0", 0))
        sock.attach(self)  # type: ignore[arg-type]
        self.quic.connect(TARGET, loop.time())
        until = loop.time() + seconds
        while loop.time() < until:
            for data, _ in self.quic.datagrams_to_send(loop.time()):
                sock.send([data], TARGET)
            await asyncio.sleep(0.001)
        sock.close()

    def datagrams_received(self, batch: Any) -> None:
        for data, size, addr, _ in batch:
            for start in range(0, len(data), size):
                self.quic.receive_datagram(data[start : start + size], addr, asyncio.get_running_loop().time())
        while (event := self.quic.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, HandshakeCompleted):
                self.quic.send_stream_data(0, b"no certificate", end_stream=True)


async def test_protocols_share_a_port_with_certificates_of_their_own() -> None:
    async with scene() as at:
        listener = await at.listen()
        service = Plainly(Reports())
        listener.endpoint.serve(service)
        with pytest.raises(LocalProtocolError, match="plainly/1 is served"):
            listener.endpoint.serve(Plainly(Reports()))
        client = PlainClient("plainly/1")
        await client.run(at.near, seconds=0.2)
        assert any(isinstance(event, HandshakeCompleted) for event in client.events)
        assert client.quic.tls._peer_certificate == service.terms.certificate
        assert service.data == b"no certificate"
        await check_works(*await at.connect())
        listener.endpoint.stop_serving(service)
        await check_works(*await at.connect())
        (await ends(service.drivers.get())).abort("done")


async def test_a_protocol_that_is_served_no_more_is_refused_and_the_other_goes_on() -> None:
    async with scene() as at:
        listener = await at.listen()
        service = Plainly(Reports())
        listener.endpoint.serve(service)
        await listener.close()
        client = PlainClient("libp2p")
        await client.run(at.near, seconds=0.1)
        assert client.refused_with == QuicErrorCode.CRYPTO_ERROR + 120
        client = PlainClient("plainly/1")
        await client.run(at.near, seconds=0.1)
        assert service.data == b"no certificate"


async def test_peers_that_show_no_certificate_are_refused_by_libp2p_s_protocol() -> None:
    async with scene() as at:
        listener = await at.listen()
        listener.endpoint.serve(Plainly(Reports()))
        client = PlainClient("libp2p")
        await client.run(at.near, seconds=0.1)
        assert client.refused_with == QuicErrorCode.CRYPTO_ERROR + 116


async def test_datagrams_of_other_protocols_go_to_who_asked_for_them() -> None:
    async with scene() as at:
        listener = await at.listen()
        taken: list[bytes] = []
        sender = await at.near.udp()(("10.0.0.1", 9))
        listener.endpoint.divert(Foreign.STUN, lambda data, addr, local_ip: taken.append(data))
        stun = b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12)
        dtls, nothing, quic = b"\x16" + bytes(30), b"\x05" + bytes(30), b"\x40" + bytes(30)
        sender.send([stun, stun, stun], TARGET)
        for other in (dtls, nothing, quic):
            sender.send([other], TARGET)
        await asyncio.sleep(0.1)
        assert taken == [stun] * 3
        listener.endpoint.divert(Foreign.DTLS, lambda data, addr, local_ip: taken.append(data))
        listener.endpoint.divert(Foreign.STUN, None)
        sender.send([stun, dtls[: len(stun)]], TARGET)
        await asyncio.sleep(0.1)
        assert taken[3:] == [dtls[: len(stun)]]
        await check_works(*await at.connect())
        sender.close()


# Who may come in


class Full(Reports):
    """Has no room."""

    def admit(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> Scope:
        raise LimitExceeded("max_connections", scope="host", value=0)


async def test_who_is_not_admitted_learns_at_once_and_costs_no_handshake() -> None:
    async with scene() as at:
        listener = await at.listen(reports=Full())
        with pytest.raises(ConnectionClosed, match="refused"):
            await ends(at.dialer.dial(ADDR, PEER), within=0.1)
        assert not listener.endpoint._drivers
        assert [len(data) <= 1280 for data, source, _ in at.sent if source == TARGET] == [True]


async def test_a_scope_ends_with_its_handshake_or_goes_with_the_connection() -> None:
    async with scene() as at:
        await at.listen()
        await at.connect()
        (scope,) = at.reports.scopes
        assert (scope.peer, scope.released) == (DIALING_PEER, 0)
        dialing = asyncio.ensure_future(at.dialer.dial(ADDR, PEER))
        await asyncio.sleep(0.008)
        await cancel(dialing)
        await asyncio.sleep(0.1)
        assert {scope.released for scope in at.reports.scopes[1:]} == {1}
        client = PlainClient("libp2p")  # no certificate
        await client.run(at.near, seconds=0.1)
        assert at.reports.scopes[-1].released == 1


# Dialing


async def test_a_dial_from_a_fresh_port_shares_none() -> None:
    async with scene() as at:
        await at.listen()
        mine = await at.listen(BACK, Reports())
        shared, fresh, other = [
            await ends(at.dialer.dial(ADDR, PEER, DialOptions(local_port=port)))
            for port in (LocalPort.SHARED, LocalPort.FRESH, LocalPort.FRESH)
        ]
        await mine.close()
        ports = [(await ends(at.reports.opened.get())).remote_addr for _ in range(3)]
        assert len(set(ports)) == 3
        await ends(fresh.close())
        await ends(other.close())
        await ends(shared.close())
        await asyncio.sleep(1)
        assert not at.near.ports._sockets  # each ended with its connection


async def test_a_transport_that_closes_ends_its_dials() -> None:
    async with scene() as at:
        await at.listen()
        dialed, accepted = await at.connect()
        dialing = await started(at.dialer.dial(Multiaddr("/ip4/10.0.0.2/udp/9/quic-v1"), PEER))
        await at.dialer.close()
        with raises(ConnectionClosed):
            await ends(dialing)
        assert "shutting down" in (await ends(accepted.wait_closed())).reason
        assert not at.near.ports._sockets
        assert dialed.close_reason is not None
        await at.dialer.close()
        await Quic().use(context()).close()  # which has opened nothing


async def test_datagrams_of_no_connection_leave_from_the_listening_socket() -> None:
    async with scene() as at:
        assert not at.transport.send_datagram(BACK, b"hello")
        await at.listen()
        await at.dialer.listen(Multiaddr("/ip4/0.0.0.0/udp/4001/quic-v1"), Reports())
        assert at.dialer.send_datagram(ADDR, b"\x07hello")
        await asyncio.sleep(0.1)
        assert at.sent == [(b"\x07hello", ("10.0.0.1", 4001), TARGET)]


# Hole punching

PUNCH = DialOptions(role=Role.RESPONDER)


async def test_who_punches_gets_the_connection_that_the_peer_makes() -> None:
    async with scene() as at:
        listener = await at.transport.listen(Multiaddr("/ip4/0.0.0.0/udp/4001/quic-v1"), at.reports)
        punching = await started(at.transport.dial(BACK, DIALING_PEER, PUNCH))
        await asyncio.sleep(0.3)
        assert 2 <= len(at.sent) <= 30
        assert all(len(data) == 64 and 4 <= data[0] < 16 for data, _, _ in at.sent)
        assert {(source, target) for _, source, target in at.sent} == {(TARGET, ("10.0.0.1", 4001))}
        dialed = await ends(at.dialer.dial(ADDR, PEER))
        punched = await ends(punching)
        assert punched.direction is Direction.INBOUND
        await check_works(dialed, punched)
        assert at.reports.opened.empty()  # who punches has it, and nobody else
        assert [scope.released for scope in at.reports.scopes] == [1]
        other = await ends(at.dialer.dial(ADDR, PEER))
        await check_works(other, await ends(at.reports.opened.get()))
        await listener.close()


async def test_a_punch_that_nobody_answers_ends() -> None:
    async with scene() as at:
        await at.transport.listen(Multiaddr("/ip4/0.0.0.0/udp/4001/quic-v1"), at.reports)
        with pytest.raises(StageTimeout, match="hole punch"):
            await ends(at.transport.dial(BACK, DIALING_PEER, PUNCH), within=11)
        assert not at.transport._punches._waiting


async def test_a_punch_given_up_leaves_connections_to_others() -> None:
    async with scene() as at:
        await at.transport.listen(Multiaddr("/ip4/0.0.0.0/udp/4001/quic-v1"), at.reports)
        punching = await started(at.transport.dial(BACK, PEER, PUNCH))  # another peer
        await check_works(*await at.connect())
        assert await is_held(punching)
        await cancel(punching)
        await cancel(await started(at.transport.dial(BACK, DIALING_PEER, PUNCH)))
        await check_works(*await at.connect())


async def test_a_punch_needs_a_listener_and_a_peer() -> None:
    async with scene() as at:
        with pytest.raises(LocalProtocolError, match="a listener whose socket"):
            await at.transport.dial(BACK, DIALING_PEER, PUNCH)
        await at.transport.listen(Multiaddr("/ip4/0.0.0.0/udp/4001/quic-v1"), at.reports)
        with pytest.raises(LocalProtocolError, match="a peer"):
            await at.transport.dial(BACK, None, PUNCH)


# The end of a socket


class Deaths(Reports):
    def __init__(self) -> None:
        super().__init__()
        self.died: list[tuple[Any, Exception]] = []

    def listener_died(self, listener: Any, error: Exception) -> None:
        self.died.append((listener, error))


async def test_a_socket_that_breaks_ends_its_connections_and_tells_the_listener() -> None:
    async with scene() as at:
        reports = Deaths()
        listener = await at.listen(reports=reports)
        dialed = await ends(at.dialer.dial(ADDR, PEER))
        accepted = await ends(reports.opened.get())
        error = OSError(9, "gone")
        listener.endpoint.lost(error)
        assert reports.died == [(listener, error)]
        assert accepted.close_reason is not None
        assert "the socket has broken" in accepted.close_reason.reason
        assert listener.endpoint.is_closed
        again = await at.listen(reports=reports)
        assert host_port(again.addrs[0]).port == 4001
        dialed.abort()
