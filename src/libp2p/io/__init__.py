"""Byte streams: the interface, buffered exact reads, length-delimited messages, tasks, accounts of memory."""

from .buffer import DEFAULT_READ_LIMIT, ReceiveBuffer
from .delimited import read_delimited, write_delimited
from .gate import WriteGate
from .limits import time_limit
from .memory import MemoryAccount, MemoryConfig, connection_memory, host_memory
from .stream import Buffer, ByteStream, Reader, Sink
from .tasks import TaskSupervisor

__all__ = [
    "DEFAULT_READ_LIMIT",
    "Buffer",
    "ByteStream",
    "MemoryAccount",
    "MemoryConfig",
    "Reader",
    "ReceiveBuffer",
    "Sink",
    "TaskSupervisor",
    "WriteGate",
    "connection_memory",
    "host_memory",
    "read_delimited",
    "time_limit",
    "write_delimited",
]
