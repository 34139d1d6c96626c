"""What a relay has promised, and what it carries. Pure: time comes in as `now`, in seconds.

    reserve ------> a reservation -- expires, or the peer leaves
    open_circuit -> a Circuit ------ released

Rules:
- A renewal takes no second place.
- Who asks too often, or is one too many of its network, is refused before anything is kept of it.
- IPv6 peers count by networks, as one subscriber has many addresses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TypeAlias, TypeVar

from ...errors import Libp2pError
from ...identity import PeerId
from ...io.rates import Rates
from .config import RelayConfig
from .wire import Status, status_name

K = TypeVar("K")

Ip: TypeAlias = IPv4Address | IPv6Address


class RelayRefused(Libp2pError):
    """A relay does not do what it was asked for. `status` is a `Status`, as far as it is known."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status_name(status)}: {text}")
        self.status = status


def network_of(ip: Ip | None, bits4: int, bits6: int) -> str:
    """The network that an address is counted by; "" for one of no network, such as of a pipe in this process."""
    if ip is None:
        return ""
    return str(ip_network((ip, bits4 if ip.version == 4 else bits6), strict=False))


@dataclass(frozen=True, slots=True)
class _Reserved:
    until: float
    ip: str
    prefix: str


class Circuit:
    """A place for one relayed connection."""

    __slots__ = ("_release", "source", "target")

    def __init__(self, source: PeerId, target: PeerId, release: Callable[[Circuit], None]) -> None:
        self.source = source
        self.target = target
        self._release: Callable[[Circuit], None] | None = release

    def release(self) -> None:
        """Give the place back. Idempotent."""
        release, self._release = self._release, None
        if release is not None:
            release(self)


class RelayBook:
    """The reservations and circuits of one relay."""

    def __init__(self, config: RelayConfig) -> None:
        self._config = config
        self._reserved: dict[PeerId, _Reserved] = {}
        self._of_ip: Counter[str] = Counter()
        self._of_prefix: Counter[str] = Counter()
        self._circuits = 0
        self._circuits_of: Counter[PeerId] = Counter()
        self._rates = {
            kind: (Rates(config.peer_burst, config.peer_interval), Rates(config.ip_burst, config.ip_interval))
            for kind in ("reservations", "connections")
        }

    @property
    def reservations(self) -> list[PeerId]:
        """Who has one, expired ones included until the next look."""
        return list(self._reserved)

    @property
    def circuits(self) -> int:
        """How many places are taken."""
        return self._circuits

    def reserve(self, peer: PeerId, ip: Ip | None, now: float) -> float:
        """Take connections for `peer`, which is at `ip`; return until when. Raises `RelayRefused`."""
        config = self._config
        self._check_rate("reservations", peer, ip, now, Status.RESERVATION_REFUSED)
        self.expire(now)
        before = self._reserved.get(peer)
        self.leave(peer)
        new = _Reserved(now + config.reservation_ttl, network_of(ip, 32, 56), network_of(ip, 24, 48))
        for what, taken, limit in (
            ("max_reservations", len(self._reserved), config.max_reservations),
            ("max_reservations_per_ip", self._of_ip[new.ip], config.max_reservations_per_ip),
            ("max_reservations_per_prefix", self._of_prefix[new.prefix], config.max_reservations_per_prefix),
        ):
            if taken >= limit:
                if before is not None:
                    self._keep(peer, before)
                raise RelayRefused(Status.RESERVATION_REFUSED, f"{what} of {limit} reached")
        self._keep(peer, new)
        return new.until

    def has_reserved(self, peer: PeerId, now: float) -> bool:
        """Whether connections to `peer` are taken."""
        found = self._reserved.get(peer)
        return found is not None and found.until > now

    def leave(self, peer: PeerId) -> None:
        """`peer` has gone: its reservation has ended."""
        if (gone := self._reserved.pop(peer, None)) is not None:
            _less(self._of_ip, gone.ip)
            _less(self._of_prefix, gone.prefix)

    def expire(self, now: float) -> None:
        """Drop what is over."""
        for peer in [peer for peer, reserved in self._reserved.items() if reserved.until <= now]:
            self.leave(peer)

    def open_circuit(self, source: PeerId, ip: Ip | None, target: PeerId, now: float) -> Circuit:
        """A place for a connection from `source`, which is at `ip`, to `target`. Raises `RelayRefused`."""
        config = self._config
        self._check_rate("connections", source, ip, now, Status.RESOURCE_LIMIT_EXCEEDED)
        if not self.has_reserved(target, now):
            raise RelayRefused(Status.NO_RESERVATION, f"{target} has no reservation")
        if self._circuits >= config.max_circuits:
            raise RelayRefused(Status.RESOURCE_LIMIT_EXCEEDED, f"max_circuits of {config.max_circuits} reached")
        for peer in (source, target):
            if self._circuits_of[peer] >= (limit := config.max_circuits_per_peer):
                raise RelayRefused(
                    Status.RESOURCE_LIMIT_EXCEEDED, f"max_circuits_per_peer of {limit} reached for {peer}"
                )
        self._circuits += 1
        self._circuits_of[source] += 1
        self._circuits_of[target] += 1
        return Circuit(source, target, self._released)

    def _check_rate(self, kind: str, peer: PeerId, ip: Ip | None, now: float, status: Status) -> None:
        by_peer, by_ip = self._rates[kind]
        if not by_ip.take(network_of(ip, 32, 56), now):
            raise RelayRefused(status, f"too many {kind} asked for from one network")
        if not by_peer.take(peer, now):
            raise RelayRefused(status, f"too many {kind} asked for")

    def _keep(self, peer: PeerId, reserved: _Reserved) -> None:
        self._reserved[peer] = reserved
        self._of_ip[reserved.ip] += 1
        self._of_prefix[reserved.prefix] += 1

    def _released(self, circuit: Circuit) -> None:
        self._circuits -= 1
        _less(self._circuits_of, circuit.source)
        _less(self._circuits_of, circuit.target)


def _less(counter: Counter[K], key: K) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
