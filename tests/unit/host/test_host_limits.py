"""What one peer can't take from the others: handlers, slots of handshakes, the table of connections."""

from __future__ import annotations

import asyncio

import pytest

from libp2p import DialError, Host, HostConfig, PeerId, Stream, StreamReset
from libp2p.connection import DialOptions, StreamErrorCode
from libp2p.host.identify import IdentifyConfig
from libp2p.security.noise import Noise
from libp2p.swarm import SwarmConfig
from libp2p.testing.network import Link, Network, Node

SILENT = IdentifyConfig(automatic=False)


def host(network: Network, ip: str, **config: object) -> Host:
    config.setdefault("max_connections_per_peer", 20)
    settings = HostConfig(swarm=SwarmConfig(**config), identify=SILENT)  # type: ignore[arg-type]
    return Host(
        listen_addrs=[f"/ip4/{ip}/tcp/1"],
        transports=[network.node(ip).transport()],
        security=[Noise()],
        config=settings,
    )


async def test_a_slow_handler_counts_behind_the_reset_of_its_stream() -> None:
    async with (
        Network() as network,
        host(network, "10.0.0.1", max_handlers_per_connection=1024) as victim,
        host(network, "10.0.0.2") as attacker,
    ):
        running = most = 0

        @victim.handle("/slow/1")
        async def slow(_: Stream) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                await asyncio.sleep(20)  # it takes its time, whatever happens to its stream
            finally:
                running -= 1

        connection = await attacker.connect(victim.addrs[0])
        for _ in range(30):
            streams = [await attacker.new_stream(connection, "/slow/1") for _ in range(100)]
            await asyncio.sleep(0.01)
            for stream in streams:
                stream.reset()
            await asyncio.sleep(0.01)
        assert most <= 1024
        assert victim.limits.streams.total <= 1024
        await asyncio.sleep(30)
        assert victim.limits.streams.total == running == 0
        stream = await attacker.new_stream(connection, "/slow/1")
        await asyncio.sleep(0.1)
        assert running == 1
        stream.reset()


async def test_a_handler_is_cancelled_a_grace_after_its_connection_has_ended() -> None:
    async with Network() as network, host(network, "10.0.0.1", handler_grace=5.0) as victim:
        running = 0

        async def slow(_: Stream) -> None:
            nonlocal running
            running += 1
            try:
                await asyncio.sleep(1000)
            finally:
                running -= 1

        victim.handle("/slow/1", slow, cancel_on_reset=False)
        async with host(network, "10.0.0.2") as peer:
            for _ in range(3):
                await peer.new_stream(victim.addrs[0], "/slow/1")
            await asyncio.sleep(1)
            assert running == 3
        await asyncio.sleep(4)
        assert running == 3
        await asyncio.sleep(3)
        assert running == victim.limits.streams.total == 0
        async with host(network, "10.0.0.3") as peer:  # and what is under way when the host closes is no matter
            await peer.new_stream(victim.addrs[0], "/slow/1")
            await asyncio.sleep(1)
        await asyncio.sleep(0.5)


async def test_a_stream_waits_for_a_handler_that_ends() -> None:
    async with (
        Network() as network,
        host(network, "10.0.0.1", max_handlers_per_connection=2) as victim,
        host(network, "10.0.0.2") as peer,
    ):
        served: list[bytes] = []

        @victim.handle("/slow/1")
        async def slow(stream: Stream) -> None:
            served.append(await stream.read())
            await stream.close()
            await asyncio.sleep(1)

        connection = await peer.connect(victim.addrs[0])
        streams = [await peer.new_stream(connection, "/slow/1") for _ in range(5)]
        for number, stream in enumerate(streams):
            await stream.write(b"%d" % number)
            await stream.close_write()
        streams[3].reset()
        await asyncio.sleep(0.5)
        assert served == [b"0", b"1"]
        await asyncio.sleep(5)
        assert served == [b"0", b"1", b"2", b"4"]
        assert victim.limits.streams.total == 0
        assert not victim.limits.streams._waiting


async def test_a_stream_that_was_closed_keeps_its_place_for_a_minute_only() -> None:
    async with Network() as network, host(network, "10.0.0.1") as victim, host(network, "10.0.0.2") as peer:

        @victim.handle("/rude/1")
        async def rude(_: Stream) -> None:
            pass

        connection = await peer.connect(victim.addrs[0])
        first = await peer.new_stream(connection, "/rude/1")
        await asyncio.sleep(30)
        second = await peer.new_stream(connection, "/rude/1")
        await asyncio.sleep(29)
        ((theirs,),) = victim.peers.values()
        assert len(theirs.streams) == 2
        await asyncio.sleep(3)
        assert len(theirs.streams) == 1
        with pytest.raises(StreamReset):
            await first.write(b"too late")
        await second.close()
        await asyncio.sleep(1)
        assert not theirs.streams
        await asyncio.sleep(100)


async def test_a_stream_above_the_limit_is_reset_with_its_code() -> None:
    async with (
        Network() as network,
        host(network, "10.0.0.1", max_handlers_per_protocol=1) as victim,
        host(network, "10.0.0.2") as peer,
    ):

        @victim.handle("/slow/1")
        async def slow(stream: Stream) -> None:
            await stream.read()

        connection = await peer.connect(victim.addrs[0])
        first = await peer.new_stream(connection, "/slow/1")
        await asyncio.sleep(0.1)
        second = await peer.new_stream(connection, "/slow/1")
        with pytest.raises(StreamReset) as caught:
            await second.read()
        assert caught.value.code == StreamErrorCode.RESOURCE_LIMIT_EXCEEDED
        assert "protocol /slow/1: max_handlers_per_protocol 1 of 1" in str(victim.limits.explain())
        await first.close_write()
        await first.read()
        await asyncio.sleep(0.1)
        assert victim.limits.streams.total == 0


async def test_silent_connections_of_one_address_leave_the_door_open() -> None:
    async with Network(link=Link(latency=0.01)) as network, host(network, "10.0.0.1") as victim:
        flood = network.node("10.0.0.66")
        raws = [asyncio.create_task(network.connect(flood, victim.listen_addrs[0])) for _ in range(2000)]
        await asyncio.wait(raws)
        assert victim.limits.connections.pending == 256
        async with host(network, "10.0.0.2") as newcomer:
            await newcomer.connect(victim.addrs[0])
        await asyncio.sleep(20)
        assert victim.limits.connections.pending == 0
        assert victim.limits.refusals.counts["max_pending_per_prefix"] == 2000 - 256


async def test_above_the_high_water_connections_of_strangers_end() -> None:
    async with (
        Network() as network,
        host(network, "10.0.0.1", max_connections=16, high_water=8, low_water=4) as victim,
    ):
        others = [host(network, f"10.0.0.{n}") for n in range(2, 12)]
        for n, other in enumerate(others):
            await other.__aenter__()
            await asyncio.sleep(0.5)
            await other.connect(victim.addrs[0])
            if n in (3, 8):
                victim.limits.protect(other.id, "friend")
        victim.limits.tag(others[5].id, "useful", 3.0)
        assert len(victim.connections) == 10
        await asyncio.sleep(15)
        assert len(victim.connections) == 10  # all are in their grace
        await asyncio.sleep(30)
        left: set[PeerId] = {connection.remote_peer for connection in victim.connections}
        assert {others[n].id for n in (3, 5, 8)} < left
        assert len(left) == 4
        for other in others:
            await other.close()


async def test_a_full_host_takes_newcomers_and_still_dials() -> None:
    async with (
        Network() as network,
        host(network, "10.0.0.1", max_connections=8, high_water=8) as victim,
        host(network, "10.0.0.66") as stranger,
        host(network, "10.0.0.3") as newcomer,
        host(network, "10.0.0.4") as server,
    ):
        for _ in range(7):
            await stranger.swarm.connect(None, [victim.listen_addrs[0]], DialOptions(new_connection=True))
        await asyncio.sleep(1)
        assert victim.limits.connections.inbound == 7
        with pytest.raises(DialError):
            await stranger.swarm.connect(None, [victim.listen_addrs[0]], DialOptions(new_connection=True))
        await newcomer.connect(victim.addrs[0])
        await asyncio.sleep(1)
        assert len(victim.connections_to(stranger.id)) == 6
        assert victim.connections_to(newcomer.id)
        await victim.connect(server.addrs[0])
        assert victim.limits.connections.established == 8


async def test_identify_is_rated_for_each_peer_and_for_each_prefix() -> None:
    limits = IdentifyConfig(
        automatic=False,
        exchanges_per_second=1,
        exchange_burst=3,
        exchanges_per_second_and_prefix=1,
        exchange_burst_of_prefix=5,
    )

    async def ask(peer: Host, times: int) -> list[bool]:
        connection = await peer.connect(victim.addrs[0])
        answered = []
        for _ in range(times):
            try:
                await peer.identify.identify(connection)
            except StreamReset as error:
                answered.append(error.code != StreamErrorCode.RATE_LIMITED)
            else:
                answered.append(True)
        return answered

    def peer_of(node: Node) -> Host:
        return Host(transports=[node.transport()], security=[Noise()], config=HostConfig(identify=SILENT))

    async with (
        Network(link=Link(latency=0.001)) as network,
        Host(
            listen_addrs=["/ip4/10.0.0.1/tcp/1"],
            transports=[network.node("10.0.0.1").transport()],
            security=[Noise()],
            config=HostConfig(identify=limits),
        ) as victim,
        peer_of(shared := network.node("10.0.0.2")) as one,
        peer_of(shared) as another,
        peer_of(network.node("10.0.0.3")) as elsewhere,
    ):
        assert await ask(one, 4) == [True, True, True, False]
        assert await ask(another, 3) == [True, False, False], "the prefix has used up its share, refusals included"
        assert await ask(elsewhere, 3) == [True, True, True]
        await asyncio.sleep(10)
        assert await ask(another, 2) == [True, True]
