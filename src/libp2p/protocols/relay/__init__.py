"""Circuit relay v2: being a relay (`RelayServer`), reaching others through one (`RelayClient`), and finding
relays for oneself (`AutoRelay`).
"""

from .auto import AutoRelay, PeerSource
from .client import RelayClient
from .config import AutoRelayConfig, CircuitConfig, RelayConfig
from .core import RelayRefused
from .events import CircuitClosed, CircuitOpened, ReservationLost, Reserved
from .server import RelayGater, RelayServer
from .transport import CircuitTransport, relay_of
from .wire import HOP_ID, STOP_ID, Limit, Status

__all__ = [
    "HOP_ID",
    "STOP_ID",
    "AutoRelay",
    "AutoRelayConfig",
    "CircuitClosed",
    "CircuitConfig",
    "CircuitOpened",
    "CircuitTransport",
    "Limit",
    "PeerSource",
    "RelayClient",
    "RelayConfig",
    "RelayGater",
    "RelayRefused",
    "RelayServer",
    "ReservationLost",
    "Reserved",
    "Status",
    "relay_of",
]
