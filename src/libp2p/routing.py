"""Routers: whoever finds peers, content or values in a network. The interfaces: a DHT, a rendezvous point, mDNS, an
HTTP service or a user's own class implement those that they can.

    PeerRouting      peer id -> addresses            what `host.connect(peer_id)` asks
    ContentRouting   CID -> peers that have it       and the other way: "I have it"
    ValueStore       key -> value                    signed, or checked otherwise, by the rules of the key's namespace
    Discovery        namespace -> peers in it        and "I am in it"

Rules: every call can be cancelled; a router that does not know raises `RoutingError` or yields nothing; nothing that a
router says of a peer is proven before a connection to it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .cid import Cid
from .identity import PeerId
from .multiaddr import Multiaddr


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A peer, and where it is said to be; the addresses without its id at their end."""

    peer: PeerId
    addrs: tuple[Multiaddr, ...] = ()

    def __str__(self) -> str:
        return f"{self.peer} at {', '.join(map(str, self.addrs)) or 'no known address'}"


@dataclass(frozen=True, slots=True)
class PeerDiscovered:
    """Event: a peer was found by a discovery service (mDNS, rendezvous, a DHT), whose name is `source`. Its addresses
    are in the peer store; nobody has connected to it for that reason yet."""

    info: PeerInfo
    source: str


@runtime_checkable
class PeerRouting(Protocol):
    """Finds the addresses of peers."""

    async def find_peer(self, peer: PeerId) -> PeerInfo:
        """Where `peer` is, one address at least. Raises `RoutingError` where it is not found.

        A router that knows how far away its sources are puts the addresses into the peer store itself; of one that does
        not the host takes public addresses only.
        """
        ...


@runtime_checkable
class ContentRouting(Protocol):
    """Finds who has content."""

    async def provide(self, cid: Cid) -> None:
        """Tell others that this peer has the content, and keep on telling them. Raises `RoutingError`."""
        ...

    def find_providers(self, cid: Cid, *, limit: int = 20) -> AsyncIterator[PeerInfo]:
        """Peers that have the content, each once, as they are found: `limit` at most, 0 for all that can be found."""
        ...


@runtime_checkable
class ValueStore(Protocol):
    """Keeps small values, each under a key `/<namespace>/...` whose namespace says which values are valid."""

    async def put_value(self, key: bytes, value: bytes) -> None:
        """Store `value`. Raises `InvalidRecord` for one that the namespace's rules forbid, `RoutingError`."""
        ...

    async def get_value(self, key: bytes) -> bytes:
        """The best value that is found. Raises `RoutingError` where there is none."""
        ...


@runtime_checkable
class Discovery(Protocol):
    """Finds peers that are interested in the same: what pubsub asks for peers of a topic."""

    async def advertise(self, namespace: str) -> float:
        """Say that this peer is in `namespace`; return the seconds after which that should be said again."""
        ...

    def find_peers(self, namespace: str, *, limit: int = 20) -> AsyncIterator[PeerInfo]:
        """Peers in `namespace`, each once, as they are found; never this peer itself. `limit` as in
        `ContentRouting.find_providers`.
        """
        ...


_UNROUTED: ContextVar[bool] = ContextVar("unrouted", default=False)


@contextmanager
def unrouted() -> Iterator[None]:
    """Within it `host.connect` asks no router: for routers themselves, whose dials must not ask them again."""
    token = _UNROUTED.set(True)
    try:
        yield
    finally:
        _UNROUTED.reset(token)


def is_unrouted() -> bool:
    """Whether this is within `unrouted`."""
    return _UNROUTED.get()
