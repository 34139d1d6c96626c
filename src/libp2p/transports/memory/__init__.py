"""Connections within one process: byte pipes, and the `/memory/<n>` transport on top of them."""

from .listener import MAX_PENDING_INBOUND, InProcessListener
from .pipe import Carry, MemoryConnection, pipe
from .transport import MemoryRegistry, MemoryTransport

__all__ = [
    "MAX_PENDING_INBOUND",
    "Carry",
    "InProcessListener",
    "MemoryConnection",
    "MemoryRegistry",
    "MemoryTransport",
    "pipe",
]
