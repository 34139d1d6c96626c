"""Sweeping the key space, the size of the network, and both over a network: few lookups; sybils hide nothing."""

import asyncio
import itertools
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from libp2p.cid import Cid
from libp2p.identity import PeerId, PrivateKey
from libp2p.io import TokenBucket
from libp2p.protocols.kad import KadConfig, MemoryRecordStore
from libp2p.protocols.kad.keys import common_prefix, peer_position, position, prefix_of
from libp2p.protocols.kad.network_size import NetworkSize
from libp2p.protocols.kad.sweep import Coverage, chunks, due, region_bits

Nodes = Callable[..., AbstractAsyncContextManager[Any]]
HOUR = 3600.0
DAY = 22 * HOUR


def peer(n: int) -> PeerId:
    return PeerId.from_bytes(b"\x12\x20" + n.to_bytes(32, "big"))


def nearest(peers: list[PeerId], target: int, k: int = 20) -> list[PeerId]:
    return sorted(peers, key=lambda one: peer_position(one) ^ target)[:k]


def test_each_key_is_due_once_a_round() -> None:
    keys = {b"key %d" % n: 0.0 for n in range(500)}
    announced: dict[bytes, int] = dict.fromkeys(keys, 0)
    now = 100 * DAY
    last = dict.fromkeys(keys, now)
    for step in range(3 * 48):
        for key in itertools.chain(*due(last, now + step * DAY / 48, DAY, 4)):
            announced[key] += 1
            last[key] = now + step * DAY / 48
    assert set(announced.values()) <= {2, 3}
    assert max(now + 3 * DAY - moment for moment in last.values()) <= DAY + DAY / 24


def test_what_was_missed_is_due_at_once_in_order() -> None:
    keys = [b"key %d" % n for n in range(50)]
    missed = due(dict.fromkeys(keys, 0.0), 1e9, DAY, 4)
    assert list(itertools.chain(*missed)) == sorted(keys, key=position)
    assert [len({prefix_of(position(key), 4) for key in region}) for region in missed] == [1] * len(missed)
    assert due(dict.fromkeys(keys, 1e9), 1e9, DAY, 4) == []


def test_regions_hold_forty_servers_or_more() -> None:
    assert [region_bits(servers, 20) for servers in (None, 0, 1, 40, 79, 80, 10_000, 1e30)] == [0, 0, 0, 0, 0, 1, 7, 16]


def test_what_is_covered_of_a_key() -> None:
    peers = [peer(n) for n in range(30)]
    coverage = Coverage(20)
    assert coverage.shortest(0) is None
    for target in (0, 1 << 255):
        coverage.found(target, nearest(peers, target))
        assert coverage.covers(target)
        assert coverage.shortest(target) in (0, 1, 2, 3)
        if coverage.shortest(target):
            inside = sum(prefix_of(peer_position(one), 1) == target >> 255 for one in peers)
            assert inside < 20 or coverage.nearest(target) is not None


def test_coverage_knows_only_what_is_sure() -> None:
    """A region is explored, then the nearest of nearly all of its keys are known, and they are the nearest."""
    peers = [peer(n) for n in range(1000)]
    bits = region_bits(1000, 20)
    region = [key for n in range(8000) if prefix_of(position(key := b"key %d" % n), bits) == 5]
    coverage = Coverage(20)
    lookups = 0
    for key in region:
        if not coverage.covers(position(key)):
            lookups += 1
            coverage.found(position(key), nearest(peers, position(key)))
    assert lookups < 10 < len(region) / 30
    known = {key: coverage.nearest(position(key)) for key in region}
    assert all(found is None or found == nearest(peers, position(key)) for key, found in known.items())
    assert list(known.values()).count(None) < len(region) / 100


def test_coverage_of_a_small_network_takes_one_lookup() -> None:
    peers = [peer(n) for n in range(7)]
    coverage = Coverage(20)
    assert coverage.nearest(0) is None
    coverage.found(0, [])
    assert coverage.nearest(0) is None
    coverage.found(0, nearest(peers, 0))
    assert coverage.nearest(position(b"any")) == nearest(peers, position(b"any"))


def test_chunks() -> None:
    assert list(chunks([b"a", b"b", b"c"], 2)) == [[b"a", b"b"], [b"c"]]
    assert list(chunks([], 2)) == []


def test_the_size_of_the_network() -> None:
    dice = random.Random(4)
    for servers in (200, 1500):
        points = [dice.getrandbits(256) for _ in range(servers)]
        size = NetworkSize(20)
        for _ in range(4):
            size.found(target := dice.getrandbits(256), sorted(points, key=lambda point: point ^ target)[:20])
        assert size.servers is None
        for _ in range(26):
            size.found(target := dice.getrandbits(256), sorted(points, key=lambda point: point ^ target)[:20])
        assert size.servers is not None
        assert 0.8 * servers < size.servers < 1.25 * servers
        assert size.region_bits(20) in (3, 5, 6)
        crowded = [size.is_crowded(t, sorted(points, key=lambda p, t=t: p ^ t)[:20]) for t in points]
        assert not any(crowded)
        sybils = [points[0] ^ dice.getrandbits(256 - 40) for _ in range(20)]
        assert size.is_crowded(points[0], sybils)


def test_few_peers_say_nothing_of_the_size() -> None:
    size = NetworkSize(20)
    for _ in range(10):
        size.found(0, list(range(1, 10)))
    assert size.servers is None
    assert size.region_bits(20) is None
    assert not size.is_crowded(0, list(range(1, 21)))


def test_a_bucket_of_tokens() -> None:
    bucket = TokenBucket(10.0, 3, now=0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [0.0] * 3
    assert bucket.take(0.0) == 0.1
    assert bucket.take(0.2) == 0.0
    assert [bucket.take(100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.1]


async def test_many_keys_take_few_lookups(nodes: Nodes, config: KadConfig) -> None:
    """What one lookup each would take, a sweep does with a fraction; the keys are then at their nearest peers."""
    settings = replace(config, table=replace(config.table, k=4), lookup=replace(config.lookup, k=4))
    async with nodes(25, settings) as network:
        dht = network.made[0][1]
        keys = [Cid.of(b"%d" % n).multihash for n in range(400)]
        await dht._node.store.set_provided(keys, 0.0)
        assert await dht._reprovider.sweep() == 400
        assert dht._reprovider.lookups < 40
        hosts = {host.id: one for host, one in network.made[1:]}
        for key in keys[::20]:
            holders = [one for one, other in hosts.items() if await other._node.store.providers(key, 1_750_000_000.0)]
            assert len(set(holders) & set(nearest(list(hosts), position(key), 4))) >= 3


async def test_a_sweep_that_was_cut_short_is_resumed(nodes: Nodes) -> None:
    async with nodes(4) as network:
        dht = network.made[0][1]
        store = dht._node.store
        assert isinstance(store, MemoryRecordStore)
        keys = [Cid.of(b"%d" % n).multihash for n in range(1200)]
        await store.set_provided(keys, 0.0)
        sweeping = asyncio.create_task(dht._reprovider.sweep())
        written = asyncio.Event()
        write = store.set_provided

        async def note(*arguments: Any) -> None:
            await write(*arguments)
            written.set()

        store.set_provided = note  # type: ignore[method-assign]
        await written.wait()
        sweeping.cancel()
        await asyncio.wait([sweeping])
        done = sum(moment > 0 for moment in (await store.provided()).values())
        assert 0 < done < 1200
        assert await dht._reprovider.sweep() == 1200 - done


async def test_sybils_around_a_key_hide_no_provider(nodes: Nodes, config: KadConfig) -> None:
    """Peers nearest to a key that take announcements and forget them: the region around it is told, and asked."""
    settings = replace(config, table=replace(config.table, k=4), lookup=replace(config.lookup, k=4))
    async with nodes(20, settings) as network:
        provider, seeker = network.made[2][1], network.made[11][1]
        for dht in (provider, seeker):
            dht._node.size._samples.extend([20.0] * 50)  # as many lookups would have found
        honest = {host.id for host, _ in network.made}
        cid = max((Cid.of(b"%d" % n) for n in range(50)), key=lambda one: _room(honest, position(one.multihash)))
        for sybil in _sybils(network.key, position(cid.multihash), 8):
            await network.add(settings, key=sybil)
        forgetful = [dht for host, dht in network.made if host.id not in honest]
        for dht in forgetful:

            async def forget(*_: object) -> bool:
                return False

            dht._node.store.add_provider = forget
        await provider.provide(cid)
        found = [info.peer async for info in seeker.find_providers(cid)]
        assert found == [provider.host.id]


def _room(peers: set[PeerId], target: int) -> int:
    """The distance of the nearest of `peers`."""
    return min(peer_position(one) ^ target for one in peers)


def _sybils(make: Callable[[], PrivateKey], target: int, count: int) -> list[PrivateKey]:
    """Keys of peers that are nearer to `target` than chance puts them."""
    found: list[PrivateKey] = []
    while len(found) < count:
        key = make()
        if common_prefix(peer_position(key.peer_id), target) >= 7:
            found.append(key)
    return found


def test_who_is_sure_to_be_among_the_nearest() -> None:
    dice = random.Random(9)
    points = [dice.getrandbits(256) for _ in range(1000)]
    size = NetworkSize(20)
    assert size.sure_distance(0.9) is None
    size._samples.extend([1000.0] * 9)
    sure = size.sure_distance(0.9)
    assert sure is not None
    within = [sum(point ^ target < sure for point in points) for target in (dice.getrandbits(256) for _ in range(300))]
    assert 12 < sum(within) / len(within) < 17
    assert sum(count <= 20 for count in within) / len(within) > 0.85
    assert size.sure_distance(0.5) > sure


async def test_those_that_are_sure_are_told_before_the_lookup_ends(nodes: Nodes, config: KadConfig) -> None:
    settings = replace(config, table=replace(config.table, k=4), lookup=replace(config.lookup, k=4))
    async with nodes(25, settings) as network:
        dht = network.made[0][1]
        dht._node.size._samples.extend([25.0] * 50)
        sure = dht._node.size.sure_distance(0.9)
        others = [host.id for host, _ in network.made[1:]]

        def near(cid: Cid) -> int:
            return sum(peer_position(one) ^ position(cid.multihash) < sure for one in others)

        cid = next(one for n in range(1000) if near(one := Cid.of(b"%d" % n)) == 3)
        find = dht._providers.nearest

        async def find_slowly(*arguments: Any) -> Any:
            result = await find(*arguments)
            await asyncio.sleep(100)
            return result

        dht._providers.nearest = find_slowly  # type: ignore[method-assign]
        loop = asyncio.get_running_loop()
        started = loop.time()
        await dht.provide(cid)
        assert loop.time() - started < 5
        assert await holders(network, cid) == set(nearest(others, position(cid.multihash), 3))
        await asyncio.sleep(110)
        assert await holders(network, cid) == set(nearest(others, position(cid.multihash), 4))


async def holders(network: Any, cid: Cid) -> set[PeerId]:
    """Who else knows of a provider of `cid`."""
    key, now = cid.multihash, 1_750_000_000.0
    return {host.id for host, dht in network.made[1:] if await dht._node.store.providers(key, now)}
