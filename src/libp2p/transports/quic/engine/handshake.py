"""The handshake of libp2p in aioquic's: mutual, by self-signed certificates (specs: tls/tls.md).

Uses of aioquic what it does not document: of the TLS context `_request_client_certificate`, `_supported_groups`,
`_set_peer_certificate`, `_check_certificate_verify_signature`, `_server_handle_certificate`, `_receive_buffer`,
`_peer_certificate` and `_peer_certificate_chain`; of the connection what is overridden here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypedDict, Unpack

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic import connection as quic_connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicConnectionAdapter, QuicConnectionError
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, pull_quic_transport_parameters
from aioquic.quic.recovery import QuicPacketSpace
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.x509 import Certificate

from ....errors import HandshakeError, PeerIdMismatch
from ....identity import PeerId, PublicKey
from ....security.tls.certificate import verify_chain
from ..closing import CERTIFICATE_REQUIRED
from ..config import INITIAL_DATAGRAM_SIZE, QuicConfig
from ..path_mtu import PathMtu
from .lane import ONE_RTT

MAX_HANDSHAKE_MESSAGE = 65_536
"""Bytes of one TLS message that are buffered; a libp2p certificate has less than a thousand, or with RSA two."""

MAX_CONNECTION_IDS = 4
"""Connection ids that we issue at a time: enough to move a few times before more arrive."""

# It makes 33 sets for each connection, always the same. Other users of aioquic in this process get them faster, too.
quic_connection.EPOCHS = cache(quic_connection.EPOCHS)

_logger = logging.getLogger("libp2p.transports.quic.aioquic")


class _Muted(QuicConnectionAdapter):
    """aioquic's log of a connection, below this package's, and for who debugs: it warns of whatever peers do."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ARG002
        super().log(logging.DEBUG, msg, *args, **kwargs)


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """How a listener's handshake is done for one protocol (ALPN)."""

    certificate: Certificate
    """What the dialer is shown."""
    certificate_key: EllipticCurvePrivateKey
    """The certificate's. On one socket all are of one curve: what the dialer can verify is decided before the ALPN."""
    demands_certificate: bool = True
    """Whether the dialer must show a libp2p certificate, too. Without one nothing is known of who it is."""


class Origin(TypedDict, total=False):
    """Where a connection comes from."""

    expected_peer: PeerId | None
    """Of a dialer: who must be there."""
    original_destination_cid: bytes
    """Of a listener: the connection id that the dialer made up,"""
    retry_source_cid: bytes | None
    """and the one that it was told by a Retry."""
    choose: Callable[[str], Terms | None]
    """By which terms the dialer's protocol is spoken, as it is chosen from the configuration's; None: not any more."""
    reset_token: Callable[[bytes], bytes]
    """The stateless reset token of a connection id that we issue."""


class HandshakeEngine(QuicConnection):
    """A connection both of whose sides prove who they are."""

    def __init__(self, configuration: QuicConfiguration, settings: QuicConfig, **origin: Unpack[Origin]) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=origin.get("original_destination_cid"),
            retry_source_connection_id=origin.get("retry_source_cid"),
        )
        self._logger = self._loss._logger = _Muted(_logger, self._logger.extra)
        self.remote_key: PublicKey | None = None
        """The peer's identity key, once it has shown that it holds the key of its certificate."""
        self._claimed_key: PublicKey | None = None  # the one that its certificate names
        self.refusal: HandshakeError | None = None
        """What we found wrong with the peer's certificate."""
        self.path_mtu = PathMtu(INITIAL_DATAGRAM_SIZE, settings.max_datagram_size)
        self._settings = settings
        self._expected_peer = origin.get("expected_peer")
        self._choose = origin.get("choose")
        self._reset_token = origin.get("reset_token")
        self._give_reset_tokens(0)
        self._now = 0.0
        self._space = QuicPacketSpace()  # of the packets behind the handshake; these two are renewed as it begins
        self._keys = CryptoPair()

    @property
    def rtt(self) -> float | None:
        """The smoothed round-trip time, in seconds."""
        return self._loss._rtt_smoothed if self._loss._rtt_initialized else None

    @property
    def peer_reset_token(self) -> bytes:
        """By what the peer would tell that it does not know this connection any more; empty where it can't."""
        return self._peer_cid.stateless_reset_token

    def _consume_peer_cid(self) -> None:
        if not self._peer_cid_available:  # aioquic takes it for granted that there is one
            raise QuicConnectionError(
                QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.NEW_CONNECTION_ID, "all connection ids are retired"
            )
        super()._consume_peer_cid()

    def _replenish_connection_ids(self) -> None:
        count = len(self._host_cids)
        super()._replenish_connection_ids()
        self._give_reset_tokens(count)

    def _give_reset_tokens(self, first: int) -> None:
        if self._reset_token is not None:
            for cid in self._host_cids[first:]:
                if cid.stateless_reset_token:  # a dialer's first one has none
                    cid.stateless_reset_token = self._reset_token(cid.cid)

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self._space, self._keys = self._spaces[ONE_RTT], self._cryptos[ONE_RTT]
        context = self.tls
        context._request_client_certificate = True
        if self._is_client:
            context._supported_groups = [tls.Group.X25519]
        take_certificate = context._set_peer_certificate
        check_signature = context._check_certificate_verify_signature
        take_client_certificate = context._server_handle_certificate
        take_message = context.handle_message

        def show(shown: tls.Certificate) -> None:
            self._claimed_key = self._judge([der for der, _ in shown.certificates])
            take_certificate(shown)

        def check(verify: Any) -> None:
            check_signature(verify)
            self.remote_key = self._claimed_key

        def take_client(buf: Buffer) -> None:
            take_client_certificate(buf)
            # "servers MUST require client authentication during the TLS handshake"
            if context._peer_certificate is None:
                raise _CertificateRequired("libp2p: a client must show a certificate")

        def take(data: bytes, output: Any) -> None:
            if len(context._receive_buffer) + len(data) > MAX_HANDSHAKE_MESSAGE:
                raise tls.AlertDecodeError(f"a handshake message has more than {MAX_HANDSHAKE_MESSAGE} bytes")
            take_message(data, output)

        context._set_peer_certificate = show  # type: ignore[method-assign, assignment]
        context._check_certificate_verify_signature = check  # type: ignore[method-assign]
        context._server_handle_certificate = take_client  # type: ignore[method-assign, assignment]
        context.handle_message = take  # type: ignore[method-assign, assignment]

    def _alpn_handler(self, alpn_protocol: str) -> None:
        """A listener has read the dialer's hello, and answers it next."""
        if self._choose is not None:
            terms = self._choose(alpn_protocol)
            if terms is None:
                raise tls.AlertNoApplicationProtocol(f"{alpn_protocol} is not spoken here any more")
            self.tls.certificate, self.tls.certificate_private_key = terms.certificate, terms.certificate_key
            self.tls._request_client_certificate = terms.demands_certificate
        super()._alpn_handler(alpn_protocol)

    def _judge(self, chain: list[bytes]) -> PublicKey:
        """The identity key of a peer that shows `chain`, before aioquic parses it or computes anything with its key."""
        try:
            key = verify_chain(chain, now=datetime.now(UTC))
            # "Clients MUST verify that the peer ID derived from the certificate matches the peer ID they intended to
            # connect to, and MUST abort the connection if there is a mismatch."
            if self._expected_peer is not None and key.peer_id != self._expected_peer:
                raise PeerIdMismatch(expected=self._expected_peer, actual=key.peer_id)
        except HandshakeError as error:
            self.refusal = error
            raise tls.AlertBadCertificate(f"libp2p: {error}") from error
        return key

    def _confirm_handshake(self) -> None:
        super()._confirm_handshake()
        self.path_mtu.start(self._now)
        # What only a handshake needs, 48 KiB of buffers first of all, would stay for as long as the connection.
        self._crypto_buffers = {epoch: Buffer(capacity=0) for epoch in self._crypto_buffers}
        self.tls._peer_certificate = None
        self.tls._peer_certificate_chain = []

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        super()._parse_transport_parameters(data, from_session_ticket)
        if maximum := pull_quic_transport_parameters(Buffer(data=data)).max_udp_payload_size:
            self.path_mtu.limit(maximum)
            self._use_datagram_size()
        if not self._remote_max_idle_timeout:
            self._remote_max_idle_timeout = None  # "A value of 0 ... is the same as omitting it" (RFC 9000, 18.2)
        self._remote_preferred_address = None  # a peer must not have us send to whomever it names
        self._remote_active_connection_id_limit = min(self._remote_active_connection_id_limit, MAX_CONNECTION_IDS)

    def _use_datagram_size(self) -> None:
        if (size := self.path_mtu.size) != self._max_datagram_size:
            self._max_datagram_size = size
            self._loss._pacer._max_datagram_size = size
            self._loss._cc._max_datagram_size = size  # type: ignore[attr-defined]


class _CertificateRequired(tls.Alert):
    description = CERTIFICATE_REQUIRED  # type: ignore[assignment]
