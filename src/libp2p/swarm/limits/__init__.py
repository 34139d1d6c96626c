"""What peers may take of a host: connections, handshakes, handlers; who may come at all; and who goes when it is full.

    host -- every connection and handler
      |- prefix ------ handshakes under way, and how fast they come: IPv4 /32, IPv6 /56 and /48
      |- peer -------- connections, handlers
      |    '- connection -- handlers
      '- protocol ---- handlers

Bytes are counted by the accounts of `io/memory.py`.
"""

from .config import SwarmConfig
from .connections import ConnectionLimits, Grant
from .explain import Use
from .gater import Gater, RuleGater
from .host import HostLimits
from .streams import StreamLimits

__all__ = [
    "ConnectionLimits",
    "Gater",
    "Grant",
    "HostLimits",
    "RuleGater",
    "StreamLimits",
    "SwarmConfig",
    "Use",
]
