"""Circuits from end to end: a source, a relay and a target in a simulated network."""

from __future__ import annotations

import asyncio

import pytest

from libp2p.connection import DialOptions, Stream
from libp2p.errors import ConnectionClosed, DialError, LimitedConnection, ListenError, StreamReset
from libp2p.host import Host
from libp2p.host.addrs import AddrSource
from libp2p.host.events import AddrsChanged
from libp2p.identity import PrivateKey
from libp2p.protocols.relay import (
    HOP_ID,
    STOP_ID,
    CircuitClosed,
    RelayConfig,
    RelayRefused,
    RelayServer,
    ReservationLost,
    Reserved,
    Status,
)
from libp2p.protocols.relay.relay_pb2 import Voucher as VoucherPb
from libp2p.protocols.relay.voucher import VOUCHER_DOMAIN, VOUCHER_TYPE, Voucher
from libp2p.protocols.relay.wire import Answer, Connect, Reserve, decode_hop, decode_stop, encode_hop, encode_stop
from libp2p.records import Envelope
from libp2p.security.noise import Noise
from libp2p.testing.simulation import Stack

from .triangle import ECHO, triangle


def refusal(error: DialError) -> RelayRefused:
    """Why the relay did not connect."""
    (cause,) = error.attempts.values()
    assert isinstance(cause, RelayRefused)
    return cause


@pytest.mark.parametrize("stack", Stack)
async def test_a_connection_through_a_relay(stack: Stack) -> None:
    async with triangle(stack=stack) as some:
        expected = some.relay_addr / "p2p-circuit"
        assert some.target.own_addrs.found(AddrSource.RELAYED) == (expected,)
        assert expected not in some.target.listen_addrs
        assert some.circuit in some.target.addrs
        connection = await some.source.connect(some.circuit)
        assert (connection.remote_peer, connection.is_limited) == (some.target.id, True)
        with pytest.raises(LimitedConnection):
            await some.source.new_stream(some.target.id, ECHO)
        async with await some.source.new_stream(some.target.id, ECHO, allow_limited=True) as stream:
            await stream.write(b"through the relay")
            assert await stream.readexactly(17) == b"through the relay"
        inbound = await some.inbound()
        assert inbound.is_limited
        assert inbound.remote_addr == connection.local_addr
        async with some.relay.events.expect(CircuitClosed) as closed:
            await connection.close("enough")
            event = await closed
        assert (event.source, event.target) == (some.source.id, some.target.id)
        await inbound.wait_closed()
        assert some.server.book.circuits == 0


@pytest.mark.parametrize("stack", Stack)
async def test_who_names_a_direct_address_gets_a_direct_connection(stack: Stack) -> None:
    async with triangle(stack=stack) as some:
        relayed = await some.source.connect(some.circuit)
        direct = some.target.listen_addrs[0].with_peer(str(some.target.id))
        assert await some.source.connect(some.target.id) is relayed
        assert await some.source.connect([some.circuit, direct]) is relayed
        connection = await some.source.connect(direct)
        assert not connection.is_limited
        assert await some.source.connect(some.target.id) is connection


async def test_refusals_say_why() -> None:
    async with triangle(listens=False) as some:
        with pytest.raises(DialError) as caught:
            await some.source.connect(some.circuit)
        assert refusal(caught.value).status == Status.NO_RESERVATION
        with pytest.raises(ListenError, match="RESERVATION_REFUSED"):
            async with triangle(RelayConfig(max_reservations=0)) as other:
                await other.source.connect(other.circuit)


async def test_two_that_listen_at_one_relay_reach_each_other() -> None:
    """Their own address through the relay is that of the other, but for the peer."""
    async with triangle() as some:
        await some.clients[0].listen(some.relay_addr)
        assert (await some.source.connect(some.circuit)).remote_peer == some.target.id


async def test_nothing_is_relayed_over_a_relayed_connection() -> None:
    async with triangle(hosts=4) as some:
        relayed = await some.source.connect(some.circuit)
        async with RelayServer(some.target):
            for request in (Reserve(), Connect(some.relay.id)):
                stream = await some.source.new_stream(relayed, HOP_ID)
                await stream.write_message(encode_hop(request))
                answer = decode_hop(await stream.read_message(limit=4096))
                assert answer == Answer(Status.PERMISSION_DENIED)
            with pytest.raises(ListenError, match="no transport of this host listens"):
                await some.clients[0].listen(some.circuit / "p2p-circuit")


async def test_the_limit_of_bytes_ends_it_and_says_so() -> None:
    async with triangle(RelayConfig(circuit_bytes=20_000)) as some:
        async with some.relay.events.expect(CircuitClosed) as closed:
            connection = await some.source.connect(some.circuit)
            inbound = await some.inbound()
            stream = await some.source.new_stream(connection, ECHO)
            with pytest.raises(ConnectionClosed):
                await asyncio.gather(stream.write(bytes(30_000)), stream.readexactly(30_000))
            assert "20000 bytes" in (await closed).reason
        for one in (connection, inbound):
            assert "the relay's limit of 20000 bytes each way and 120 s was reached" in (await one.wait_closed()).reason


async def test_the_limit_of_time_ends_it_and_says_so() -> None:
    async with triangle(RelayConfig(circuit_bytes=None)) as some:
        connection = await some.source.connect(some.circuit)
        start = asyncio.get_running_loop().time()
        assert "the relay's limit of 120 s was reached" in (await connection.wait_closed()).reason
        assert 119 < asyncio.get_running_loop().time() - start < 121
        assert some.server.book.circuits == 0
        assert not some.server.bridges


async def test_without_limits_a_relayed_connection_is_like_others() -> None:
    async with triangle(RelayConfig(circuit_bytes=None, circuit_duration=None)) as some:
        connection = await some.source.connect(some.circuit)
        assert not connection.is_limited
        async with await some.source.new_stream(some.target.id, ECHO) as stream:
            _, echoed = await asyncio.gather(stream.write(bytes(1 << 20)), stream.readexactly(1 << 20))
            assert echoed == bytes(1 << 20)
        await asyncio.sleep(3600)
        assert not connection.is_closed
        direct = await some.source.swarm.connect(
            some.target.id, [some.target.addrs[0]], DialOptions(new_connection=True, only_given=True)
        )
        assert await some.source.connect(some.target.id) is direct, "it is used before the relayed one"
        await some.sim.until(lambda: len(some.target.connections_to(some.source.id)) == 2, within=5)
        assert some.target.swarm.usable_connection(some.source.id) is some.target.connections_to(some.source.id)[1]


async def test_bulk_passes_without_a_task_for_each_circuit() -> None:
    async with triangle(RelayConfig(circuit_bytes=None, max_circuits_per_peer=100)) as some:
        tasks = len(asyncio.all_tasks())
        assert tasks < 7
        options = DialOptions(new_connection=True)
        for _ in range(7):
            await some.source.swarm.connect(some.target.id, [some.circuit], options)
        await asyncio.sleep(5)
        assert some.server.book.circuits == 7
        assert len(asyncio.all_tasks()) <= tasks


async def test_a_relay_that_ends_takes_its_circuits_with_it() -> None:
    async with triangle() as some:
        connection = await some.source.connect(some.circuit)
        await some.server.close()
        await connection.wait_closed()
        assert some.server.book.circuits == 0


async def test_a_silent_target_costs_its_dialer_a_while_and_no_place() -> None:
    async with triangle() as some:
        some.target.remove_handler(STOP_ID)

        @some.target.handle(STOP_ID)
        async def silent(stream: Stream) -> None:
            await stream.read()

        with pytest.raises(DialError) as caught:
            await some.source.connect(some.circuit)
        assert refusal(caught.value).status == Status.CONNECTION_FAILED
        assert some.server.book.circuits == 0


async def test_a_week_with_a_reservation() -> None:
    async with triangle(stack=Stack.CHEAP) as some:
        lost: list[object] = []
        some.target.events.on(ReservationLost, lost.append)
        some.target.events.on(AddrsChanged, lost.append)
        renewed: list[object] = []
        some.target.events.on(Reserved, renewed.append)
        end = asyncio.get_running_loop().time() + 6.9 * 24 * 3600
        while (now := asyncio.get_running_loop().time()) < end:
            await asyncio.sleep(min(600, end - now))
            assert some.server.book.has_reserved(some.target.id, asyncio.get_running_loop().time())
        assert not lost
        assert len(renewed) == pytest.approx(6.9 * 24 / 0.75, abs=2)
        assert some.server.book.reservations == [some.target.id]


async def test_a_relay_that_restarts_has_the_reservation_again_within_30_s() -> None:
    async with triangle() as some:
        port, circuit = some.relay.listen_addrs, some.circuit
        await some.server.close()
        await some.relay.close()
        await some.sim.until(lambda: not some.target.own_addrs.found(AddrSource.RELAYED), within=30)
        await asyncio.sleep(300)
        async with (
            Host(
                some.relay.key,
                port,
                transports=[some.sim.nodes[0].transport()],
                security=[Noise()],
            ) as relay,
            RelayServer(relay) as server,
        ):
            await some.sim.until(lambda: server.book.reservations == [some.target.id], within=30)
            await some.sim.until(lambda: some.target.own_addrs.found(AddrSource.RELAYED), within=5)
            assert (await some.source.connect(circuit)).remote_peer == some.target.id


async def test_a_relay_that_restarts_again_and_again_has_every_client_each_time_and_no_more() -> None:
    async with triangle(stack=Stack.CHEAP, hosts=5) as some:
        for client in (some.clients[0], *some.clients[2:]):
            await client.listen(some.relay_addr)
        clients = {host.id for host in some.sim.hosts[1:]}
        await some.server.close()
        for _ in range(100):
            for connection in some.relay.connections:
                await connection.close("restarting")
            async with RelayServer(some.relay) as server:
                await some.sim.until(lambda: set(server.book.reservations) == clients, within=30)
                assert server.book.circuits == 0


async def test_clients_that_restart_a_thousand_times_leak_nothing() -> None:
    config = RelayConfig(peer_burst=10_000, ip_burst=10_000)
    async with triangle(config, stack=Stack.CHEAP) as some:
        for count in range(1000):
            listener = await some.clients[0].listen(some.relay_addr)
            if count % 2:
                await some.source.swarm.stop_listening(listener)
            else:
                await listener.close()
                for connection in some.source.connections_to(some.relay.id):
                    await connection.close("restarting")
        await asyncio.sleep(1)
        assert some.server.book.reservations in ([some.target.id], [some.target.id, some.source.id])
        for connection in some.source.connections_to(some.relay.id):
            await connection.close("bye")
        await asyncio.sleep(1)
        assert some.server.book.reservations == [some.target.id]
        assert some.target.own_addrs.found(AddrSource.RELAYED)


async def test_a_flood_of_connects_is_refused_and_honest_ones_are_served() -> None:
    async with triangle(hosts=4) as some:
        flooder, honest = some.source, some.sim.hosts[3]
        to_relay = await flooder.connect(some.relay_addr)
        statuses = []
        for _ in range(100):
            stream = await flooder.new_stream(to_relay, HOP_ID)
            await stream.write_message(encode_hop(Connect(flooder.id)))
            answer = decode_hop(await stream.read_message(limit=4096))
            assert isinstance(answer, Answer)
            statuses.append(answer.status)
            await stream.close()
        assert statuses == [Status.NO_RESERVATION] * 30 + [Status.RESOURCE_LIMIT_EXCEEDED] * 70
        assert (await honest.connect(some.circuit)).remote_peer == some.target.id


@pytest.mark.parametrize("garbage", [b"", b"\xff", b"\x08\x01", b"\x08\x07", b"\x08\x01\x12\x03\x0a\x01x"])
async def test_garbage_is_answered(garbage: bytes) -> None:
    async with triangle() as some:
        stream = await some.source.new_stream(some.relay_addr, HOP_ID)
        await stream.write_message(garbage)
        assert decode_hop(await stream.read_message(limit=4096)) == Answer(Status.MALFORMED_MESSAGE)
        stream = await some.source.new_stream(some.relay_addr, HOP_ID)
        await stream.write(b"\xff\xff\x7f")
        with pytest.raises(StreamReset):
            await stream.readexactly(1)
        assert (await some.source.connect(some.circuit)).remote_peer == some.target.id


async def test_strangers_bring_no_connections() -> None:
    async with triangle() as some:
        stream = await some.source.new_stream(some.target.addrs[0], STOP_ID)
        await stream.write_message(encode_stop(Connect(some.source.id)))
        assert decode_stop(await stream.read_message(limit=4096)) == Answer(Status.PERMISSION_DENIED)


async def test_a_forged_voucher_refuses_the_reservation(monkeypatch: pytest.MonkeyPatch) -> None:
    async with triangle(listens=False) as some:
        forger = PrivateKey.generate()
        monkeypatch.setattr(Voucher, "seal", lambda voucher, _key: _sealed(voucher, forger))
        with pytest.raises(ListenError, match="voucher, signed by"):
            await some.clients[1].listen(some.relay_addr)
        monkeypatch.setattr(Voucher, "seal", lambda _voucher, _key: b"")
        await some.clients[1].listen(some.relay_addr)


def _sealed(voucher: Voucher, key: PrivateKey) -> bytes:
    payload = VoucherPb(relay=voucher.relay.to_bytes(), peer=voucher.peer.to_bytes(), expiration=voucher.expiration)
    return Envelope.seal(key, VOUCHER_DOMAIN, VOUCHER_TYPE, payload.SerializeToString()).to_bytes()


async def test_a_flood_of_reservations_and_silent_targets_leaves_nothing_and_honest_ones_are_served() -> None:
    """Strangers of one network take what it is due; what they have been served is gone with them."""
    config = RelayConfig(max_reservations_per_ip=1, ip_burst=5, connect_timeout=1.0)
    async with triangle(config, hosts=4, listens=False) as some:
        flooder, honest = some.sim.hosts[3], some.clients[1]
        flooder.remove_handler(STOP_ID)
        flooder.handle(STOP_ID)(_silent)
        to_relay = await flooder.connect(some.relay_addr)
        statuses: list[int] = []
        for _ in range(50):
            async with await flooder.new_stream(to_relay, HOP_ID) as stream:
                await stream.write_message(encode_hop(Reserve()))
                answer = decode_hop(await stream.read_message(limit=4096))
                assert isinstance(answer, Answer)
                statuses.append(answer.status)
        assert statuses == [Status.OK] * 5 + [Status.RESERVATION_REFUSED] * 45
        await honest.listen(some.relay_addr)
        assert set(some.server.book.reservations) == {flooder.id, some.target.id}
        silent = some.relay_addr / "p2p-circuit" / f"/p2p/{flooder.id}"
        dials = [some.source.connect(silent) for _ in range(20)]
        assert all(isinstance(one, DialError) for one in await asyncio.gather(*dials, return_exceptions=True))
        assert (await some.source.connect(some.circuit)).remote_peer == some.target.id
        await to_relay.close("bye")
        await asyncio.sleep(1)
        assert some.server.book.reservations == [some.target.id]
        assert some.server.book.circuits == 1


async def _silent(stream: Stream) -> None:
    await asyncio.sleep(1000)
