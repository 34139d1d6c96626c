"""Handshakes in place, and the parsers in them: what a peer sends goes through all that it would go through.

A fault between two parsers, each of which is sound, shows only here: a certificate that OpenSSL reads and
`cryptography` does not. Each target is a function of the peer's bytes, with valid ones, and the errors that may come of
others.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicFrameType, QuicPacketType, encode_long_header_first_byte
from aioquic.tls import Epoch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto
from OpenSSL._util import lib

from libp2p.errors import HandshakeError, InvalidInput, InvalidKey, RemoteProtocolError
from libp2p.identity import PrivateKey
from libp2p.identity.pem import decode_pem, encode_pem
from libp2p.multiaddr import Multiaddr, Reach, may_share, reach_of_remote
from libp2p.muxers.mplex.core import MplexConfig, MplexSession
from libp2p.security.noise.core import KeyPair, NoiseHandshake
from libp2p.security.noise.payload_pb2 import NoiseHandshakePayload
from libp2p.security.noise.protocol import Noise, _open_payload
from libp2p.security.pnet import format_swarm_key, parse_swarm_key
from libp2p.security.tls.certificate import make_certificate, verify_certificate
from libp2p.security.tls.handshake import TlsHandshake, make_context
from libp2p.testing.loop import run
from libp2p.transports.memory.pipe import pipe
from libp2p.transports.quic.config import QuicConfig
from libp2p.transports.quic.credentials import Credentials
from libp2p.transports.quic.engine import Engine

warnings.simplefilter("ignore")  # `cryptography` warns of odd certificates

NOW = datetime.now(UTC)
OURS, THEIRS = PrivateKey.generate(), PrivateKey.generate()
OUR_CONTEXT, THEIR_CONTEXT = make_context(OURS), make_context(THEIRS)
CERTIFICATE, CERTIFICATE_KEY = make_certificate(THEIRS, now=NOW)
DER = CERTIFICATE.public_bytes(Encoding.DER)


def certificate(data: bytes) -> None:
    verify_certificate(data, now=NOW)


def _finish(ours: TlsHandshake, theirs: TlsHandshake) -> None:
    """Exchange what both have to say; our errors come out, the peer's do not."""
    done = False
    for _ in range(3):
        with suppress(HandshakeError):
            theirs.proceed()
        if data := theirs.data_to_send():
            ours.receive(data)
        done = done or ours.proceed()
        if data := ours.data_to_send():
            theirs.receive(data)


def _tls_sides(context: Any, *, is_dialer: bool) -> tuple[TlsHandshake, TlsHandshake]:
    ours = TlsHandshake(OUR_CONTEXT, is_dialer=is_dialer, expected_peer=None, muxers=())
    return ours, TlsHandshake(context, is_dialer=not is_dialer, expected_peer=None, muxers=())


def tls_certificate(data: bytes) -> None:
    """The peer shows the certificate, as far as OpenSSL can be made to, in both roles."""
    try:
        loaded = crypto.load_certificate(crypto.FILETYPE_ASN1, data)
    except crypto.Error:
        return
    for is_dialer in (True, False):
        context = make_context(THEIRS)
        if lib.SSL_CTX_use_certificate(context._context, loaded._x509) != 1:
            lib.ERR_clear_error()
            return
        try:
            context.use_privatekey(CERTIFICATE_KEY)
        except Exception:
            return
        ours, theirs = _tls_sides(context, is_dialer=is_dialer)
        _finish(ours, theirs)
        assert ours.remote_key == THEIRS.public_key


def tls_listener(data: bytes) -> None:
    handshake = TlsHandshake(OUR_CONTEXT, is_dialer=False, expected_peer=None, muxers=("/yamux/1.0.0",))
    handshake.receive(data or b"\0")
    handshake.proceed()
    handshake.data_to_send()


def _client_hello() -> bytes:
    handshake = TlsHandshake(THEIR_CONTEXT, is_dialer=True, expected_peer=None, muxers=("/yamux/1.0.0",))
    handshake.proceed()
    return handshake.data_to_send()


def noise_payload(data: bytes) -> None:
    """The peer's payload in the middle of a handshake by a real `Noise`, whose static key it did not sign."""

    async def listen() -> None:
        here, there = pipe()
        try:
            task = asyncio.ensure_future(Noise().secure_inbound(here, OURS, muxers=["/yamux/1.0.0"]))
            peer = NoiseHandshake(initiator=True, static=KeyPair(STATIC), ephemeral=KeyPair(EPHEMERAL))
            for message in (peer.write_message(b""), None, peer.write_message):
                if message is None:
                    size = int.from_bytes(await there.readexactly(2), "big")
                    peer.read_message(await there.readexactly(size))
                    continue
                sent = message if isinstance(message, bytes) else message(data[:60_000])
                await there.write(len(sent).to_bytes(2, "big") + sent)
            await task
        finally:
            here.abort()
            there.abort()
            await asyncio.gather(task, here.close(), there.close(), return_exceptions=True)

    run(listen())


STATIC, EPHEMERAL = (X25519PrivateKey.from_private_bytes(bytes([n] * 32)) for n in (5, 6))


def _payload() -> bytes:
    signed = THEIRS.sign(b"noise-libp2p-static-key:" + KeyPair(STATIC).public)
    payload = NoiseHandshakePayload(identity_key=THEIRS.public_key.to_protobuf(), identity_sig=signed)
    payload.extensions.stream_muxers.append(b"/yamux/1.0.0")
    encoded: bytes = payload.SerializeToString()
    assert _open_payload(encoded, KeyPair(STATIC).public, 3)
    return encoded


SETTINGS = QuicConfig()
OUR_QUIC, THEIR_QUIC = Credentials(OURS, SETTINGS), Credentials(THEIRS, SETTINGS)
DIALER, LISTENER = ("10.0.0.1", 1), ("10.0.0.2", 2)
CID = bytes(range(8))


def quic_certificate(data: bytes) -> None:
    """The peer shows the certificate, whatever it is, in both roles."""
    shown: Any = SimpleNamespace(public_bytes=lambda _: data[:1000])  # more is too much for one flight of aioquic
    for role in ("dialer", "listener"):
        evil = Credentials(THEIRS, SETTINGS)
        for configuration in (evil.for_dialer, evil.for_listener):
            configuration.certificate, configuration.private_key = shown, CERTIFICATE_KEY
        dialer = Engine((evil if role == "dialer" else OUR_QUIC).for_dialer, SETTINGS, expected_peer=None)
        dialer.connect(LISTENER, 0.0)
        flight = dialer.datagrams(0.0)
        listener = Engine(
            (evil if role == "listener" else OUR_QUIC).for_listener,
            SETTINGS,
            original_destination_cid=dialer.original_destination_connection_id,
        )
        now = 0.0
        ours = listener if role == "dialer" else dialer
        for _ in range(6):
            now += 0.01
            for datagram, _addr in flight:
                listener.receive(datagram, len(datagram), DIALER, now)
            for datagram, _addr in listener.datagrams(now):
                dialer.receive(datagram, len(datagram), LISTENER, now)
            flight = dialer.datagrams(now)
        assert ours.remote_key in (None, THEIRS.public_key)
        if ours.remote_key is None:
            assert ours.refusal is not None or ours.close_event is not None, "it waits for something"


def quic_initial(data: bytes) -> None:
    """Frames in a first packet, well encrypted: which anybody can do."""
    engine = Engine(OUR_QUIC.for_listener, SETTINGS, original_destination_cid=CID)
    for number, payload in enumerate((data[:1100], b"\x01")):
        datagram = _initial(payload.ljust(1162, b"\0"), number)
        engine.receive(datagram, len(datagram), DIALER, 0.01 * number)
        engine.datagrams(0.01 * number)
    assert engine.remote_key is None


def _initial(payload: bytes, number: int) -> bytes:
    buf = Buffer(capacity=1500)
    buf.push_uint8(encode_long_header_first_byte(1, QuicPacketType.INITIAL, 1))
    buf.push_uint32(1)
    for cid in (CID, b"theirs!!"):
        buf.push_uint8(len(cid))
        buf.push_bytes(cid)
    buf.push_uint_var(0)
    buf.push_uint16(0x4000 | 2 + len(payload) + 16)
    buf.push_uint16(number)
    keys = CryptoPair()
    keys.setup_initial(cid=CID, is_client=True, version=1)
    return keys.encrypt_packet(buf.data, payload, number)


def _crypto_frame() -> bytes:
    dialer = Engine(THEIR_QUIC.for_dialer, SETTINGS, expected_peer=None)
    dialer.connect(LISTENER, 0.0)
    hello = bytes(dialer._crypto_streams[Epoch.INITIAL].sender._buffer)
    buf = Buffer(capacity=1500)
    buf.push_uint_var(QuicFrameType.CRYPTO)
    buf.push_uint_var(0)
    buf.push_uint_var(len(hello))
    buf.push_bytes(hello)
    return buf.data


def mplex(data: bytes) -> None:
    for is_dialer in (False, True):
        session = MplexSession(is_dialer=is_dialer, config=MplexConfig(max_inbound_streams=5), max_payload=1000)
        session.start(0.0)
        session.receive_data(memoryview(data), 1.0)
        session.data_to_send()


def reach(data: bytes) -> None:
    """Whatever an address is, it can be judged, and reaches no farther than who names it."""
    address = Multiaddr.from_bytes(data)
    reach_of_remote(address)
    for remote in Reach:
        if may_share(address, remote) and remote is Reach.PUBLIC:
            assert all(may_share(address, nearer) for nearer in Reach)


Target = tuple[Callable[[bytes], object], list[bytes], tuple[type[Exception], ...]]
HANDSHAKES: dict[str, Target] = {
    "certificate": (certificate, [DER], (HandshakeError,)),
    "tls certificate in place": (tls_certificate, [DER], (HandshakeError,)),
    "tls listener": (tls_listener, [_client_hello()], (HandshakeError,)),
    "noise payload in place": (noise_payload, [_payload()], (HandshakeError,)),
    "quic certificate in place": (quic_certificate, [DER], ()),
    "quic initial frames": (quic_initial, [_crypto_frame(), b"\x02\x00\x00\x00\x00", b"\x1c\x00\x00\x00"], ()),
    "mplex": (mplex, [b"\x00\x03abc\x02\x05hello\x04\x00\x06\x00"], (RemoteProtocolError,)),
    "reach": (
        reach,
        [
            Multiaddr(text).to_bytes()
            for text in ("/ip4/8.8.8.8/tcp/1", "/ip6/64:ff9b::a00:1/udp/1/quic-v1", "/dns/a/tcp/1")
        ],
        (InvalidInput,),
    ),
    "swarm key": (parse_swarm_key, [format_swarm_key(bytes(range(32))).encode()], (InvalidKey,)),
    "pem": (decode_pem, [encode_pem(OURS)], (InvalidKey,)),
}
