"""Byte streams: the interface, buffered exact reads, length-delimited messages, tasks, accounts of memory."""

from .buffer import DEFAULT_READ_LIMIT, ReceiveBuffer
from .delimited import read_protobuf, write_protobuf
from .gate import WriteGate
from .limits import time_limit, within
from .memory import HostMemory, MemoryAccount, MemoryConfig
from .rate import TokenBucket
from .stream import Buffer, ByteStream, Sink, check_buffers, joined
from .tasks import TaskSupervisor, all_of
from .useless import Allowance, UselessFrames

__all__ = [
    "DEFAULT_READ_LIMIT",
    "Allowance",
    "Buffer",
    "ByteStream",
    "HostMemory",
    "MemoryAccount",
    "MemoryConfig",
    "ReceiveBuffer",
    "Sink",
    "TaskSupervisor",
    "TokenBucket",
    "UselessFrames",
    "WriteGate",
    "all_of",
    "check_buffers",
    "joined",
    "read_protobuf",
    "time_limit",
    "within",
    "write_protobuf",
]
