"""The TLS 1.3 handshake over memory: bytes in, bytes out, and at the end a proven peer. No asyncio.

Rules:
- Both sides show a certificate; who the peer is, is decided while the handshake runs, by OpenSSL's verification
  callback: a peer that is refused gets an alert, and a dialer shows its own certificate only to the peer it expects.
- OpenSSL's own opinion of the certificate is ignored: it knows no authority that could have signed it.
- No session is kept or resumed, so no early data is ever accepted; nothing is compressed; TLS 1.3 knows no
  renegotiation.
- "clients that only support the version of the handshake defined in this document MUST NOT send any value in the Server
  Name Indication."
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, X509, dump_certificate

from ...errors import HandshakeError, LocalProtocolError, PeerIdMismatch
from ...identity import PeerId, PrivateKey, PublicKey
from .certificate import check_chain_length, make_certificate, verify_certificate
from .records import RecordCounter

ALPN = "libp2p"
"""What stands for libp2p without a muxer; always offered, and last."""

_CIPHER_SUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

_ENABLE_PARTIAL_WRITE = 1  # SSL_MODE_ENABLE_PARTIAL_WRITE, which pyOpenSSL sets: a write would stop after one record

BUFFER_SIZE = 66_560
"""Bytes that are taken from OpenSSL at once: four full records, with what may have waited before them."""


def make_context(key: PrivateKey) -> SSL.Context:
    """What all handshakes of an identity share: the settings, and a fresh certificate."""
    certificate, certificate_key = make_certificate(key, now=datetime.now(UTC))
    context = SSL.Context(SSL.TLS_METHOD)
    # "Endpoints MUST NOT negotiate lower TLS versions."
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(_CIPHER_SUITES)
    context.use_certificate(certificate)
    context.use_privatekey(certificate_key)
    # "servers MUST require client authentication during the TLS handshake"
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
    context.set_alpn_select_callback(_select_alpn)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle connection holds no record buffers
    context.clear_mode(_ENABLE_PARTIAL_WRITE)
    return context


class TlsHandshake:
    """One side of one handshake.

    Give it what arrives by `receive`, call `proceed` until it says that the handshake is over, and send `data_to_send`
    after each call, also after one that raised.
    """

    def __init__(
        self, context: SSL.Context, *, is_dialer: bool, expected_peer: PeerId | None, muxers: Sequence[str]
    ) -> None:
        self.connection = SSL.Connection(context, None)
        """OpenSSL's half of it, which serves the data phase too."""
        self.records = RecordCounter()
        """What OpenSSL was given: the last record may not be complete when the handshake is over."""
        self._is_dialer = is_dialer
        self._expected_peer = expected_peer
        self._offers = [*(name.encode() for name in muxers), ALPN.encode()]
        self._remote_key: PublicKey | None = None
        self._refusal: HandshakeError | None = None
        self.connection.set_app_data(self)
        if is_dialer:
            self.connection.set_alpn_protos(self._offers)
            self.connection.set_connect_state()
        else:
            self.connection.set_accept_state()

    def receive(self, data: bytes) -> None:
        """Take bytes that have arrived."""
        self.records.feed(data)
        self.connection.bio_write(data)

    def proceed(self) -> bool:
        """Go on as far as possible; whether the handshake is over. Raises `HandshakeError`, `PeerIdMismatch`."""
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            if self._refusal is not None:
                raise self._refusal from self._refusal.__cause__ or error
            raise HandshakeError(f"tls: {explain(error)}") from error
        certificates = len(self.connection.get_peer_cert_chain() or ())
        check_chain_length(certificates if self._is_dialer else certificates + 1)  # a server's list lacks the first
        self.connection.set_app_data(None)
        return True

    def data_to_send(self) -> bytes:
        """What is to be sent now."""
        output = bytearray()
        try:
            while True:
                output += self.connection.bio_read(BUFFER_SIZE)
        except SSL.WantReadError:
            return bytes(output)

    @property
    def remote_key(self) -> PublicKey:
        """The peer's identity key, once the handshake is over."""
        if self._remote_key is None:
            raise LocalProtocolError("the peer is not known before the TLS handshake is over")
        return self._remote_key

    @property
    def muxer(self) -> str | None:
        """The muxer agreed on; None where it is to be negotiated afterwards. Raises `HandshakeError`."""
        agreed = self.connection.get_alpn_proto_negotiated()
        if agreed and agreed not in self._offers:
            raise HandshakeError(f"tls: the peer chose the application protocol {agreed!r}, which was not offered")
        # 'If "libp2p" is the result of the ALPN process, nodes MUST use protocol negotiation of the stream
        # multiplexer'. So they do with a peer that knows no ALPN.
        return None if agreed in (b"", ALPN.encode()) else agreed.decode()

    def verify(self, certificate: X509) -> bool:
        """Whether to go on with the peer that shows this certificate."""
        if self._remote_key is None and self._refusal is None:
            try:
                key = verify_certificate(dump_certificate(FILETYPE_ASN1, certificate), now=datetime.now(UTC))
                # "Clients MUST verify that the peer ID derived from the certificate matches the peer ID they intended
                # to connect to, and MUST abort the connection if there is a mismatch."
                if self._expected_peer is not None and key.peer_id != self._expected_peer:
                    raise PeerIdMismatch(expected=self._expected_peer, actual=key.peer_id)
                self._remote_key = key
            except HandshakeError as error:
                self._refusal = error
            except Exception as error:  # a fault of ours: the peer gets its alert nevertheless
                self._refusal = HandshakeError(f"tls: the peer's certificate could not be checked: {error!r}")
                self._refusal.__cause__ = error
        return self._refusal is None

    def select_alpn(self, offered: list[bytes]) -> bytes:
        """ "The server SHOULD respect the client's preference and pick the first protocol from the list that it
        supports." Raises `HandshakeError` where there is none.
        """
        for name in offered:
            if name in self._offers:
                return name
        names = ", ".join(repr(name)[1:] for name in offered[:5])
        raise HandshakeError(f"tls: none of the application protocols offered is libp2p's: {names}")


def _verify(connection: SSL.Connection, certificate: X509, _error: int, depth: int, _ok: int) -> bool:
    """OpenSSL asks this for each certificate of the chain, and each thing it does not like about it."""
    handshake: TlsHandshake = connection.get_app_data()
    return depth == 0 and handshake.verify(certificate)


def _select_alpn(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    handshake: TlsHandshake = connection.get_app_data()
    return handshake.select_alpn(offered)


def explain(error: SSL.Error) -> str:
    """What OpenSSL complains of, or the peer by an alert."""
    if isinstance(error, SSL.ZeroReturnError):
        return "the peer said goodbye"
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reason = queue[-1][-1] if queue else str(error) or type(error).__name__
    _, is_alert, alert = reason.rpartition(" alert ")
    return f"the peer refuses, with the alert {alert!r}" if is_alert else reason
