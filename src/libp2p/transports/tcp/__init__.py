"""The TCP transport, `/ip4/.../tcp/N` and `/ip6/.../tcp/N`."""

from .transport import Tcp, TcpConfig

__all__ = ["Tcp", "TcpConfig"]
