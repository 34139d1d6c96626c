"""A suite of tests for each interface, for all implementations of it to run.

    class TestTcp(TransportSuite):
        async def make(self): ...

A suite is a plain class whose `test_*` methods are coroutines; pytest need not be installed to import it. They take
no time on a virtual-time loop (`libp2p.testing.loop.run`), and little on a real one.
"""

from .byte_streams import ByteStreamSuite
from .connections import ConnectionSuite
from .muxers import MuxerSuite
from .peer_stores import PeerStoreSuite
from .raw_connections import RawConnectionSuite
from .record_stores import RecordStoreSuite
from .security import SecurityProtocolSuite
from .streams import MuxedStreamSuite, StreamSuite
from .transports import TransportSuite

__all__ = [
    "ByteStreamSuite",
    "ConnectionSuite",
    "MuxedStreamSuite",
    "MuxerSuite",
    "PeerStoreSuite",
    "RawConnectionSuite",
    "RecordStoreSuite",
    "SecurityProtocolSuite",
    "StreamSuite",
    "TransportSuite",
]
