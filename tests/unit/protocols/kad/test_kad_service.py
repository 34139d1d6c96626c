"""The DHT over a simulated network: peers, content, values, modes."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libp2p.cid import Cid
from libp2p.errors import DialError, InvalidRecord, RoutingError
from libp2p.host import Host
from libp2p.host.events import Reachability, ReachabilityChanged
from libp2p.host.identify import PeerIdentified
from libp2p.identity import KeyType, PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.kad import (
    KadConfig,
    KadDht,
    LookupProgress,
    Mode,
    Scope,
    SqliteRecordStore,
    StoredValue,
)
from libp2p.protocols.kad.keys import peer_position, position
from libp2p.records.ipns import IpnsRecord
from libp2p.routing import ContentRouting, PeerInfo, PeerRouting, ValueStore
from libp2p.security.plaintext import InsecurePlaintext

Nodes = Callable[..., AbstractAsyncContextManager[Any]]
CID = Cid.of(b"content")
LAZY: dict[str, Any] = {"refresh_interval": 4 * 3600.0, "bootstrap_interval": 4 * 3600.0, "max_silence": 1e6}


async def found(dht: KadDht, cid: Cid = CID, **arguments: Any) -> list[PeerInfo]:
    return [info async for info in dht.find_providers(cid, **arguments)]


async def test_it_is_a_router(nodes: Nodes) -> None:
    async with nodes(1) as network:
        dht = network.made[0][1]
        assert isinstance(dht, PeerRouting)
        assert isinstance(dht, ContentRouting)
        assert isinstance(dht, ValueStore)


async def test_everybody_finds_everybody(nodes: Nodes) -> None:
    async with nodes(12) as network:
        assert [len(dht.table) for _, dht in network.made] == [11] * 12
        (_, first), (last, _) = network.made[0], network.made[-1]
        info = await first.find_peer(last.id)
        assert info.peer == last.id
        assert last.listen_addrs[0] in info.addrs
        with pytest.raises(RoutingError, match="was not found"):
            await first.find_peer(PrivateKey.generate().peer_id)
        assert (await first.find_peer(first.host.id)).addrs == tuple(first.host.listen_addrs)


async def test_a_peer_is_where_it_listens_and_not_where_it_dialed_from(nodes: Nodes) -> None:
    async with nodes(1) as network:
        (asked, dht), client = network.made[0], network.host()
        async with client, dht.host.events.expect(PeerIdentified) as identified:
            await client.connect(asked.addrs[0])
            with pytest.raises(RoutingError):  # connected, and not identified yet
                await dht.find_peer(client.id)
            await identified
            assert (await dht.find_peer(client.id)).addrs == tuple(client.listen_addrs)


async def test_alone(nodes: Nodes) -> None:
    async with nodes(1) as network:
        dht = network.made[0][1]
        with pytest.raises(RoutingError, match="none of the nearest"):
            await dht.provide(CID)
        with pytest.raises(RoutingError, match="no value"):
            await dht.get_value(b"/v/a")
        with pytest.raises(RoutingError, match="no peer"):
            await dht.closest_peers(b"key")
        assert [info.peer for info in await found(dht)] == [dht.host.id]  # it remembers itself


async def test_closest_peers_and_progress(nodes: Nodes) -> None:
    async with nodes(10) as network:
        host, dht = network.made[3]
        progress: list[LookupProgress] = []
        closest = await dht.closest_peers(b"key", progress=progress.append)
        others = [one.id for one, _ in network.made if one is not host]
        assert [info.peer for info in closest] == sorted(others, key=lambda one: peer_position(one) ^ position(b"key"))
        assert all(info.addrs for info in closest)
        assert [step.asked for step in progress][-1] == len(others)
        assert all(step.answered for step in progress)
        assert progress[-1].distance_left == min(step.distance_left for step in progress) < 256


async def test_providers_are_found_by_all(nodes: Nodes, config: KadConfig) -> None:
    async with nodes(15) as network:
        providers = [network.made[2], network.made[9]]
        for _, dht in providers:
            await dht.provide(CID)
        expected = {host.id for host, _ in providers}
        for host, dht in network.made:
            infos = await found(dht)
            assert {info.peer for info in infos} == expected, host
            assert len(infos) == 2
            assert all(info.addrs for info in infos)
        assert len(await found(network.made[5][1], limit=1)) == 1
        _, stranger = await network.add(replace(config, mode=Mode.CLIENT))
        info = (await found(stranger, limit=1))[0]
        await stranger.host.connect(info.peer)  # its addresses are known by now


async def test_all_versions_of_a_cid_share_providers(nodes: Nodes) -> None:
    old = Cid.parse("QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n")
    long = Cid(1, 0x55, b"\x13\x40" + bytes(64))
    blake3 = Cid(1, 0x55, b"\x1e\x20" + bytes(32))
    async with nodes(5) as network:
        for cid in (old, long, blake3):
            await network.made[1][1].provide(cid)
            assert [info.peer for info in await found(network.made[4][1], cid.to_v1())] == [network.made[1][0].id]


async def test_a_search_is_ended_by_closing_it(nodes: Nodes) -> None:
    async with nodes(6) as network:
        await network.made[0][1].provide(CID)
        search = network.made[5][1].find_providers(CID)
        assert (await anext(search)).peer == network.made[0][0].id
        await search.aclose()


async def test_providing_ends(nodes: Nodes, config: KadConfig) -> None:
    async with nodes(3, replace(config, **LAZY)) as network:
        dht = network.made[0][1]
        await dht.provide(CID)
        assert await dht.providing() == [CID.multihash]
        await asyncio.sleep(47 * 3600)
        assert len(await found(network.made[2][1])) == 1  # announced again meanwhile
        await dht.stop_providing(CID)
        await asyncio.sleep(49 * 3600)
        assert await found(network.made[2][1]) == []


async def test_values(nodes: Nodes) -> None:
    async with nodes(12) as network:
        (_, one), (_, two) = network.made[1], network.made[7]
        await one.put_value(b"/v/a", b"1")
        assert await two.get_value(b"/v/a") == b"1"
        await two.put_value(b"/v/a", b"2")
        assert await network.made[3][1].get_value(b"/v/a", quorum=3) == b"2"
        with pytest.raises(InvalidRecord, match="better"):
            await two.put_value(b"/v/a", b"0")
        with pytest.raises(InvalidRecord, match="an x"):
            await two.put_value(b"/v/a", b"x")
        with pytest.raises(InvalidRecord, match="no rules"):
            await two.put_value(b"/w/a", b"1")
        with pytest.raises(InvalidRecord, match="no rules"):
            await two.get_value(b"/w/a")
        with pytest.raises(InvalidRecord, match="limit"):
            await two.put_value(b"/v/a", bytes(65537))


async def test_a_search_yields_better_values_and_corrects_who_has_worse(nodes: Nodes) -> None:
    async with nodes(10) as network:
        for n, (_, dht) in enumerate(network.made[:3]):
            await dht._node.server.keep(b"/v/a", b"%d" % n)
        seeker = network.made[9][1]
        values = [value async for value in seeker.search_value(b"/v/a")]
        assert values == sorted(values)
        assert values[-1] == b"2"
        await asyncio.sleep(5)
        now = 1_750_000_000.0
        held = [await dht._node.store.value(b"/v/a", now) for _, dht in network.made[:9]]
        assert [one.value for one in held if one] == [b"2"] * 9


async def test_names_and_keys(nodes: Nodes) -> None:
    key = PrivateKey.generate(KeyType.RSA)
    async with nodes(5) as network:
        publisher, reader = network.made[0][1], network.made[4][1]
        now = publisher._node.wall_clock()
        for sequence in (1, 2):
            record = IpnsRecord.make(key, f"/ipfs/{sequence}", sequence=sequence, now=now)
            await publisher.publish_name(record)
            assert await reader.resolve_name(key.peer_id) == record
        with pytest.raises(InvalidRecord, match="better"):
            await publisher.publish_name(IpnsRecord.make(key, "/ipfs/1", sequence=1, now=now))
        await publisher.publish_public_key()
        stored = await reader.get_value(b"/pk/" + publisher.host.id.to_bytes())
        assert stored == publisher.host.key.public_key.to_protobuf()


async def test_a_record_that_has_expired_is_gone(nodes: Nodes) -> None:
    key = PrivateKey.generate()
    async with nodes(3) as network:
        (_, one), (_, two), _ = network.made
        await one.publish_name(IpnsRecord.make(key, "/x", sequence=1, now=one._node.wall_clock(), lifetime=60))
        await asyncio.sleep(61)
        with pytest.raises(RoutingError, match="no value"):
            await two.resolve_name(key.peer_id)


async def test_values_are_put_again(nodes: Nodes, config: KadConfig) -> None:
    async with nodes(3, replace(config, **LAZY)) as network:
        await network.made[0][1].put_value(b"/v/a", b"1")
        await asyncio.sleep(60 * 3600)
        assert await network.made[2][1].get_value(b"/v/a") == b"1"


async def test_clients_never_enter_tables(nodes: Nodes, config: KadConfig) -> None:
    async with nodes(5) as network:
        client, dht = await network.add(replace(config, mode=Mode.CLIENT))
        assert not dht.is_server
        assert len(dht.table) == 5
        await dht.provide(CID)
        await dht.put_value(b"/v/a", b"1")
        await asyncio.sleep(1300)  # some refreshes
        assert all(client.id not in dht.table for _, dht in network.made)
        # But they are found: their addresses are known to those they are connected to.
        assert [info.peer for info in await found(network.made[4][1])] == [client.id]
        assert (await network.made[4][1].find_peer(client.id)).addrs


async def test_auto_follows_the_addresses(nodes: Nodes, config: KadConfig) -> None:
    auto = replace(config, mode=Mode.AUTO)
    async with nodes(2) as network:
        _, public = await network.add(auto, ip="1.2.3.4")
        _, private = await network.add(auto, ip="10.0.0.1")
        _, local = await network.add(replace(auto, scope=Scope.LAN), ip="10.0.0.2")
        assert [dht.is_server for dht in (public, private, local)] == [True, False, True]
        ip = network.network.node("10.0.0.3", "1.2.3.5")
        host = await network.stack.enter_async_context(
            Host(transports=[ip.transport()], security=[InsecurePlaintext()])
        )
        async with KadDht(host, auto) as dht:
            await host.swarm.listen(Multiaddr("/ip4/10.0.0.3/tcp/1"))
            assert not dht.is_server
            await host.swarm.listen(Multiaddr("/ip4/1.2.3.5/tcp/2"))
            assert dht.is_server
            assert config.protocol in host.protocols
            for reachability in (Reachability.PRIVATE, Reachability.PUBLIC):
                host.events.emit(ReachabilityChanged(reachability))
                assert dht.is_server is (reachability is Reachability.PUBLIC)
        assert config.protocol not in host.protocols


async def test_the_host_finds_peers_through_it(nodes: Nodes) -> None:
    async with nodes(6) as network:
        (seeker, _), (target, _) = network.made[0], network.made[5]
        for connection in seeker.connections_to(target.id):
            await connection.close()
        seeker.peerstore.remove(target.id)
        stream = await seeker.new_stream(target.id, "/ipfs/ping/1.0.0")
        assert await stream.agreed()
        with pytest.raises(DialError, match="was not found"):
            await seeker.connect(PrivateKey.generate().peer_id)


async def test_a_server_that_stops_serving_leaves_tables(nodes: Nodes) -> None:
    async with nodes(4) as network:
        host, dht = network.made[3]
        dht._serve_requests(False)
        await asyncio.sleep(5)
        assert all(host.id not in dht.table for _, dht in network.made)
        dht._serve_requests(True)
        await asyncio.sleep(5)
        assert all(host.id in dht.table for _, dht in network.made[:3])


async def test_a_wan_takes_public_peers_only(nodes: Nodes, config: KadConfig) -> None:
    wan, lan = replace(config, scope=Scope.WAN), replace(config, scope=Scope.LAN)
    async with nodes() as network:
        first, wide = await network.add(wan, bootstrap=[])
        near, _ = await network.add(wan, ip="10.0.0.1", bootstrap=[first])
        far, _ = await network.add(wan, ip="1.2.3.4", bootstrap=[first])
        assert list(wide.table) == [far.id]
        _, local = await network.add(lan, ip="10.0.0.9", bootstrap=[first, near])
        assert list(local.table) == [near.id]


async def test_dead_peers_leave_and_connections_go(nodes: Nodes) -> None:
    async with nodes(6) as network:
        first = network.made[0][1]
        gone = network.made[5][0]
        await gone.close()
        await asyncio.sleep(700)
        assert gone.id not in first.table
        assert len(first.table) == 4


async def test_a_restart_keeps_records_and_announcements(nodes: Nodes, config: KadConfig, tmp_path: Path) -> None:
    async with nodes(1, replace(config, **LAZY)) as network:
        host = await network.stack.enter_async_context(network.host())
        path = tmp_path / "records.db"
        other = network.made[0][0]
        settings = replace(config, **LAZY, bootstrap=(other.addrs[0],))
        clock = network.made[0][1]._node.wall_clock
        async with KadDht(host, settings, store=SqliteRecordStore(path), wall_clock=clock) as dht:
            await dht.ready()
            await dht.provide(CID)
            await dht.put_value(b"/v/a", b"1")
        await asyncio.sleep(30 * 3600)
        async with KadDht(host, settings, store=SqliteRecordStore(path), wall_clock=clock) as dht:
            await dht.ready()
            assert await dht.get_value(b"/v/a", quorum=1) == b"1"
            await asyncio.sleep(1000)
            assert await dht._reprovider.sweep() == 0  # it was due, and has been announced
            await asyncio.sleep(19 * 3600)
        assert len(await found(network.made[0][1])) == 1


async def test_where_peers_of_the_table_are_is_known_without_connections(nodes: Nodes, config: KadConfig) -> None:
    async with nodes(6, replace(config, refresh_interval=1e6, bootstrap_interval=1e6)) as network:
        host, dht = network.made[3]
        for connection in host.connections:
            await connection.close()
        await asyncio.sleep(2400)
        assert host.connections == []
        assert len(await dht.closest_peers(b"key")) == 5


async def test_a_quorum_ends_the_search_and_only_the_worse_is_corrected(nodes: Nodes) -> None:
    async with nodes(30) as network:
        seeker = network.made[0][1]
        await network.made[1][1].put_value(b"/v/a", b"1")
        holders = [dht for _, dht in network.made if await dht._node.store.value(b"/v/a", 1_750_000_000.0)]
        assert await seeker.get_value(b"/v/a", quorum=2) == b"1"
        await asyncio.sleep(10)
        assert holders == [dht for _, dht in network.made if await dht._node.store.value(b"/v/a", 1_750_000_000.0)]


async def test_idle_connections_are_closed(nodes: Nodes, config: KadConfig) -> None:
    async with nodes(8) as network:
        host, dht = await network.add(replace(config, mode=Mode.CLIENT, refresh_interval=1e6))
        used: Host = network.made[3][0]
        await dht.closest_peers(b"key")
        stream = await host.new_stream(used.id, "/ipfs/ping/1.0.0")
        await asyncio.sleep(50)
        assert len(host.connections) == 8
        await stream.write(bytes(32))
        await asyncio.sleep(45)
        assert {one.remote_peer for one in host.connections} <= {used.id, network.made[0][0].id}


async def test_values_are_put_again_by_who_was_away_too(nodes: Nodes, config: KadConfig, tmp_path: Path) -> None:
    """Their holders have forgotten them: who has put them does so again when it is time, and at once where that passed
    while it was not there.
    """
    async with nodes(4, config) as network:
        holders = [dht._node.store for _, dht in network.made]

        async def held(*, forget: bool) -> int:
            found = [store for store in holders if await store.value(b"/v/a", network.wall_clock())]
            for store in found if forget else ():
                await store.remove_value(b"/v/a")
            return len(found)

        key = network.key()
        host = await network.stack.enter_async_context(network.host(key=key))
        bootstrap = replace(config, bootstrap=(network.made[0][0].addrs[0],))
        file = tmp_path / "records.db"
        async with KadDht(host, bootstrap, store=SqliteRecordStore(file), wall_clock=network.wall_clock) as dht:
            await dht.ready()
            await dht.put_value(b"/v/a", b"1")
            assert await held(forget=True) == 4
            await asyncio.sleep(4 * 3600 + 60)
            assert await held(forget=True) == 4
        await asyncio.sleep(3600)
        async with KadDht(host, bootstrap, store=SqliteRecordStore(file), wall_clock=network.wall_clock) as dht:
            await dht.ready()
            await asyncio.sleep(60)
            assert await held(forget=False) == 0  # it is not time yet
            await asyncio.sleep(3 * 3600)
            assert await held(forget=True) == 4
        await asyncio.sleep(5 * 3600)
        async with KadDht(host, bootstrap, store=SqliteRecordStore(file), wall_clock=network.wall_clock) as dht:
            await dht.ready()
            await asyncio.sleep(60)
            assert await held(forget=True) == 4
            await dht._node.store.set_published(StoredValue(b"/v/x", b"x", 0.0))  # which the rules forbid
            await dht._values.republish()
            assert [value.key for value in await dht._node.store.published()] == [b"/v/a"]
