"""mDNS: peers of the local network find each other."""

from .service import Mdns, MdnsConfig

__all__ = ["Mdns", "MdnsConfig"]
