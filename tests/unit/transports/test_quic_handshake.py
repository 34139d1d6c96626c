"""QUIC handshakes that must fail, on either side: who learns what, and that nothing is left of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import encode_quic_version_negotiation, pull_quic_header
from aioquic.tls import Epoch
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from libp2p.connection import Connection, Scope
from libp2p.errors import ConnectionClosed, HandshakeError, PeerIdMismatch, StageTimeout
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.security.tls.certificate import CLOCK_SKEW, EXTENSION, make_certificate
from libp2p.testing.conformance.tools import cancel, ends, is_held, started
from libp2p.testing.conformance.transports import DIALER, LISTENER, Reports
from libp2p.testing.network import Link, Network, Node
from libp2p.testing.transports import context
from libp2p.transports.quic import Quic, QuicConfig, endpoint
from libp2p.transports.quic.credentials import Credentials
from libp2p.transports.quic.endpoint import Endpoint
from libp2p.transports.quic.engine import Engine, Terms
from libp2p.transports.quic.engine.handshake import MAX_HANDSHAKE_MESSAGE
from libp2p.transports.quic.transport import QuicListener

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
PEER = LISTENER.public_key.peer_id
Change = Callable[[QuicConfiguration, PrivateKey], None]
CertificateAndKey = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


class FailureReports(Reports):
    """Also where connections came from that failed."""

    def __init__(self) -> None:
        super().__init__()
        self.addrs: list[tuple[str, str]] = []

    def connection_failed(self, local_addr: Multiaddr, remote_addr: Multiaddr, error: Exception) -> None:
        super().connection_failed(local_addr, remote_addr, error)
        self.addrs.append((str(local_addr), str(remote_addr)))


class Peers:
    """A dialer and a listener, 50 ms apart."""

    def __init__(self, config: QuicConfig) -> None:
        self.config = config
        self.network = Network(seed=3, link=Link(latency=0.05))
        self.near, self.far = self.network.node("10.0.0.1"), self.network.node("10.0.0.2")
        self.dialer, self.transport = self._quic(DIALER, self.near), self._quic(LISTENER, self.far)
        self.reports = FailureReports()
        self.listener: QuicListener

    def _quic(self, key: PrivateKey, node: Node) -> Quic:
        transport = Quic(self.config, open_socket=node.udp())
        transport._prepared = Credentials(key, self.config)
        return transport.use(context(key))

    @property
    def client(self) -> QuicConfiguration:
        assert self.dialer._prepared is not None
        return self.dialer._prepared.for_dialer

    def change_server(self, change: Callable[[QuicConfiguration, PrivateKey], None]) -> None:
        """Change how the listener's side of a handshake is done."""
        endpoint = self.listener.endpoint
        change(endpoint._for_listener, LISTENER)
        certificate, key = endpoint._for_listener.certificate, endpoint._for_listener.private_key
        for service in endpoint._services.values():
            service.terms = Terms(certificate, key)  # type: ignore[arg-type] # some have none
        if endpoint._for_listener.alpn_protocols is None:
            service.alpn = None  # type: ignore[assignment]
            endpoint._services = {None: service}  # type: ignore[dict-item]

    async def dial(self) -> Connection:
        return await self.dialer.dial(self.listener.addrs[0], PEER)

    async def failed(self) -> Exception:
        """The one thing that the listener has reported, which must be a failure."""
        report = await ends(self.reports.everything.get(), within=20)
        assert isinstance(report, Exception)
        assert self.reports.everything.empty()
        return report

    async def check_nothing_is_left(self) -> None:
        """The dialer's socket is closed; the listener's is open, and remembers nobody."""
        await asyncio.sleep(2)  # goodbyes are kept for some round trips
        assert not self.near.ports._sockets
        assert contents(self.listener.endpoint) == (0, 0, 0, 0)


def contents(of: Endpoint) -> tuple[int, ...]:
    return len(of._routes), len(of._drivers), len(of._handshakes), len(of._farewells._timers)


@asynccontextmanager
async def meeting(config: QuicConfig = QuicConfig()) -> AsyncIterator[Peers]:  # noqa: B008 - it is frozen
    peers = Peers(config)
    async with peers.network:
        listener = await peers.transport.listen(Multiaddr("/ip4/10.0.0.2/udp/0/quic-v1"), peers.reports)
        assert isinstance(listener, QuicListener)
        peers.listener = listener
        yield peers
        await peers.check_nothing_is_left()
        await listener.close()
        assert not peers.far.ports._sockets


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """The engines that are made, the dialer's first."""
    made: list[Engine] = []

    def make(*args: Any, **kwargs: Any) -> Engine:
        made.append(Engine(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(endpoint, "Engine", make)
    return made


# Certificates that are not as they should be


def build(*extensions: x509.Extension[Any], signer: ec.EllipticCurvePrivateKey | None = None) -> CertificateAndKey:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peer")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - DAY, NOW + DAY)
    for extension in extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(signer or key, SHA256()), key


def use(made: CertificateAndKey, configuration: QuicConfiguration) -> None:
    configuration.certificate, configuration.private_key = made


def none(configuration: QuicConfiguration, _: PrivateKey) -> None:
    configuration.certificate = configuration.private_key = None


def plain(configuration: QuicConfiguration, _: PrivateKey) -> None:
    use(build(), configuration)


def forged(configuration: QuicConfiguration, key: PrivateKey) -> None:
    stolen, _ = make_certificate(key, now=NOW)
    use(build(stolen.extensions.get_extension_for_oid(EXTENSION)), configuration)


def foreign(configuration: QuicConfiguration, key: PrivateKey) -> None:
    unknown = x509.ObjectIdentifier("1.3.6.1.4.1.53594.9." + ".".join(["127"] * 40))  # a phrase as long as they get
    use(build(x509.Extension(unknown, critical=True, value=x509.UnrecognizedExtension(unknown, b""))), configuration)


def signed_by_another(configuration: QuicConfiguration, key: PrivateKey) -> None:
    good, _ = make_certificate(key, now=NOW)
    extension = good.extensions.get_extension_for_oid(EXTENSION)
    use(build(extension, signer=ec.generate_private_key(ec.SECP256R1())), configuration)


def expired(configuration: QuicConfiguration, key: PrivateKey) -> None:
    use(make_certificate(key, now=NOW - 2 * DAY, lifetime=DAY), configuration)


def early(configuration: QuicConfiguration, key: PrivateKey) -> None:
    use(make_certificate(key, now=NOW + 2 * CLOCK_SKEW), configuration)


def two(configuration: QuicConfiguration, key: PrivateKey) -> None:
    configuration.certificate_chain = [make_certificate(key, now=NOW)[0]]


class _Swallowed(list[x509.Certificate]):
    def __radd__(self, other: list[x509.Certificate]) -> list[x509.Certificate]:
        return []


def empty(configuration: QuicConfiguration, _: PrivateKey) -> None:
    """It sends a list of certificates that has none."""
    configuration.certificate_chain = _Swallowed()


def garbled(configuration: QuicConfiguration, _: PrivateKey) -> None:
    configuration.certificate = SimpleNamespace(public_bytes=lambda encoding: b"\x30\x03\x02\x01\x00")


def not_its_own(configuration: QuicConfiguration, _: PrivateKey) -> None:
    """It shows somebody's certificate without holding the key."""
    configuration.private_key = ec.generate_private_key(ec.SECP256R1())


def other_protocol(configuration: QuicConfiguration, _: PrivateKey) -> None:
    configuration.alpn_protocols = ["h3"]


def no_protocol(configuration: QuicConfiguration, _: PrivateKey) -> None:
    configuration.alpn_protocols = None


@dataclass(frozen=True)
class Refused:
    """What is wrong with one side, and how the other one says so."""

    change: Change
    alert: int
    name: str
    phrase: str = ""


BAD_CERTIFICATES = [
    Refused(plain, 42, "bad certificate", "certificate: it has no libp2p extension 1.3.6.1.4.1.53594.1.1"),
    Refused(forged, 42, "bad certificate", "did not sign the certificate's key"),
    Refused(foreign, 42, "bad certificate", "certificate: unknown critical extension 1.3.6.1.4.1.53594.9.127.127"),
    Refused(signed_by_another, 42, "bad certificate", "certificate: its self-signature is not valid"),
    Refused(expired, 42, "bad certificate", "certificate: expired at"),
    Refused(early, 42, "bad certificate", "certificate: not valid before"),
    Refused(two, 42, "bad certificate", "certificate: there must be one, the peer sent 2"),
]
BAD_TLS = [
    Refused(garbled, 42, "bad certificate", "certificate: malformed"),
    Refused(not_its_own, 51, "decrypt error"),
]
BAD_CLIENTS = [
    *BAD_CERTIFICATES,
    *BAD_TLS,
    Refused(none, 116, "certificate required", "libp2p: a client must show a certificate"),
    Refused(empty, 116, "certificate required", "libp2p: a client must show a certificate"),
    Refused(other_protocol, 120, "no application protocol", "No common ALPN"),
    Refused(no_protocol, 120, "no application protocol", "No common ALPN"),
]
BAD_SERVERS = [
    *BAD_CERTIFICATES,
    *BAD_TLS,
    Refused(empty, 50, "decode error", "Certificate message is empty"),
    Refused(no_protocol, 120, "no application protocol", "No common ALPN"),
]


def name_of(case: Refused) -> str:
    return case.change.__name__


@pytest.mark.parametrize("case", BAD_CLIENTS, ids=name_of)
async def test_a_bad_dialer_is_refused_and_learns_why(case: Refused, engines: list[Engine]) -> None:
    async with meeting() as peers:
        case.change(peers.client, DIALER)
        with pytest.raises(HandshakeError) as caught:
            await ends(peers.dial(), within=1)
        assert f"the peer refused us: TLS alert {case.name}" in str(caught.value)
        failure = await peers.failed()
        assert isinstance(failure, HandshakeError)
        for error in (caught.value, failure):
            assert case.phrase in str(error)
        dialer, listener = engines
        assert dialer.is_closed_by_peer
        assert not listener.is_closed_by_peer
        assert dialer.close_event.error_code == listener.close_event.error_code == 0x100 + case.alert
        local = str(peers.listener.addrs[0])
        assert peers.reports.addrs == [(local, "/ip4/10.0.0.1/udp/49152/quic-v1")]


@pytest.mark.parametrize("case", BAD_SERVERS, ids=name_of)
async def test_a_bad_listener_is_refused_and_learns_why(case: Refused, engines: list[Engine]) -> None:
    async with meeting() as peers:
        peers.change_server(case.change)
        with pytest.raises(HandshakeError) as caught:
            await ends(peers.dial(), within=1)
        failure = await peers.failed()
        assert isinstance(failure, HandshakeError)
        assert f"the peer refused us: TLS alert {case.name}" in str(failure)
        for error in (caught.value, failure):
            assert case.phrase in str(error)
        dialer, listener = engines
        assert not dialer.is_closed_by_peer
        assert listener.is_closed_by_peer
        assert dialer.close_event.error_code == listener.close_event.error_code == 0x100 + case.alert


async def test_a_listener_of_another_protocol() -> None:
    async with meeting() as peers:
        peers.change_server(other_protocol)
        with pytest.raises(HandshakeError, match="the peer refused us: TLS alert no application protocol"):
            await ends(peers.dial(), within=1)
        assert isinstance(await peers.failed(), HandshakeError)


async def test_another_peer_answers() -> None:
    stranger = PrivateKey.generate().public_key.peer_id
    async with meeting() as peers:
        with pytest.raises(PeerIdMismatch) as caught:
            await ends(peers.dialer.dial(peers.listener.addrs[0], stranger), within=1)
        assert (caught.value.expected, caught.value.actual) == (stranger, PEER)
        failure = await peers.failed()
        assert isinstance(failure, HandshakeError)
        assert "TLS alert bad certificate" in str(failure)
        assert f"dialed {stranger}, but {PEER} answered" in str(failure)


@pytest.mark.parametrize("size", [MAX_HANDSHAKE_MESSAGE, 0xFFFFFF])
@pytest.mark.parametrize("bad_side", ["dialer", "listener"])
async def test_oversized_handshake_message(size: int, bad_side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused when as much has come as is allowed, long before all that was announced."""

    class Verbose(Engine):
        def _push_crypto_data(self) -> None:
            sender = self._crypto_streams[Epoch.INITIAL].sender
            if self._is_client is (bad_side == "dialer") and sender._buffer_stop == 0:
                sender.write(b"\x0b" + size.to_bytes(3, "big") + bytes(min(size, 2 * MAX_HANDSHAKE_MESSAGE)))
            super()._push_crypto_data()

    monkeypatch.setattr(endpoint, "Engine", Verbose)
    async with meeting() as peers:
        with pytest.raises(HandshakeError, match="decode error"):
            await ends(peers.dial(), within=5)
        assert "a handshake message has more than 65536 bytes" in str(await peers.failed())


@pytest.mark.parametrize("versions", [(0x6B3343CF,), (0xFF00001D, 0x1A2A3A4A)])
async def test_a_listener_of_other_versions(versions: tuple[int, ...]) -> None:
    async with meeting() as peers:

        def answer(data: bytes, source: Any, target: Any) -> bool:
            header = pull_quic_header(Buffer(data=data))
            packet = encode_quic_version_negotiation(header.destination_cid, header.source_cid, list(versions))
            peers.network.inject(packet, target, source)
            return False

        peers.network.on_datagram = answer
        with pytest.raises(ConnectionClosed, match="version"):
            await ends(peers.dial(), within=0.1)


async def test_who_is_not_on_the_path_can_not_end_a_dial() -> None:
    """Retry packets without their integrity tag, and what can't be read, are dropped."""
    async with meeting() as peers:

        def forge(data: bytes, source: Any, target: Any) -> bool:
            if source[0] == "10.0.0.1" and data[0] & 0x80:
                cid = pull_quic_header(Buffer(data=data)).source_cid
                for packet in (
                    b"\xf0\0\0\0\1\x08" + cid + b"\x08" + bytes(8) + b"token" + bytes(16),
                    b"\xc0\0\0\0\1\x08" + cid + b"\x08" + bytes(8) + b"\0\x44\xb0" + bytes(1200),
                    b"\x40" + cid + bytes(30),
                ):
                    peers.network.inject(packet, target, source)
            return True

        peers.network.on_datagram = forge
        dialed = await ends(peers.dial(), within=0.3)
        await ends(dialed.close())


# When a dial returns


async def test_a_dial_returns_when_the_listener_has_accepted(engines: list[Engine]) -> None:
    """What the listener says from then on is held back: the dialer's own handshake is over, its dial is not."""
    async with meeting() as peers:
        hold = True
        peers.network.on_datagram = lambda data, source, _: (
            not (hold and source[0] == "10.0.0.2" and not peers.reports.opened.empty())
        )
        dialing = await started(peers.dial())
        accepted = await ends(peers.reports.opened.get())
        peers.reports.opened.put_nowait(accepted)
        assert engines[0].is_complete
        assert await is_held(dialing)
        await asyncio.sleep(3)
        assert not dialing.done()
        hold = False
        dialed = await ends(dialing)
        assert dialed.remote_peer == PEER
        dialed.abort()
        await ends(accepted.wait_closed())


async def test_a_listener_that_refuses_late(engines: list[Engine]) -> None:
    async with meeting() as peers:
        forged(peers.client, DIALER)
        dialing = asyncio.ensure_future(peers.dial())
        await asyncio.sleep(0.19)
        assert engines[0].is_complete
        assert not dialing.done()
        with pytest.raises(HandshakeError, match="the peer refused us"):
            await ends(dialing, within=0.02)
        await peers.failed()


async def test_a_refusal_that_is_lost(engines: list[Engine]) -> None:
    """A dialer that never hears of it does not take itself for accepted."""
    async with meeting() as peers:
        forged(peers.client, DIALER)
        peers.network.on_datagram = lambda data, source, _: source[0] == "10.0.0.1" or not engines[-1].is_over
        with pytest.raises(StageTimeout):
            await ends(peers.dial(), within=11)
        await peers.failed()


async def test_a_connection_that_is_aborted_as_it_is_reported() -> None:
    async with meeting() as peers:
        report = peers.reports.connection_opened

        def refuse(connection: Connection, scope: Scope) -> None:
            report(connection, scope)
            connection.abort("no room")

        peers.reports.connection_opened = refuse  # type: ignore[method-assign]
        with pytest.raises(ConnectionClosed, match="closed by the peer: no room"):
            await ends(peers.dial(), within=0.3)
        accepted = peers.reports.opened.get_nowait()
        assert accepted.is_closed


# Time limits


@pytest.mark.parametrize("seconds", [0.5, 10.0])
@pytest.mark.parametrize("silent", ["10.0.0.1", "10.0.0.2", "10.0.0.9"])
async def test_nobody_answers(seconds: float, silent: str) -> None:
    """Because the dialer's, or the listener's datagrams are lost, or because nobody is there."""
    async with meeting(QuicConfig(handshake_timeout=seconds)) as peers:
        peers.network.on_datagram = lambda data, source, _: source[0] != silent
        port = peers.listener.endpoint.socket.addr[1]
        target = "10.0.0.9" if silent == "10.0.0.9" else "10.0.0.2"
        start = asyncio.get_running_loop().time()
        with pytest.raises(StageTimeout, match=f"QUIC handshake took more than {seconds:g} s") as caught:
            await peers.dialer.dial(Multiaddr(f"/ip4/{target}/udp/{port}/quic-v1"), PEER)
        assert (caught.value.stage, caught.value.seconds) == ("QUIC handshake", seconds)
        assert asyncio.get_running_loop().time() - start == pytest.approx(seconds)
        if silent == "10.0.0.2":
            assert isinstance(await ends(peers.reports.everything.get()), StageTimeout)


async def test_a_dialer_that_stops_behind_its_first_flight() -> None:
    async with meeting(QuicConfig(handshake_timeout=3)) as peers:
        sent: list[bytes] = []

        def tap(data: bytes, source: Any, _: Any) -> bool:
            if source[0] == "10.0.0.1":
                sent.append(data)
            return source[0] == "10.0.0.2" or len(sent) == 1

        peers.network.on_datagram = tap
        start = asyncio.get_running_loop().time()
        dialing = await started(peers.dial())
        await cancel(dialing)
        assert contents(peers.listener.endpoint)[1:3] == (1, 1)
        failure = await peers.failed()
        assert isinstance(failure, StageTimeout)
        assert (failure.stage, failure.seconds) == ("QUIC handshake", 3)
        assert asyncio.get_running_loop().time() - start == pytest.approx(3.05)
        assert contents(peers.listener.endpoint) == (0, 0, 0, 0)


async def test_a_goodbye_to_who_has_forgotten_the_handshake() -> None:
    """The first packet of a new connection is readable, but begins none: nobody hears of it twice."""
    async with meeting(QuicConfig(handshake_timeout=3)) as peers:
        gave_up, sent = False, 0

        def tap(data: bytes, source: Any, _: Any) -> bool:
            nonlocal sent
            sent += source[0] == "10.0.0.1"
            return gave_up if source[0] == "10.0.0.1" and sent > 1 else source[0] == "10.0.0.1"

        peers.network.on_datagram = tap
        peers.dialer._config = QuicConfig(handshake_timeout=30)
        dialing = await started(peers.dial())
        assert isinstance(await peers.failed(), StageTimeout)
        gave_up = True
        await cancel(dialing)
        await asyncio.sleep(1)
        assert peers.reports.everything.empty()


# Giving up


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_a_dial_that_is_cancelled_at_once(turns: int) -> None:
    async with meeting() as peers:
        dialing = asyncio.ensure_future(peers.dial())
        for _ in range(turns):
            await asyncio.sleep(0)
        await cancel(dialing)
        assert not peers.near.ports._sockets
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("moment", [0.01, 0.05, 0.075, 0.1, 0.101, 0.125, 0.15, 0.175, 0.199])
async def test_a_dial_that_is_cancelled_under_way(moment: float) -> None:
    """The listener hears of it: it has no connection, or one that ends."""
    async with meeting() as peers:
        dialing = asyncio.ensure_future(peers.dial())
        await asyncio.sleep(moment)
        await cancel(dialing)
        assert not peers.near.ports._sockets
        report = await ends(peers.reports.everything.get(), within=0.2)
        end = await ends(report.wait_closed(), within=0.2) if isinstance(report, Connection) else report
        assert isinstance(end, ConnectionClosed)
        assert end.by == "remote"


async def test_dials_that_are_cancelled_beside_others() -> None:
    """They share a socket, which stays open for those that go on."""
    async with meeting() as peers:
        dialing = [asyncio.ensure_future(peers.dial()) for _ in range(6)]
        await asyncio.sleep(0.12)
        for task in dialing[::2]:
            await cancel(task)
        dialed = [await ends(task) for task in dialing[1::2]]
        assert len(peers.near.ports._sockets) == 1
        for connection in dialed:
            await ends(connection.close())
