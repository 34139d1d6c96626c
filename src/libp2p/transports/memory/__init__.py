"""Connections within one process: byte pipes, and the `/memory/<n>` transport on top of them."""

from .listener import InboundListener
from .pipe import Carry, MemoryConnection, pipe
from .transport import MemoryRegistry, MemoryTransport

__all__ = ["Carry", "InboundListener", "MemoryConnection", "MemoryRegistry", "MemoryTransport", "pipe"]
