"""TLS 1.3: the `/tls/1.0.0` secure channel (specs: tls/tls.md), and the certificates that QUIC shares with it.

Nothing of pyOpenSSL and X.509 is loaded before the first handshake: `.certificate` has the certificates, `.channel` the
data phase.
"""

from .protocol import Tls

__all__ = ["Tls"]
