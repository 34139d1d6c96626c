"""The peer store in memory: what it costs."""

import gc
import tracemalloc

from libp2p.identity import PeerId, PrivateKey
from libp2p.peerstore import CONNECTED_ADDR_TTL, MemoryPeerStore, PeerStoreConfig
from libp2p.testing.conformance.peer_stores import Clock, X, addr_number, peer_number, record


def test_a_full_store_stays_quick():
    store = MemoryPeerStore(PeerStoreConfig(max_peers=1000), clock=Clock())
    for number in range(900):
        store.protect(peer_number(number), "us")
    for number in range(900, 20_000):
        store.add_addrs(peer_number(number), [X], 10)
    assert len(store.peers()) == 1000


def test_memory_of_a_connected_peer():
    store = MemoryPeerStore(clock=Clock())
    addrs = [addr_number(number) for number in range(4)]
    protocols = [f"/protocol/{number}" for number in range(15)]
    keys = [PrivateKey.generate() for _ in range(220)]
    records = [(key.peer_id, record(1, *addrs, key=key)) for key in keys]

    def fill(some):
        for peer, envelope in some:
            own = PeerId.from_bytes(bytes(bytearray(peer.to_bytes())))  # its memory counts as the store's
            store.add_addrs(own, addrs, CONNECTED_ADDR_TTL)
            store.consume_peer_record(bytes(bytearray(envelope)), CONNECTED_ADDR_TTL)
            store.set_protocols(own, [*protocols])
            store.set_metadata(own, "agent", "py-libp2p/0.1.0")

    fill(records[:20])
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    fill(records[20:])
    gc.collect()
    used = (tracemalloc.get_traced_memory()[0] - before) / 200
    tracemalloc.stop()
    assert used < 2048
