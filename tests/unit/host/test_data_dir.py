"""A host that is the same one in the next run."""

import asyncio
import json
import os
import stat
from pathlib import Path

import pytest

from libp2p.errors import InvalidKey
from libp2p.host import Host, HostConfig
from libp2p.identity import PrivateKey
from libp2p.peerstore import PERMANENT_ADDR_TTL, MemoryPeerStore
from libp2p.swarm.events import PeerConnected
from libp2p.transports.tcp import Tcp


async def test_key_and_peers_are_those_of_the_last_run(tmp_path: Path) -> None:
    place = tmp_path / "some" / "where"
    async with Host(listen_addrs=["/memory/7"]) as friend:
        async with Host(data_dir=place) as host:
            await host.connect(friend.addrs[0])
            first = host.id
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        async with Host(data_dir=place) as host:
            assert host.id == first
            async with host.events.expect(PeerConnected) as connected:
                assert (await connected).peer == friend.id  # dialed by itself
            await host.connect(friend.id)


async def test_who_does_not_answer_at_the_start_is_tried_again_some_times(tmp_path: Path) -> None:
    key = PrivateKey.generate()
    async with Host(key, ["/memory/7"]) as friend, Host(data_dir=tmp_path) as host:
        await host.connect(friend.addrs[0])
    async with Host(data_dir=tmp_path) as host:
        await asyncio.sleep(2)
        async with Host(key, ["/memory/7"]), host.events.expect(PeerConnected) as connected:
            assert (await connected).peer == key.peer_id
    async with Host(data_dir=tmp_path) as host:
        await asyncio.sleep(3600)
        async with Host(key, ["/memory/7"]):
            await asyncio.sleep(3600)
            assert not host.connections


async def test_it_may_be_told_to_dial_nobody(tmp_path: Path) -> None:
    config = HostConfig(reconnect=0)
    async with Host(listen_addrs=["/memory/7"]) as friend:
        async with Host(data_dir=tmp_path, config=config) as host:
            await host.connect(friend.addrs[0])
        async with Host(data_dir=tmp_path, config=config) as host:
            await asyncio.sleep(60)
            assert not host.connections
            await host.connect(friend.id)  # its address is known


async def test_what_is_given_is_used_instead(tmp_path: Path) -> None:
    key, store = PrivateKey.generate(), MemoryPeerStore()
    async with Host(key, data_dir=tmp_path, peerstore=store) as host:
        assert host.key is key
        assert host.peerstore is store
    assert os.listdir(tmp_path) == []


async def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    async with Host(data_dir=tmp_path):
        pass
    os.chmod(tmp_path / "key", 0o644)
    with pytest.raises(InvalidKey, match="others can read"):
        Host(data_dir=tmp_path)


async def test_a_second_host_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    async with Host(data_dir=tmp_path):
        with pytest.raises(OSError, match="locked"):
            async with Host(data_dir=tmp_path):
                pass


async def test_the_store_is_closed_where_listening_fails(tmp_path: Path) -> None:
    async with Host(listen_addrs=["/memory/7"]):
        with pytest.raises(Exception, match="cannot listen"):
            await Host(listen_addrs=["/memory/7"], data_dir=tmp_path).start()
    async with Host(data_dir=tmp_path) as host:
        host.peerstore.add_addrs(PrivateKey.generate().peer_id, host.addrs, PERMANENT_ADDR_TTL)


@pytest.mark.real
async def test_ports_are_those_of_the_last_run_unless_somebody_has_them(tmp_path: Path) -> None:
    listen = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"]
    async with Host(listen_addrs=listen, data_dir=tmp_path) as host:
        first = host.listen_addrs
    async with Host(listen_addrs=listen, data_dir=tmp_path) as host:
        assert host.listen_addrs == first
    async with (
        Host(listen_addrs=[first[0]], transports=[Tcp()]),
        Host(listen_addrs=listen, data_dir=tmp_path) as host,
    ):
        second = host.listen_addrs
        assert second[0] != first[0]
        assert second[1] == first[1]
    async with Host(listen_addrs=listen, data_dir=tmp_path) as host:
        assert host.listen_addrs == second
    for damaged in ("", "[1]", json.dumps({listen[0]: "x"})):
        (tmp_path / "ports.json").write_text(damaged)
        async with Host(listen_addrs=listen, data_dir=tmp_path) as host:
            assert len(host.listen_addrs) == 2
