"""Where connections come from: what one prefix has of the host, and how fast it comes. Pure: time comes in as `now`.

    198.51.100.7           /32                       one source
    2001:db8:1:2ff::1      /56 of 2001:db8:1:200::   one source, within that of its /48, which may have twice as much
    .../p2p/R/p2p-circuit  by relay R                one source: the relay answers for whom it lets through
    anything else          a path of this machine    one source, without limits

Rules:
- A source is remembered while it has connections, and until its burst is whole again. Of those without connections the
  oldest are forgotten above a number: an attacker with many prefixes must not fill the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from ...errors import LimitExceeded
from ...multiaddr import Multiaddr, ip_of, is_relayed
from .config import SwarmConfig, networks

_MAX_IDLE = 16384
"""Sources without connections that are remembered."""


class Source:
    """One prefix."""

    __slots__ = ("established", "is_allowed", "is_unlimited", "name", "pending", "scale", "tokens", "updated", "wider")

    def __init__(self, name: str, wider: Source | None, scale: int, burst: int, now: float) -> None:
        self.name = name
        """As it stands in reports: `198.51.100.7/32`."""
        self.wider = wider
        """The prefix that it is a part of."""
        self.scale = scale
        """How many times the limits it may have."""
        self.pending = 0
        """Inbound handshakes under way."""
        self.established = 0
        """Finished inbound connections."""
        self.is_unlimited = False
        self.is_allowed = False
        self.tokens = float(burst * scale)
        self.updated = now

    @property
    def widest(self) -> Source:
        """Itself, or the prefix around it: what is compared when somebody has to go."""
        return self.wider or self

    def chain(self) -> Sequence[Source]:
        """Itself, and what is around it."""
        return (self,) if self.wider is None else (self, self.wider)

    def count(self, *, pending: int = 0, established: int = 0) -> None:
        """Add to what it has, and to what all around it have."""
        for source in self.chain():
            source.pending += pending
            source.established += established


class Sources:
    """All of one host."""

    def __init__(self, config: SwarmConfig) -> None:
        self._config = config
        self._unlimited = networks(config.unlimited_prefixes)
        self._allowed = networks(config.allowed_prefixes)
        self._by_name: dict[str, Source] = {}
        self._sweep_at = _MAX_IDLE

    def __len__(self) -> int:
        return len(self._by_name)

    def of(self, addr: Multiaddr, now: float) -> Source:
        """The source of connections from `addr`."""
        if is_relayed(addr):
            return self._known_or_new(f"relay {_relay_of(addr)}", None, 1, now)
        ip = ip_of(addr)
        if ip is None:
            return self._known_or_new("this machine", None, 1, now, is_unlimited=True)
        is_unlimited, is_allowed = _is_in(ip, self._unlimited), _is_in(ip, self._allowed)
        if ip.version == 4:
            return self._known_or_new(f"{ip}/32", None, 1, now, is_unlimited=is_unlimited, is_allowed=is_allowed)
        wide = self._known_or_new(_prefix(ip.packed, 48), None, 2, now, is_unlimited=is_unlimited)
        return self._known_or_new(
            _prefix(ip.packed, 56), wide, 1, now, is_unlimited=is_unlimited, is_allowed=is_allowed
        )

    def check(self, source: Source, now: float) -> None:
        """Whether `source` may begin a handshake. Raises `LimitExceeded`."""
        config = self._config
        for one in source.chain():
            if one.is_unlimited:
                continue
            if one.pending >= (limit := config.max_pending_per_prefix * one.scale):
                raise LimitExceeded("max_pending_per_prefix", scope=one.name, value=limit)
            self._refill(one, now)
            if one.tokens < 1:
                rate = config.handshakes_per_second * one.scale
                raise LimitExceeded("handshakes_per_second", scope=one.name, value=rate)

    def take(self, source: Source) -> None:
        """It begins one."""
        for one in source.chain():
            if not one.is_unlimited:
                one.tokens -= 1

    def busiest(self, count: int) -> list[Source]:
        """Those with the most connections, finished or not."""
        ordered = sorted(self._by_name.values(), key=lambda source: source.pending + source.established, reverse=True)
        return [source for source in ordered[:count] if source.pending + source.established]

    def _refill(self, source: Source, now: float) -> None:
        config, scale = self._config, source.scale
        grown = source.tokens + (now - source.updated) * config.handshakes_per_second * scale
        source.tokens, source.updated = min(grown, config.handshake_burst * scale), now

    def _known_or_new(
        self,
        name: str,
        wider: Source | None,
        scale: int,
        now: float,
        *,
        is_unlimited: bool = False,
        is_allowed: bool = False,
    ) -> Source:
        source = self._by_name.get(name)
        if source is None:
            if len(self._by_name) >= self._sweep_at:
                self._sweep(now)
            source = self._by_name[name] = Source(name, wider, scale, self._config.handshake_burst, now)
            source.is_unlimited, source.is_allowed = is_unlimited, is_allowed
        return source

    def _sweep(self, now: float) -> None:
        """Forget who has nothing, and has not come for long; of the others without connections all but the newest."""
        idle = []
        for name, source in list(self._by_name.items()):
            if source.pending or source.established:
                continue
            self._refill(source, now)
            if source.tokens >= self._config.handshake_burst * source.scale:
                del self._by_name[name]
            else:
                idle.append(name)
        for name in idle[: max(0, len(idle) - _MAX_IDLE // 2)]:
            del self._by_name[name]
        self._sweep_at = len(self._by_name) + _MAX_IDLE // 2


def _prefix(packed: bytes, bits: int) -> str:
    return str(IPv6Network((packed[: bits // 8].ljust(16, b"\0"), bits)))


def _is_in(ip: object, among: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(ip in network for network in among)


def _relay_of(addr: Multiaddr) -> str:
    """The peer id of the relay in front of /p2p-circuit."""
    relay = ""
    for component in addr.components:
        if component.name == "p2p-circuit":
            break
        if component.name == "p2p":
            relay = str(component.value)
    return relay
