"""Finding peers: those that were named (bootstrap), those of the local network (mDNS), those with the same interest."""

from .bootstrap import AMINO_BOOTSTRAP, Bootstrap, BootstrapConfig
from .mdns import Mdns, MdnsConfig
from .routed import RoutingDiscovery

__all__ = ["AMINO_BOOTSTRAP", "Bootstrap", "BootstrapConfig", "Mdns", "MdnsConfig", "RoutingDiscovery"]
