"""The peer store is bounded in bytes, whatever peers say of themselves."""

from __future__ import annotations

import tracemalloc

from libp2p.identity import PeerId
from libp2p.multiaddr import Multiaddr
from libp2p.multiaddr.multiaddr import _from_binary, _from_text
from libp2p.peerstore import MemoryPeerStore
from libp2p.peerstore.memory import PeerStoreConfig
from libp2p.texts import shared

MIB = 1024 * 1024


def peer(n: int) -> PeerId:
    return PeerId.from_bytes(b"\x12\x20" + n.to_bytes(32, "big"))


def fatten(store: MemoryPeerStore, n: int) -> None:
    """All that identify takes of one peer."""
    addrs = [Multiaddr(f"/ip4/192.0.{n // 256 % 256}.{n % 256}/tcp/{k}/http-path/{'a' * 460}") for k in range(1, 17)]
    store.add_addrs(peer(n), addrs, 600)
    store.set_protocols(peer(n), [f"/{n}/{k}/" + "\N{GRINNING FACE}" * 50 for k in range(30)])
    store.set_metadata(peer(n), "agent", "\N{GRINNING FACE}" * 200)


def test_fat_identities_stay_within_the_limit() -> None:
    store = MemoryPeerStore(PeerStoreConfig(max_bytes=4 * MIB))
    tracemalloc.start()
    try:
        for n in range(500):
            fatten(store, n)
        for cache in (shared, _from_text, _from_binary):  # they are bounded by themselves
            cache.cache_clear()
        assert tracemalloc.get_traced_memory()[0] < 8 * MIB
    finally:
        tracemalloc.stop()
    assert store._size <= 4 * MIB
    assert 50 < len(store.peers()) < 500
    assert store.protocols(peer(499))
    assert not store.protocols(peer(0))
    for one in store.peers():
        store.remove(one)
    assert store._size == 0


def test_where_all_are_connected_who_was_written_last_keeps_its_addresses() -> None:
    store = MemoryPeerStore(PeerStoreConfig(max_bytes=100_000))
    for n in range(10):
        store.protect(peer(n), "connected")
    for n in range(10):
        fatten(store, n)
    assert len(store.peers()) == 10
    assert store.protocols(peer(0))
    assert not store.protocols(peer(9))
    assert len(store.addrs(peer(9))) == 16
