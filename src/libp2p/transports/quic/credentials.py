"""What all connections of one identity share: its certificate, and how aioquic is set up."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite

from ...identity import PrivateKey
from ...security.tls.certificate import make_certificate
from . import congestion
from .config import INITIAL_DATAGRAM_SIZE, QuicConfig
from .engine import Terms
from .stateless_reset import reset_secret

ALPN = "libp2p"
""" "libp2p" is used as the application protocol for ALPN" (specs: quic/README.md)."""

CONNECTION_ID_LENGTH = 8
"""Bytes of the connection ids that we issue."""

_CIPHER_SUITES = [
    CipherSuite.AES_128_GCM_SHA256,
    CipherSuite.AES_256_GCM_SHA384,
    CipherSuite.CHACHA20_POLY1305_SHA256,
]


class Credentials:
    """The configurations of an identity's connections, with a certificate made for them."""

    def __init__(self, key: PrivateKey, settings: QuicConfig) -> None:
        self.peer_id = key.public_key.peer_id
        self.reset_secret = reset_secret(key)
        self._certificate, self._certificate_key = make_certificate(key, now=datetime.now(UTC))
        self.terms = Terms(self._certificate, self._certificate_key)
        self.for_dialer = self._configuration(settings, is_dialer=True)
        self.for_listener = self._configuration(settings, is_dialer=False)

    def _configuration(self, settings: QuicConfig, *, is_dialer: bool) -> QuicConfiguration:
        return QuicConfiguration(
            alpn_protocols=[ALPN],
            certificate=self._certificate,
            cipher_suites=_CIPHER_SUITES,
            congestion_control_algorithm=congestion.NAME,
            connection_id_length=CONNECTION_ID_LENGTH,
            idle_timeout=settings.idle_timeout,
            is_client=is_dialer,
            max_data=settings.first_connection_window,
            max_datagram_size=INITIAL_DATAGRAM_SIZE,
            max_stream_data=settings.stream_window,
            private_key=self._certificate_key,
            supported_versions=[QuicProtocolVersion.VERSION_1],
            verify_mode=ssl.CERT_NONE,  # by no authority: see `Engine`
        )
