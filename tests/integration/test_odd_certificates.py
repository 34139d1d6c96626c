"""Certificates that no honest peer makes, and the TLS specification's own, through TLS and QUIC in both directions.

Each is well enough signed to reach what it aims at: the gaps between one parser and the next. Whatever it is, it costs
the one who shows it the connection, says why to both sides, at once, and harms nothing else.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import crypto
from OpenSSL._util import lib

from libp2p.errors import DialError, HandshakeError
from libp2p.host import Host
from libp2p.identity import PrivateKey
from libp2p.security.tls import Tls
from libp2p.security.tls.certificate import MAX_CERTIFICATE_SIZE, make_certificate, verify_certificate
from libp2p.security.tls.handshake import make_context
from libp2p.swarm.events import InboundFailed
from libp2p.testing.conformance.tools import ends
from libp2p.testing.network import Link, Network, Node
from libp2p.transports.quic import Quic, QuicConfig
from libp2p.transports.quic.credentials import Credentials
from libp2p.transports.quic.engine.handshake import Terms

EVIL = PrivateKey.generate()
NOW = datetime.now(UTC)
CERTIFICATE, KEY = make_certificate(EVIL, now=NOW)
TBS = CERTIFICATE.tbs_certificate_bytes
INFO = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
ECDSA_SHA1 = bytes.fromhex("300906072a8648ce3d0401")
VERSION = bytes.fromhex("a003020102")
RSA = bytes.fromhex("300d06092a864886f70d0101010500")
RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
DSA_SHA256 = bytes.fromhex("300b0609608648016503040302")
ED448 = bytes.fromhex("300506032b6571")


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    length = (size,) if size < 0x80 else (0x81, size) if size < 0x100 else (0x82, size >> 8, size & 0xFF)
    return bytes((tag, *length)) + content


def integer(value: int) -> bytes:
    return der(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def body(tbs: bytes) -> bytes:
    """What is in the SEQUENCE."""
    return tbs[4:] if tbs[1] == 0x82 else tbs[3:]


def signed(*edits: tuple[bytes, bytes], algorithm: bytes = ECDSA_SHA256, hash_: Any = hashes.SHA256()) -> bytes:  # noqa: B008
    """Our certificate with parts of it replaced, signed anew by its own key."""
    tbs = body(TBS)
    for old, new in edits:
        assert old in tbs
        tbs = tbs.replace(old, new, 1)
    tbs = der(0x30, tbs)
    return der(0x30, tbs, algorithm, der(3, b"\0", KEY.sign(tbs, ec.ECDSA(hash_))))


def version(number: int) -> bytes:
    return signed((VERSION, VERSION[:-1] + bytes((number,))))


def of_key(info: bytes, algorithm: bytes, signature: bytes = bytes(256)) -> bytes:
    """A certificate of another key, which nobody signed with it: that must not even be tried."""
    tbs = der(0x30, body(TBS).replace(INFO, info, 1).replace(ECDSA_SHA256, algorithm, 1))
    return der(0x30, tbs, algorithm, der(3, b"\0", signature))


def rsa_key(bits: int, exponent: int) -> bytes:
    modulus = secrets.randbits(bits) | 1 << bits - 1 | 1
    return of_key(der(0x30, RSA, der(3, b"\0", der(0x30, integer(modulus), integer(exponent)))), RSA_SHA256)


def dsa_key(bits: int) -> bytes:
    p, g, y = (secrets.randbits(bits) | 1 << bits - 1 | 1, secrets.randbits(bits - 8), secrets.randbits(bits - 8))
    numbers = der(0x30, integer(p), integer((1 << 256) - 189), integer(g))
    oid = bytes.fromhex("06072a8648ce380401")
    info = der(0x30, der(0x30, oid, numbers), der(3, b"\0", integer(y)))
    return of_key(info, DSA_SHA256, der(0x30, integer(secrets.randbits(250)), integer(secrets.randbits(250))))


def ec_key(curve: ec.EllipticCurve) -> bytes:
    key = ec.generate_private_key(curve).public_key()
    return of_key(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), ECDSA_SHA256)


def ed448_key() -> bytes:
    key = ed448.Ed448PrivateKey.generate().public_key()
    return of_key(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), ED448, bytes(114))


def x25519_key() -> bytes:
    return of_key(bytes.fromhex("302a300506032b656e032100") + bytes(range(32)), ECDSA_SHA256)


def renamed(raw: bytes) -> tuple[bytes, bytes]:
    """Another value of the same length in the issuer's name (and by a second such edit in the subject's)."""
    name = CERTIFICATE.issuer.rfc4514_string().split("=")[1].encode()
    return name, (raw * len(name))[: len(name)]


def bad_time() -> tuple[bytes, bytes]:
    start = TBS.index(b"\x17\x0d")
    return TBS[start : start + 15], b"\x17\x0d" + b"991399999999Z"


@dataclass(frozen=True)
class Odd:
    name: str
    make: Callable[[], bytes]
    message: str
    by_openssl: bool = False
    """Whether OpenSSL shows such a certificate, and signs for it."""


ODD = [
    Odd("version 0", lambda: version(0), "malformed", True),
    Odd("version 1", lambda: version(1), "malformed", True),
    Odd("version 5", lambda: version(5), "malformed", True),
    Odd("version 127", lambda: version(127), "malformed", True),
    Odd("name that is no text", lambda: signed(renamed(b"\xff"), renamed(b"\xff")), "", True),
    Odd("issuer is another", lambda: signed(renamed(b"7")), "malformed", True),
    Odd("time that is none", lambda: signed(bad_time()), "malformed", True),
    Odd("SHA-1", lambda: signed((ECDSA_SHA256, ECDSA_SHA1), algorithm=ECDSA_SHA1, hash_=hashes.SHA1()), "sha1", True),
    Odd("two algorithms", lambda: signed(algorithm=ECDSA_SHA1, hash_=hashes.SHA1()), "", True),
    Odd("RSA of 1024 bits", lambda: rsa_key(1024, 65537), "2048 to 8192 bits"),
    Odd("RSA of 16384 bits", lambda: rsa_key(16_384, 65537), "2048 to 8192 bits"),
    Odd("RSA with a long exponent", lambda: rsa_key(8192, secrets.randbits(8000) | 1), "exponent"),
    Odd("DSA", lambda: dsa_key(3072), "neither Ed25519"),
    Odd("DSA of 10000 bits", lambda: dsa_key(10_000), ""),
    Odd("secp256k1", lambda: ec_key(ec.SECP256K1()), "the curve secp256k1"),
    Odd("P-224", lambda: ec_key(ec.SECP224R1()), "the curve secp224r1"),
    Odd("brainpool", lambda: ec_key(ec.BrainpoolP512R1()), "the curve brainpoolP512r1"),
    Odd("Ed448", ed448_key, "neither Ed25519"),
    Odd("X25519", x25519_key, "neither Ed25519"),
    Odd("empty", bytes, "malformed"),
    Odd("an empty sequence", lambda: b"\x30\x00", "malformed"),
    Odd("bytes behind it", lambda: CERTIFICATE.public_bytes(Encoding.DER) + b"\0", "malformed"),
]
BY_OPENSSL = [odd for odd in ODD if odd.by_openssl]


def named(odd: Odd) -> str:
    return odd.name


pytestmark = pytest.mark.filterwarnings("ignore")  # `cryptography` warns of some


LONG = [
    Odd("as long as allowed", lambda: bytes(MAX_CERTIFICATE_SIZE), "malformed"),
    Odd("longer than allowed", lambda: bytes(MAX_CERTIFICATE_SIZE + 1), "the limit is 16384"),
]


@pytest.mark.parametrize("odd", ODD + LONG, ids=named)
def test_nothing_but_a_handshake_error_comes_out(odd: Odd) -> None:
    with pytest.raises(HandshakeError, match=odd.message):
        verify_certificate(odd.make(), now=NOW)


class Place:
    """A victim, a good peer, and an evil one who shows `shown`; 10 ms apart."""

    def __init__(self, kind: str, shown: bytes) -> None:
        self.kind = kind
        self.network = Network(link=Link(latency=0.01))
        self.victim, self.good = (
            self.host(PrivateKey.generate(), "10.0.0.1"),
            self.host(PrivateKey.generate(), "10.0.0.2"),
        )
        self.evil = self.host(EVIL, "10.0.0.3", shown)
        self.failures: list[Exception] = []
        self.victim.events.on(InboundFailed, lambda event: self.failures.append(event.error))
        self.evil_failures: list[Exception] = []
        self.evil.events.on(InboundFailed, lambda event: self.evil_failures.append(event.error))

    def host(self, key: PrivateKey, ip: str, shown: bytes | None = None) -> Host:
        node = self.network.node(ip)
        if self.kind == "tls":
            return Host(key, [f"/ip4/{ip}/tcp/4001"], transports=[node.transport()], security=[tls(shown)])
        return Host(key, [f"/ip4/{ip}/udp/4001/quic-v1"], transports=[quic(node, key, shown)])

    async def refused_dial(self) -> HandshakeError:
        """How the victim's dial of the evil peer fails; it does in a few round trips."""
        with pytest.raises(DialError) as caught:
            await ends(self.victim.connect(self.evil.listen_addrs[0]), within=1)
        (error,) = caught.value.attempts.values()
        assert isinstance(error, HandshakeError)
        return error

    async def refused_listen(self) -> tuple[HandshakeError, Exception]:
        """What the victim says of the evil peer's dial, and what the evil peer learns."""

        async def dial() -> None:
            connection = await self.evil.connect(self.victim.listen_addrs[0])
            await connection.wait_closed()  # by TLS a dialer's handshake ends before it is judged
            raise ConnectionError(str(connection.close_reason))

        with pytest.raises((DialError, ConnectionError)) as caught:
            await ends(dial(), within=1)
        (failure,) = self.failures
        assert isinstance(failure, HandshakeError)
        return failure, caught.value


def tls(shown: bytes | None) -> Tls:
    protocol = Tls()
    if shown is not None:
        context = make_context(EVIL)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        assert lib.SSL_CTX_use_certificate(context._context, crypto.load_certificate(crypto.FILETYPE_ASN1, shown)._x509)
        context.use_privatekey(KEY)
        protocol._prepared = (EVIL, context)
    return protocol


def quic(node: Node, key: PrivateKey, shown: bytes | None) -> Quic:
    transport = Quic(config := QuicConfig(), open_socket=node.udp())
    if shown is not None:
        certificate: Any = SimpleNamespace(public_bytes=lambda _: shown)
        transport._prepared = credentials = Credentials(key, config)
        credentials.terms = Terms(certificate, KEY)
        for configuration in (credentials.for_dialer, credentials.for_listener):
            configuration.certificate, configuration.private_key = certificate, KEY
    return transport


@asynccontextmanager
async def place(kind: str, shown: bytes) -> AsyncIterator[Place]:
    it = Place(kind, shown)
    async with it.network, it.victim, it.good, it.evil:
        yield it


CASES = [("quic", odd) for odd in ODD] + [("tls", odd) for odd in BY_OPENSSL]


@pytest.mark.parametrize(("kind", "odd"), CASES, ids=lambda value: value if isinstance(value, str) else value.name)
async def test_who_listens_with_it_is_refused_and_the_next_address_tried(kind: str, odd: Odd) -> None:
    async with place(kind, odd.make()) as it:
        error = await it.refused_dial()
        assert odd.message in str(error)
        good, evil = it.good.listen_addrs[0], it.evil.listen_addrs[0]
        it.victim.peerstore.add_addrs(it.good.id, [evil, good], 1000)
        connection = await ends(it.victim.connect(it.good.id), within=1)
        assert connection.remote_addr == good
        await asyncio.sleep(1)
        assert len(it.evil_failures) == 2
        assert all(isinstance(failure, HandshakeError) for failure in it.evil_failures)  # it was told each time


@pytest.mark.parametrize(("kind", "odd"), CASES, ids=lambda value: value if isinstance(value, str) else value.name)
async def test_who_dials_with_it_is_refused_and_told(kind: str, odd: Odd, caplog: pytest.LogCaptureFixture) -> None:
    async with place(kind, odd.make()) as it:
        failure, told = await it.refused_listen()
        assert odd.message in str(failure)
        assert "alert" in str(told)
        assert await ends(it.good.connect(it.victim.listen_addrs[0]), within=1)
    assert not [record for record in caplog.records if record.name.startswith("libp2p")]


VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "tls_certificates.json").read_text())
SPECIFIED = [(bytes.fromhex(vector["der"]), "TLS alert decrypt error") for vector in VECTORS["valid"]]
SPECIFIED += [(bytes.fromhex(VECTORS["invalid"]), "did not sign the certificate's key")]


@pytest.mark.parametrize(("shown", "message"), SPECIFIED)
async def test_certificates_of_the_specification(shown: bytes, message: str) -> None:
    """Their key is not published, so who shows the good ones is refused a step later, for want of it."""
    async with place("quic", shown) as it:
        _, told = await it.refused_listen()
        assert message in str(told)
        assert (await it.refused_dial()) is not None
        await asyncio.sleep(1)
        assert message in str(it.evil_failures[0])
