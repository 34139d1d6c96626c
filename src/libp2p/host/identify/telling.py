"""What we say of ourselves, and who knows it already.

Rules:
- What a peer is told depends on how far away it is (`multiaddr/reach.py`): a `Snapshot` for each such reach, with a
  signed record of its own.
- The same snapshot is the same object as long as nothing changes, so that who knows it is asked without comparing.
- Records are signed when somebody is told, once for each set of addresses; their numbers rise, across reaches too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from weakref import WeakKeyDictionary

from ...connection import Connection, ServiceHost
from ...multiaddr import Multiaddr, Reach, ip_of, may_share, reach_of_remote
from ...records import PeerRecord
from .config import IdentifyConfig
from .wire import IdentifyInfo, encode


@cache
def _default_agent() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - slow to import

    try:
        return f"py-libp2p/{version('py-libp2p')}"
    except PackageNotFoundError:
        return "py-libp2p"  # run from source, not installed


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What peers at one reach are told of us, as far as it changes."""

    protocols: tuple[str, ...]
    addrs: tuple[Multiaddr, ...]
    record: bytes | None
    """Our signed record, with the same addresses."""


@dataclass(slots=True)
class Acquaintance:
    """What two peers have said to each other on one connection."""

    info: IdentifyInfo | None = None
    """What the other one has said."""
    told: Snapshot | None = None
    """What it was told."""


class Acquaintances:
    """Those of all connections, kept for as long as the connections are. (One weak dictionary takes 800 bytes.)"""

    __slots__ = ("_table",)

    def __init__(self) -> None:
        self._table: WeakKeyDictionary[Connection, Acquaintance] = WeakKeyDictionary()

    def of(self, connection: Connection) -> Acquaintance:
        """The one of `connection`."""
        if (known := self._table.get(connection)) is None:
            known = self._table[connection] = Acquaintance()
        return known


class OwnInfo:
    """What we say of ourselves. `wall_clock` gives the Unix time in nanoseconds; what peers were told is `known`."""

    def __init__(
        self, host: ServiceHost, config: IdentifyConfig, wall_clock: Callable[[], int], known: Acquaintances
    ) -> None:
        self._host = host
        self._config = config
        self._wall_clock = wall_clock
        self._snapshots: dict[Reach, Snapshot] = {}
        self._ips: frozenset[IPv4Address | IPv6Address] | None = None
        self._known = known
        self._seq = 0
        self._stale: dict[Reach, Snapshot] = {}

    def changed(self) -> None:
        """The host's protocols or addresses may not be what they were."""
        self._stale.update(self._snapshots)
        self._snapshots.clear()
        self._ips = None

    @property
    def ips(self) -> frozenset[IPv4Address | IPv6Address]:
        """The IP addresses of this machine, as far as the host listens there."""
        if self._ips is None:
            self._ips = frozenset(ip for addr in self._host.listen_addrs if (ip := ip_of(addr)) is not None)
        return self._ips

    def reach_of(self, connection: Connection) -> Reach:
        """How far away the peer is."""
        return reach_of_remote(connection.remote_addr, own=self.ips)

    def snapshot(self, reach: Reach) -> Snapshot:
        """What peers at `reach` are told now."""
        if (known := self._snapshots.get(reach)) is None:
            known = self._snapshots[reach] = self._take(reach, self._stale.pop(reach, None))
        return known

    def knows(self, connection: Connection) -> bool:
        """Whether the peer has been told what it would be told now."""
        return self._known.of(connection).told == self.snapshot(self.reach_of(connection))

    def message(self, connection: Connection) -> bytes:
        """What to tell the peer now. It counts as told until `forget` says that it was not."""
        reach, agent = self.reach_of(connection), self._config.agent_version
        told = self._known.of(connection).told = self.snapshot(reach)
        return encode(
            IdentifyInfo(
                self._host.id,
                self._host.key.public_key,
                protocol_version=self._config.protocol_version,
                agent_version=_default_agent() if agent is None else agent,
                listen_addrs=told.addrs,
                observed_addr=connection.remote_addr.without_peer(),
                protocols=told.protocols,
                signed_peer_record=told.record,
            )
        )

    def forget(self, connection: Connection) -> None:
        """The peer could not be told."""
        self._known.of(connection).told = None

    def _take(self, reach: Reach, before: Snapshot | None) -> Snapshot:
        own = [addr.without_peer() for addr in self._host.addrs[: self._config.max_addrs]]
        addrs = tuple(addr for addr in own if may_share(addr, reach))
        protocols = tuple(sorted(self._host.protocols))
        record = before.record if before is not None and before.addrs == addrs else self._seal(addrs)
        if before is not None and (before.protocols, before.addrs) == (protocols, addrs):
            return before
        return Snapshot(protocols, addrs, record)

    def _seal(self, addrs: tuple[Multiaddr, ...]) -> bytes | None:
        if not addrs:
            return None
        # A peer that knows a higher seq ignores the record, so it rises even where the clock is set back.
        self._seq = max(self._seq + 1, self._wall_clock())
        return PeerRecord(self._host.id, self._seq, addrs).seal(self._host.key).to_bytes()
