"""The endpoint of QUIC: floods, Retry, refusals, and which datagram belongs to whom."""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aioquic._buffer import Buffer
from aioquic.buffer import encode_uint_var
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicPacketType, QuicProtocolVersion, pull_quic_header
from aioquic.tls import Epoch

from libp2p.connection import Connection, Stream
from libp2p.errors import ConnectionClosed, StageTimeout
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr, host_port
from libp2p.testing.conformance.connections import Side
from libp2p.testing.conformance.tools import cancel, ends, pattern, raises, started
from libp2p.testing.conformance.transports import DIALER, LISTENER, Reports
from libp2p.testing.network import Link, Network, Node
from libp2p.testing.transports import CountedScope, context
from libp2p.transports.quic import Quic, QuicConfig
from libp2p.transports.quic.connection import QuicConnection
from libp2p.transports.quic.datagrams import DatagramReceiver, DatagramSocket, Received, SocketAddress
from libp2p.transports.quic.endpoint import Endpoint
from libp2p.transports.quic.stateless_reset import MAX_RESETS
from libp2p.transports.quic.transport import QuicListener

PEER = LISTENER.public_key.peer_id
V1 = QuicProtocolVersion.VERSION_1
PORT = 4001
TARGET: SocketAddress = ("10.0.0.2", PORT)
ADDR = Multiaddr("/ip4/10.0.0.2/udp/4001/quic-v1")
INITIAL, HANDSHAKE, RETRY = QuicPacketType.INITIAL, QuicPacketType.HANDSHAKE, QuicPacketType.RETRY


class Scene:
    """A listener on a machine of its own, a dialer, and what passed between machines."""

    def __init__(self, config: QuicConfig, link: Link) -> None:
        self.config = config
        self.network = Network(seed=5, link=link)
        self.network.on_datagram = self._tap
        self.near, self.far = self.network.node("10.0.0.1"), self.network.node("10.0.0.2")
        self.dialer, self.transport = self.quic(DIALER, self.near), self.quic(LISTENER, self.far)
        self.reports = Reports()
        self.listener: QuicListener
        self.sent: list[bytes] = []
        """By the dialer's machine."""
        self.answers: list[tuple[bytes, SocketAddress]] = []
        """By the listener's machine, and to whom."""
        self.injected: Counter[SocketAddress] = Counter()
        """Bytes that seemed to come from an address."""
        self.lets: Callable[[bytes, SocketAddress], bool] = lambda data, source: True
        """Which datagrams are not lost."""

    def quic(self, key: PrivateKey, node: Node) -> Quic:
        return Quic(self.config, open_socket=node.udp()).use(context(key))

    def _tap(self, data: bytes, source: SocketAddress, target: SocketAddress) -> bool:
        if source == TARGET:
            self.answers.append((data, target))
        elif source[0] == "10.0.0.1":
            self.sent.append(data)
        return self.lets(data, source)

    @property
    def endpoint(self) -> Endpoint:
        return self.listener.endpoint

    def inject(self, data: bytes, source: SocketAddress) -> None:
        self.injected[source] += len(data)
        self.network.inject(data, source, TARGET)

    def check_amplification(self) -> None:
        """No address was sent more than three times what came from it (RFC 9000, 8.1)."""
        out: Counter[SocketAddress] = Counter()
        for data, target in self.answers:
            out[target] += len(data)
        assert {to: (out[to], size) for to, size in self.injected.items() if out[to] > 3 * size} == {}

    async def connect(self) -> tuple[QuicConnection, QuicConnection]:
        dialed = await ends(self.dialer.dial(ADDR, PEER))
        accepted = await ends(self.reports.opened.get())
        assert isinstance(dialed, QuicConnection)
        assert isinstance(accepted, QuicConnection)
        return dialed, accepted

    async def first_datagram(self) -> bytes:
        """What a dial begins with. It does not arrive."""
        before, self.lets = self.lets, lambda data, source: False
        await cancel(await started(self.dialer.dial(ADDR, PEER)))
        self.lets = before
        datagram = self.sent[0]
        self.sent.clear()
        return datagram


@asynccontextmanager
async def scene(config: QuicConfig | None = None, link: Link = Link(latency=0.005)) -> AsyncIterator[Scene]:  # noqa: B008
    made = Scene(config or QuicConfig(), link)
    async with made.network:
        listener = await made.transport.listen(Multiaddr(f"/ip4/0.0.0.0/udp/{PORT}/quic-v1"), made.reports)
        assert isinstance(listener, QuicListener)
        made.listener = listener
        yield made
        await asyncio.sleep(made.config.handshake_timeout + 1)
        assert not made.near.ports._sockets
        assert contents(made.endpoint) == NOTHING
        await listener.close()
        assert not made.far.ports._sockets


NOTHING = (0, 0, 0, 0)


def contents(of: Endpoint) -> tuple[int, int, int, int]:
    """Connection ids, connections, half-open ones, goodbyes."""
    assert {driver for driver, _ in of._handshakes} <= of._drivers
    assert set(of._routes.values()) <= of._drivers
    assert bool(of._farewells._by_cid) is bool(of._farewells._timers)
    return len(of._routes), len(of._drivers), len(of._handshakes), len(of._farewells._timers)


async def check_works(ours: Connection, theirs: Connection) -> None:
    near, far = await Side(ours).stream_to(Side(theirs))
    await near.write(b"question")
    assert await ends(far.readexactly(8)) == b"question"
    await far.write(b"answer")
    assert await ends(near.readexactly(6)) == b"answer"
    await near.close()
    await far.close()


def spoofed(number: int) -> SocketAddress:
    """A different address for each number; the machine that has it is not there."""
    return f"192.{168 + (number >> 16)}.{number >> 8 & 0xFF}.{number & 0xFF}", 1024 + number % 50_000


class Hello:
    """The ClientHello of a real dial, to be sent again under other connection ids."""

    def __init__(self, datagram: bytes) -> None:
        buf = Buffer(data=datagram)
        header = pull_quic_header(buf)
        assert header.packet_type is INITIAL
        pair = CryptoPair()
        pair.setup_initial(header.destination_cid, is_client=False, version=V1)
        end = header.packet_length
        _, self._payload, _ = pair.decrypt_packet(datagram[:end], buf.tell(), 0)
        self._source = header.source_cid

    def datagram(self, destination: bytes, token: bytes = b"") -> bytes:
        pair = CryptoPair()
        pair.setup_initial(destination, is_client=True, version=V1)
        payload = self._payload.rstrip(b"\0").ljust(1162 - len(token), b"\0")
        head = b"\xc1" + V1.to_bytes(4, "big")
        for cid in (destination, self._source):
            head += bytes((len(cid),)) + cid
        head += encode_uint_var(len(token)) + token + (0x4000 | 2 + len(payload) + 16).to_bytes(2, "big") + bytes(2)
        return pair.encrypt_packet(head, payload, 0).ljust(1200, b"\0")


def long_header(dice: random.Random, size: int, *, first: int | None = None, version: int = V1) -> bytes:
    """A long header with valid lengths, and nothing behind it that can be read."""
    first = 0xC0 | dice.getrandbits(6) if first is None else first
    head = bytes((first,)) + version.to_bytes(4, "big") + b"\x08" + dice.randbytes(8) + b"\x08" + dice.randbytes(8)
    head += b"\0" if first & 0x30 == 0 else b""  # no token
    rest = size - len(head) - 2
    return head + (0x4000 | rest).to_bytes(2, "big") + dice.randbytes(rest)


def code_of_refusal(datagram: bytes, cid: bytes) -> int | None:
    """The code of a CONNECTION_CLOSE in an Initial packet, which answers one that was sent to `cid`."""
    buf = Buffer(data=datagram)
    header = pull_quic_header(buf, host_cid_length=8)
    pair = CryptoPair()
    pair.setup_initial(cid=cid, is_client=True, version=V1)
    plain = Buffer(data=pair.decrypt_packet(datagram[: header.packet_length], buf.tell(), 0)[1])
    return plain.pull_uint_var() if plain.pull_uint_var() == QuicFrameType.TRANSPORT_CLOSE else None


def type_of(datagram: bytes) -> QuicPacketType:
    return pull_quic_header(Buffer(data=datagram), host_cid_length=8).packet_type


# Floods


async def test_garbage_is_hardly_answered_and_leaves_nothing() -> None:
    dice = random.Random(11)
    async with scene() as at:
        dialed, accepted = await at.connect()
        await asyncio.sleep(5)
        before, (live, *_) = contents(at.endpoint), at.endpoint._routes
        initial = await at.first_datagram()
        garbage = [b"", *(initial[:size] for size in range(len(initial)))]
        while len(garbage) < 10_000:
            size = dice.randrange(1, 1473)
            junk = dice.randbytes(size)
            garbage += [
                bytes((junk[0] & 0x7F,)) + junk[1:],
                bytes((junk[0] | 0x80,)) + junk[1:1199],  # too small for a first datagram, whatever it says
                b"\x40" + live + junk,  # looks as if it belonged to a connection
                b"\xe0" + V1.to_bytes(4, "big") + b"\x08" + live + junk,
                long_header(dice, dice.randrange(40, 1473), first=dice.choice((0xD0, 0xE0, 0xF0))),
                long_header(dice, dice.randrange(40, 1200)),
                b"\xc0" + V1.to_bytes(4, "big") + junk,
            ]
        dice.shuffle(garbage)
        at.answers.clear()
        for number, data in enumerate(garbage):
            at.inject(data, spoofed(number % 500))
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        assert contents(at.endpoint) == before
        assert len(at.answers) <= MAX_RESETS, "stateless resets, and few"
        assert not [data for data, _ in at.answers if data[0] & 0x80 or len(data) >= 43]
        await check_works(dialed, accepted)
        await ends(dialed.close())
        await asyncio.sleep(1)
        assert contents(at.endpoint) == NOTHING
        assert at.reports.everything.qsize() == 1


async def test_unreadable_initial_packets_leave_nothing() -> None:
    """10,000, each from another address, with random bytes where there should be a ClientHello."""
    dice = random.Random(12)
    async with scene() as at:
        for number in range(10_000):
            at.inject(long_header(dice, 1200, first=0xC0), spoofed(number))
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        assert contents(at.endpoint) == NOTHING
        assert not at.answers
        assert at.reports.everything.empty()


async def test_flood_of_handshakes_from_spoofed_addresses() -> None:
    """10,000 readable ones, each from another address: so many get a handshake as the settings allow; who can show
    where it is gets one, too. Nothing is left when their time is over, and nobody was sent more than thrice his share.
    """
    async with scene(QuicConfig(handshake_timeout=4)) as at:
        hello = Hello(await at.first_datagram())
        hellos = [hello.datagram(os.urandom(8)) for _ in range(1000)]
        for number in range(10_000):
            at.inject(hellos[number % 1000], spoofed(number))
        await asyncio.sleep(0.001)
        routes, drivers, half_open, farewells = contents(at.endpoint)
        assert (drivers, half_open, farewells) == (64, 64, 0)
        assert routes == 2 * 64
        assert {type_of(data) for data, _ in at.answers} == {INITIAL, HANDSHAKE, RETRY} or {
            type_of(data) for data, _ in at.answers
        } == {INITIAL, RETRY}

        dialed, accepted = await at.connect()
        assert any(to[0] == "10.0.0.1" and type_of(data) is RETRY for data, to in at.answers)
        await check_works(dialed, accepted)
        await asyncio.sleep(3)
        assert contents(at.endpoint)[2] == 64
        await asyncio.sleep(2)
        assert contents(at.endpoint)[1:] == (1, 0, 0)
        failures = [at.reports.everything.get_nowait() for _ in range(at.reports.everything.qsize())]
        assert sum(isinstance(one, StageTimeout) for one in failures) == 64
        assert len(failures) == 65
        at.check_amplification()
        await ends(dialed.close())
        await asyncio.sleep(1)
        assert contents(at.endpoint) == NOTHING


@pytest.mark.parametrize("certificates", range(1, 7))
async def test_a_long_first_flight_and_the_goodbye_stay_below_three_times_the_hello(certificates: int) -> None:
    """As with an RSA identity: its certificate is long."""
    async with scene(QuicConfig(handshake_timeout=4)) as at:
        hello = Hello(await at.first_datagram())
        configuration = at.endpoint._credentials.for_listener
        configuration.certificate_chain = [configuration.certificate] * (certificates - 1)
        at.inject(hello.datagram(b"original"), ("10.9.9.9", 99))
        await asyncio.sleep(5)
        assert contents(at.endpoint) == NOTHING
        at.check_amplification()
        assert sum(len(data) for data, _ in at.answers) > 2 * 1200


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.1, 0.3])
async def test_a_stolen_datagram_sends_no_flood_to_a_victim(moment: float) -> None:
    """Somebody on the path lets a datagram come from another address: data goes there within the limit only, until the
    peer is heard from where it is (RFC 9000, 9.3.1 and 9.3.2).
    """
    async with scene(link=Link(latency=0.01, bandwidth=2_000_000)) as at:
        dialed, accepted = await at.connect()
        near, far = await Side(dialed).stream_to(Side(accepted))
        await near.write(b"!")
        assert await ends(far.readexactly(1)) == b"!"
        data, stolen = pattern(1_000_000), False
        writing = asyncio.ensure_future(far.write(data))
        await asyncio.sleep(moment)

        def steal(datagram: bytes, source: SocketAddress) -> bool:
            nonlocal stolen
            if stolen or source == TARGET:
                return True
            stolen = True
            at.inject(datagram, ("10.9.9.9", 99))
            return False

        at.lets = steal
        assert await ends(near.readexactly(len(data))) == data
        await ends(writing)
        at.check_amplification()
        assert any(to == ("10.9.9.9", 99) for _, to in at.answers)
        await check_works(dialed, accepted)
        await ends(dialed.close())


# Version Negotiation


@pytest.mark.parametrize("rest", [b"\0", b"\xff"])
@pytest.mark.parametrize("first", [0xC0, 0x80, 0xFF])
@pytest.mark.parametrize("version", [0x6B3343CF, 0xFF00001D, 0x1A2A3A4A])
async def test_version_negotiation(version: int, first: int, rest: bytes) -> None:
    """What is behind the connection ids is the business of that version (RFC 8999, 5.1), and so is their size."""
    async with scene() as at:
        for sizes in ((8, 8), (20, 0), (0, 20), (255, 21)):
            destination, source = (bytes((size,)) + random.randbytes(size) for size in sizes)
            head = bytes((first,)) + version.to_bytes(4, "big") + destination + source
            for size in (600, 1199):
                at.inject(head.ljust(size, rest), ("10.9.9.9", 99))
            await asyncio.sleep(0.001)
            assert not at.answers
            at.inject(head.ljust(1200, rest), ("10.9.9.9", 99))
            await asyncio.sleep(0.001)
            ((answer, to),) = at.answers
            at.answers.clear()
            assert to == ("10.9.9.9", 99)
            assert answer[0] & 0x80
            assert answer[1:] == bytes(4) + source + destination + V1.to_bytes(4, "big")
            assert contents(at.endpoint) == NOTHING


async def test_version_negotiation_is_never_answered() -> None:
    async with scene() as at:
        head = b"\xc0" + bytes(4) + b"\x08" + b"d" * 8 + b"\x08" + b"s" * 8
        at.inject(head + b"\x1a\x2a\x3a\x4a" * 300, ("10.9.9.9", 99))
        at.inject(head, ("10.9.9.9", 99))
        await asyncio.sleep(0.001)
        assert not at.answers


# Retry


ALWAYS_RETRY = QuicConfig(max_unvalidated_inbound=0)


async def test_a_dialer_answers_a_retry() -> None:
    async with scene(ALWAYS_RETRY) as at:
        dialed, accepted = await at.connect()
        types = [type_of(data) for data, _ in at.answers]
        assert types[0] is RETRY
        assert types.count(RETRY) == 1
        assert len(at.answers[0][0]) < 200
        await check_works(dialed, accepted)
        await ends(dialed.close())


async def token_of(at: Scene) -> tuple[Hello, bytes, bytes]:
    """A ClientHello, the connection id that a Retry packet asked for, and its token. The listener keeps nothing."""
    hello = Hello(await at.first_datagram())
    at.inject(hello.datagram(b"original"), ("10.9.9.9", 99))
    await asyncio.sleep(0.001)
    assert contents(at.endpoint) == NOTHING
    ((answer, to),) = at.answers
    assert to == ("10.9.9.9", 99)
    at.answers.clear()
    header = pull_quic_header(Buffer(data=answer))
    assert header.packet_type is RETRY
    return hello, header.source_cid, header.token


@pytest.mark.parametrize(
    ("case", "source", "seconds", "is_taken"),
    [
        ("in time", ("10.9.9.9", 99), 29.9, True),
        ("expired", ("10.9.9.9", 99), 30.1, False),
        ("another port", ("10.9.9.9", 98), 0, False),
        ("another address", ("10.9.9.8", 99), 0, False),
        ("another connection id", ("10.9.9.9", 99), 0, False),
        ("changed", ("10.9.9.9", 99), 0, False),
        ("cut", ("10.9.9.9", 99), 0, False),
    ],
)
async def test_a_token_is_good_for_one_address_and_time(
    case: str, source: SocketAddress, seconds: float, is_taken: bool
) -> None:
    async with scene(ALWAYS_RETRY) as at:
        hello, cid, token = await token_of(at)
        await asyncio.sleep(seconds)
        if case == "another connection id":
            cid = b"original"
        elif case == "changed":
            token = token[:-1] + bytes((token[-1] ^ 1,))
        elif case == "cut":
            token = token[:5]
        at.inject(hello.datagram(cid, token), source)
        await asyncio.sleep(0.001)
        assert contents(at.endpoint)[1:] == ((1, 1, 0) if is_taken else (0, 0, 0))
        assert at.answers
        codes = [refused for data, _ in at.answers if (refused := code_of_refusal(data, cid)) is not None]
        assert codes == ([] if is_taken else [QuicErrorCode.INVALID_TOKEN])
        assert RETRY not in [type_of(data) for data, _ in at.answers]
        at.check_amplification()


async def test_a_foreign_token_does_no_harm_where_none_is_needed() -> None:
    async with scene() as at:
        hello = Hello(await at.first_datagram())
        at.inject(hello.datagram(b"original", b"from another server"), ("10.9.9.9", 99))
        await asyncio.sleep(0.001)
        assert contents(at.endpoint)[1:] == (1, 1, 0)


# Limits, and the end of a listener


def stall(at: Scene) -> None:
    """From now on dialers get no answer to their first datagrams."""
    at.lets = lambda data, source: source != TARGET


async def test_too_many_handshakes() -> None:
    async with scene(QuicConfig(max_pending_inbound=2, max_unvalidated_inbound=2)) as at:
        stall(at)
        stalled = [await started(at.dialer.dial(ADDR, PEER)) for _ in range(2)]
        assert contents(at.endpoint)[2] == 2
        at.lets = lambda data, source: True
        start = asyncio.get_running_loop().time()
        with raises(ConnectionClosed) as caught:
            await ends(at.quic(PrivateKey.generate(), at.network.node("10.0.0.3")).dial(ADDR, PEER))
        assert (caught.value.by, caught.value.code) == ("remote", 2)
        assert "connection refused" in str(caught.value)
        assert asyncio.get_running_loop().time() - start == pytest.approx(0.01, abs=0.001)
        assert contents(at.endpoint)[2] == 2
        (refusal,) = [data for data, to in at.answers if to[0] == "10.0.0.3"]
        assert len(refusal) < 100
        for task in stalled:
            await cancel(task)
        await asyncio.sleep(1)
        dialed, _ = await at.connect()
        await ends(dialed.close())


async def test_the_listener_closes_while_handshakes_are_under_way() -> None:
    async with scene(link=Link(latency=0.05)) as at:
        dialing = asyncio.ensure_future(at.dialer.dial(ADDR, PEER))
        await asyncio.sleep(0.08)
        assert contents(at.endpoint)[1:3] == (1, 1)
        await at.listener.close()
        assert contents(at.endpoint) == NOTHING
        assert not at.far.ports._sockets
        with raises(ConnectionClosed) as caught:
            await ends(dialing, within=0.1)
        assert caught.value.by == "remote"
        assert "the listener was closed" in str(caught.value)
        assert at.reports.opened.empty()
        assert not at.near.ports._sockets


@pytest.mark.parametrize("moment", [0.001, 0.05, 0.1, 0.125, 0.15, 0.175, 0.199, 0.25])
async def test_the_listener_closes_at_any_moment_of_a_dial(moment: float) -> None:
    """The dial fails, or it gives a connection that the listener has reported."""
    async with scene(QuicConfig(handshake_timeout=2), Link(latency=0.05)) as at:
        dialing = asyncio.ensure_future(at.dialer.dial(ADDR, PEER))
        await asyncio.sleep(moment)
        await at.listener.close()
        if at.reports.opened.empty():
            with raises(ConnectionClosed, StageTimeout):
                await ends(dialing)
        else:
            dialed = await ends(dialing)
            await check_works(dialed, at.reports.opened.get_nowait())
            await ends(dialed.close())
        await asyncio.sleep(1)
        assert not at.near.ports._sockets
        assert not at.far.ports._sockets


async def test_connections_outlive_their_listener() -> None:
    async with scene() as at:
        (one, its), (other, others) = await at.connect(), await at.connect()
        await at.listener.close()
        start = asyncio.get_running_loop().time()
        with raises(ConnectionClosed) as caught:
            await ends(at.dialer.dial(ADDR, PEER))
        assert caught.value.code == 2
        assert asyncio.get_running_loop().time() - start < 0.02
        await check_works(one, its)
        await ends(its.close())
        assert at.far.ports._sockets
        await check_works(others, other)
        await ends(other.close())
        await asyncio.sleep(0.1)
        assert at.endpoint.is_closed
        assert not at.far.ports._sockets
        assert not at.near.ports._sockets


@pytest.mark.parametrize("is_abrupt", [True, False])
async def test_streams_that_the_peer_opens_too_late(is_abrupt: bool) -> None:
    """Of those that come together the first makes its owner end the connection: he is given no more of them."""
    async with scene() as at:
        dialed, accepted = await at.connect()
        streams: list[Stream] = []
        closing: list[asyncio.Task[None]] = []

        def on_stream(stream: Stream) -> None:
            streams.append(stream)
            if is_abrupt:
                accepted.abort()
            else:
                closing.append(asyncio.ensure_future(accepted.close()))

        reasons: list[ConnectionClosed] = []
        accepted.serve(on_stream, reasons.append)
        unread = await accepted.open_stream()
        await unread.write(b"to be acknowledged before the connection closes")
        opened = [await dialed.open_stream() for _ in range(3)]
        for stream in opened if is_abrupt else opened[:1]:
            await stream.write(b"!")
        await asyncio.sleep(0.006)
        if not is_abrupt:
            at.lets = lambda data, source: source != TARGET  # the dialer has not heard of it
            for stream in opened[1:]:
                await stream.write(b"!")
        await asyncio.sleep(3)
        assert len(reasons) == 1
        assert len(streams) == 1
        assert not accepted.streams
        await asyncio.gather(*closing)
        dialed.abort()


async def test_a_closed_listener_s_port_can_be_listened_on_again() -> None:
    async with scene() as at:
        await at.listener.close()
        again = await at.transport.listen(ADDR, at.reports)
        dialed, accepted = await at.connect()
        await again.close()
        await check_works(dialed, accepted)
        await ends(dialed.close())


# Which datagram belongs to whom


async def test_every_connection_id_that_was_issued_leads_to_its_connection() -> None:
    async with scene() as at:
        pairs = [await at.connect() for _ in range(3)]
        for driver in at.endpoint._drivers:  # nothing has come since they were issued
            assert len(driver.engine._host_cids) > 1
            assert {one.cid for one in driver.engine._host_cids} <= driver.cids
        most, seen = len(at.endpoint._routes), set(at.endpoint._routes)
        for _ in range(40):
            for ours, theirs in pairs:
                ours._driver.engine.change_connection_id()
                ours._driver.soon()
                theirs._driver.engine.change_connection_id()
                theirs._driver.soon()
                await check_works(ours, theirs)
                seen |= set(at.endpoint._routes)
                most = max(most, len(at.endpoint._routes))
        assert len(seen) > 3 * 40
        assert most <= 3 * 10
        for driver in at.endpoint._drivers:
            assert driver.cids == {cid for cid, owner in at.endpoint._routes.items() if owner is driver}
            assert {one.cid for one in driver.engine._host_cids} <= driver.cids
        for ours, _ in pairs:
            await ends(ours.close())
        await asyncio.sleep(1)
        assert contents(at.endpoint) == NOTHING
        assert not at.near.ports._sockets


@pytest.mark.parametrize("is_uploading", [True, False])
async def test_nat_rebinding_in_the_middle_of_a_transfer(is_uploading: bool) -> None:
    async with scene(link=Link(latency=0.01, bandwidth=2_000_000)) as at:
        dialed, accepted = await at.connect()
        near, far = await Side(dialed).stream_to(Side(accepted))
        await near.write(b"!")
        assert await ends(far.readexactly(1)) == b"!"
        source, sink = (near, far) if is_uploading else (far, near)
        data = pattern(1_500_000)

        async def send() -> None:
            for start in range(0, len(data), 50_000):
                await source.write(data[start : start + 50_000])
            await source.close_write()

        async def rebind() -> None:
            for _ in range(6):
                await asyncio.sleep(0.1)
                at.near.rebind()
                if not is_uploading:  # nothing arrives any more that it would acknowledge
                    await near.write(b"?")

        sending, rebinding = asyncio.ensure_future(send()), asyncio.ensure_future(rebind())
        assert await ends(sink.readexactly(len(data)), within=30) == data
        await ends(rebinding)
        await ends(sending)
        await check_works(dialed, accepted)
        await check_works(accepted, dialed)
        assert dialed.close_reason is None
        assert len({to for _, to in at.answers}) > 3
        await ends(dialed.close())
        await asyncio.sleep(1)
        assert contents(at.endpoint) == NOTHING


async def test_a_goodbye_that_was_lost_is_said_again() -> None:
    async with scene() as at:
        dialed, accepted = await at.connect()
        near, far = await Side(dialed).stream_to(Side(accepted))
        await near.write(b"!")
        assert await ends(far.readexactly(1)) == b"!"
        await asyncio.sleep(0.1)
        stall(at)
        accepted.abort("enough")
        assert contents(at.endpoint)[1:] == (0, 0, 1)
        await asyncio.sleep(0.005)
        at.lets = lambda data, source: True
        assert not dialed.is_closed
        await near.write(b"are you there?")
        reason = await ends(dialed.wait_closed(), within=0.1)
        assert (reason.by, reason.reason) == ("remote", "enough")
        await asyncio.sleep(1)
        assert contents(at.endpoint) == NOTHING


async def test_goodbyes_are_not_said_to_everything() -> None:
    """The first, second, fourth, eighth... datagram is answered; after a while none."""
    async with scene() as at:
        dialed, accepted = await at.connect()
        await asyncio.sleep(0.1)
        stall(at)
        (cid, *_) = accepted._driver.cids
        accepted.abort()
        at.answers.clear()
        for _ in range(100):
            at.inject(b"\x40" + cid + bytes(40), ("10.9.9.9", 99))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(at.answers) <= 7
        at.check_amplification()
        await asyncio.sleep(2)
        at.answers.clear()
        at.inject(b"\x40" + cid + bytes(40), ("10.9.9.9", 99))
        await asyncio.sleep(0.001)
        assert [len(data) for data, _ in at.answers] == [42], "a stateless reset, as to anybody"
        assert contents(at.endpoint) == NOTHING
        dialed.abort()


async def exchange(ours: Connection, theirs: Connection, data: bytes) -> None:
    """`data` in both directions of a stream, at once."""
    near, far = await Side(ours).stream_to(Side(theirs))
    await near.write(data[:1])

    async def send(stream: Stream, rest: bytes) -> None:
        await stream.write(rest)
        await stream.close_write()

    async def receive(stream: Stream) -> None:
        assert await ends(stream.readexactly(len(data)), within=30) == data

    async with asyncio.TaskGroup() as tasks:
        for stream, rest in ((near, data[1:]), (far, data)):
            tasks.create_task(send(stream, rest))
            tasks.create_task(receive(stream))


async def test_connections_of_one_pair_of_sockets_are_told_apart() -> None:
    """Their datagrams are of one size, come from one address, and are handed over in the same batches."""
    async with scene() as at:
        pairs = [await at.connect() for _ in range(4)]
        async with asyncio.TaskGroup() as tasks:
            for number, pair in enumerate(pairs):
                tasks.create_task(exchange(*pair, pattern(200_000, 4 * number)))
        for ours, _ in pairs:
            await ends(ours.close())


# Sockets


class Narrow(DatagramSocket):
    """A socket that is full each time it has taken something, until a millisecond later; or for good."""

    def __init__(self, inner: DatagramSocket) -> None:
        self._inner = inner
        self.addr = inner.addr
        self.is_stuck = False
        self.is_full = False
        self.refused = 0

    def attach(self, receiver: DatagramReceiver) -> None:
        self._receiver = receiver
        self._inner.attach(receiver)

    def send(self, datagrams: Sequence[bytes], addr: SocketAddress, local_ip: str | None = None) -> bool:
        self.refused += self.is_full
        if not self.is_full and not self.is_stuck:
            asyncio.get_running_loop().call_later(0.001, self.drain)
        self.is_full = True
        self._inner.send(datagrams, addr, local_ip)
        return False

    def drain(self) -> None:
        self.is_full = self.is_stuck = False
        self._receiver.writable()

    def close(self) -> None:
        self._inner.close()


async def test_a_socket_that_takes_no_more_for_a_while() -> None:
    """Connections wait for it, and share it when it does again."""
    sockets: list[Narrow] = []
    async with scene() as at:
        open_socket = at.near.udp()

        async def narrow(addr: SocketAddress) -> DatagramSocket:
            sockets.append(Narrow(await open_socket(addr)))
            return sockets[-1]

        at.dialer._open_socket = narrow
        pairs = [await at.connect() for _ in range(3)]
        async with asyncio.TaskGroup() as tasks:
            for ours, theirs in pairs:
                tasks.create_task(exchange(ours, theirs, pattern(100_000)))
        (socket,) = sockets
        socket.is_stuck = True
        dialing = [await started(at.dialer.dial(ADDR, PEER)) for _ in range(2)]
        for task in dialing:
            await cancel(task)
        socket.drain()
        await ends(exchange(*pairs[0], pattern(1000)))
        assert socket.refused < 20, "connections go on sending although it is full"
        for ours, _ in pairs:
            await ends(ours.close())
        await asyncio.sleep(0.1)


async def test_the_listener_closes_while_its_socket_is_full() -> None:
    """The goodbye has to wait; what the dialer says meanwhile makes it no connection."""
    async with scene() as at:
        socket = Narrow(await at.far.udp()(("10.0.0.2", 4009)))

        async def narrow(addr: SocketAddress) -> DatagramSocket:
            return socket

        at.transport._open_socket = narrow
        listening = await at.transport.listen(Multiaddr("/ip4/10.0.0.2/udp/4009/quic-v1"), at.reports)
        socket.is_stuck = True
        dialing = asyncio.ensure_future(at.dialer.dial(listening.addrs[0], PEER))
        await asyncio.sleep(0.008)
        await listening.close()
        await asyncio.sleep(0.1)
        assert not dialing.done()
        socket.drain()
        with raises(ConnectionClosed) as caught:
            await ends(dialing, within=0.1)
        assert "the listener was closed" in str(caught.value)
        assert at.reports.everything.empty()


async def test_connected_to_itself() -> None:
    async with scene() as at:
        dialed = await ends(at.transport.dial(ADDR, PEER))
        accepted = await ends(at.reports.opened.get())
        assert dialed.local_addr == dialed.remote_addr == accepted.local_addr == accepted.remote_addr == ADDR
        await check_works(dialed, accepted)
        await check_works(accepted, dialed)
        assert contents(at.endpoint)[1] == 2
        await ends(dialed.close())


async def test_both_dial_at_once() -> None:
    """From the ports they listen on, as peers behind NATs do: two connections between two addresses."""
    async with scene() as at:
        reports = Reports()
        listening = await at.dialer.listen(Multiaddr("/ip4/10.0.0.1/udp/4002/quic-v1"), reports)
        there, back = await ends(
            asyncio.gather(at.dialer.dial(ADDR, PEER), at.transport.dial(listening.addrs[0], DIALER.public_key.peer_id))
        )
        await check_works(there, await ends(at.reports.opened.get()))
        await check_works(back, await ends(reports.opened.get()))
        await listening.close()
        await ends(there.close())
        await ends(back.close())


async def test_a_listening_socket_dials_too() -> None:
    async with scene() as at:
        reports = Reports()
        listening = await at.dialer.listen(Multiaddr("/ip4/0.0.0.0/udp/4002/quic-v1"), reports)
        dialed, accepted = await at.connect()
        assert str(accepted.remote_addr) == "/ip4/10.0.0.1/udp/4002/quic-v1"
        assert len(at.near.ports._sockets) == 1
        back = await ends(at.transport.dial(listening.addrs[0], DIALER.public_key.peer_id))
        there = await ends(reports.opened.get())
        assert str(there.remote_addr) == str(ADDR)
        await check_works(back, there)
        await listening.close()
        await check_works(dialed, accepted)
        for connection in (dialed, back):
            await ends(connection.close())
        await asyncio.sleep(0.1)
        assert not at.near.ports._sockets


async def test_who_listens_no_more_dials_from_another_port() -> None:
    async with scene() as at:
        listening = await at.dialer.listen(Multiaddr("/ip4/0.0.0.0/udp/4002/quic-v1"), Reports())
        first, accepted = await at.connect()
        assert host_port(accepted.remote_addr).port == 4002
        await listening.close()
        second, accepted = await at.connect()
        assert host_port(accepted.remote_addr).port != 4002
        await ends(first.close())
        await ends(second.close())
        third, _ = await at.connect()
        await ends(third.close())


async def test_dials_share_a_socket_that_ends_with_the_last_of_them() -> None:
    async with scene() as at:
        both = await asyncio.gather(at.dialer.dial(ADDR, PEER), at.dialer.dial(ADDR, PEER))
        third, _ = await at.connect()
        assert len({connection.local_addr for connection in (*both, third)}) == 1
        assert len(at.near.ports._sockets) == 1
        for connection in (*both, third):
            assert len(at.near.ports._sockets) == 1
            await ends(connection.close())
        assert not at.near.ports._sockets
        dialed, _ = await at.connect()
        await ends(dialed.close())
        assert not at.near.ports._sockets


# Found by a review


async def test_one_address_does_not_shut_out_the_others() -> None:
    async with scene() as at:
        seen: Counter[bytes] = Counter()

        def lets(data: bytes, source: SocketAddress) -> bool:
            """Of the bad one only what begins a handshake, and what follows a Retry."""
            if source[0] != "10.0.0.66":
                return True
            if not data[0] & 0x80 or data[0] & 0x30:
                return False
            end = 6 + data[5]
            cid = data[end + 1 : end + 1 + data[end]]
            seen[cid] += 1
            return seen[cid] == 1 or (seen[cid] == 2 and data[end + 1 + data[end]] != 0)

        at.lets = lets
        bad = at.quic(DIALER, at.network.node("10.0.0.66"))
        dials = [asyncio.ensure_future(bad.dial(ADDR, None)) for _ in range(600)]
        await asyncio.sleep(1)
        assert len(at.listener.endpoint._handshakes) == QuicConfig().max_pending_per_ip
        other = at.quic(DIALER, at.network.node("10.0.0.3"))
        connection = await ends(other.dial(ADDR, PEER))
        connection.abort()
        for dial in dials:
            dial.cancel()
        await asyncio.gather(*dials, return_exceptions=True)
        await asyncio.sleep(QuicConfig().handshake_timeout + 5)
        assert not at.listener.endpoint._handshakes._from


async def test_streams_that_nobody_holds_give_their_window_back() -> None:
    async with scene(QuicConfig(stream_window=65536, max_stream_window=65536, connection_window=131072)) as at:
        dialed, accepted = await at.connect()
        near, far = Side(dialed), Side(accepted)
        for _ in range(8):
            ours, theirs = await near.stream_to(far)
            await ours.close_write()
            await theirs.write(bytes(50_000))
            await theirs.close_write()
            await asyncio.sleep(0.5)
            del ours, theirs
            near.over.clear()
            far.over.clear()
            gc.collect()
        engine = dialed._engine
        await asyncio.sleep(0)
        assert engine._local_max_data.used == engine.window.read == 8 * 50_000
        dialed.abort()
        accepted.abort()


async def test_a_dial_to_a_zone_that_does_not_exist_leaves_nothing() -> None:
    async with Network() as network:
        node = network.node("fe80::1")
        transport = Scene(QuicConfig(), Link()).quic(DIALER, node)
        with pytest.raises(OSError, match=r"No such device|no interface"):
            await transport.dial(Multiaddr("/ip6zone/nosuch0/ip6/fe80::2/udp/4001/quic-v1"), None)
        assert not node.ports._sockets


async def test_silence_is_told_as_such_and_is_no_goodbye() -> None:
    async with scene(QuicConfig(idle_timeout=2.0, keep_alive=None)) as at:
        dialed, accepted = await at.connect()
        await (await dialed.open_stream()).write(b"x" * 100)
        await asyncio.sleep(0.2)
        at.lets = lambda data, source: False
        for connection in (dialed, accepted):
            reason = await ends(connection.wait_closed(), within=10)
            assert (reason.reason, reason.by, reason.code) == ("idle timeout", "local", 0)
        assert not at.listener.endpoint._farewells._by_cid


async def test_the_end_is_told_once_when_serving_brings_it_about() -> None:
    async with scene() as at:
        dialed, accepted = await at.connect()
        for _ in range(3):
            await (await dialed.open_stream()).write(b"x")
        await asyncio.sleep(0.1)
        told: list[ConnectionClosed] = []
        accepted.serve(lambda stream: accepted.abort("no"), told.append)
        assert [reason.reason for reason in told] == ["no"]
        dialed.abort()


async def test_garbage_does_not_choose_where_answers_come_from() -> None:
    async with scene() as at:
        dialed, accepted = await at.connect()
        driver, before = accepted._driver, accepted._driver.local_ip
        junk = b"\x40" + accepted._engine.host_cid + bytes(40)
        driver.receive(junk, len(junk), ("10.6.6.6", 6), "10.0.0.99", asyncio.get_running_loop().time())
        assert driver.local_ip == before
        dialed.abort()
        accepted.abort()


async def test_a_stream_stopped_with_its_first_bytes_can_be_written_to_at_once() -> None:
    """As a handler does under an eager task factory."""
    async with scene() as at:
        dialed, accepted = await at.connect()
        outcomes: list[str] = []

        def handle(stream: Stream) -> None:
            for call in (stream.write(b"answer"), stream.close_write()):
                with pytest.raises(StopIteration):
                    call.send(None)
                outcomes.append("fine")

        accepted.serve(handle, lambda reason: None)
        stream = await dialed.open_stream()
        await stream.write(b"x")
        dialed._engine.stop(stream.lane, 7)
        await asyncio.sleep(1)
        assert outcomes == ["fine", "fine"]
        dialed.abort()
        accepted.abort()


def ping_of(connection: QuicConnection) -> bytes:
    """A packet that holds one PING frame."""
    engine: Any = connection._engine
    number, engine._packet_number = engine._packet_number, engine._packet_number + 1
    head = b"\x43" + engine._peer_cid.cid + number.to_bytes(4, "big")
    sealed: bytes = engine._cryptos[Epoch.ONE_RTT].encrypt_packet(head, b"\x01\0\0\0\0", number)
    return sealed


async def test_what_comes_in_many_small_packets_waits_for_its_turns() -> None:
    async with scene() as at:
        ours, theirs = await at.connect()
        await asyncio.sleep(1)
        driver = theirs._driver
        addr = driver.addr
        pings = [ping_of(ours) for _ in range(1000)]
        at.endpoint.datagrams_received([Received(b"".join(pings), len(pings[0]), addr, None)])
        turns = 0
        while driver._held:
            turns += 1
            await asyncio.sleep(0)
        assert turns > 1000 // 64
        assert theirs._engine.newest >= ours._engine._packet_number - 1, "all of them were taken"
        for _ in range(10):
            at.endpoint.datagrams_received([Received(ping_of(ours) * 2000, len(pings[0]), addr, None)])
        assert driver._held_size < 128 * 1024, "what is too much is dropped"
        await check_works(ours, theirs)
        await asyncio.sleep(10)
        assert not driver._held
        assert not driver._held_size
        await ends(ours.close())


async def test_strays_are_looked_at_so_many_at_a_time() -> None:
    async with scene() as at:
        looked: list[bytes] = []
        unknown = at.endpoint._unknown
        at.endpoint._unknown = lambda data, *rest: looked.append(data) or unknown(data, *rest)  # type: ignore[func-returns-value, method-assign]
        at.endpoint.datagrams_received([Received(b"\x40" + bytes(40), 41, ("10.0.0.9", n), None) for n in range(1000)])
        assert len(looked) == 256
        at.endpoint.datagrams_received([Received(b"\x40" + bytes(40), 41, ("10.0.0.9", 1), None)])
        assert len(looked) == 257


class Patient(Reports):
    """Has handshakes wait until they are let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Callable[[], bool]] = []

    def admit(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> CountedScope:
        scope = super().admit(local_addr, remote_addr)
        scope.when_due = self.steps.append  # type: ignore[method-assign]
        return scope


async def test_a_handshake_begins_when_it_is_its_turn() -> None:
    async with scene() as at:
        await at.listener.close()
        reports = Patient()
        listener = await at.transport.listen(Multiaddr(f"/ip4/0.0.0.0/udp/{PORT}/quic-v1"), reports)
        assert isinstance(listener, QuicListener)
        at.listener = listener
        dial = asyncio.create_task(at.dialer.dial(ADDR, PEER))
        await asyncio.sleep(0.5)
        assert len(reports.steps) == 1, "what the dialer sends again is the same handshake"
        assert (len(at.endpoint._drivers), at.endpoint._handshakes._queued) == (0, 1)
        assert reports.steps[0]()
        ours = await ends(dial)
        assert (reports.steps[0](), at.endpoint._handshakes._queued) == (False, 0)
        await ends(ours.close())

        gone = await started(at.dialer.dial(ADDR, PEER))
        await asyncio.sleep(0.1)
        await asyncio.sleep(20)
        assert not reports.steps[1](), "too late"
        with pytest.raises(StageTimeout):
            await gone

        late = await started(at.dialer.dial(ADDR, PEER))
        await asyncio.sleep(0.1)
        await listener.close()
        assert at.endpoint._handshakes._queued == 0, "nobody listens any more"
        assert not reports.steps[2]()
        await cancel(late)


async def test_timers_that_ring_together_are_served_in_turns() -> None:
    async with scene() as at:
        rung: list[int] = []
        for n in range(30):
            at.endpoint.in_turn(lambda n=n: rung.append(n))  # type: ignore[misc]
        counts = [len(rung)]
        while len(rung) < 30:
            await asyncio.sleep(0)
            counts.append(len(rung))
        assert rung == list(range(30))
        assert all(after - before <= 8 for before, after in zip([0, *counts], counts, strict=False))
        await asyncio.sleep(0.1)
        at.endpoint.in_turn(lambda: rung.append(99))
        assert rung[-1] == 99, "at once, where there are few"
