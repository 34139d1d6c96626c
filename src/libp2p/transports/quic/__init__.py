"""The QUIC transport, `/ip4/.../udp/N/quic-v1` and `/ip6/.../udp/N/quic-v1`.

Nothing of aioquic is loaded before the first dial or listen.
"""

from .config import QuicConfig
from .transport import Quic

__all__ = ["Quic", "QuicConfig"]
