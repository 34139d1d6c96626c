"""The face of the stack: `Host`, with the protocols that every host speaks (identify, ping)."""

from .host import Host, HostConfig

__all__ = ["Host", "HostConfig"]
