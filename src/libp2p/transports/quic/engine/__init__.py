"""The QUIC state machine: aioquic's, with libp2p's handshake, flow control tied to reading, and a fast path for bulk.

    bytes of a writer -> Lane -> whole packets (`_write_bulk`), or frames packed together (`_write_lanes`) -> datagrams
    datagrams -> packets with one STREAM frame (`_receive_fast`), or anything else (aioquic) -> events

All that touches aioquic's private names is in this folder; aioquic is pinned to a minor release, and
tests/unit/transports/test_quic_engine.py fails for each name that is gone or works otherwise. Each module is a class
that adds to the one before:

    handshake   both sides show certificates and verify the other's; only X25519 is offered, which saves three key
                generations; handshake messages are bounded (specs: quic/README.md, tls/tls.md)
    streams     windows follow what was read, where aioquic doubles them as data arrives, read or not
    nuisance    small frames are counted, for the driver's turns of the loop; those of no use have an allowance
    receiving   a packet is acknowledged at once when another one waits for that already, or when one is missing, else
                within a millisecond (RFC 9000, 13.2.1 and 13.2.2)
    sending     streams with something to send wait in a queue and take turns, where aioquic goes through all streams
                for each packet; packets are paced in bursts; keys are renewed long before AES-GCM's limit of 2^23
                packets (RFC 9001, 6.6)
    engine      what the owner asks; datagrams become larger once the path has shown to carry them (path_mtu.py)
"""

from .engine import Engine
from .handshake import Terms
from .initial import is_readable, refusal
from .lane import Lane
from .nuisance import TURN

__all__ = ["TURN", "Engine", "Lane", "Terms", "is_readable", "refusal"]
