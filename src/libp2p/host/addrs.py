"""The addresses of a host itself: one owner, whoever finds them out.

    listened     where its transports listen (the swarm tells); a wildcard counts as the machine's addresses
    mapped       where a router leads to it (UPnP, PCP)
    observed     where peers see it
    relayed      where relays take connections for it
    announced    what the user says: instead of all those, or beside them

Rules:
- Who finds addresses sets all that it has found, under its own name, and takes them back by setting none.
- What is not to be announced is told to nobody, whoever found it.
- Every change is told by one event, `AddrsChanged`, once; between two changes the list is the same object.
- Nobody makes the list grow without bound: see `AddrsConfig`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Network, IPv6Network, ip_network

from ..errors import InvalidInput
from ..events import EventBus
from ..identity import PeerId
from ..multiaddr import Multiaddr, ip_of
from .events import AddrsChanged


class AddrSource(IntEnum):
    """How an address of the host was found, in the order in which they are told."""

    LISTENED = 0
    MAPPED = 1
    OBSERVED = 2
    RELAYED = 3
    ANNOUNCED = 4


@dataclass(frozen=True, slots=True)
class AddrsConfig:
    """Which of its addresses a host tells others."""

    announce: Sequence[Multiaddr | str] = ()
    """These instead of all that are found; empty: those that are found."""
    also_announce: Sequence[Multiaddr | str] = ()
    """These beside them."""
    no_announce: Sequence[Multiaddr | str] = ()
    """None of these: addresses, or networks such as `10.0.0.0/8` and `fd00::/8`, none of whose addresses is told."""
    max_per_source: int = 64
    """Addresses that one who finds them may set; more are dropped."""
    max_addrs: int = 128
    """Addresses in all; more are dropped, those found last."""


class OwnAddrs:
    """The addresses of a host."""

    def __init__(
        self,
        peer: PeerId,
        events: EventBus,
        listened: Callable[[], Iterable[Multiaddr]],
        config: AddrsConfig | None = None,
    ) -> None:
        """`listened` tells where the host listens now. Raises `InvalidInput` and `InvalidMultiaddr` for settings that
        can't be read.
        """
        self._peer = str(peer)
        self._events = events
        self._listened = listened
        self._config = config = config or AddrsConfig()
        self._announce = _bare(map(Multiaddr, config.announce))
        self._also = _bare(map(Multiaddr, config.also_announce))
        self._hidden_addrs, self._hidden_networks = _hidden(config.no_announce)
        self._found: dict[tuple[AddrSource, str], tuple[Multiaddr, ...]] = {}
        self._listening: tuple[Multiaddr, ...] = ()
        self._addrs: tuple[Multiaddr, ...] = ()
        self._with_peer: tuple[Multiaddr, ...] = ()
        self.refresh()

    @property
    def bare(self) -> tuple[Multiaddr, ...]:
        """What others are told, without a peer id."""
        return self._addrs

    @property
    def with_peer(self) -> tuple[Multiaddr, ...]:
        """The same with the host's peer id: what others dial. An address that ends in a path (/unix) has no room for
        it.
        """
        return self._with_peer

    def found(self, source: AddrSource) -> tuple[Multiaddr, ...]:
        """What was found by `source`, whether it is told or not."""
        if source is AddrSource.LISTENED:
            return self._listening
        if source is AddrSource.ANNOUNCED:
            return tuple(dict.fromkeys((*self._announce, *self._also)))
        found = (addrs for (kind, _), addrs in self._found.items() if kind is source)
        return tuple(dict.fromkeys(addr for addrs in found for addr in addrs))

    def set(self, source: AddrSource, addrs: Iterable[Multiaddr], *, by: str) -> None:
        """These, and no others, are what `by` has found by `source`: mapped, observed or relayed addresses. Raises
        `InvalidInput` for another source.
        """
        if source in (AddrSource.LISTENED, AddrSource.ANNOUNCED):
            raise InvalidInput(f"{source.name.lower()} addresses are not found: the host has them")
        kept = tuple(_bare(addrs))[: self._config.max_per_source]
        if kept:
            self._found[source, by] = kept
        else:
            self._found.pop((source, by), None)
        self.refresh()

    def refresh(self) -> None:
        """Look again at what there is, and tell of a change."""
        self._listening = tuple(self._listened())
        before, now = self._addrs, tuple(self._told())
        if now == before:
            return
        self._addrs = now
        self._with_peer = tuple(addr if addr[-1].protocol.path else addr.with_peer(self._peer) for addr in now)
        added = tuple(addr for addr in now if addr not in before)
        removed = tuple(addr for addr in before if addr not in now)
        self._events.emit(AddrsChanged(now, added, removed))

    def _told(self) -> list[Multiaddr]:
        sources = (AddrSource.ANNOUNCED,) if self._announce else AddrSource
        addrs = _bare(addr for source in sources for addr in self.found(source))
        return [addr for addr in addrs if not self._is_hidden(addr)][: self._config.max_addrs]

    def _is_hidden(self, addr: Multiaddr) -> bool:
        ip = ip_of(addr)
        return addr in self._hidden_addrs or (
            ip is not None and any(ip in network for network in self._hidden_networks)
        )


def _bare(addrs: Iterable[Multiaddr]) -> list[Multiaddr]:
    """Without a peer id at their ends; each once, none empty."""
    return list(dict.fromkeys(bare for addr in addrs if len(bare := addr.without_peer())))


def _hidden(texts: Iterable[Multiaddr | str]) -> tuple[frozenset[Multiaddr], tuple[IPv4Network | IPv6Network, ...]]:
    addrs: list[Multiaddr] = []
    networks: list[IPv4Network | IPv6Network] = []
    for text in texts:
        if isinstance(text, Multiaddr) or text.startswith("/"):
            addrs.append(Multiaddr(text).without_peer())
            continue
        try:
            networks.append(ip_network(text))
        except ValueError as error:
            raise InvalidInput(f"no_announce: {error}") from error
    return frozenset(addrs) if addrs else _NO_ADDRS, tuple(networks)


_NO_ADDRS: frozenset[Multiaddr] = frozenset()  # one for all hosts: it takes 200 bytes
