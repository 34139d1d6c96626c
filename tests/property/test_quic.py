"""The QUIC engine under any use, on any link, given any input: bytes arrive in order and whole, nothing raises."""

from __future__ import annotations

import random
from typing import Any

from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.events import StopSendingReceived, StreamDataReceived, StreamReset
from aioquic.quic.packet import pull_quic_header
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libp2p.identity import PrivateKey
from libp2p.testing.conformance.tools import pattern
from libp2p.transports.quic import QuicConfig
from libp2p.transports.quic.credentials import Credentials
from libp2p.transports.quic.engine import Engine, Lane

CONFIG = QuicConfig(stream_window=6000, max_stream_window=20_000, connection_window=30_000, max_streams=5)
CREDENTIALS = [Credentials(PrivateKey.generate(), CONFIG) for _ in range(2)]
ADDRS = ("10.0.0.1", 1), ("10.0.0.2", 2)
few = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Pair:
    """Two engines, the datagrams between them, and what their owners have written, read and heard."""

    def __init__(self) -> None:
        self.now = 1000.0
        dialer = Engine(CREDENTIALS[0].for_dialer, CONFIG)
        dialer.connect(ADDRS[1], self.now)
        first = dialer.datagrams(self.now)
        cid = pull_quic_header(Buffer(data=first[0][0]), 8).destination_cid
        self.engines = dialer, Engine(CREDENTIALS[1].for_listener, CONFIG, original_destination_cid=cid)
        self.written: dict[tuple[int, int], int] = {}
        """How much each side has written to each stream."""
        self.finished: set[tuple[int, int]] = set()
        self.reset: set[tuple[int, int]] = set()
        """The directions that somebody has reset, or asked to stop."""
        self.read: dict[tuple[int, int], bytearray] = {}
        self.unread: dict[tuple[int, int], int] = {}
        self.over: set[tuple[int, int]] = set()
        """The directions whose reader has heard of the end."""
        self.road: list[tuple[int, bytes]] = [(1, datagram) for datagram, _ in first]
        for _ in range(8):
            self.exchange()
        assert all(engine.is_established for engine in self.engines)

    def lanes(self, side: int) -> list[Lane]:
        return [self.engines[side].lanes[key] for key in sorted(self.engines[side].lanes)]

    def exchange(self, seed: int | None = None) -> None:
        """Let what is under way arrive, and time pass; with a `seed`, on a bad road."""
        for side, engine in enumerate(self.engines):
            if engine._network_paths:
                self.road += [(1 - side, datagram) for datagram, _ in engine.datagrams(self.now)]
        self.now += 0.02
        arriving, self.road = self.road, []
        if seed is not None:
            dice = random.Random(seed)
            arriving = [one for one in arriving for _ in range(dice.choice([0, 1, 1, 1, 1, 2]))]
            dice.shuffle(arriving)
        for side, datagram in arriving:
            self.engines[side].receive(datagram, len(datagram), ADDRS[1 - side], self.now)
            self.take(side)
        for engine in self.engines:
            if (at := engine.get_timer()) is not None and at <= self.now:
                engine.expire(self.now)

    def take(self, side: int) -> None:
        engine = self.engines[side]
        engine.opened(self.now)
        for event in engine.take_events():
            match event:
                case (lane, data):
                    self.arrived(side, lane.id, data)
                case StreamDataReceived(data=data, end_stream=fin, stream_id=stream_id):
                    self.arrived(side, stream_id, data)
                    if fin:
                        self.end(side, stream_id)
                case StreamReset(stream_id=stream_id):
                    assert (1 - side, stream_id) in self.reset
                    self.end(side, stream_id)
                case StopSendingReceived(stream_id=stream_id):
                    assert (side, stream_id) in self.reset
                    if lane := engine.lanes.get(stream_id):
                        engine.stopped(lane)

    def arrived(self, side: int, stream_id: int, data: bytes) -> None:
        key = side, stream_id
        assert key not in self.over
        whole = self.read.setdefault(key, bytearray())
        whole += data
        self.unread[key] = self.unread.get(key, 0) + len(data)
        assert len(whole) <= self.written.get((1 - side, stream_id), 0)
        assert whole.endswith(pattern(len(data), len(whole) - len(data)))
        assert self.unread[key] <= CONFIG.max_stream_window

    def end(self, side: int, stream_id: int) -> None:
        assert (side, stream_id) not in self.over
        self.over.add((side, stream_id))
        self.engines[side].ended(self.engines[side].lanes[stream_id])

    # What owners do

    def may_write(self, side: int, lane: Lane) -> bool:
        return not {(side, lane.id)} & (self.finished | self.reset)

    def do(self, side: int, action: str, which: int, size: int) -> None:
        engine, lanes = self.engines[side], self.lanes(side)
        if action == "open":
            if engine.can_open:
                engine.open(self.now)
        elif action == "exchange":
            self.exchange(size)
        elif lanes:
            getattr(self, action)(side, engine, lanes[which % len(lanes)], size)

    def write(self, side: int, engine: Engine, lane: Lane, size: int) -> None:
        if self.may_write(side, lane):
            at = self.written.get((side, lane.id), 0)
            engine.write(lane, pattern(size, at))
            self.written[side, lane.id] = at + size

    def finish(self, side: int, engine: Engine, lane: Lane, size: int = 0) -> None:
        if self.may_write(side, lane):
            engine.finish(lane)
            self.finished.add((side, lane.id))

    def consume(self, side: int, engine: Engine, lane: Lane, size: int) -> None:
        n = min(size, self.unread.get((side, lane.id), 0))
        self.unread[side, lane.id] = self.unread.get((side, lane.id), 0) - n
        engine.consumed(lane, n, self.now)

    def abort(self, side: int, engine: Engine, lane: Lane, size: int) -> None:
        self.reset.add((side, lane.id))
        engine.reset(lane, size)

    def stop(self, side: int, engine: Engine, lane: Lane, size: int) -> None:
        if (side, lane.id) not in self.over:
            self.reset.add((1 - side, lane.id))
            engine.stop(lane, size)

    def settle(self) -> None:
        """Everybody reads and ends everything, on a good road."""
        for _ in range(600):
            for side, engine in enumerate(self.engines):
                for lane in self.lanes(side):
                    self.finish(side, engine, lane)
                    self.consume(side, engine, lane, 1 << 30)
            self.exchange()
            if not any(engine.lanes for engine in self.engines):
                break
        for _ in range(50):  # the last acknowledgements, and that more streams may be opened
            self.exchange()


actions = st.tuples(
    st.integers(0, 1),
    st.sampled_from(["open", "write", "write", "consume", "finish", "abort", "stop", "exchange", "exchange"]),
    st.integers(0, 9),
    st.sampled_from([1, 30, 1000, 1250, 4000, 15_000]) | st.integers(0, 5000),
)


@settings(few, max_examples=200)
@given(st.lists(actions, min_size=5, max_size=60))
def test_any_use_on_any_link_delivers_prefixes_and_settles(steps: list[tuple[int, str, int, int]]) -> None:
    pair = Pair()
    for step in steps:
        pair.do(*step)
    pair.settle()
    assert [list(engine.lanes) for engine in pair.engines] == [[], []]
    for (side, stream_id), size in pair.written.items():
        got = pair.read.get((1 - side, stream_id), b"")
        assert got == pattern(size)[: len(got)]
        if (side, stream_id) not in pair.reset:
            assert len(got) == size
            assert (1 - side, stream_id) in pair.over
    for engine in pair.engines:
        assert not engine.is_over
        assert engine._loss.bytes_in_flight == 0
        assert engine.can_open


# Input that nobody planned


def survives(pair: Pair) -> None:
    """The listener goes on, or closes with a code; whatever came, it does not raise."""
    listener = pair.engines[1]
    for _ in range(3):
        listener.opened(pair.now)
        for event in listener.take_events():
            if isinstance(event, StreamDataReceived | StreamReset) and (lane := listener.lanes.get(event.stream_id)):
                if isinstance(event, StreamReset) or event.end_stream:
                    listener.ended(lane)
            elif isinstance(event, StopSendingReceived) and (lane := listener.lanes.get(event.stream_id)):
                listener.stopped(lane)
        listener.datagrams(pair.now)
        if (at := listener.get_timer()) is None:  # it is gone
            break
        pair.now = max(at, pair.now) + 1e-6
        listener.expire(pair.now)
    if listener.is_over:
        assert listener.close_event is not None


def feed(pair: Pair, datagram: bytes) -> None:
    pair.engines[1].receive(datagram, max(1, len(datagram)), ADDRS[0], pair.now)


def address(pair: Pair, first: int, rest: bytes) -> bytes:
    """A packet that is for the listener, for all that can be told without its keys."""
    return bytes((first,)) + pair.engines[1].host_cid + rest


@few
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 255), st.binary(max_size=60)), max_size=10))
def test_random_datagrams_are_ignored(many: list[tuple[bool, int, bytes]]) -> None:
    pair = Pair()
    for addressed, first, rest in many:
        feed(pair, address(pair, first, rest) if addressed else bytes((first,)) + rest)
    assert not pair.engines[1].is_over
    assert pair.engines[1].close_event is None
    survives(pair)


@few
@given(st.data())
def test_mutated_packets_are_ignored(data: st.DataObject) -> None:
    pair = Pair()
    lane = pair.engines[0].open(pair.now)
    pair.engines[0].write(lane, pattern(4000))
    for datagram, _ in pair.engines[0].datagrams(pair.now):
        changed = bytearray(datagram)
        for place in data.draw(st.lists(st.integers(0, len(datagram) - 1), min_size=1, max_size=3, unique=True)):
            changed[place] ^= data.draw(st.integers(1, 255))
        feed(pair, bytes(changed[: data.draw(st.integers(1, len(changed)) | st.just(len(changed)))]))
    assert pair.engines[1].close_event is None
    assert not pair.engines[1].opened(pair.now)
    survives(pair)


def varint(value: int) -> bytes:
    buf = Buffer(capacity=8)
    buf.push_uint_var(value)
    return buf.data


numbers = (st.integers(0, 12) | st.sampled_from([63, 64, 6000, 6001, 30_001, 1 << 60, (1 << 62) - 1])).map(varint)
ids = st.integers(0, 24).map(varint) | numbers
blobs = st.binary(max_size=40)


def joined(*parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(*parts).map(b"".join)


def kinds(*values: int) -> st.SearchStrategy[bytes]:
    return st.sampled_from([varint(value) for value in values])


sized = blobs.map(lambda blob: varint(len(blob)) + blob)
stream_frames = joined(kinds(0x0E, 0x0F), ids, numbers, sized) | joined(kinds(0x0A, 0x0B), ids, sized)
frames = st.one_of(
    stream_frames,
    stream_frames,
    joined(kinds(0x08, 0x09), ids, blobs),
    joined(kinds(0x0C, 0x0D), ids, numbers, blobs),
    joined(kinds(0x00, 0x01)),
    joined(kinds(0x02), numbers, numbers, st.just(b"\x00"), numbers),
    joined(kinds(0x02, 0x03), numbers, numbers, numbers, numbers, blobs),
    joined(kinds(0x04), ids, numbers, numbers),
    joined(kinds(0x05, 0x11), ids, numbers),
    joined(kinds(0x06), numbers, sized),
    joined(kinds(0x10, 0x12, 0x13, 0x14, 0x16, 0x17, 0x19), numbers),
    joined(kinds(0x15), ids, numbers),
    joined(kinds(0x18), numbers, numbers, st.binary(min_size=8, max_size=8).map(lambda cid: b"\x08" + cid + bytes(16))),
    joined(kinds(0x1A, 0x1B), st.binary(min_size=8, max_size=8)),
    joined(kinds(0x1C), numbers, numbers, sized),
    joined(kinds(0x1D), numbers, sized),
    joined(kinds(0x07), sized),
    joined(kinds(0x1E, 0x1F, 0x30, 0x31, 0x40, 0x3FFF), blobs),
)
payloads = st.lists(frames, max_size=5).map(b"".join) | st.binary(max_size=80) | blobs.map(lambda end: bytes(8) + end)


def seal(pair: Pair, payload: bytes, number_size: int, reserved: int) -> bytes:
    """A packet of the dialer, with the right keys."""
    engine: Any = pair.engines[0]
    number = engine._packet_number
    engine._packet_number += 1
    head = bytes((0x40 | reserved << 3 | number_size - 1,)) + engine._peer_cid.cid
    head += (number % (1 << 8 * number_size)).to_bytes(number_size, "big")
    sealed: bytes = engine._cryptos[tls.Epoch.ONE_RTT].encrypt_packet(head, payload, number)
    return sealed


@settings(few, max_examples=300)
@given(
    st.lists(
        st.tuples(payloads, st.sampled_from([2, 2, 2, 1, 3, 4]), st.sampled_from([0] * 9 + [1, 3])),
        min_size=1,
        max_size=6,
    )
)
def test_packets_of_any_frames_do_not_raise(packets: list[tuple[bytes, int, int]]) -> None:
    pair = Pair()
    listener = pair.engines[1]
    listener.write(listener.open(pair.now), pattern(3000))
    listener.datagrams(pair.now)
    for payload, number_size, reserved in packets:
        if len(payload) + number_size >= 4:  # else there is too little to protect the header with
            feed(pair, seal(pair, payload, number_size, reserved))
        assert listener.close_event is not None or not reserved or len(payload) + number_size < 4
    survives(pair)
