"""Private networks: a pre-shared key below the secure channel (specs: pnet/Private-Networks-PSK-V1.md). Needs the extra
`pnet`.
"""

from .connection import ProtectedConnection
from .network import PrivateNetwork
from .swarm_key import PSK_SIZE, format_swarm_key, load_swarm_key, parse_swarm_key

__all__ = [
    "PSK_SIZE",
    "PrivateNetwork",
    "ProtectedConnection",
    "format_swarm_key",
    "load_swarm_key",
    "parse_swarm_key",
]
