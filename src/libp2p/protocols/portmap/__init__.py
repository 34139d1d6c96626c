"""Port mapping: the gateway leads ports to this host, by PCP, NAT-PMP or UPnP (`PortMapping`)."""

from .config import PortMapConfig
from .core import Mapped, Port
from .events import PortMapped, PortUnmapped
from .finding import find_gateways
from .gateway import Gateway, MappingError, PcpGateway, PmpGateway, State, UpnpGateway
from .service import PortMapping

__all__ = [
    "Gateway",
    "Mapped",
    "MappingError",
    "PcpGateway",
    "PmpGateway",
    "Port",
    "PortMapConfig",
    "PortMapped",
    "PortMapping",
    "PortUnmapped",
    "State",
    "UpnpGateway",
    "find_gateways",
]
