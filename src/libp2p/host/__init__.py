"""The face of the stack: `Host`, with the protocols that every host speaks (identify, ping)."""

from .host import Host, HostConfig
from .requests import Call, Request

__all__ = ["Call", "Host", "HostConfig", "Request"]
