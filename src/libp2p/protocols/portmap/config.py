"""Settings of port mapping."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PortMapConfig:
    """How ports of this host are opened at its gateway."""

    kinds: tuple[str, ...] = ("pcp", "nat-pmp", "upnp")
    """The protocols to speak, best first."""
    gateway: str | None = None
    """The gateway's IPv4 address. None: that of the default route, where it can be found out."""
    lifetime: float = 3600.0
    """Seconds for which a mapping is asked for. It is renewed after half of what the gateway gives."""
    check_interval: float = 30.0
    """Seconds between two looks at whether the gateway was restarted, or has another address."""
    answer_timeout: float = 2.0
    """Seconds that a gateway has to answer, repeated questions included."""
    max_failures: int = 3
    """Looks in a row that come to nothing, until gateways are searched for anew."""
    search_interval: float = 300.0
    """Seconds between two searches, at most, while no gateway is found; the first pauses are shorter."""
    first_refused_pause: float = 15.0
    """Seconds until a gateway that has refused a mapping is asked again; each time twice as long..."""
    refused_pause: float = 600.0
    """...up to this."""
    max_mappings: int = 16
    """Ports that are mapped; those of further listeners are not."""
    max_body: int = 128 * 1024
    """Bytes of an answer over HTTP (UPnP)."""
    unmap_timeout: float = 1.0
    """Seconds that taking the mappings back may take at the end."""
