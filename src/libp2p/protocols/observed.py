"""Where peers see this host: its addresses behind a NAT. The counting is pure; the service follows the host's events.

    identify of a peer: observed_addr --> Observations --> own addresses, source OBSERVED

Rules:
- An observer is an IPv4 address or an IPv6 network of 56 bits, however many peers it has: lying costs addresses.
- Only connections from, or to, a port that the host listens on tell something: others are seen at a port of their own.
- What was observed is gone with the connection it was observed on.
- An address is announced once enough observers have seen it, and of those with the same listener only the best few.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_network
from typing import Any

from ..connection import Connection, Service
from ..host import Host
from ..host.addrs import AddrSource
from ..host.identify import PeerIdentified
from ..multiaddr import Multiaddr, Reach, ip_of, is_relayed, may_share
from ..swarm.events import ConnectionLost


@dataclass(frozen=True, slots=True)
class ObservedConfig:
    """When an address that peers see is believed."""

    min_observers: int = 4
    """Observers that an address needs to be announced. Small networks need fewer."""
    max_addrs_per_listener: int = 3
    """Addresses that are announced for one port of ours; those with the most observers."""
    min_kind_observers: int = 2
    """Observers that must agree for the kind of the NAT to be told; that all differ takes one more."""
    reach: Reach = Reach.PUBLIC
    """How far an address must lead to count. Nearer than `PUBLIC` is for networks that are private as a whole."""


class NatKind(Enum):
    """What peers see of the port that a host listens on."""

    UNKNOWN = "unknown"
    NONE = "none"
    """The very address that it listens on: there is no NAT."""
    CONE = "cone"
    """One address, whoever sees it (endpoint-independent mapping): holes can be punched."""
    SYMMETRIC = "symmetric"
    """Each one another (address-dependent mapping): what one has seen is of no use to others."""


@dataclass(frozen=True, slots=True)
class NatKindChanged:
    """The kind of NAT that the host is behind is known anew."""

    transport: str
    """tcp or udp: a NAT may treat them differently."""
    kind: NatKind


class Observations:
    """What was seen, by the connections on which it was."""

    def __init__(self, config: ObservedConfig) -> None:
        self._config = config
        self._seen: dict[object, tuple[Multiaddr, Multiaddr, str]] = {}

    def add(self, key: object, listener: Multiaddr, observed: Multiaddr, observer: Multiaddr) -> None:
        """On the connection `key` the peer at `observer` sees us, who listen at `listener`, as `observed`."""
        ip = ip_of(observer)
        if ip is not None:
            network = ip_network((ip, 32 if ip.version == 4 else 56), strict=False)
            self._seen[key] = listener, observed, str(network)

    def remove(self, key: object) -> None:
        """The connection has ended."""
        self._seen.pop(key, None)

    def addrs(self, min_observers: int | None = None) -> list[Multiaddr]:
        """Those that enough have seen, the best of each listener."""
        least = self._config.min_observers if min_observers is None else min_observers
        observers = Counter((listener, addr) for listener, addr, _ in set(self._seen.values()))
        taken: Counter[Multiaddr] = Counter()
        found: dict[Multiaddr, None] = {}
        for (listener, addr), count in observers.most_common():
            if count >= least and taken[listener] < self._config.max_addrs_per_listener:
                taken[listener] += 1
                found[addr] = None
        return list(found)

    def kind(self, transport: str, listened: Collection[Multiaddr]) -> NatKind:
        """The kind of NAT, by the ports of `transport`, tcp or udp, of a host that listens on `listened`."""
        seen = {one for one in self._seen.values() if one[0].get(transport) is not None}
        observers = Counter((listener, addr) for listener, addr, _ in seen)
        if not observers:
            return NatKind.UNKNOWN
        ((_, best), count), least = observers.most_common(1)[0], self._config.min_kind_observers
        if count >= least:
            return NatKind.NONE if best in listened else NatKind.CONE
        listeners = Counter(listener for listener, _, _ in seen)
        alone = count == 1 and listeners.most_common(1)[0][1] > least
        return NatKind.SYMMETRIC if alone else NatKind.UNKNOWN


class ObservedAddrs(Service):
    """Tells the host where peers see it; without `announce`, only who asks for `candidates`."""

    def __init__(self, host: Host, config: ObservedConfig | None = None, *, announce: bool = True) -> None:
        super().__init__(host)
        self._announce = announce
        self._own = host.own_addrs
        self._config = config or ObservedConfig()
        self._observations = Observations(self._config)
        self._kinds = dict.fromkeys(("tcp", "udp"), NatKind.UNKNOWN)

    async def start(self) -> None:
        """Follow what peers say."""
        self.follow(PeerIdentified, self._identified)
        self.follow(ConnectionLost, self._lost)

    def abort(self) -> set[asyncio.Task[Any]]:
        """See `Service`: nothing that was observed is announced any more."""
        if self._announce:
            self._own.set(AddrSource.OBSERVED, (), by="observers")
        return super().abort()

    @property
    def nat_kinds(self) -> dict[str, NatKind]:
        """The kind of NAT, for tcp and udp. A change is told by `NatKindChanged`, where addresses are announced."""
        return dict(self._kinds)

    def candidates(self) -> list[Multiaddr]:
        """Addresses that one peer at least has seen: good enough to be tried."""
        return self._observations.addrs(min_observers=1)

    def _identified(self, event: PeerIdentified) -> None:
        observed = event.info.observed_addr
        if observed is None or is_relayed(observed) or is_relayed(event.connection.remote_addr):
            return
        listener = self._listener_of(event.connection)
        if listener is None or not may_share(observed, self._config.reach) or _kind(observed) != _kind(listener):
            return
        self._observations.add(event.connection, listener, observed, event.connection.remote_addr)
        self._changed()

    def _lost(self, event: ConnectionLost) -> None:
        self._observations.remove(event.connection)
        self._changed()

    def _changed(self) -> None:
        if not self._announce:
            return
        listened = set(self.host.listen_addrs)
        addrs = [addr for addr in self._observations.addrs() if addr not in listened]
        self._own.set(AddrSource.OBSERVED, addrs, by="observers")
        for transport, before in self.nat_kinds.items():
            kind = self._kinds[transport] = self._observations.kind(transport, listened)
            if kind is not before:
                self.host.events.emit(NatKindChanged(transport, kind))

    def _listener_of(self, connection: Connection) -> Multiaddr | None:
        """Where we listen with the port that the connection has here."""
        port = _port(connection.local_addr)
        for addr in self.host.listen_addrs:
            if _kind(addr) == _kind(connection.local_addr) and _port(addr) == port:
                return addr
        return None


def _kind(addr: Multiaddr) -> tuple[str, ...]:
    return tuple(component.name for component in addr)


def _port(addr: Multiaddr) -> str | None:
    return addr.get("tcp") or addr.get("udp")
