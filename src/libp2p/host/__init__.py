"""The face of the stack: `Host`, with the protocols that every host speaks (identify, ping)."""

from .handlers import Handler
from .host import Host, HostConfig, Target

__all__ = ["Handler", "Host", "HostConfig", "Target"]
