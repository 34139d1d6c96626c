"""The TLS handshake against a peer that does what the specification forbids, and what it sends itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from libp2p.connection import SecureChannel
from libp2p.errors import HandshakeError, PeerIdMismatch, RemoteProtocolError
from libp2p.identity import PrivateKey
from libp2p.security.tls import Tls
from libp2p.security.tls.certificate import CLOCK_SKEW, make_certificate
from libp2p.transports.memory.pipe import MemoryConnection, pipe

ALICE, BOB = PrivateKey.generate(), PrivateKey.generate()
NOW = datetime.now(UTC)
Identity = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def identity(*, now: datetime = NOW, lifetime: timedelta = timedelta(days=1)) -> Identity:
    return make_certificate(BOB, now=now, lifetime=lifetime)


def with_extensions(*critical: str, drop_ours: bool = False) -> Identity:
    """Bob's certificate with critical extensions besides its own, or without its own."""
    certificate, key = identity()
    builder = x509.CertificateBuilder(
        certificate.issuer,
        certificate.subject,
        key.public_key(),
        1,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        [] if drop_ours else list(certificate.extensions),
    )
    for oid in critical:
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), b"\5\0"), critical=True)
    return builder.sign(key, hashes.SHA256()), key


def badly_signed() -> Identity:
    (certificate, _), (_, other_key) = identity(), identity()
    builder = x509.CertificateBuilder(
        certificate.issuer, certificate.subject, other_key.public_key(), 1, NOW, NOW + timedelta(days=1)
    )
    builder = builder.add_extension(certificate.extensions[0].value, critical=False)
    return builder.sign(other_key, hashes.SHA256()), other_key


class Peer:
    """A TLS endpoint with settings of its own, on a raw connection."""

    def __init__(
        self,
        raw: MemoryConnection,
        *,
        is_dialer: bool,
        shown: Identity | None,
        chain: Sequence[x509.Certificate] = (),
        alpn: Sequence[bytes] | None = (b"libp2p",),
        version: int = SSL.TLS1_3_VERSION,
        accepts: bool = True,
        session: SSL.Session | None = None,
    ) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(version)
        context.set_verify(SSL.VERIFY_PEER, lambda *_: accepts)
        if shown is not None:
            context.use_certificate(shown[0])
            context.use_privatekey(shown[1])
        for certificate in chain:
            context.add_extra_chain_cert(certificate)
        if alpn is not None and is_dialer:
            context.set_alpn_protos(list(alpn))
        elif alpn is not None:
            context.set_alpn_select_callback(lambda _, offered: alpn[0] if alpn else offered[0])
        self.raw = raw
        self.tls = SSL.Connection(context, None)
        if is_dialer:
            self.tls.set_connect_state()
        else:
            self.tls.set_accept_state()

    async def handshake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except SSL.WantReadError:
                await self._exchange()
            except SSL.Error:
                self._flush()
                raise
            else:
                self._flush()
                return

    async def read(self) -> bytes:
        while True:
            try:
                return self.tls.recv(16384)
            except SSL.WantReadError:
                await self._exchange()

    def write(self, data: bytes) -> None:
        self.tls.send(data)
        self._flush()

    async def _exchange(self) -> None:
        self._flush()
        if not (data := await self.raw.read(65536)):
            raise EOFError
        self.tls.bio_write(data)

    def _flush(self) -> None:
        try:
            while True:
                self.raw.send((self.tls.bio_read(65536),))
        except SSL.WantReadError:
            pass


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[MemoryConnection, MemoryConnection]]:
    dialer, listener = pipe()
    try:
        yield dialer, listener
    finally:
        for raw in (dialer, listener):
            raw.abort()
        await asyncio.gather(dialer.close(), listener.close())


async def ours(raw: MemoryConnection, *, is_dialer: bool, muxers: Sequence[str] = ()) -> SecureChannel:
    """Alice's side; as every caller must, it aborts the raw connection on an error."""
    try:
        if is_dialer:
            return await Tls().secure_outbound(raw, ALICE, expected_peer=BOB.peer_id, muxers=muxers)
        return await Tls().secure_inbound(raw, ALICE, muxers=muxers)
    except HandshakeError as error:
        raw.abort(error)
        raise


async def told(peer: Peer, handshake: asyncio.Future[None]) -> bytes:
    """What the peer hears: a client takes the handshake for done before the server has seen its certificate."""
    await handshake
    return await peer.read()


REFUSED = [
    (identity(now=NOW - timedelta(days=9)), "expired at"),
    (identity(now=NOW + 2 * CLOCK_SKEW), "not valid before"),
    (with_extensions("1.3.6.1.4.1.53594.1.9"), "unknown critical extension"),
    (with_extensions(drop_ours=True), "no libp2p extension"),
    (badly_signed(), "did not sign the certificate's key"),
]


@pytest.mark.parametrize("is_dialer", [True, False])
@pytest.mark.parametrize(("shown", "message"), REFUSED, ids=[message for _, message in REFUSED])
async def test_bad_certificates_are_refused_and_the_peer_is_told(
    shown: Identity, message: str, is_dialer: bool
) -> None:
    async with connected() as (dialer, listener):
        near, far = (dialer, listener) if is_dialer else (listener, dialer)
        peer = Peer(far, is_dialer=not is_dialer, shown=shown)
        handshake = asyncio.ensure_future(peer.handshake())
        with pytest.raises(HandshakeError, match=message):
            await ours(near, is_dialer=is_dialer)
        with pytest.raises(SSL.Error, match="alert"):
            await told(peer, handshake)


@pytest.mark.parametrize("is_dialer", [True, False])
async def test_two_certificates_are_refused(is_dialer: bool) -> None:
    async with connected() as (dialer, listener):
        near, far = (dialer, listener) if is_dialer else (listener, dialer)
        peer = Peer(far, is_dialer=not is_dialer, shown=identity(), chain=[identity()[0]])
        handshake = asyncio.ensure_future(peer.handshake())
        with pytest.raises(HandshakeError, match="there must be one, the peer sent 2"):
            await ours(near, is_dialer=is_dialer)
        with pytest.raises((OSError, EOFError)):
            await told(peer, handshake)


async def test_a_client_without_certificate_is_refused_and_told() -> None:
    async with connected() as (dialer, listener):
        peer = Peer(dialer, is_dialer=True, shown=None)
        handshake = asyncio.ensure_future(peer.handshake())
        with pytest.raises(HandshakeError, match="did not return a certificate"):
            await ours(listener, is_dialer=False)
        await handshake
        with pytest.raises(SSL.Error, match="certificate required"):
            await peer.read()


async def test_somebody_else_than_expected_learns_nothing_of_us() -> None:
    async with connected() as (dialer, listener):
        peer = Peer(listener, is_dialer=False, shown=identity())
        handshake = asyncio.ensure_future(peer.handshake())
        with pytest.raises(PeerIdMismatch) as caught:
            await Tls().secure_outbound(dialer, ALICE, expected_peer=ALICE.peer_id, muxers=())
        assert (caught.value.expected, caught.value.actual) == (ALICE.peer_id, BOB.peer_id)
        with pytest.raises(SSL.Error, match="alert unknown ca"):
            await handshake
        assert peer.tls.get_peer_certificate() is None


@pytest.mark.parametrize("is_dialer", [True, False])
async def test_tls_1_2_is_refused(is_dialer: bool) -> None:
    async with connected() as (dialer, listener):
        near, far = (dialer, listener) if is_dialer else (listener, dialer)
        peer = Peer(far, is_dialer=not is_dialer, shown=identity(), version=SSL.TLS1_2_VERSION)
        handshake = asyncio.ensure_future(peer.handshake())
        with pytest.raises(HandshakeError, match=r"unsupported protocol|alert 'protocol version'"):
            await ours(near, is_dialer=is_dialer)
        with pytest.raises(SSL.Error):
            await handshake


async def test_application_protocols_that_are_not_ours_are_refused() -> None:
    async with connected() as (dialer, listener):
        peer = Peer(dialer, is_dialer=True, shown=identity(), alpn=[b"h2", b"http/1.1"])
        handshake = asyncio.ensure_future(peer.handshake())
        with pytest.raises(HandshakeError, match=r"none of the application protocols .*'h2', 'http/1\.1'"):
            await ours(listener, is_dialer=False, muxers=["/yamux/1.0.0"])
        with pytest.raises(SSL.Error, match="no application protocol"):
            await handshake


async def test_a_choice_that_was_not_offered_is_refused() -> None:
    async with connected() as (dialer, listener):
        peer = Peer(listener, is_dialer=False, shown=identity(), alpn=[b"h2"])
        handshake = asyncio.ensure_future(peer.handshake())
        with pytest.raises(HandshakeError):
            await ours(dialer, is_dialer=True)
        handshake.cancel()


@pytest.mark.parametrize(
    ("offered", "muxers", "agreed"),
    [
        ([b"/mplex/6.7.0", b"/yamux/1.0.0", b"libp2p"], ["/yamux/1.0.0", "/mplex/6.7.0"], "/mplex/6.7.0"),
        ([b"/spdy", b"/yamux/1.0.0", b"libp2p"], ["/yamux/1.0.0", "/mplex/6.7.0"], "/yamux/1.0.0"),
        ([b"/spdy", b"libp2p"], ["/yamux/1.0.0"], None),
        ([b"libp2p"], ["/yamux/1.0.0"], None),
        (None, ["/yamux/1.0.0"], None),
    ],
)
async def test_the_listener_takes_the_dialers_first_that_it_has(
    offered: list[bytes] | None, muxers: list[str], agreed: str | None
) -> None:
    async with connected() as (dialer, listener):
        peer = Peer(dialer, is_dialer=True, shown=identity(), alpn=offered)
        channel, _ = await asyncio.gather(ours(listener, is_dialer=False, muxers=muxers), peer.handshake())
        assert channel.stream_muxer == agreed
        assert peer.tls.get_alpn_proto_negotiated() == (b"" if offered is None else (agreed or "libp2p").encode())


@pytest.mark.parametrize(("chosen", "agreed"), [([b"/b"], "/b"), ([b"libp2p"], None), (None, None), ([], "/a")])
async def test_the_dialer_takes_what_the_listener_chose(chosen: list[bytes] | None, agreed: str | None) -> None:
    async with connected() as (dialer, listener):
        peer = Peer(listener, is_dialer=False, shown=identity(), alpn=chosen)
        channel, _ = await asyncio.gather(ours(dialer, is_dialer=True, muxers=["/a", "/b"]), peer.handshake())
        assert channel.stream_muxer == agreed
        assert peer.tls.get_servername() is None  # "MUST NOT send any value in the Server Name Indication"
        assert peer.tls.get_protocol_version_name() == "TLSv1.3"


async def test_a_refused_dialer_learns_why_from_its_channel() -> None:
    async with connected() as (dialer, listener):
        peer = Peer(listener, is_dialer=False, shown=identity(), accepts=False)
        handshake = asyncio.ensure_future(peer.handshake())
        channel = await ours(dialer, is_dialer=True)
        with pytest.raises(SSL.Error):
            await handshake
        with pytest.raises(HandshakeError, match=f"{BOB.peer_id}: the peer refuses, with the alert 'unknown ca'"):
            await channel.read(1)


async def test_an_alert_behind_data_is_no_error_of_the_handshake() -> None:
    async with connected() as (dialer, listener):
        peer = Peer(listener, is_dialer=False, shown=identity())
        channel, _ = await asyncio.gather(ours(dialer, is_dialer=True), peer.handshake())
        peer.write(b"data")
        assert await channel.read(4) == b"data"
        dialer_data = b"\x17\x03\x03\x00\x20" + bytes(32)  # a record that nobody sealed: the peer answers by an alert
        dialer.send((dialer_data,))
        with pytest.raises(SSL.Error, match="bad record mac"):
            await peer.read()
        peer._flush()
        with pytest.raises(RemoteProtocolError, match="alert 'bad record mac'") as caught:
            await channel.read(1)
        assert not isinstance(caught.value, HandshakeError)


async def test_data_that_comes_with_the_end_of_the_handshake() -> None:
    async with connected() as (dialer, listener):
        peer = Peer(dialer, is_dialer=True, shown=identity())
        inbound = asyncio.ensure_future(ours(listener, is_dialer=False))
        held: list[bytes] = []
        send, dialer.send = dialer.send, lambda buffers: held.extend(map(bytes, buffers))  # type: ignore[method-assign]
        peer.tls.set_connect_state()
        with pytest.raises(SSL.WantReadError):
            peer.tls.do_handshake()
        peer._flush()
        send([b"".join(held)])
        held.clear()
        peer.tls.bio_write(await dialer.read(65536))
        peer.tls.do_handshake()
        peer.write(b"early")
        peer.tls.shutdown()
        peer._flush()
        send([b"".join(held)])
        assert await (await inbound).read() == b"early"


async def test_no_session_is_resumed() -> None:
    tls = Tls()
    sessions: list[SSL.Session | None] = []
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate((shown := identity())[0])
    context.use_privatekey(shown[1])
    for _ in range(2):
        async with connected() as (dialer, listener):
            peer = Peer(dialer, is_dialer=True, shown=None)
            peer.tls = SSL.Connection(context, None)
            peer.tls.set_connect_state()
            if sessions and sessions[0] is not None:
                peer.tls.set_session(sessions[0])
            channel, _ = await asyncio.gather(tls.secure_inbound(listener, ALICE, muxers=()), peer.handshake())
            channel.send((b"x",))
            assert await peer.read() == b"x"
            sessions.append(peer.tls.get_session())
            assert channel.remote_peer == BOB.peer_id  # proven anew


async def test_one_certificate_for_each_identity() -> None:
    tls = Tls()
    seen: list[x509.Certificate | None] = []
    for key in (ALICE, ALICE, PrivateKey.generate()):
        async with connected() as (dialer, listener):
            peer = Peer(dialer, is_dialer=True, shown=identity())
            await asyncio.gather(tls.secure_inbound(listener, key, muxers=()), peer.handshake())
            seen.append(peer.tls.get_peer_certificate(as_cryptography=True))
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize("is_dialer", [True, False])
async def test_an_end_within_the_handshake(is_dialer: bool) -> None:
    async with connected() as (dialer, listener):
        near, far = (dialer, listener) if is_dialer else (listener, dialer)
        handshake = asyncio.ensure_future(ours(near, is_dialer=is_dialer))
        await far.close()
        with pytest.raises((HandshakeError, OSError)):
            await handshake


def test_pyopenssl_is_loaded_with_the_first_handshake_only() -> None:
    code = "import sys, libp2p.security.tls as tls; tls.Tls(); sys.exit('OpenSSL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
