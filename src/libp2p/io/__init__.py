"""Byte streams: the interface, buffered exact reads, length-delimited messages, tasks, accounts of memory."""

from .buffer import DEFAULT_READ_LIMIT, ReceiveBuffer
from .delimited import read_delimited, write_delimited
from .gate import WriteGate
from .limits import time_limit
from .memory import HostMemory, MemoryAccount, MemoryConfig
from .rate import TokenBucket
from .stream import Buffer, ByteStream, Reader, Sink, check_buffers, joined
from .tasks import TaskSupervisor, all_of

__all__ = [
    "DEFAULT_READ_LIMIT",
    "Buffer",
    "ByteStream",
    "HostMemory",
    "MemoryAccount",
    "MemoryConfig",
    "Reader",
    "ReceiveBuffer",
    "Sink",
    "TaskSupervisor",
    "TokenBucket",
    "WriteGate",
    "all_of",
    "check_buffers",
    "joined",
    "read_delimited",
    "time_limit",
    "write_delimited",
]
