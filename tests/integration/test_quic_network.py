"""QUIC on networks as they are: lossy, narrow, cut, rebound, with small packets only; and which transport is dialed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from random import Random
from typing import Any

import pytest

from libp2p.connection import Connection, Stream
from libp2p.errors import ConnectionClosed, DialError, ListenError
from libp2p.host import Host, HostConfig
from libp2p.host.identify import IdentifyConfig
from libp2p.multiaddr import Multiaddr, host_port
from libp2p.security.pnet import PrivateNetwork
from libp2p.testing.conformance.tools import cancel, ends, raises
from libp2p.testing.network import Link, Network, Node
from libp2p.transports.quic import Quic, QuicConfig

QUIET = HostConfig(identify=IdentifyConfig(automatic=False))
KB, MB = 1000, 1_000_000
IPS = ("10.0.0.1", "10.0.0.2", "10.0.0.3")


def now() -> float:
    return asyncio.get_running_loop().time()


def host(node: Node | None, *listen_addrs: str, tcp: bool = False, config: QuicConfig | None = None) -> Host:
    """A host with QUIC, on a simulated machine (None: on this one), and with simulated TCP."""
    quic = Quic(config, open_socket=node.udp() if node is not None else None)
    transports = [quic, node.transport()] if tcp and node is not None else [quic]
    return Host(transports=transports, listen_addrs=listen_addrs, config=QUIET)


async def digest(stream: Stream) -> None:
    """The handler: read to the end, then tell the SHA-256 of what came."""
    told = sha256()
    async for chunk in stream:
        told.update(chunk)
    await stream.write(told.digest())


async def send_checked(target: Connection, by: Host, size: int, seed: int = 0) -> None:
    """Send `size` random bytes on a new stream; the peer must have got exactly these."""
    data = Random(seed).randbytes(size)
    async with await by.new_stream(target, "/digest") as stream:
        await stream.write(data)
        await stream.close_write()
        assert await stream.readexactly(32) == sha256(data).digest()


class World:
    """Two hosts that serve `/digest`, connected, and what is between them."""

    def __init__(self, network: Network, nodes: list[Node], hosts: list[Host], connections: list[Connection]) -> None:
        self.network, self.nodes, self.hosts, self.connections = network, nodes, hosts, connections
        self.sizes: list[int] = []
        """Those of the datagrams that the dialer sent."""
        network.on_datagram = self._note

    def _note(self, data: bytes, source: Any, target: Any) -> bool:
        if source[0] == self.nodes[0].ips[0]:
            self.sizes.append(len(data))
        return True

    async def send_both_ways(self, size: int, streams: int = 3) -> None:
        """`size` bytes on each of as many streams of either side."""
        async with asyncio.TaskGroup() as group:
            for side in (0, 1):
                for number in range(streams):
                    group.create_task(send_checked(self.connections[side], self.hosts[side], size, 10 * number + side))


@asynccontextmanager
async def world(link: Link, *, config: QuicConfig | None = None, seed: int = 1) -> AsyncIterator[World]:
    async with Network(seed=seed, link=link) as network:
        nodes = [network.node(ip) for ip in IPS[:2]]
        async with (
            host(nodes[1], f"/ip4/{IPS[1]}/udp/0/quic-v1", config=config) as listener,
            host(nodes[0], config=config) as dialer,
        ):
            dialed = await dialer.connect(listener.addrs[0])
            (accepted,) = listener.connections
            for one in (dialer, listener):
                one.handle("/digest")(digest)
            yield World(network, nodes, [dialer, listener], [dialed, accepted])
        assert not any(node.ports._sockets for node in nodes), "sockets are left"


class TestBadLinks:
    @pytest.mark.parametrize("seed", [1, 2])
    @pytest.mark.parametrize(("loss", "size"), [(0.02, 500 * KB), (0.1, 150 * KB)])
    async def test_every_byte_arrives_intact(self, loss: float, size: int, seed: int) -> None:
        link = Link(latency=0.01, loss=loss, jitter=0.005, duplicate=0.05)
        async with world(link, seed=seed) as both:
            since = now()
            await ends(both.send_both_ways(size), within=120)
            print(f"{loss:.0%} loss: {6 * size / (now() - since) / KB:.0f} kB/s")

    async def test_two_connections_share_a_narrow_link_fairly_and_fill_it(self) -> None:
        """The link drops what does not fit into its queue."""
        size, bandwidth = 4 * MB, 500 * KB
        async with Network(seed=1, link=Link(latency=0.02, bandwidth=bandwidth, queue=0.1)) as network:
            nodes = [network.node(ip) for ip in IPS[:2]]
            received = [0, 0]
            async with host(nodes[1], f"/ip4/{IPS[1]}/udp/0/quic-v1") as listener:

                @listener.handle("/sink")
                async def sink(stream: Stream) -> None:
                    (number,) = await stream.readexactly(1)
                    async for chunk in stream:
                        received[number] += len(chunk)

                async with host(nodes[0]) as one, host(nodes[0]) as other:
                    streams = [await each.new_stream(listener.addrs[0], "/sink") for each in (one, other)]
                    for number, stream in enumerate(streams):
                        await stream.write(bytes([number]))
                    writing = [asyncio.ensure_future(stream.write(bytes(8 * MB))) for stream in streams]
                    await asyncio.sleep(1)
                    before, since = list(received), now()
                    await asyncio.sleep(size / bandwidth)
                    shares = [late - early for late, early in zip(received, before, strict=True)]
                    used = sum(shares) / (now() - since) / bandwidth
                    print(f"shares {shares}, {used:.0%} used")
                    assert max(shares) < 3 * min(shares)
                    assert used > 0.7
                    for stream, task in zip(streams, writing, strict=True):
                        stream.reset()
                        await asyncio.wait({task})
                        assert task.exception() is not None


class TestPathMtu:
    @pytest.mark.parametrize("ip", [IPS[1], "fd00::2"])
    async def test_the_smallest_path_that_quic_assumes(self, ip: str) -> None:
        """ "QUIC assumes a minimum IP packet size of at least 1280 bytes" (RFC 9000, 14), headers included."""
        async with Network(link=Link(latency=0.01, mtu=1280)) as network:
            family = "ip6" if ":" in ip else "ip4"
            async with (
                host(network.node(ip), f"/{family}/{ip}/udp/0/quic-v1") as listener,
                host(network.node("fd00::1" if ":" in ip else IPS[0])) as dialer,
            ):
                listener.handle("/digest")(digest)
                connection = await ends(dialer.connect(listener.addrs[0]), within=10)
                await ends(send_checked(connection, dialer, 100 * KB))

    @pytest.mark.parametrize(("mtu", "largest"), [(1308, 1280), (1400, 1280), (1480, 1452), (1500, 1452), (9000, 1452)])
    async def test_datagrams_are_as_large_as_the_path_carries(self, mtu: int, largest: int) -> None:
        """The headers of IPv4 and UDP take 28 bytes. On a path of 1,400 all that is left is what one begins with."""
        async with world(Link(latency=0.01, mtu=mtu)) as both:
            await ends(both.send_both_ways(100 * KB))
            await asyncio.sleep(10)
            assert sum(size > largest for size in both.sizes) <= 3, "more than probes"
            both.sizes.clear()
            await ends(both.send_both_ways(100 * KB))
            assert max(both.sizes) == largest

    async def test_larger_datagrams_on_request(self) -> None:
        async with world(Link(latency=0.01, mtu=9000), config=QuicConfig(max_datagram_size=8900)) as both:
            await ends(both.send_both_ways(100 * KB))
            assert max(both.sizes) == 8900

    async def test_a_path_that_shrinks_amid_a_transfer(self) -> None:
        """A black hole: small datagrams still get through, full ones do not."""
        async with world(Link(latency=0.01, bandwidth=MB)) as both:
            sending = asyncio.ensure_future(both.send_both_ways(500 * KB))
            await asyncio.sleep(0.5)
            assert max(both.sizes) == 1452
            both.network.set_link(*both.nodes, Link(latency=0.01, bandwidth=MB, mtu=1400))
            since = now()
            await ends(sending, within=20)
            print(f"recovered from the black hole and done within {now() - since:.1f} s")

    @pytest.mark.parametrize("pause", [0.02, 0.05, 0.11, 1])
    async def test_a_path_that_shrinks_amid_small_talk(self, pause: float) -> None:
        """That small datagrams are acknowledged all the time does not hide that no full one is."""

        async def talk(stream: Stream) -> None:
            while True:
                await asyncio.sleep(pause)
                await stream.write(b"tick")
                await stream.readexactly(4)

        async with world(Link(latency=0.01)) as both:
            dialer, listener = both.hosts

            @listener.handle("/echo")
            async def echo(stream: Stream) -> None:
                async for chunk in stream:
                    await stream.write(chunk)

            small, large = [await dialer.new_stream(both.connections[0], "/echo") for _ in range(2)]
            talking = asyncio.ensure_future(talk(small))
            for round_trip in range(10):
                if round_trip == 5:
                    assert max(both.sizes) == 1452
                    both.network.set_link(*both.nodes, Link(latency=0.01, mtu=1400))
                await large.write(bytes(3000))
                await ends(large.readexactly(3000), within=10)
                await asyncio.sleep(0.05)
            await cancel(talking)


class TestChanges:
    @pytest.mark.parametrize("times", [1, 3])
    @pytest.mark.parametrize("directions", [(0,), (1,), (0, 1)], ids=["sends", "receives", "both"])
    async def test_a_nat_that_forgets_the_dialer_amid_a_transfer(self, directions: tuple[int, ...], times: int) -> None:
        """What the dialer sends next, and be it a question for a packet, tells the listener of its new port."""
        async with world(Link(latency=0.01, bandwidth=MB)) as both:
            sending = [
                asyncio.ensure_future(send_checked(both.connections[side], both.hosts[side], MB)) for side in directions
            ]
            for _ in range(times):
                await asyncio.sleep(0.2)
                assert not any(task.done() for task in sending)
                both.nodes[0].rebind()
            since = now()
            await ends(asyncio.gather(*sending), within=25)
            print(f"done {now() - since:.1f} s behind the last rebinding")

    async def test_a_new_port_whose_first_answers_are_lost(self) -> None:
        """The listener may send three times what it gets from there (RFC 9000, 8), and it gets more all the time."""
        async with world(Link(latency=0.01, bandwidth=MB)) as both:
            sending = asyncio.ensure_future(both.send_both_ways(300 * KB))
            await asyncio.sleep(0.2)
            both.nodes[0].rebind()
            both.network.on_datagram = lambda data, source, target: source[0] != IPS[1]
            await asyncio.sleep(0.5)
            both.network.on_datagram = None
            await ends(sending, within=10)

    async def test_a_nat_that_forgets_a_quiet_dialer(self) -> None:
        async with world(Link(latency=0.01)) as both:
            for _ in range(5):
                await asyncio.sleep(60)
                both.nodes[0].rebind()
                await asyncio.sleep(16)  # the dialer's next question for a packet
                for connection, by in zip(both.connections, both.hosts, strict=True):
                    await ends(send_checked(connection, by, 10 * KB))

    async def test_a_cut_of_five_seconds_is_survived(self) -> None:
        async with world(Link(latency=0.01, bandwidth=MB)) as both:
            sending = asyncio.ensure_future(both.send_both_ways(500 * KB))
            await asyncio.sleep(0.3)
            both.network.cut(*both.nodes)
            await asyncio.sleep(5)
            both.network.heal(*both.nodes)
            since = now()
            await ends(sending, within=20)
            print(f"done {now() - since:.1f} s behind the end of the cut")

    async def test_a_cut_of_forty_seconds_ends_both_sides(self) -> None:
        async with world(Link(latency=0.01, bandwidth=MB)) as both:
            sending = [
                asyncio.ensure_future(send_checked(one, by, 5 * MB))
                for one, by in zip(both.connections, both.hosts, strict=True)
            ]
            await asyncio.sleep(0.3)
            both.network.cut(*both.nodes)
            since = now()
            for connection, task in zip(both.connections, sending, strict=True):
                with raises(ConnectionClosed) as caught:
                    await ends(task, within=40)
                assert "idle timeout" in str(caught.value).lower()
                assert caught.value.by == "local"
                assert connection.is_closed
                assert 29 < now() - since < 32
            assert not both.hosts[0].connections
            await asyncio.sleep(40 - (now() - since))
            both.network.heal(*both.nodes)
            again = await ends(both.hosts[0].connect(both.hosts[1].addrs[0]))
            await ends(send_checked(again, both.hosts[0], 10 * KB))


class TestDialing:
    """A host that listens on QUIC and TCP at once."""

    @asynccontextmanager
    async def two(self, link: Link) -> AsyncIterator[tuple[Network, Host, list[Multiaddr], Host]]:
        async with Network(seed=1, link=link) as network:
            a, b = network.node(IPS[0]), network.node(IPS[1])
            async with (
                host(b, f"/ip4/{IPS[1]}/tcp/0", f"/ip4/{IPS[1]}/udp/0/quic-v1", tcp=True) as listener,
                host(a, tcp=True) as dialer,
            ):
                dialer.peerstore.add_addrs(listener.id, listener.listen_addrs, 600)
                yield network, dialer, listener.listen_addrs, listener

    @pytest.mark.parametrize("latency", [0.0, 0.005, 0.2])
    async def test_quic_is_preferred(self, latency: float) -> None:
        async with self.two(Link(latency=latency)) as (_, dialer, (tcp, quic), listener):
            assert "tcp" in tcp
            connection = await ends(dialer.connect(listener.id))
            assert connection.muxer == "/quic-v1"
            assert connection.remote_addr.without_peer() == quic
            await asyncio.sleep(5)
            assert dialer.connections == [connection], "the other dial came to a connection too"

    async def test_tcp_is_taken_where_udp_is_blocked(self) -> None:
        async with self.two(Link(latency=0.005)) as (network, dialer, (tcp, _), listener):
            network.on_datagram = lambda *_: False
            since = now()
            connection = await ends(dialer.connect(listener.id))
            assert connection.remote_addr.without_peer() == tcp
            step, round_trip = 0.03, 0.01
            assert step < now() - since < step + 10 * round_trip
        assert not network._nodes[IPS[0]].ports._sockets

    async def test_a_port_that_nobody_listens_on_is_given_up_in_time(self) -> None:
        async with Network() as network:
            network.node(IPS[1])
            async with host(network.node(IPS[0]), config=QuicConfig(handshake_timeout=3)) as dialer:
                since = now()
                with raises(DialError):
                    await ends(dialer.connect(f"/ip4/{IPS[1]}/udp/9/quic-v1"))
                assert now() - since == pytest.approx(3, abs=0.01)

    def test_a_private_network_has_no_quic(self) -> None:
        private = PrivateNetwork(bytes(31) + b"\1")
        with pytest.raises(ValueError, match="Quic"):
            Host(transports=[Quic()], private_network=private)
        assert not any(isinstance(one, Quic) for one in Host(private_network=private).swarm._transports)
        assert any(isinstance(one, Quic) for one in Host().swarm._transports)

    async def test_two_hosts_behind_one_address_are_two_peers(self) -> None:
        async with Network(seed=1, link=Link(latency=0.01)) as network:
            behind, outside = network.node(IPS[0]), network.node(IPS[1])
            async with (
                host(outside, f"/ip4/{IPS[1]}/udp/0/quic-v1") as listener,
                host(behind) as one,
                host(behind) as other,
            ):
                listener.handle("/digest")(digest)
                for each in (one, other):
                    connection = await ends(each.connect(listener.addrs[0]))
                    await ends(send_checked(connection, each, 50 * KB))
                    (inbound,) = listener.connections_to(each.id)
                    assert host_port(inbound.remote_addr).host == IPS[0]
                assert len({connection.remote_addr for connection in listener.connections}) == 2
                await one.close()
                await asyncio.sleep(1)
                assert [connection.remote_peer for connection in listener.connections] == [other.id]
                await ends(send_checked(other.connections[0], other, 50 * KB))


@pytest.mark.real
class TestReal:
    @pytest.mark.parametrize("ip", ["/ip4/127.0.0.1", "/ip6/::1"])
    async def test_twenty_megabytes_both_ways(self, ip: str) -> None:
        async with host(None, f"{ip}/udp/0/quic-v1") as listener, host(None) as dialer:
            dialed = await dialer.connect(listener.addrs[0])
            (accepted,) = listener.connections
            for one in (dialer, listener):
                one.handle("/digest")(digest)
            since = now()
            await asyncio.gather(send_checked(dialed, dialer, 10 * MB, 1), send_checked(accepted, listener, 10 * MB, 2))
            print(f"{20 / (now() - since):.0f} MB/s")

    @pytest.mark.parametrize(("wildcard", "loopback"), [("/ip4/0.0.0.0", "127.0.0.1"), ("/ip6/::", "::1")])
    async def test_a_wildcard_is_all_addresses_and_each_connection_has_the_one_dialed(
        self, wildcard: str, loopback: str
    ) -> None:
        async with host(None, f"{wildcard}/udp/0/quic-v1") as listener, host(None) as dialer:
            addrs = listener.listen_addrs
            assert loopback in [host_port(addr).host for addr in addrs]
            assert len({host_port(addr).port for addr in addrs}) == 1
            assert not any(host_port(addr).host in ("0.0.0.0", "::") for addr in addrs)
            reached = [addr for addr in addrs if not host_port(addr).host.startswith("fe80")]
            for number, addr in enumerate(reached, 1):
                connection = await dialer.swarm.connect(None, [addr])
                accepted = listener.connections[-1]
                assert len(listener.connections) == number
                assert accepted.local_addr == connection.remote_addr.without_peer() == addr

    async def test_tcp_and_quic_have_the_same_port_number_each_for_itself(self) -> None:
        async with Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"], config=QUIET) as first:
            port = host_port(first.listen_addrs[0]).port
            both = f"/ip4/127.0.0.1/udp/{port}/quic-v1"
            await first.swarm.listen(Multiaddr(both))
            assert [str(addr) for addr in first.listen_addrs] == [f"/ip4/127.0.0.1/tcp/{port}", both]
            for addr, muxer in zip(first.addrs, ("/yamux/1.0.0", "/quic-v1"), strict=True):
                async with Host(config=QUIET) as dialer:
                    assert (await dialer.connect(addr)).muxer == muxer

    async def test_a_port_in_use_is_named(self) -> None:
        async with host(None, "/ip4/127.0.0.1/udp/0/quic-v1") as first:
            taken = first.listen_addrs[0]
            with raises(ListenError) as caught:
                async with host(None, str(taken)):
                    pass
            assert caught.value.address == taken
            assert "in use" in str(caught.value)
        async with host(None, str(taken)) as again:
            assert again.listen_addrs == [taken]
