"""The peer store: what is known of other peers. The interface, which every store implements, and the times to live.

Rules here: what is known of a peer is read and changed at once, in memory; a store that keeps it elsewhere too (`load`,
`flush`) does that behind these calls; what is known of a peer is bounded, and so is the number of peers; a
signed record is verified where it enters. Times to live are in seconds, named and sized as in go-libp2p.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self, TypeAlias

from ..identity import PeerId, PublicKey
from ..multiaddr import Multiaddr, Reach

ADDRESS_TTL = 3600.0
"""An address without better knowledge."""

TEMP_ADDR_TTL = 120.0
"""An address heard of by the way, from a third peer."""

PROVIDER_ADDR_TTL = 86_400.0
"""An address of a peer that provides content in the DHT."""

RECENTLY_CONNECTED_ADDR_TTL = 900.0
"""An address of a peer that we were connected to until now."""

OWN_OBSERVED_ADDR_TTL = 1800.0
"""An address of our own that peers see us at."""

CONNECTED_ADDR_TTL = sys.float_info.max
"""An address of a peer that we are connected to; set to another time to live when the connection ends."""

PERMANENT_ADDR_TTL = math.inf
"""An address that the user gave, such as a bootstrap node's."""

MetadataValue: TypeAlias = str | bytes | int | float | bool


class PeerStore(ABC):
    """What is known of peers. Every method is harmless for a peer that is not known, and returns what is empty."""

    @abstractmethod
    def add_addrs(self, peer: PeerId, addrs: Iterable[Multiaddr], ttl: float, *, told: Reach | None = None) -> None:
        """Add addresses for `ttl` seconds; never shortens the life of one that is known.

        A `/p2p/<peer>` at the end is left out; addresses that lead to another peer, and empty ones, are skipped.

        `told` says how far away the peer is from whom we have them: those that it must not lead us to are skipped
        (`multiaddr.may_share`), and a dial judges the others again. None is for what no peer could make up: what the
        user gave, and where a connection has led.
        """

    @abstractmethod
    def told_over(self, peer: PeerId, addr: Multiaddr) -> Reach | None:
        """How far away the nearest peer is that told us of a known address; None where it is not by hearsay."""

    @abstractmethod
    def set_addrs(self, peer: PeerId, addrs: Iterable[Multiaddr], ttl: float) -> None:
        """As `add_addrs`, but `ttl` holds even where it is shorter than before; 0 or less removes the addresses."""

    @abstractmethod
    def update_addrs(self, peer: PeerId, old_ttl: float, new_ttl: float) -> None:
        """Give the addresses that were stored with `old_ttl` the new one from now on; 0 or less removes them."""

    @abstractmethod
    def addrs(self, peer: PeerId) -> list[Multiaddr]:
        """The addresses that have not expired, those that the peer itself signed first."""

    @abstractmethod
    def certified_addrs(self, peer: PeerId) -> list[Multiaddr]:
        """The addresses in the peer's signed record that have not expired."""

    @abstractmethod
    def clear_addrs(self, peer: PeerId) -> None:
        """Forget the peer's addresses and its signed record."""

    @abstractmethod
    def consume_peer_record(
        self, envelope: bytes, ttl: float, *, told: Reach = Reach.PUBLIC, expected_peer: PeerId | None = None
    ) -> bool:
        """Verify a signed peer record and store its addresses for `ttl` seconds; `told` is as for `add_addrs`.

        False, and nothing stored, where a record with a higher `seq` is known. The same `seq` again renews the times
        to live. Addresses that an older record held and this one does not are dropped, unless in use by a connection.
        Raises `InvalidRecord`, also where the record is of another peer than `expected_peer`.
        """

    @abstractmethod
    def peer_record(self, peer: PeerId) -> bytes | None:
        """The envelope of the newest record, as it came, while any address of the peer has not expired."""

    @abstractmethod
    def key(self, peer: PeerId) -> PublicKey | None:
        """The peer's public key: from its id where that embeds it, else as it was added."""

    @abstractmethod
    def add_key(self, peer: PeerId, key: PublicKey) -> None:
        """Store the peer's public key. Raises `InvalidKey` where it is not the key of `peer`."""

    @abstractmethod
    def protocols(self, peer: PeerId) -> tuple[str, ...]:
        """The protocols that the peer announced, in its order."""

    @abstractmethod
    def set_protocols(self, peer: PeerId, protocols: Iterable[str]) -> None:
        """Replace the peer's protocols. Raises `LimitExceeded`, with nothing changed, where they are too many."""

    @abstractmethod
    def supported(self, peer: PeerId, *protocols: str) -> tuple[str, ...]:
        """Those of `protocols` that the peer announced, in the order asked for."""

    @abstractmethod
    def metadata(self, peer: PeerId) -> Mapping[str, MetadataValue]:
        """Whatever else was noted of the peer, such as its agent string under "agent"."""

    @abstractmethod
    def set_metadata(self, peer: PeerId, key: str, value: MetadataValue) -> None:
        """Note something of the peer. Raises `LimitExceeded` for a value too large or a key too many."""

    @abstractmethod
    def peers(self) -> list[PeerId]:
        """Every peer of which anything is known."""

    @abstractmethod
    def protect(self, peer: PeerId, tag: str) -> None:
        """Keep the record of this peer: never drop it to make room, until every tag is taken off again. `tag` names
        who wants that, so that one owner does not end what another one needs. Connections are not kept by this.

        Raises `LimitExceeded` where no other peer can go, and for more than `max_tags_per_peer` tags.
        """

    @abstractmethod
    def unprotect(self, peer: PeerId, tag: str) -> bool:
        """End what `protect` began with the same tag; whether the peer is still protected by others."""

    @abstractmethod
    def protections(self, peer: PeerId) -> frozenset[str]:
        """The tags that keep the peer's record."""

    @abstractmethod
    def remove(self, peer: PeerId) -> None:
        """Forget everything about the peer, its protection too."""

    # Stores that keep peers elsewhere than in memory

    async def open(self) -> None:  # noqa: B027 - in memory there is nothing to do
        """Begin to use the store. Raises `OSError`."""

    async def load(self, peer: PeerId) -> None:  # noqa: B027
        """Have in memory what is known of `peer`, so that the calls above tell of it. Never raises for what can't be
        read: then nothing is known.
        """

    async def recent(self, count: int) -> list[PeerId]:  # noqa: ARG002
        """At most `count` peers that we reached before this store was opened, those of the latest connections first."""
        return []

    async def flush(self) -> None:  # noqa: B027
        """Wait until all that was changed so far is kept, whatever becomes of the process. Raises `OSError`."""

    async def close(self) -> None:  # noqa: B027
        """`flush`, and end the use of the store. Idempotent."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @abstractmethod
    def clear_expired(self) -> int:
        """Drop addresses that have expired, and peers of which nothing else is known; how many addresses went."""
