"""The peer store in memory.

Rules here:
- time comes from the `clock` given to the constructor; an address expires at the moment that its time to live ends;
- addresses are kept as bytes, since a `Multiaddr` takes ten times the memory, and read again when asked for;
- a store that holds `max_peers` drops the peer that is worth least before it takes a new one: first those that are
  neither protected nor connected, then those with connected or permanent addresses, of each the one written to longest
  ago; never a protected one;
- a peer that has `max_addrs_per_peer` addresses keeps the most valuable: connected or permanent ones, then those it
  signed itself, then those that live longest.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from types import MappingProxyType

from ..errors import InvalidKey, LimitExceeded
from ..identity import PeerId, PublicKey
from ..multiaddr import Multiaddr, Reach, may_share
from ..records import PeerRecord
from ..texts import shared
from .entry import HELD, IDLE, PeerEntry, StoredAddr
from .interface import MetadataValue, PeerStore


@dataclass(frozen=True, slots=True)
class PeerStoreConfig:
    """Limits of a `MemoryPeerStore`."""

    max_peers: int = 10_000
    """Peers of which anything is known."""
    max_bytes: int = 32 * 1024 * 1024
    """What all entries together may take, about."""
    max_addrs_per_peer: int = 64
    """Addresses of one peer; honest nodes have some 30 at most."""
    max_protocols_per_peer: int = 128
    """Protocols of one peer."""
    max_protocol_length: int = 256
    """Characters of one protocol id."""
    max_metadata_per_peer: int = 32
    """Metadata keys of one peer."""
    max_metadata_size: int = 4096
    """Characters or bytes of one metadata key with its value."""
    max_tags_per_peer: int = 32
    """Owners that protect one peer."""


class MemoryPeerStore(PeerStore):
    """What is known of peers, for as long as the process lives."""

    def __init__(self, config: PeerStoreConfig | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells the time in seconds, from any beginning."""
        self._config = config or PeerStoreConfig()
        self._clock = clock
        self._peers: dict[PeerId, PeerEntry] = {}
        self._size = 0  # of all entries
        # Every peer stands in the order of its rank, the one written to longest ago first.
        self._ranks: tuple[OrderedDict[PeerId, None], ...] = (OrderedDict(), OrderedDict(), OrderedDict())

    # -- entries --

    def _known(self, peer: PeerId) -> PeerEntry | None:
        entry = self._peers.get(peer)
        if entry is not None:
            entry.prune(self._clock())
        return entry

    def _known_or_new(self, peer: PeerId) -> PeerEntry:
        entry = self._known(peer)
        if entry is None:
            if len(self._peers) >= self._config.max_peers:
                self._make_room()
            entry = self._peers[peer] = PeerEntry()
            self._ranks[IDLE][peer] = None
        return entry

    def _make_room(self) -> None:
        for rank in (IDLE, HELD):
            if self._ranks[rank]:
                peer, _ = self._ranks[rank].popitem(last=False)
                entry = self._peers.pop(peer)
                self._size -= entry.size
                self._dropped(peer, entry)
                return
        raise LimitExceeded("max_peers", scope="the peer store, whose peers are all protected", value=len(self._peers))

    def _written(self, peer: PeerId, entry: PeerEntry) -> None:
        """Bring the order up to date after a change; forget the peer where nothing is left."""
        if not entry.addrs:
            entry.record = None
        self._changed(peer)
        if entry.is_empty():
            self._forget(peer)
            return
        rank = entry.current_rank()
        if rank == entry.rank:
            self._ranks[rank].move_to_end(peer)
        else:
            del self._ranks[entry.rank][peer]
            self._ranks[rank][peer] = None
            entry.rank = rank
        self._weigh(entry)
        while self._size > self._config.max_bytes and (self._ranks[IDLE] or self._ranks[HELD]):
            self._make_room()
        if self._size > self._config.max_bytes:  # all are protected
            entry.record, entry.protocols, entry.metadata = None, (), None
            self._weigh(entry)

    def _weigh(self, entry: PeerEntry) -> None:
        before, entry.size = entry.size, entry.measure()
        self._size += entry.size - before

    # -- for stores that keep more than this one --

    def _changed(self, peer: PeerId) -> None:
        """What is known of `peer` is not what it was."""

    def _dropped(self, peer: PeerId, entry: PeerEntry) -> None:
        """`peer` was dropped to make room."""

    # -- addresses --

    def add_addrs(self, peer: PeerId, addrs: Iterable[Multiaddr], ttl: float, *, told: Reach | None = None) -> None:
        if ttl > 0 and (encoded := _encode(peer, addrs, told)):
            entry = self._known_or_new(peer)
            self._add(entry, encoded, ttl, told, certified=False)
            self._written(peer, entry)

    def _add(
        self, entry: PeerEntry, addrs: Iterable[bytes], ttl: float, told: Reach | None, *, certified: bool
    ) -> None:
        expiry = self._clock() + ttl
        for encoded in addrs:
            known = entry.addrs.get(encoded)
            if known is None:
                entry.put(encoded, StoredAddr(ttl, expiry, certified, told), self._config.max_addrs_per_peer)
            else:
                known.ttl = max(known.ttl, ttl)
                known.expiry = max(known.expiry, expiry)
                known.certified = known.certified or certified
                known.told = None if known.told is None or told is None else min(known.told, told)

    def set_addrs(self, peer: PeerId, addrs: Iterable[Multiaddr], ttl: float) -> None:
        encoded = _encode(peer, addrs)
        entry = self._known_or_new(peer) if encoded and ttl > 0 else self._known(peer)
        if entry is None:
            return
        expiry = self._clock() + ttl
        for addr in encoded:
            known = entry.addrs.get(addr)
            if ttl > 0:
                new = StoredAddr(ttl, expiry, known.certified if known else False, None)
                entry.put(addr, new, self._config.max_addrs_per_peer)
            elif known is not None:
                del entry.addrs[addr]
        self._written(peer, entry)

    def update_addrs(self, peer: PeerId, old_ttl: float, new_ttl: float) -> None:
        entry = self._known(peer)
        if entry is None:
            return
        expiry = self._clock() + new_ttl
        for encoded, addr in list(entry.addrs.items()):
            if addr.ttl != old_ttl:
                continue
            if new_ttl > 0:
                new = StoredAddr(new_ttl, expiry, addr.certified, addr.told)
                entry.put(encoded, new, self._config.max_addrs_per_peer)
            else:
                del entry.addrs[encoded]
        self._written(peer, entry)

    def addrs(self, peer: PeerId) -> list[Multiaddr]:
        entry = self._known(peer)
        if entry is None:
            return []
        ordered = sorted(entry.addrs, key=lambda encoded: not entry.addrs[encoded].certified)
        return [Multiaddr.from_bytes(encoded) for encoded in ordered]

    def told_over(self, peer: PeerId, addr: Multiaddr) -> Reach | None:
        entry = self._known(peer)
        known = entry.addrs.get(addr.without_peer().to_bytes()) if entry is not None else None
        return known.told if known is not None else None

    def certified_addrs(self, peer: PeerId) -> list[Multiaddr]:
        entry = self._known(peer)
        if entry is None:
            return []
        return [Multiaddr.from_bytes(encoded) for encoded, addr in entry.addrs.items() if addr.certified]

    def clear_addrs(self, peer: PeerId) -> None:
        if (entry := self._known(peer)) is not None:
            entry.addrs.clear()
            self._written(peer, entry)

    def consume_peer_record(
        self, envelope: bytes, ttl: float, *, told: Reach = Reach.PUBLIC, expected_peer: PeerId | None = None
    ) -> bool:
        record = PeerRecord.open(envelope, expected_peer=expected_peer)
        peer = record.peer_id
        entry = self._known(peer)
        if entry is not None and record.seq < entry.seq:
            return False
        addrs = _encode(peer, record.addrs, told) if ttl > 0 else []
        if entry is None:
            if not addrs:
                return True
            entry = self._known_or_new(peer)
        kept = frozenset(addrs)
        for encoded, addr in list(entry.addrs.items()):
            if addr.certified and encoded not in kept:
                addr.certified = False
                if not addr.held:
                    del entry.addrs[encoded]
        entry.record, entry.seq = bytes(envelope), record.seq
        self._add(entry, addrs, ttl, told, certified=True)
        self._written(peer, entry)
        return True

    def peer_record(self, peer: PeerId) -> bytes | None:
        entry = self._known(peer)
        return entry.record if entry is not None else None

    # -- keys, protocols, metadata --

    def key(self, peer: PeerId) -> PublicKey | None:
        entry = self._known(peer)
        if entry is not None and entry.key is not None:
            return entry.key
        try:
            return peer.extract_public_key()
        except InvalidKey:
            return None  # the id embeds what is no key: nobody can have it

    def add_key(self, peer: PeerId, key: PublicKey) -> None:
        if not peer.matches(key):
            raise InvalidKey(f"the key of {key.peer_id} was given for {peer}")
        if self.key(peer) is None:
            entry = self._known_or_new(peer)
            entry.key = key
            self._written(peer, entry)

    def protocols(self, peer: PeerId) -> tuple[str, ...]:
        entry = self._known(peer)
        return entry.protocols if entry is not None else ()

    def set_protocols(self, peer: PeerId, protocols: Iterable[str]) -> None:
        limits = self._config
        announced = tuple(islice(protocols, limits.max_protocols_per_peer + 1))
        if len(announced) > limits.max_protocols_per_peer:
            raise LimitExceeded("max_protocols_per_peer", scope=str(peer), value=limits.max_protocols_per_peer)
        if any(len(protocol) > limits.max_protocol_length for protocol in announced):
            raise LimitExceeded("max_protocol_length", scope=str(peer), value=limits.max_protocol_length)
        entry = self._known_or_new(peer) if announced else self._known(peer)
        if entry is not None:
            # Peers announce much the same protocols: one string serves all.
            entry.protocols = tuple(dict.fromkeys(shared(str(protocol)) for protocol in announced))
            self._written(peer, entry)

    def supported(self, peer: PeerId, *protocols: str) -> tuple[str, ...]:
        announced = self.protocols(peer)
        return tuple(protocol for protocol in protocols if protocol in announced)

    def metadata(self, peer: PeerId) -> Mapping[str, MetadataValue]:
        entry = self._known(peer)
        return MappingProxyType(entry.metadata if entry is not None and entry.metadata is not None else {})

    def set_metadata(self, peer: PeerId, key: str, value: MetadataValue) -> None:
        limits = self._config
        if len(key) + (len(value) if isinstance(value, str | bytes) else 0) > limits.max_metadata_size:
            raise LimitExceeded("max_metadata_size", scope=str(peer), value=limits.max_metadata_size)
        known = self.metadata(peer)
        if key not in known and len(known) >= limits.max_metadata_per_peer:
            raise LimitExceeded("max_metadata_per_peer", scope=str(peer), value=limits.max_metadata_per_peer)
        entry = self._known_or_new(peer)
        if entry.metadata is None:
            entry.metadata = {}
        entry.metadata[shared(str(key))] = value
        self._written(peer, entry)

    # -- peers --

    def peers(self) -> list[PeerId]:
        self.clear_expired()
        return list(self._peers)

    def protect(self, peer: PeerId, tag: str) -> None:
        tags, limit = self.protections(peer), self._config.max_tags_per_peer
        if len(tags | {tag}) > limit:
            raise LimitExceeded("max_tags_per_peer", scope=str(peer), value=limit)
        entry = self._known_or_new(peer)
        entry.tags = _shared(tags | {tag})
        self._written(peer, entry)

    def unprotect(self, peer: PeerId, tag: str) -> bool:
        if (entry := self._known(peer)) is None:
            return False
        entry.tags = _shared(entry.tags - {tag})
        self._written(peer, entry)
        return bool(entry.tags)

    def protections(self, peer: PeerId) -> frozenset[str]:
        entry = self._known(peer)
        return entry.tags if entry is not None else frozenset()

    def remove(self, peer: PeerId) -> None:
        self._forget(peer)

    def _forget(self, peer: PeerId) -> None:
        if (entry := self._peers.pop(peer, None)) is not None:
            del self._ranks[entry.rank][peer]
            self._size -= entry.size

    def clear_expired(self) -> int:
        now = self._clock()
        expired = 0
        for peer, entry in list(self._peers.items()):
            expired += entry.prune(now)
            if entry.is_empty():
                self._forget(peer)
        return expired


@lru_cache(maxsize=64)
def _shared(tags: frozenset[str]) -> frozenset[str]:
    """One set for all peers with the same tags."""
    return tags


def _encode(peer: PeerId, addrs: Iterable[Multiaddr], told: Reach | None = None) -> list[bytes]:
    """The addresses as they are stored: without the peer's own id; none of other peers, none empty, and none that who
    told us must not lead us to.
    """
    encoded = []
    for addr in addrs:
        target = addr.peer_id_text
        if target is not None and target != str(peer):
            continue
        if told is not None and not may_share(addr, told):
            continue
        if stored := addr.without_peer().to_bytes():
            encoded.append(stored)
    return encoded
