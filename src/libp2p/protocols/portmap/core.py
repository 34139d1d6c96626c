"""Which ports are to be mapped, when each is renewed, and whether a gateway was restarted. Pure: time comes in as
`now`, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from ...multiaddr import Multiaddr
from .config import PortMapConfig

_SLACK = 2.0
"""Seconds that an epoch may lag, beside an eighth of the time (RFC 6887, 8.5)."""
_MIN_LIFETIME = 20.0
"""Seconds: a gateway that gives less is not asked more often than this allows."""


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A port of this machine."""

    transport: str
    """tcp or udp."""
    number: int


@dataclass(frozen=True, slots=True)
class Mapped:
    """A port of the gateway that leads to one of ours."""

    external_ip: IPv4Address
    external_port: int
    lifetime: float
    """Seconds; 0: without an end."""


def ports_of(addrs: Iterable[Multiaddr], local_ip: IPv4Address) -> dict[Port, list[Multiaddr]]:
    """The ports on which `addrs`, where the host listens, use `local_ip`."""
    found: dict[Port, list[Multiaddr]] = {}
    for addr in addrs:
        port = addr.get("tcp") or addr.get("udp")
        if addr.get("ip4") == str(local_ip) and port is not None and int(port):
            found.setdefault(Port("tcp" if addr.get("tcp") else "udp", int(port)), []).append(addr)
    return found


def outside(addr: Multiaddr, mapped: Mapped) -> Multiaddr:
    """`addr` as it is seen from outside."""
    made = Multiaddr(f"/ip4/{mapped.external_ip}/{addr[1].name}/{mapped.external_port}")
    return made / addr[2:] if len(addr) > 2 else made


class Epoch:
    """The gateway's clock: seconds since it has started."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None

    def is_restarted(self, epoch: float, now: float) -> bool:
        """Whether the gateway has forgotten all mappings since it was last heard of: it now says `epoch`."""
        last, self._last = self._last, (epoch, now)
        if last is None:
            return False
        before, at = last
        return epoch + _SLACK < before + (now - at) * 7 / 8


@dataclass(slots=True)
class _Lease:
    mapped: Mapped | None = None
    due: float = 0.0
    refusals: int = 0


@dataclass(slots=True)
class Leases:
    """The mappings that are wanted, and those that there are."""

    config: PortMapConfig
    _leases: dict[Port, _Lease] = field(default_factory=dict)

    @property
    def mapped(self) -> dict[Port, Mapped]:
        """Those that there are."""
        return {port: one.mapped for port, one in self._leases.items() if one.mapped is not None}

    def want(self, ports: Iterable[Port]) -> list[tuple[Port, Mapped]]:
        """These are wanted; what was mapped of others, and is to be taken back."""
        wanted = sorted(set(ports))[: self.config.max_mappings]
        gone = [(port, mapped) for port, mapped in self.mapped.items() if port not in wanted]
        self._leases = {port: self._leases.get(port) or _Lease() for port in wanted}
        return gone

    def due(self, now: float) -> list[Port]:
        """The ports to ask for now."""
        return [port for port, one in self._leases.items() if one.due <= now]

    def next_at(self) -> float | None:
        """When the next one is due."""
        return min((one.due for one in self._leases.values()), default=None)

    def external_port(self, port: Port) -> int:
        """The external port to ask for: the one that it had, else the same number."""
        mapped = self._leases[port].mapped
        return port.number if mapped is None else mapped.external_port

    def made(self, port: Port, mapped: Mapped, now: float) -> None:
        """The gateway has mapped it, anew or again."""
        lifetime = mapped.lifetime or self.config.lifetime
        if port in self._leases:
            self._leases[port] = _Lease(mapped, now + max(lifetime, _MIN_LIFETIME) / 2)

    def refused(self, port: Port, now: float) -> None:
        """The gateway has said no; it may have meant only this moment, so the pause begins short, and doubles."""
        if (lease := self._leases.get(port)) is not None:
            pause = min(self.config.first_refused_pause * 2.0**lease.refusals, self.config.refused_pause)
            self._leases[port] = _Lease(None, now + pause, min(lease.refusals + 1, 30))

    def forgotten(self) -> None:
        """The gateway has forgotten all: each is due now."""
        for one in self._leases.values():
            one.due = 0.0

    def clear(self) -> None:
        """There is no gateway any more."""
        for port in self._leases:
            self._leases[port] = _Lease()
