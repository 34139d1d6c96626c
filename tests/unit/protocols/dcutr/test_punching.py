"""Relayed connections that become direct, through simulated NATs, by TCP and by QUIC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from libp2p.connection import Connection, Role, Transport
from libp2p.errors import LimitedConnection, RemoteProtocolError
from libp2p.host import Host
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.protocols.dcutr import PROTOCOL_ID, HolePunchEnded, HolePuncher, How
from libp2p.protocols.dcutr.wire import Connect, Sync, decode, encode
from libp2p.protocols.observed import ObservedAddrs
from libp2p.protocols.relay import RelayClient, RelayServer
from libp2p.security.noise import Noise
from libp2p.swarm.events import ConnectionOpened
from libp2p.testing.nat import Depends, Nat
from libp2p.testing.network import Link, Network, Node
from libp2p.transports.quic import Quic

PORT_RESTRICTED = {"filtering": Depends.ADDRESS_AND_PORT}
RESTRICTED = {"filtering": Depends.ADDRESS}
FULL_CONE = {"filtering": Depends.NOTHING}
SYMMETRIC = {"mapping": Depends.ADDRESS_AND_PORT, "filtering": Depends.ADDRESS_AND_PORT}


class Peers:
    """A source and a target behind NATs, and a relay."""

    def __init__(self, stack: AsyncExitStack, network: Network, kind: str) -> None:
        self.stack = stack
        self.network = network
        self.kind = kind
        self.ended: dict[Host, list[HolePunchEnded]] = {}

    async def host(self, node: Node) -> Host:
        """A host on `node`."""
        transport: Transport = Quic(open_socket=node.udp()) if self.kind == "quic" else node.transport()
        port = "udp/4001/quic-v1" if self.kind == "quic" else "tcp/4001"
        host = Host(PrivateKey.generate(), [f"/ip4/0.0.0.0/{port}"], transports=[transport], security=[Noise()])
        await self.stack.enter_async_context(host)
        self.ended[host] = []
        host.events.on(HolePunchEnded, self.ended[host].append)
        return host

    async def peer(self, node: Node) -> Host:
        """A host on `node` that uses relays and punches holes."""
        host = await self.host(node)
        observed = await self.stack.enter_async_context(ObservedAddrs(host))
        await self.stack.enter_async_context(HolePuncher(host, observed))
        return host

    async def meet(self, source: Node, target: Node) -> tuple[Host, Host, Connection]:
        """They have met through a relay, and know nothing of each other but its address."""
        relay = await self.host(self.network.node("11.0.0.1"))
        await self.stack.enter_async_context(RelayServer(relay))
        ours, theirs = await self.peer(source), await self.peer(target)
        await self.stack.enter_async_context(RelayClient(ours))
        await (await self.stack.enter_async_context(RelayClient(theirs))).listen(relay.addrs[0])
        await ours.identify.identify(await ours.connect(relay.addrs[0]))
        await theirs.identify.identify(await theirs.connect(relay.addrs[0]))

        @theirs.handle("/hello")
        async def hello(stream: object) -> None: ...

        return ours, theirs, await ours.connect(relay.addrs[0] / "p2p-circuit" / f"/p2p/{theirs.id}")


@asynccontextmanager
async def peers(kind: str) -> AsyncIterator[Peers]:
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(link=Link(latency=0.02)))
        yield Peers(stack, network, kind)


def direct(host: Host, other: Host) -> list[Connection]:
    return [one for one in host.connections_to(other.id) if not one.is_limited]


@pytest.mark.parametrize("kind", ["tcp", "quic"])
@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(PORT_RESTRICTED, PORT_RESTRICTED), (SYMMETRIC, FULL_CONE)],
)
async def test_a_hole_is_punched(
    kind: str, refuses: bool, ours: dict[str, Depends], theirs: dict[str, Depends]
) -> None:
    async with peers(kind) as some:
        near, far = (
            Nat(some.network, "12.0.0.1", refuses=refuses, **ours),
            Nat(some.network, "13.0.0.1", refuses=refuses, **theirs),
        )
        a, b, relayed = await some.meet(near.node("192.168.1.2"), far.node("192.168.2.2"))
        async with b.events.expect(HolePunchEnded) as ended:
            stream = await a.new_stream(b.id, "/hello")  # waits for the direct connection
            event = await ended
        assert not stream.connection.is_limited
        assert event.connection is not None
        assert (event.peer, event.role, event.attempts[-1].how) == (a.id, Role.RESPONDER, How.PUNCH)
        assert event.attempts[-1].rtt == pytest.approx(0.08, abs=0.03)
        (one,), (other,) = direct(a, b), direct(b, a)
        assert one.role is Role.INITIATOR
        assert other.role is Role.RESPONDER
        await stream.agreed()
        await relayed.wait_closed()  # behind a grace
        assert a.connections_to(b.id) == [one]
        assert [event.role for event in some.ended[a]] == [Role.INITIATOR] * len(event.attempts)


@pytest.mark.parametrize("kind", ["tcp", "quic"])
@pytest.mark.parametrize("ours", [FULL_CONE, RESTRICTED])
async def test_a_symmetric_listener_dials_as_initiator_the_second_time(kind: str, ours: dict[str, Depends]) -> None:
    async with peers(kind) as some:
        near, far = Nat(some.network, "12.0.0.1", **ours), Nat(some.network, "13.0.0.1", **SYMMETRIC)
        a, b, _ = await some.meet(near.node("192.168.1.2"), far.node("192.168.2.2"))
        async with b.events.expect(HolePunchEnded) as ended, a.events.expect(ConnectionOpened) as opened:
            event = await ended
            connection = (await opened).connection
        assert event.connection is not None
        assert event.connection.role is Role.INITIATOR
        assert len(event.attempts) == 2
        assert direct(a, b) == [connection]
        assert connection.role is Role.RESPONDER


@pytest.mark.parametrize("kind", ["tcp", "quic"])
async def test_a_further_attempt_takes_the_place_of_one_that_still_dials(kind: str) -> None:
    async with peers(kind) as some:
        # Our NAT tells strangers that nobody is there, theirs doesn't: their dials fail at once, ours take their time.
        near = Nat(some.network, "12.0.0.1", refuses=True, **SYMMETRIC)
        far = Nat(some.network, "13.0.0.1", **SYMMETRIC)
        _, b, _ = await some.meet(near.node("192.168.1.2"), far.node("192.168.2.2"))
        async with b.events.expect(HolePunchEnded) as ended:
            event = await ended
        assert [attempt.error for attempt in event.attempts] == [None] * 3


@pytest.mark.parametrize("kind", ["tcp", "quic"])
async def test_two_symmetric_nats_stay_relayed_and_it_is_told_why(kind: str) -> None:
    async with peers(kind) as some:
        near, far = Nat(some.network, "12.0.0.1", **SYMMETRIC), Nat(some.network, "13.0.0.1", **SYMMETRIC)
        a, b, relayed = await some.meet(near.node("192.168.1.2"), far.node("192.168.2.2"))
        async with b.events.expect(HolePunchEnded) as ended:
            with pytest.raises(LimitedConnection):
                await a.new_stream(b.id, "/hello")
            event = await ended
        assert event.connection is None
        assert [attempt.how for attempt in event.attempts] == [How.PUNCH] * 3
        for attempt in event.attempts:
            assert [str(addr).startswith("/ip4/12.0.0.1/") for addr in attempt.addrs] == [True]
            assert list(attempt.errors) == list(attempt.addrs)
        assert not relayed.is_closed
        assert (await a.new_stream(b.id, "/hello", allow_limited=True)).connection is relayed


@pytest.mark.parametrize("kind", ["tcp", "quic"])
async def test_a_public_dialer_is_dialed_without_a_punch(kind: str) -> None:
    async with peers(kind) as some:
        far = Nat(some.network, "13.0.0.1", **SYMMETRIC)
        a, b, relayed = await some.meet(some.network.node("12.0.0.1"), far.node("192.168.2.2"))
        async with b.events.expect(HolePunchEnded) as ended:
            await a.new_stream(b.id, "/hello")
            event = await ended
        assert [attempt.how for attempt in event.attempts] == [How.REVERSAL]
        assert not some.ended[a]
        await relayed.wait_closed()
        assert len(direct(a, b)) == 1


async def test_punches_are_for_relayed_connections_only() -> None:
    async with peers("tcp") as some:
        a, b = await some.peer(some.network.node("12.0.0.1")), await some.peer(some.network.node("13.0.0.1"))
        stream = await a.new_stream(b.addrs[0], PROTOCOL_ID)
        await stream.write_message(encode(Connect((Multiaddr("/ip4/14.0.0.1/tcp/22"),))))
        with pytest.raises(Exception, match="reset"):
            await stream.readexactly(1)
        assert not some.ended[b]


def test_messages_to_the_byte() -> None:
    addr = Multiaddr("/ip4/192.0.2.1/tcp/4001")
    assert encode(Connect((addr,))).hex() == "0864120804c0000201060fa1"
    assert encode(Sync()).hex() == "08ac02"
    assert decode(bytes.fromhex("0864120804c0000201060fa11201ff")) == Connect((addr,))
    assert decode(bytes.fromhex("08ac02")) == Sync()
    for bad in ("", "0801", "ff"):
        with pytest.raises(RemoteProtocolError):
            decode(bytes.fromhex(bad))
