"""Circuit relay v2: being a relay (`RelayServer`), and reaching others through one (`RelayClient`)."""

from .client import RelayClient
from .config import CircuitConfig, RelayConfig
from .core import RelayRefused
from .events import CircuitClosed, CircuitOpened, ReservationLost, Reserved
from .server import RelayGater, RelayServer
from .transport import CircuitTransport, relay_of
from .wire import HOP_ID, STOP_ID, Limit, Status

__all__ = [
    "HOP_ID",
    "STOP_ID",
    "CircuitClosed",
    "CircuitConfig",
    "CircuitOpened",
    "CircuitTransport",
    "Limit",
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
