"""The QUIC engine: aioquic's names that it uses, each hook, and two engines (or one and a plain aioquic) at work.

Nothing here has sockets or waits: a `Pair` moves datagrams between two ends and its own clock.
"""

from __future__ import annotations

import ast
import inspect
import random
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from heapq import heappop, heappush
from importlib import import_module
from importlib.metadata import version
from math import ceil
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoError, CryptoPair
from aioquic.quic.events import StopSendingReceived, StreamDataReceived, StreamReset
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicPreferredAddress,
    pull_quic_header,
    pull_quic_transport_parameters,
    push_quic_transport_parameters,
)
from aioquic.quic.packet import QuicFrameType as Frame
from aioquic.quic.packet_builder import QuicPacketBuilder
from packaging.requirements import Requirement

from libp2p.connection import StreamErrorCode
from libp2p.errors import PeerIdMismatch
from libp2p.identity import PrivateKey
from libp2p.io import Allowance
from libp2p.testing.conformance.tools import pattern
from libp2p.transports.quic import QuicConfig
from libp2p.transports.quic import engine as package
from libp2p.transports.quic.credentials import Credentials
from libp2p.transports.quic.engine import TURN, Engine, Lane
from libp2p.transports.quic.engine.handshake import MAX_HANDSHAKE_MESSAGE

MODULES = [import_module(f"{package.__name__}.{info.name}") for info in iter_modules(package.__path__)]

DIALER, LISTENER = PrivateKey.generate(), PrivateKey.generate()
SETTINGS = QuicConfig()
DIALING, LISTENING = Credentials(DIALER, SETTINGS), Credentials(LISTENER, SETTINGS)
ONE_RTT = tls.Epoch.ONE_RTT
SMALL = QuicConfig(stream_window=64 * 1024, max_stream_window=64 * 1024, connection_window=128 * 1024)


class End:
    """An engine, or a plain aioquic connection, and what has come out of it."""

    def __init__(self, quic: QuicConnection, addr: tuple[str, int]) -> None:
        self.quic: Any = quic
        self.addr = addr
        self.is_plain = not isinstance(quic, Engine)
        self.reads = True
        self.data: dict[int, bytearray] = defaultdict(bytearray)
        self.unread: Counter[int] = Counter()
        self.ended: set[int] = set()
        self.reset: dict[int, int] = {}
        self.stopped: dict[int, int] = {}
        self.streams: dict[int, Lane] = {}

    def take(self, datagram: bytes, source: tuple[str, int], now: float) -> None:
        if self.is_plain:
            self.quic.receive_datagram(datagram, source, now)
        else:
            self.quic.receive(datagram, len(datagram), source, now)
        self.pass_on(now)

    def pass_on(self, now: float) -> None:
        if self.is_plain:
            while (event := self.quic.next_event()) is not None:
                self.on_event(event, now)
            return
        for lane in self.quic.opened(now):
            self.streams[lane.id] = lane
        for event in self.quic.take_events():
            self.on_event(event, now)
        if self.reads:
            for stream_id in list(self.unread):
                self.read(stream_id, now)

    def on_event(self, event: Any, now: float) -> None:
        lane = None if type(event) is tuple or self.is_plain else self.quic.lanes.get(getattr(event, "stream_id", None))
        match event:
            case (lane, data):
                self.on_data(lane.id, data)
            case StreamDataReceived(stream_id=stream_id, data=data, end_stream=fin):
                self.on_data(stream_id, data)
                if fin:
                    self.ended.add(stream_id)
                    if lane is not None:
                        self.quic.ended(lane)
            case StreamReset(stream_id=stream_id, error_code=code):
                self.reset[stream_id] = code
                if lane is not None:
                    self.quic.ended(lane)
            case StopSendingReceived(stream_id=stream_id, error_code=code):
                self.stopped[stream_id] = code
                if lane is not None:
                    self.quic.stopped(lane)

    def on_data(self, stream_id: int, data: bytes) -> None:
        self.data[stream_id] += data
        self.unread[stream_id] += len(data)

    def read(self, stream_id: int, now: float, n: int | None = None) -> int:
        n = self.unread[stream_id] if n is None else min(n, self.unread[stream_id])
        self.unread[stream_id] -= n
        if not self.unread[stream_id]:
            del self.unread[stream_id]
        if n and not self.is_plain:
            self.quic.consumed(self.streams[stream_id], n, now)
        return n

    def open(self, now: float) -> Lane:
        lane: Lane = self.quic.open(now)
        self.streams[lane.id] = lane
        return lane


class Pair:
    """A dialer and a listener, the datagrams between them, and the time."""

    def __init__(
        self,
        settings: QuicConfig = SETTINGS,
        *,
        dialer: type[QuicConnection] = Engine,
        listener: type[QuicConnection] = Engine,
        dialing: QuicConfiguration | None = None,
        listening: QuicConfiguration | None = None,
        latency: float = 0.01,
        handshake: bool = True,
        expected: PrivateKey = LISTENER,
    ) -> None:
        self.now = 1000.0
        self.latency = latency
        self.link: Callable[[End, bytes], list[float]] = lambda to, datagram: [self.latency]
        """After how long a datagram arrives, and how often; the default is once, after the latency."""
        self.sent: dict[End, list[int]] = defaultdict(list)
        """The sizes of the datagrams that were sent to somebody."""
        self._under_way: list[tuple[float, int, End, bytes]] = []
        self._count = 0
        limits = {"max_data": settings.connection_window, "max_stream_data": settings.stream_window}
        dialing = dialing or replace(DIALING.for_dialer, **limits)
        listening = listening or replace(LISTENING.for_listener, **limits)
        known: dict[str, Any] = {"expected_peer": expected.public_key.peer_id} if dialer is Engine else {}
        self.dialer = End(self._make(dialer, dialing, settings, **known), ("10.0.0.1", 1))
        self.dialer.quic.connect(("10.0.0.2", 2), self.now)
        first = self.dialer.quic.datagrams_to_send(self.now)
        cid = pull_quic_header(Buffer(data=first[0][0]), 8).destination_cid
        name = "original_destination_cid" if issubclass(listener, Engine) else "original_destination_connection_id"
        self.listener = End(self._make(listener, listening, settings, **{name: cid}), ("10.0.0.2", 2))
        self.ends = self.dialer, self.listener
        for datagram, _ in first:
            self._post(self.listener, datagram)
        if handshake:
            self.run(lambda: all(end.quic._handshake_confirmed for end in self.ends))
            self.settle()

    @staticmethod
    def _make(kind: type[QuicConnection], configuration: QuicConfiguration, settings: QuicConfig, **more: Any) -> Any:
        if issubclass(kind, Engine):
            return kind(configuration, settings, **more)
        return kind(configuration=configuration, **more)

    def other(self, end: End) -> End:
        return self.listener if end is self.dialer else self.dialer

    def _post(self, to: End, datagram: bytes) -> None:
        self.sent[to].append(len(datagram))
        for delay in self.link(to, datagram):
            self._count += 1
            heappush(self._under_way, (self.now + delay, self._count, to, datagram))

    def transmit(self, end: End) -> list[bytes]:
        """Send what `end` wants sent."""
        if end is self.listener and not end.quic._network_paths:
            return []
        send = end.quic.datagrams_to_send if end.is_plain else end.quic.datagrams
        datagrams = [datagram for datagram, _ in send(self.now)]
        for datagram in datagrams:
            self._post(self.other(end), datagram)
        end.pass_on(self.now)
        return datagrams

    def step(self, until: float) -> bool:
        """Go on to the next thing that happens before `until`; whether there was one."""
        for end in self.ends:
            self.transmit(end)
        timers = [(at, end) for end in self.ends if (at := end.quic.get_timer()) is not None]
        arrival = self._under_way[0][0] if self._under_way else float("inf")
        at = min([arrival, *(at for at, _ in timers)])
        if at > until:
            return False
        self.now = max(self.now, at)
        while self._under_way and self._under_way[0][0] <= self.now:
            _, _, to, datagram = heappop(self._under_way)
            to.take(datagram, self.other(to).addr, self.now)
        for timer, end in timers:
            if timer <= self.now:
                self.now += 1e-6  # aioquic compares sums of rounded numbers
                (end.quic.handle_timer if end.is_plain else end.quic.expire)(self.now)
                end.pass_on(self.now)
        return True

    def run(self, done: Callable[[], bool] = lambda: False, seconds: float = 60.0) -> None:
        """Let things happen until `done`, which must be in time."""
        limit = self.now + seconds
        while not done():
            assert self.step(limit), "it has not come to that"

    def settle(self, seconds: float = 1.0) -> None:
        """Let things happen for a time."""
        limit = self.now + seconds
        while self.step(limit):
            pass
        self.now = limit

    def send(self, end: End, data: bytes, *, fin: bool = True) -> int:
        """Write all of `data` to a new stream."""
        if end.is_plain:
            stream_id: int = end.quic.get_next_available_stream_id()
            end.quic.send_stream_data(stream_id, data, end_stream=fin)
            return stream_id
        lane = end.open(self.now)
        end.quic.write(lane, data)
        if fin:
            end.quic.finish(lane)
        return lane.id

    def transfer(self, end: End, size: int, seconds: float = 60.0) -> int:
        """Send `size` bytes and the end of a stream, which is returned; they must arrive, as they are."""
        to, data = self.other(end), pattern(size)
        stream_id = self.send(end, data)
        self.run(lambda: stream_id in to.ended, seconds)
        assert to.data[stream_id] == data
        return stream_id

    def frames(self, to: End, datagram: bytes) -> list[tuple[int, ...]]:
        """The frames of a 1-RTT packet that goes to `to`: the kind, and the numbers up to the bytes."""
        keys = to.quic._cryptos[ONE_RTT].recv
        if datagram[0] & 0x80 or not keys.is_valid():
            return []
        try:
            _, plain, _, _ = keys.decrypt_packet(datagram, 9, to.quic._spaces[ONE_RTT].expected_packet_number)
        except CryptoError:  # of the keys before
            return []
        return list(parse(plain))

    def drop(self, kind: int, *, count: int = 1) -> list[tuple[int, ...]]:
        """Lose the next `count` datagrams that hold such a frame; what was lost comes into the list returned."""
        lost: list[tuple[int, ...]] = []

        def link(to: End, datagram: bytes) -> list[float]:
            found = [frame for frame in self.frames(to, datagram) if frame[0] == kind]
            if found and len(lost) < count:
                lost.append(found[0])
                return []
            return [self.latency]

        self.link = link
        return lost

    def spoil(self, *, loss: float, jitter: float, seed: int) -> None:
        """Lose and delay datagrams from now on."""
        dice = random.Random(seed)
        self.link = lambda to, datagram: (
            [] if dice.random() < loss else [self.latency + jitter * dice.random()] * (1 + (dice.random() < loss))
        )


_VARINTS = {0x00: 0, 0x01: 0, 0x04: 3, 0x05: 2, 0x10: 1, 0x11: 2, 0x12: 1, 0x13: 1, 0x14: 1, 0x15: 2, 0x16: 1}
_VARINTS |= {0x17: 1, 0x19: 1, 0x1E: 0}


def parse(plain: bytes) -> Iterator[tuple[int, ...]]:
    buf = Buffer(data=plain)
    while not buf.eof():
        kind = buf.pull_uint_var()
        if kind in _VARINTS:
            yield kind, *(buf.pull_uint_var() for _ in range(_VARINTS[kind]))
        elif kind == Frame.ACK:
            numbers = [buf.pull_uint_var() for _ in range(4)]
            yield kind, *numbers, *(buf.pull_uint_var() for _ in range(2 * numbers[2]))
        elif 0x08 <= kind <= 0x0F:
            stream_id, offset = buf.pull_uint_var(), buf.pull_uint_var() if kind & 4 else 0
            size = buf.pull_uint_var() if kind & 2 else buf.capacity - buf.tell()
            buf.pull_bytes(size)
            yield Frame.STREAM_BASE, stream_id, offset, size, kind & 1
        elif kind == Frame.CRYPTO:
            offset, size = buf.pull_uint_var(), buf.pull_uint_var()
            buf.pull_bytes(size)
            yield kind, offset, size
        elif kind == Frame.NEW_CONNECTION_ID:
            yield kind, buf.pull_uint_var(), buf.pull_uint_var()
            buf.pull_bytes(buf.pull_uint8() + 16)
        elif kind in (Frame.PATH_CHALLENGE, Frame.PATH_RESPONSE):
            buf.pull_bytes(8)
            yield (kind,)
        else:
            yield (kind, *(buf.pull_uint_var() for _ in range(2 - (kind == Frame.APPLICATION_CLOSE))))
            buf.pull_bytes(buf.pull_uint_var())


# The names of aioquic

PRIVATE: dict[str, str] = {
    "aioquic": "_buffer _crypto",
    "connection": """
        _ack_delay _ack_eliciting_sent_since_receipt _alpn_handler _close_at _close_event _close_pending
        _configuration _confirm_handshake _consume_peer_cid _crypto_buffers _crypto_streams _cryptos _events
        _get_or_create_stream_for_send _handle_ack_frame _handle_crypto_frame _handle_data_blocked_frame
        _handle_max_data_frame _handle_max_stream_data_frame _handle_max_streams_bidi_frame
        _handle_max_streams_uni_frame _handle_new_connection_id_frame _handle_new_token_frame _handle_padding_frame
        _handle_path_challenge_frame _handle_ping_frame _handle_reset_stream_frame _handle_retire_connection_id_frame
        _handle_stop_sending_frame _handle_stream_data_blocked_frame _handle_stream_frame
        _handle_streams_blocked_frame _handshake_complete _handshake_confirmed _handshake_done_pending _host_cids
        _idle_timeout _initialize _is_client _local_max_data _local_max_streams_bidi _local_max_streams_uni
        _local_next_stream_id_bidi _loss _max_datagram_size _network_paths _on_connection_limit_delivery _pacing_at
        _packet_number _parse_transport_parameters _payload_received _peer_cid _peer_cid_available _ping_pending
        _probe_pending _remote_active_connection_id_limit _remote_max_data _remote_max_data_used
        _remote_max_idle_timeout _remote_max_streams_bidi _remote_preferred_address _replenish_connection_ids
        _retire_connection_ids _spaces _spin_bit _spin_highest_pn _state _streams _streams_queue _version
        _write_ack_frame _write_application _write_crypto_frame _write_handshake_done_frame
        _write_new_connection_id_frame _write_path_challenge_frame _write_path_response_frame _write_ping_frame
        _write_retire_connection_id_frame
    """,
    "recovery": "_cc _pacer _pto_count _rtt_initialized _rtt_smoothed _time_of_last_sent_ack_eliciting_packet",
    "pacer": "_max_datagram_size",
    "congestion control": "_max_datagram_size",
    "tls": """
        _check_certificate_verify_signature _peer_certificate _peer_certificate_chain _receive_buffer
        _request_client_certificate _server_handle_certificate _set_peer_certificate _supported_groups
    """,
    "sender": "_acked _buffer _buffer_fin _buffer_start _buffer_stop _pending _pending_eof _reset_error_code",
    "receiver": "_buffer_start _final_size _ranges _stop_error_code",
    "builder": """
        _datagram_needs_padding _datagrams _end_packet _flight_bytes _packet _packet_number _packets _total_bytes
    """,
    "keys": "_update_key_requested",
    "aead": "_aead _iv",
    "header protection": "_mask",
}
NAMES = [(owner, name) for owner, names in PRIVATE.items() for name in names.split()]


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """The objects that have the private names, of a live pair of plain connections."""
    import aioquic

    pair = Pair(dialer=QuicConnection, listener=QuicConnection)
    pair.send(pair.dialer, b"hello")
    quic = pair.dialer.quic
    keys = quic._cryptos[ONE_RTT]
    return {
        "aioquic": aioquic,
        "connection": quic,
        "recovery": quic._loss,
        "pacer": quic._loss._pacer,
        "congestion control": quic._loss._cc,
        "tls": quic.tls,
        "sender": quic._streams[0].sender,
        "receiver": quic._streams[0].receiver,
        "builder": QuicPacketBuilder(host_cid=b"", peer_cid=b"", version=1, is_client=True, max_datagram_size=1280),
        "keys": keys,
        "aead": keys.send.aead,
        "header protection": keys.recv.hp,
    }


@pytest.mark.parametrize(("owner", "name"), NAMES)
def test_private_name_exists(plain: dict[str, Any], owner: str, name: str) -> None:
    kind = type(plain[owner]).__qualname__
    assert hasattr(plain[owner], name), (
        f"aioquic {version('aioquic')} has no {name} in its {owner} ({kind}): the pinned aioquic has changed"
    )


def test_list_of_private_names_is_complete() -> None:
    used = set()
    for node in (node for module in MODULES for node in ast.walk(ast.parse(inspect.getsource(module)))):
        match node:
            case ast.Attribute(attr=name) | ast.FunctionDef(name=name):
                used.add(name)
            case ast.ImportFrom(module=str(module)):
                used |= {*module.split("."), *(alias.name for alias in node.names)}
    used = {name for name in used if name.startswith("_") and not name.startswith("__")}
    pair = Pair(listener=QuicConnection, handshake=False)
    ours = set(dir(pair.dialer.quic)) - set(dir(pair.listener.quic))
    ours |= {name for module in MODULES for name, value in vars(module).items() if value is not None}
    listed = {name for _, name in NAMES}
    assert used - ours - listed == set(), "PRIVATE lacks names of aioquic that the engine uses"
    assert listed - used == set(), "PRIVATE has names that the engine no longer uses"


def test_installed_aioquic_is_the_pinned_one() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    requirements = [Requirement(text) for text in [*project["dependencies"], *(one for many in extras for one in many)]]
    pins = {one.specifier for one in requirements if one.name == "aioquic"}
    assert {str(pin) for pin in pins} == {"<1.8,>=1.7.2"}
    assert all(pin.contains(version("aioquic")) for pin in pins)


# The handshake


def test_both_sides_are_verified_before_the_handshake_is_complete() -> None:
    pair = Pair(handshake=False)

    def established() -> bool:
        for end, key in (pair.dialer, LISTENER), (pair.listener, DIALER):
            if end.quic.is_complete:
                assert end.quic.remote_key == key.public_key
        if pair.dialer.quic.is_established:
            assert pair.listener.quic.is_complete
        return all(end.quic.is_established for end in pair.ends)

    pair.run(established, 1.0)


def test_empty_certificate_of_a_client_is_refused() -> None:
    bare = replace(DIALING.for_dialer, certificate=None, private_key=None)
    pair = Pair(dialer=QuicConnection, dialing=bare, handshake=False)
    pair.run(lambda: pair.dialer.quic._close_event is not None, 1.0)
    assert pair.dialer.quic._close_event.error_code == 0x100 + 116  # certificate_required
    assert not pair.listener.quic.is_complete
    assert pair.listener.quic.remote_key is None


def test_wrong_peer_is_refused() -> None:
    pair = Pair(expected=DIALER, handshake=False)
    pair.run(lambda: pair.listener.quic.is_over, 1.0)
    assert isinstance(pair.dialer.quic.refusal, PeerIdMismatch)
    assert pair.listener.quic.close_event.error_code == 0x100 + tls.AlertDescription.bad_certificate
    assert not pair.dialer.quic.is_complete
    assert not pair.listener.quic.is_complete


@pytest.mark.parametrize("who", ["dialer", "listener"])
def test_chain_of_two_certificates_is_refused(who: str) -> None:
    """The rules for certificates are tested with `verify_chain`; here that it is asked, with all of the chain."""
    good = DIALING.for_dialer if who == "dialer" else LISTENING.for_listener
    bad = replace(good, certificate_chain=[good.certificate])
    pair = Pair(handshake=False, **({"dialing": bad} if who == "dialer" else {"listening": bad}))
    refused = getattr(pair, who)
    pair.run(lambda: refused.quic.is_over, 1.0)
    assert refused.quic.close_event.error_code == 0x100 + tls.AlertDescription.bad_certificate
    assert not pair.other(refused).quic.is_complete
    assert not pair.dialer.quic.is_established


def test_dialer_offers_x25519_alone() -> None:
    pair = Pair(handshake=False)
    datagram = pair._under_way[0][3]
    buf = Buffer(data=datagram)
    header = pull_quic_header(buf, 8)
    keys = CryptoPair()
    keys.setup_initial(cid=header.destination_cid, is_client=False, version=1)
    _, plain, _ = keys.decrypt_packet(datagram[: header.packet_length], buf.tell(), 0)
    frame = Buffer(data=plain)
    assert frame.pull_uint_var() == Frame.CRYPTO
    assert frame.pull_uint_var() == 0
    hello = tls.pull_client_hello(Buffer(data=frame.pull_bytes(frame.pull_uint_var())))
    assert hello.supported_groups == [tls.Group.X25519]
    assert [group for group, _ in hello.key_share or ()] == [tls.Group.X25519]


@pytest.mark.parametrize("group", [tls.Group.X25519, tls.Group.SECP256R1, tls.Group.SECP384R1])
def test_listener_takes_other_groups(group: tls.Group) -> None:
    class Other(QuicConnection):
        def _initialize(self, peer_cid: bytes) -> None:
            super()._initialize(peer_cid)
            self.tls._supported_groups = [group]

    pair = Pair(dialer=Other)
    assert pair.listener.quic.remote_key == DIALER.public_key
    pair.transfer(pair.dialer, 10_000)


def test_handshake_message_is_bounded() -> None:
    class Verbose(QuicConnection):
        def _initialize(self, peer_cid: bytes) -> None:
            super()._initialize(peer_cid)
            self._crypto_buffers[tls.Epoch.HANDSHAKE] = Buffer(capacity=1 << 20)

    chain = [LISTENING.for_listener.certificate] * (MAX_HANDSHAKE_MESSAGE // 300)
    wordy = replace(LISTENING.for_listener, certificate_chain=chain)
    pair = Pair(listener=Verbose, listening=wordy, handshake=False)
    pair.run(lambda: pair.dialer.quic.close_event is not None)
    assert pair.dialer.quic.close_event.error_code == 0x100 + tls.AlertDescription.decode_error
    assert str(MAX_HANDSHAKE_MESSAGE) in pair.dialer.quic.close_event.reason_phrase


# Flow control


def test_windows_move_with_reading_only() -> None:
    pair, size = Pair(SMALL), 300_000
    pair.listener.reads = False
    stream_id = pair.send(pair.dialer, pattern(size))
    pair.settle()
    assert len(pair.listener.data[stream_id]) == SMALL.stream_window
    pair.listener.read(stream_id, pair.now, 10_000)
    pair.settle()
    assert len(pair.listener.data[stream_id]) == SMALL.stream_window  # not worth telling yet
    pair.listener.read(stream_id, pair.now, 10_000)
    pair.settle()
    assert len(pair.listener.data[stream_id]) == SMALL.stream_window + 20_000
    pair.listener.reads = True
    pair.listener.pass_on(pair.now)
    pair.run(lambda: stream_id in pair.listener.ended)
    assert pair.listener.data[stream_id] == pattern(size)


def test_plain_aioquic_opens_its_windows_unread() -> None:
    """What the engine does otherwise. If this fails, aioquic may have learned to wait for readers."""
    pair = Pair(SMALL, listener=QuicConnection)
    pair.transfer(pair.dialer, 300_000)


def test_window_of_the_connection_holds_all_streams() -> None:
    pair, size = Pair(SMALL), 60_000
    pair.listener.reads = False
    streams = [pair.send(pair.dialer, pattern(size)) for _ in range(4)]
    pair.settle()
    assert sum(map(len, pair.listener.data.values())) == SMALL.connection_window
    done = sum(pair.listener.read(stream_id, pair.now, 15_000) for stream_id in streams)
    pair.settle()
    assert sum(map(len, pair.listener.data.values())) == SMALL.connection_window + done
    pair.listener.reads = True
    pair.listener.pass_on(pair.now)
    pair.run(lambda: pair.listener.ended == set(streams))
    assert all(pair.listener.data[stream_id] == pattern(size) for stream_id in streams)


def test_window_grows_for_a_fast_reader() -> None:
    pair = Pair()
    pair.transfer(pair.dialer, 6_000_000)
    window = pair.listener.streams[0].window
    assert SETTINGS.stream_window < window.size <= SETTINGS.max_stream_window


@pytest.mark.parametrize("streams", [1, 3])
def test_more_than_the_window_is_an_error(streams: int) -> None:
    """Of a stream, or of the connection."""
    pair = Pair(SMALL)
    pair.listener.reads = False
    pair.dialer.quic._remote_max_data = 1 << 30
    for _ in range(streams):
        lane = pair.dialer.open(pair.now)
        lane.quic.max_stream_data_remote = 1 << 30
        pair.dialer.quic.write(lane, bytes(60_000 if streams > 1 else 100_000))
    pair.run(lambda: pair.dialer.quic.is_over, 1.0)
    assert pair.dialer.quic.close_event.error_code == 0x3  # FLOW_CONTROL_ERROR
    assert max(map(len, pair.listener.data.values())) <= SMALL.stream_window
    assert sum(map(len, pair.listener.data.values())) <= SMALL.connection_window


def test_streams_are_bounded_and_granted_again_as_they_end() -> None:
    pair = Pair(QuicConfig(max_streams=4))
    for opener in pair.ends * 5:
        lanes = [opener.open(pair.now) for _ in range(4)]
        assert not opener.quic.can_open
        for lane in lanes:
            opener.quic.finish(lane)
        pair.settle(0.1)
        assert not opener.quic.can_open  # their other direction is open
        other = pair.other(opener)
        for lane in lanes:
            other.quic.finish(other.streams[lane.id])
        pair.settle(0.1)
        assert opener.quic.can_open
        assert [end.quic.lanes for end in pair.ends] == [{}, {}]
        assert [end.quic._streams for end in pair.ends] == [{}, {}]


# What is lost is sent again


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("kind", [Frame.MAX_DATA, Frame.MAX_STREAM_DATA])
def test_lost_credit_is_sent_again(kind: int, count: int) -> None:
    pair = Pair(SMALL if kind == Frame.MAX_STREAM_DATA else replace(SMALL, connection_window=64 * 1024))
    lost = pair.drop(kind, count=count)
    pair.transfer(pair.dialer, 300_000)
    assert len(lost) == count


@pytest.mark.parametrize("count", [1, 3])
def test_lost_max_streams_is_sent_again(count: int) -> None:
    pair = Pair(QuicConfig(max_streams=2))
    lost = pair.drop(Frame.MAX_STREAMS_BIDI, count=count)
    for _ in range(4):
        pair.run(lambda: pair.dialer.quic.can_open, 10.0)
        stream_id = pair.transfer(pair.dialer, 100)
        pair.listener.quic.finish(pair.listener.streams[stream_id])
    assert len(lost) == count


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", [Frame.RESET_STREAM, Frame.STOP_SENDING])
def test_lost_reset_and_stop_are_sent_again(kind: int, count: int) -> None:
    pair = Pair()
    lost = pair.drop(kind, count=count)
    stream_id = pair.send(pair.dialer, b"hello", fin=False)
    pair.settle(0.05)
    if kind == Frame.RESET_STREAM:
        pair.dialer.quic.reset(pair.dialer.streams[stream_id], 7)
        pair.run(lambda: pair.listener.reset == {stream_id: 7}, 10.0)
    else:
        pair.listener.quic.stop(pair.listener.streams[stream_id], 7)
        pair.run(lambda: pair.dialer.stopped == {stream_id: 7}, 10.0)
        pair.run(lambda: pair.listener.reset == {stream_id: 7}, 10.0)  # "SHOULD copy the error code"
    assert len(lost) == count


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [0, 5, 100_000])
def test_lost_end_of_a_stream_is_sent_again(size: int, count: int) -> None:
    pair = Pair()
    lost: list[int] = []

    def link(to: End, datagram: bytes) -> list[float]:
        if (
            any(frame[0] == Frame.STREAM_BASE and frame[-1] for frame in pair.frames(to, datagram))
            and len(lost) < count
        ):
            lost.append(1)
            return []
        return [pair.latency]

    pair.link = link
    pair.transfer(pair.dialer, size)
    assert len(lost) == count


def test_bulk_that_is_acknowledged_after_the_end_of_its_stream() -> None:
    pair = Pair()
    lane = pair.dialer.open(pair.now)
    pair.dialer.quic.write(lane, bytes(5000))
    capacity = max(
        frame[3] for datagram in pair.transmit(pair.dialer) for frame in pair.frames(pair.listener, datagram)
    )
    pair.settle(0.1)
    pair.dialer.quic.write(lane, bytes(2 * capacity))
    pair.link = lambda to, datagram: []
    assert len(pair.transmit(pair.dialer)) == 2
    pair.link = lambda to, datagram: [pair.latency]
    pair.dialer.quic.finish(lane)
    pair.settle()
    assert len(pair.listener.data[lane.id]) == 5000 + 2 * capacity
    assert lane.id in pair.listener.ended
    assert lane.sender.is_finished
    assert lane.is_delivered


def test_packet_numbers_of_more_than_two_bytes() -> None:
    pair = Pair()
    for _ in range(8):
        pair.dialer.quic._packet_number += 30_000
        pair.dialer.quic.send_ping(0)
        number = pair.dialer.quic._packet_number
        pair.settle(0.1)
        assert pair.listener.quic._spaces[ONE_RTT].largest_received_packet >= number
        assert pair.dialer.quic._loss.bytes_in_flight == 0


@pytest.mark.parametrize("seed", range(3))
def test_bulk_survives_a_bad_link(seed: int) -> None:
    pair = Pair()
    pair.spoil(loss=0.05, jitter=0.01, seed=seed)
    stream_id = pair.send(pair.listener, pattern(150_000))
    pair.transfer(pair.dialer, 200_000)
    pair.run(lambda: stream_id in pair.dialer.ended)
    assert pair.dialer.data[stream_id] == pattern(150_000)


# The fast paths, and aioquic without them


def state_of(end: End) -> tuple[Any, ...]:
    quic = end.quic
    lanes = {
        lane.id: (
            lane.receiver._buffer_start,
            lane.receiver.highest_offset,
            lane.receiver.is_finished,
            lane.window.read,
        )
        for lane in end.streams.values()
    }
    space = quic._spaces[ONE_RTT]
    return (
        {stream_id: bytes(data) for stream_id, data in end.data.items()},
        end.ended,
        lanes,
        quic._local_max_data.used,
        quic.window.read,
        space.largest_received_packet,
        quic._spin_bit,
        quic.is_over,
    )


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_fast_and_generic_receiving_are_alike(seed: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same datagrams, to an engine as it is and to one without its fast path."""
    pair = Pair()
    fast = Engine._receive_fast
    taken = []
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_receive_fast", lambda *args: taken.append(fast(*args)) or taken[-1])
        with_fast = trace(pair, seed)
    assert taken.count(True) > len(taken) / 2, "the fast path was hardly taken"
    monkeypatch.setattr(Engine, "_receive_fast", lambda *args: False)
    without = trace(Pair(), seed)
    assert with_fast[0][:5] == without[0][:5]
    assert with_fast[1][:5] == without[1][:5]
    if seed is None:  # else timers, and with them what is sent again, differ
        assert with_fast == without


def trace(pair: Pair, seed: int | None) -> list[tuple[Any, ...]]:
    if seed is not None:
        pair.spoil(loss=0.03, jitter=0.004, seed=seed)
    streams = {pair.send(pair.dialer, pattern(size, size)) for size in (100, 40_000, 120_000)}
    pair.run(lambda: streams <= pair.listener.ended)
    for stream_id in sorted(streams):
        lane = pair.listener.streams[stream_id]
        pair.listener.quic.write(lane, pattern(5000 * stream_id + 1))
        pair.listener.quic.finish(lane)
    pair.run(lambda: streams <= pair.dialer.ended)
    pair.settle()
    return [state_of(end) for end in pair.ends]


@pytest.mark.parametrize("fast", [True, False])
def test_duplicates_and_forgeries_change_nothing(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setattr(Engine, "_receive_fast", lambda *args: False)
    pair = Pair()
    stream_id = pair.send(pair.dialer, pattern(5000), fin=False)
    datagrams = pair.transmit(pair.dialer)
    pair.settle()
    before = state_of(pair.listener)
    for datagram in datagrams:
        pair.listener.take(datagram, pair.dialer.addr, pair.now)
        pair.listener.take(datagram[:-1] + bytes((datagram[-1] ^ 1,)), pair.dialer.addr, pair.now)
    assert state_of(pair.listener) == before
    assert pair.listener.data[stream_id] == pattern(5000)
    pair.now += 1.0
    assert ack_of(pair) is None


@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize("plain", ["dialer", "listener"])
def test_interop_with_plain_aioquic(plain: str, lossy: bool) -> None:
    pair = Pair(**{plain: QuicConnection})
    if lossy:
        pair.spoil(loss=0.03, jitter=0.005, seed=5)
    for end in pair.ends:
        pair.transfer(end, 400_000)
        pair.transfer(end, 3)
    engine = pair.other(getattr(pair, plain))
    assert max(pair.sent[getattr(pair, plain)]) == SETTINGS.max_datagram_size
    assert not engine.quic.is_over


def test_offsets_beyond_30_bits() -> None:
    """Where the offset of bulk packets has four bytes, and then eight."""
    pair = Pair()
    lane = pair.dialer.open(pair.now)
    pair.dialer.quic.write(lane, b"x")
    pair.settle()
    far, theirs = (1 << 30) - 20_000, pair.listener.streams[lane.id]
    sender, receiver = lane.sender, theirs.receiver
    sender._buffer_start = sender._buffer_stop = sender.highest_offset = far
    receiver._buffer_start = receiver.highest_offset = theirs.window.read = far
    theirs.window.limit = theirs.quic.max_stream_data_local = lane.quic.max_stream_data_remote = far + 500_000
    pair.dialer.quic.write(lane, pattern(300_000))
    pair.dialer.quic.finish(lane)
    pair.run(lambda: lane.id in pair.listener.ended)
    assert pair.listener.data[lane.id] == b"x" + pattern(300_000)


def test_streams_take_turns() -> None:
    pair = Pair(latency=0.005)
    pair.transfer(pair.dialer, 1_000_000)  # so that the congestion window is no matter
    streams = [pair.send(pair.dialer, bytes(200_000), fin=False) for _ in range(4)]
    pair.run(lambda: sum(len(pair.listener.data[one]) for one in streams) > 300_000)
    counts = [len(pair.listener.data[one]) for one in streams]
    assert max(counts) - min(counts) <= 3 * 16 * SETTINGS.max_datagram_size


def test_peer_whose_address_changes() -> None:
    """As that of a dialer behind a NAT does: the listener asks whether it is there, and answers there."""
    pair = Pair()
    pair.dialer.addr = ("10.9.9.9", 9)
    stream_id = pair.send(pair.dialer, pattern(20_000), fin=False)
    to = set()
    datagrams = pair.listener.quic.datagrams

    def recorded(now: float) -> Any:
        out = datagrams(now)
        to.update(addr for _, addr in out)
        return out

    pair.listener.quic.datagrams = recorded
    pair.run(lambda: len(pair.listener.data[stream_id]) == 20_000)
    pair.settle()
    assert to == {pair.dialer.addr}
    path = pair.listener.quic._network_paths[0]
    assert path.addr == pair.dialer.addr
    assert path.is_validated


# Acknowledgements, and pacing


def one_packet(pair: Pair) -> bytes:
    pair.dialer.quic.send_ping(0)
    (datagram,) = (datagram for datagram, _ in pair.dialer.quic.datagrams(pair.now))
    return datagram


def ack_of(pair: Pair) -> tuple[int, ...] | None:
    """The ACK frame that the listener sends now."""
    datagrams = [datagram for datagram, _ in pair.listener.quic.datagrams(pair.now)]
    return next((one for datagram in datagrams for one in pair.frames(pair.dialer, datagram) if one[0] == 2), None)


@pytest.mark.parametrize("fast", [True, False])
def test_one_packet_is_acknowledged_within_a_millisecond(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setattr(Engine, "_receive_fast", lambda *args: False)
    pair = Pair()
    pair.listener.take(one_packet(pair), pair.dialer.addr, pair.now)
    assert ack_of(pair) is None
    at = pair.listener.quic.get_timer()
    assert pair.now < at <= pair.now + 0.001
    pair.now = at
    assert ack_of(pair) is not None
    assert ack_of(pair) is None


@pytest.mark.parametrize("fast", [True, False])
def test_second_packet_is_acknowledged_at_once(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setattr(Engine, "_receive_fast", lambda *args: False)
    pair = Pair()
    for _ in range(2):
        assert ack_of(pair) is None
        pair.listener.take(one_packet(pair), pair.dialer.addr, pair.now)
    ack = ack_of(pair)
    assert ack is not None
    assert ack[1] == pair.dialer.quic._packet_number - 1


def test_packet_out_of_order_is_acknowledged_at_once() -> None:
    pair = Pair()
    late, early = one_packet(pair), one_packet(pair)
    for datagram in (early, late):
        pair.listener.take(datagram, pair.dialer.addr, pair.now)
        assert ack_of(pair) is not None


def test_acknowledgement_alone_is_not_acknowledged() -> None:
    pair = Pair()
    pair.transfer(pair.dialer, 5000)
    pair.settle()
    before = {end: len(pair.sent[end]) for end in pair.ends}
    pair.settle(5.0)
    assert {end: len(pair.sent[end]) for end in pair.ends} == before


def test_bursts_are_bounded() -> None:
    pair = Pair(QuicConfig(stream_window=10 << 20), latency=0.02)
    lane = pair.dialer.open(pair.now)
    pair.link = lambda to, datagram: [(ceil((pair.now + pair.latency) * 200)) / 200 - pair.now]  # acks come together
    bursts: list[tuple[float, int, float]] = []
    datagrams = pair.dialer.quic.datagrams

    def recorded(now: float) -> Any:
        out = datagrams(now)
        bursts.append((now, len(out), pair.dialer.quic._loss._pacer.packet_time))
        return out

    pair.dialer.quic.datagrams = recorded
    pair.dialer.quic.write(lane, bytes(6_000_000))
    pair.run(lambda: len(pair.listener.data[lane.id]) == 6_000_000)
    assert 16 < max(count for _, count, _ in bursts) <= 64 + 1
    rest = bursts[len(bursts) // 2 :]
    fastest = min(packet_time for _, _, packet_time in rest)
    elapsed = rest[-1][0] - rest[0][0]
    assert sum(count for _, count, _ in rest) <= elapsed / fastest + 64 + 1


# The renewal of keys


@pytest.mark.parametrize("who", ["dialer", "listener", "both"])
@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_keys_are_renewed_in_a_transfer(who: str, loss: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(latency=0.002)
    if loss:
        pair.spoil(loss=loss, jitter=0.0, seed=9)
    monkeypatch.setattr(f"{package.__name__}.sending._KEY_LIFETIME", 150)
    renewals = {end: count_renewals(end) for end in pair.ends}
    ends = pair.ends if who == "both" else (getattr(pair, who),)
    streams = [(end, pair.send(end, pattern(1_200_000))) for end in ends]
    pair.run(lambda: all(stream_id in pair.other(end).ended for end, stream_id in streams))
    for end, stream_id in streams:
        assert pair.other(end).data[stream_id] == pattern(1_200_000)
        assert renewals[end]["local_update"] >= 3
    pair.settle()
    phases = {end.quic._cryptos[ONE_RTT].send.key_phase for end in pair.ends}
    assert len(phases) == 1
    assert all(sum(counts.values()) >= 3 for counts in renewals.values())


def count_renewals(end: End) -> Counter[str]:
    counts: Counter[str] = Counter()
    pair = end.quic._cryptos[ONE_RTT]
    update = pair._update_key
    pair._update_key = lambda trigger: (counts.update([trigger]), update(trigger))
    return counts


@pytest.mark.parametrize("plain", ["dialer", "listener"])
def test_plain_aioquic_renews_the_keys(plain: str) -> None:
    pair = Pair(**{plain: QuicConnection})
    peer = getattr(pair, plain)
    engine = pair.other(peer)
    up, down = pair.send(engine, pattern(200_000)), pair.send(peer, pattern(200_000))
    pair.settle(0.05)
    assert peer.ended == engine.ended == set()
    peer.quic.request_key_update()
    pair.run(lambda: up in peer.ended and down in engine.ended)
    assert (peer.data[up], engine.data[down]) == (pattern(200_000), pattern(200_000))
    assert engine.quic._cryptos[ONE_RTT].send.key_phase == 1


# The size of datagrams


def narrow(pair: Pair, size: int) -> None:
    pair.link = lambda to, datagram: [pair.latency] if len(datagram) <= size else []


def test_datagrams_grow_once_a_probe_has_arrived() -> None:
    pair = Pair(handshake=False)
    pair.run(lambda: all(end.quic.is_established for end in pair.ends))
    assert {end.quic._max_datagram_size for end in pair.ends} == {1280}
    pair.settle()
    assert {end.quic._max_datagram_size for end in pair.ends} == {1452}
    for end in pair.ends:
        before = len(pair.sent[end])
        pair.transfer(pair.other(end), 100_000)
        assert Counter(pair.sent[end][before:])[1452] > 60


def test_path_that_carries_less() -> None:
    pair = Pair(handshake=False)
    narrow(pair, 1400)
    pair.run(lambda: all(end.quic.is_established for end in pair.ends))
    windows = [end.quic._loss.congestion_window for end in pair.ends]
    for _ in range(12):  # probes are found lost when something is acknowledged
        for end in pair.ends:
            end.quic.send_ping(0)
        pair.settle(0.5)
    assert [pair.sent[end].count(1452) for end in pair.ends] == [3, 3]
    for end, window in zip(pair.ends, windows, strict=True):
        assert end.quic._max_datagram_size == 1280
        assert end.quic._loss._cc.ssthresh is None
        assert end.quic._loss.congestion_window >= window
        assert end.quic._loss.bytes_in_flight == 0
        pair.transfer(end, 50_000)
    assert [pair.sent[end].count(1452) for end in pair.ends] == [3, 3]


def test_probe_does_not_count_as_in_flight() -> None:
    pair = Pair(handshake=False)
    pair.run(lambda: pair.dialer.quic.is_established)
    flying = pair.dialer.quic._loss.bytes_in_flight
    window = pair.dialer.quic._loss.congestion_window
    probe = pair.dialer.quic._mtu_probe(1452, pair.now)
    assert len(probe) == 1452
    assert pair.frames(pair.listener, probe)[0] == (Frame.PING,)
    assert pair.dialer.quic._loss.bytes_in_flight == flying
    assert pair.dialer.quic._loss.congestion_window == window


def test_black_hole_takes_the_size_back() -> None:
    pair = Pair()
    assert pair.dialer.quic._max_datagram_size == 1452
    narrow(pair, 1300)
    pair.transfer(pair.dialer, 30_000)
    assert pair.dialer.quic._max_datagram_size == 1280
    before = len(pair.sent[pair.listener])
    pair.transfer(pair.dialer, 30_000)
    assert max(pair.sent[pair.listener][before:]) <= 1280


@pytest.mark.parametrize(("maximum", "size"), [(1200, 1200), (1280, 1280), (1300, 1300), (1452, 1452), (65_527, 1452)])
def test_datagrams_are_no_larger_than_the_peer_takes(maximum: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "Endpoints SHOULD NOT send larger": max_udp_payload_size (RFC 9000, 18.2)."""

    class Modest(QuicConnection):
        def _serialize_transport_parameters(self) -> bytes:
            return super()._serialize_transport_parameters() + b"\x03\x04" + (maximum | 0x80000000).to_bytes(4, "big")

    pair = Pair(listener=Modest, listening=replace(LISTENING.for_listener, max_datagram_size=1200))
    before = len(pair.sent[pair.listener])
    pair.transfer(pair.dialer, 20_000)
    assert max(pair.sent[pair.listener][before:]) == size


# The books


@pytest.mark.parametrize("loss", [0.0, 0.03])
def test_credit_of_thousands_of_streams_is_exact(loss: float) -> None:
    """Streams that end in any way, read or not, leave the connection's window whole."""
    settings = QuicConfig(
        stream_window=8 * 1024, max_stream_window=16 * 1024, connection_window=64 * 1024, max_streams=64
    )
    pair, dice = Pair(settings, latency=0.002), random.Random(1)
    if loss:
        pair.spoil(loss=loss, jitter=0.002, seed=4)
    total = 300 if loss else 2000
    pair.listener.reads = False
    opened, busy = 0, True
    while opened < total or busy:
        while pair.dialer.quic.can_open and opened < total and dice.random() < 0.9:
            opened += 1
            lane = pair.dialer.open(pair.now)
            pair.dialer.quic.write(lane, bytes(dice.choice([1, 20, 800, 3000, 12_000])))
            if dice.random() < 0.5:
                pair.dialer.quic.finish(lane)
        pair.settle(0.004)
        finish_some(pair, dice, hard=opened == total)
        busy = any(end.quic.lanes for end in pair.ends)
        assert pair.now < 3000
    pair.settle()
    for end in pair.ends:
        quic = end.quic
        assert not quic.is_over
        assert (quic.lanes, quic._streams, len(quic._queue), len(quic._grants)) == ({}, {}, 0, 0)
    listener, dialer = pair.listener.quic, pair.dialer.quic
    assert listener.window.read == listener._local_max_data.used == dialer._remote_max_data_used > total
    assert dialer._remote_max_data - dialer._remote_max_data_used > settings.connection_window * 3 // 4
    assert dialer._loss.bytes_in_flight == 0
    assert listener._local_max_streams_bidi.value == settings.max_streams + total


def finish_some(pair: Pair, dice: random.Random, *, hard: bool) -> None:
    """Bring the open streams nearer to their end, by chance."""
    for lane in list(pair.listener.quic.lanes.values()):
        match dice.randrange(4):
            case 0:
                pair.listener.read(lane.id, pair.now, dice.choice([1, 500, 100_000]))
            case 1:  # as a stream that is closed: what comes is dropped
                pair.listener.unread.pop(lane.id, None)
                pair.listener.quic.abandon(lane, pair.now)
                pair.listener.quic.stop(lane, 0)
            case 2 if lane.sender._buffer_fin is None and lane.sender._reset_error_code is None:
                pair.listener.quic.finish(lane)
            case 3 if dice.random() < 0.3:
                pair.listener.quic.reset(lane, 5)
    for lane in list(pair.dialer.quic.lanes.values()):
        if lane.sender._buffer_fin is None and lane.sender._reset_error_code is None and (hard or dice.random() < 0.3):
            if dice.random() < 0.5:
                pair.dialer.quic.reset(lane, 6)
            else:
                pair.dialer.quic.finish(lane)
    for stream_id in list(pair.listener.unread):
        if stream_id not in pair.listener.quic.lanes:
            pair.listener.read(stream_id, pair.now)  # what was unread when both directions had ended


# What must not get out of the engine


def seal(pair: Pair, plain: bytes, *, number_size: int = 2) -> bytes:
    """A packet of the dialer with such a payload."""
    quic = pair.dialer.quic
    head = bytes((0x40 | number_size - 1,)) + quic._peer_cid.cid
    number = quic._packet_number
    quic._packet_number += 1
    head += (number % (1 << 8 * number_size)).to_bytes(number_size, "big")
    sealed: bytes = quic._cryptos[ONE_RTT].encrypt_packet(head, plain, number)
    return sealed


@pytest.mark.parametrize(
    ("plain", "code"),
    [
        pytest.param(b"", 0xA, id="no frame"),  # "MUST treat receipt of a packet ... that contains no frames"
        pytest.param(bytes(4) + b"\x3f", 0x7, id="unknown frame"),
        pytest.param(b"\x08\x01" + bytes(30), 0x5, id="a stream that only we may open"),
        pytest.param(b"\x08\x02" + bytes(30), 0x4, id="a stream in one direction"),
        pytest.param(b"\x08\x80\x00\x10\x00" + bytes(30), 0x4, id="too many streams"),
        pytest.param(b"\x0c\x00\x84\x00\x00\x00" + bytes(30), 0x3, id="beyond the stream's window"),
        pytest.param(b"\x0e\x00\x00\x7f\xff" + bytes(30), 0x7, id="longer than the packet"),
        pytest.param(b"\x04\x00\x00\x84\x00\x00\x00", 0x3, id="reset beyond the window"),
        pytest.param(b"\x1e" + bytes(4), 0xA, id="HANDSHAKE_DONE from a dialer"),
        pytest.param(b"\x06\x00\x04\x08\x00\x00\x00", 0x10A, id="TLS message that has no place here"),
    ],
)
@pytest.mark.parametrize("fast", [True, False])
def test_bad_packet_closes_the_connection(plain: bytes, code: int, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setattr(Engine, "_receive_fast", lambda *args: False)
    pair = Pair()
    pair.listener.take(seal(pair, plain, number_size=4), pair.dialer.addr, pair.now)
    assert pair.listener.quic.close_event is not None
    assert pair.listener.quic.close_event.error_code == code
    pair.run(lambda: all(end.quic.is_over for end in pair.ends), 1.0)
    assert pair.dialer.quic.is_closed_by_peer
    assert pair.dialer.quic.close_event.error_code == code


def test_connection_ids_in_a_strange_order() -> None:
    """A dialer that makes the listener run out of connection ids to address it by."""
    pair = Pair()
    cids = [one.cid for one in pair.listener.quic._host_cids]
    quic = pair.dialer.quic

    def new_cid(number: int, retire: int) -> bytes:
        return b"\x18" + bytes((0x40, number, 0x40, retire, 8)) + bytes((number,)) * 24

    def take(plain: bytes) -> None:
        pair.listener.take(seal(pair, plain), pair.dialer.addr, pair.now)

    take(new_cid(20, 20))  # all of before are retired: 20 is in use
    take(new_cid(30, 20))
    take(new_cid(25, 20))
    for cid in cids[1:3]:  # the listener changes its own when the dialer does: first 30 is in use, then 25
        quic._peer_cid.cid = cid
        take(b"\x01" + bytes(4))
    take(new_cid(30, 30))
    assert pair.listener.quic.close_event.error_code  # which one, the RFC does not say


def test_draining_is_short_even_when_bytes_came_with_the_goodbye() -> None:
    pair = Pair()
    stream_id = pair.send(pair.dialer, b"bye" * 20, fin=False)
    datagrams = [datagram for datagram, _ in pair.dialer.quic.datagrams(pair.now)]
    pair.dialer.quic.close(0, None, "")
    datagrams += [datagram for datagram, _ in pair.dialer.quic.datagrams(pair.now)]
    assert len(datagrams) == 2
    quic = pair.listener.quic
    quic.receive(b"".join(datagrams), len(datagrams[0]), pair.dialer.addr, pair.now)
    assert quic.is_closed_by_peer
    assert quic.get_timer() <= pair.now + 3 * quic.probe_timeout  # RFC 9000, 10.2
    assert stream_id not in pair.listener.data


# Peers that mean harm


@pytest.mark.parametrize("where", ["a stream", "an Initial packet"])
def test_bytes_in_too_many_pieces_close_the_connection(where: str) -> None:
    """aioquic would look at all pieces for each that comes: 150 KB of them took seconds."""
    pair, sealed = Pair(), Initials()
    engine = pair.listener.quic if where == "a stream" else sealed.engine
    offsets = iter(range(3, 1_000_000, 2))
    while engine.close_event is None and next(offsets) < 10_000:
        frames = b""
        while len(frames) < 1100:
            offset = (0x80000000 | next(offsets)).to_bytes(4, "big")
            frames += (b"\x0e\x00" if where == "a stream" else b"\x06") + offset + b"\x01x"
        datagram = seal(pair, frames) if where == "a stream" else sealed.datagram(frames)
        engine.receive(datagram, len(datagram), pair.dialer.addr, pair.now)
    assert engine.close_event.reason_phrase == "too many gaps in a stream"
    assert next(offsets) < 2 * 1400


def test_handshake_bytes_far_ahead_close_the_connection() -> None:
    sealed = Initials()
    datagram = sealed.datagram(b"\x06" + (0x80000000 | MAX_HANDSHAKE_MESSAGE).to_bytes(4, "big") + b"\x01x")
    sealed.engine.receive(datagram, len(datagram), ("10.9.9.9", 9), 1000.0)
    assert sealed.engine.close_event.error_code == QuicErrorCode.CRYPTO_BUFFER_EXCEEDED


class Initials:
    """Initial packets of somebody who has proven nothing, and the listener's engine that takes them."""

    def __init__(self) -> None:
        self.engine: Any = Engine(LISTENING.for_listener, SETTINGS, original_destination_cid=b"stranger")
        self._keys = CryptoPair()
        self._keys.setup_initial(cid=b"stranger", is_client=True, version=1)
        self._number = 0

    def datagram(self, frames: bytes) -> bytes:
        frames += bytes(max(0, 1160 - len(frames)))
        size = (0x4000 | (len(frames) + 18)).to_bytes(2, "big")
        head = b"\xc1\x00\x00\x00\x01\x08stranger\x08sourceid\x00" + size + self._number.to_bytes(2, "big")
        self._number += 1
        return self._keys.encrypt_packet(head, frames, self._number - 1)


def test_acknowledging_what_was_never_sent_closes_the_connection() -> None:
    for ahead, is_bad in (0, True), (-1, False):
        pair = Pair()
        number = pair.listener.quic._packet_number + ahead
        frames = b"\x02" + (0xC000000000000000 | number).to_bytes(8, "big") + b"\x00\x00\x00" + bytes(8)
        datagram = seal(pair, frames)
        pair.listener.take(datagram, pair.dialer.addr, pair.now)
        assert (pair.listener.quic.close_event is not None) is is_bad


def with_parameters(**values: Any) -> type[Engine]:
    """An engine that says `values` among its transport parameters."""

    class Speaking(Engine):
        def _serialize_transport_parameters(self) -> bytes:
            parameters = pull_quic_transport_parameters(Buffer(data=super()._serialize_transport_parameters()))
            for name, value in values.items():
                setattr(parameters, name, value)
            buf = Buffer(capacity=1000)
            push_quic_transport_parameters(buf, parameters)
            return buf.data

    return Speaking


@pytest.mark.parametrize(("value", "agreed"), [(0, 30.0), (None, 30.0), (5000, 5.0), (60_000, 30.0)])
def test_idle_timeout_of_zero_is_none(value: int | None, agreed: float) -> None:
    pair = Pair(listener=with_parameters(max_idle_timeout=value))
    assert pair.dialer.quic.agreed_idle_timeout == agreed


def test_a_preferred_address_is_not_sent_to() -> None:
    preferred = QuicPreferredAddress(
        ipv4_address=("192.168.0.1", 53),
        ipv6_address=None,
        connection_id=b"12345678",
        stateless_reset_token=bytes(16),
    )
    pair = Pair(listener=with_parameters(preferred_address=preferred))
    assert pair.dialer.quic._remote_preferred_address is None
    pair.send(pair.dialer, b"hello")
    assert [path.addr for path in pair.dialer.quic._network_paths] == [pair.listener.addr]


# Forged packets, and what is logged


@pytest.mark.parametrize("is_fast", [True, False], ids=["bulk", "aioquic's"])
def test_too_many_forged_packets_end_the_connection(is_fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{package.__name__}.receiving._MAX_FORGED_GCM", 50)
    pair = Pair()
    engine, source = pair.listener.quic, pair.dialer.addr
    cid = engine.host_cid if is_fast else engine._host_cids[1].cid
    rng = random.Random(1)
    for _ in range(50):
        engine.receive(b"\x40" + cid + rng.randbytes(60), 69, source, pair.now)
    assert engine._forged == 50
    assert engine._close_event is None
    up = pair.send(pair.dialer, pattern(5000))
    pair.run(lambda: up in pair.listener.ended)  # they harm nothing below the limit
    engine.receive(b"\x40" + cid + rng.randbytes(60), 69, source, pair.now)
    assert engine._close_event.error_code == QuicErrorCode.AEAD_LIMIT_REACHED


def test_what_peers_do_is_logged_below_libp2p_for_who_debugs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        pair = Pair()
        pair.dialer.quic._logger.warning("a peer does %s", "something")
        pair.dialer.quic.close(reason_phrase="done")
        pair.settle()
    assert {record.name for record in caplog.records} == {"libp2p.transports.quic.aioquic"}
    assert {record.levelname for record in caplog.records} == {"DEBUG"}
    assert "a peer does something" in caplog.text


# Frames that cost more than their bytes


@pytest.mark.parametrize(
    ("frames", "what"),
    [
        (b"\x01" * 1100, "a PING"),
        (b"\x01" + bytes(4), "a PING"),
        (b"\x02\x00\x00\x00\x00", "an ACK of nothing new"),
        (b"\x0e\x00\x00\x01x" * 200, "a small STREAM frame behind one of the same stream"),
        (b"\x0e\x00\x05\x00", "an empty STREAM frame"),
        (b"\x1a" + bytes(8), "a PATH_CHALLENGE frame"),
        (b"\x10\x40\x00", "a MAX_DATA frame"),
        (b"\x14\x00", "a DATA_BLOCKED frame"),
        (b"\x06\x00\x00", "a CRYPTO frame"),
    ],
    ids=["pings", "a ping", "ack", "one byte each", "empty", "path challenge", "window", "blocked", "crypto"],
)
def test_frames_of_no_use_have_an_allowance(frames: bytes, what: str) -> None:
    pair = Pair()
    pair.send(pair.dialer, b"hello, ")
    engine: Any = pair.listener.quic
    engine._allowance = Allowance(10, 100)
    taken = 0
    while engine.close_event is None and taken < 5000:
        datagram = seal(pair, frames)
        engine.receive(datagram, len(datagram), pair.dialer.addr, pair.now)
        taken += 1
    assert engine.close_event.error_code == StreamErrorCode.RATE_LIMITED
    assert engine.close_event.frame_type is None, "said to the application"
    assert what in engine.close_event.reason_phrase
    assert taken <= 1 + 16 * 110


def test_a_turn_takes_so_many_small_packets_and_any_number_of_full_ones() -> None:
    pair = Pair()
    pair.send(pair.dialer, b"hello")
    engine: Any = pair.listener.quic
    pings = [seal(pair, b"\x01" + bytes(4)) for _ in range(300)]
    size, taken, turns = len(pings[0]), 0, 0
    while taken < 300 * size:
        engine.frames_left = TURN
        taken += engine.receive(b"".join(pings)[taken:], size, pair.dialer.addr, pair.now)
        turns += 1
    assert turns > 300 // TURN
    offset = 5
    full = []
    for _ in range(100):
        full.append(seal(pair, b"\x0c\x00" + (0x80000000 | offset).to_bytes(4, "big") + bytes(1100)))
        offset += 1100
    engine.frames_left = TURN
    assert engine.receive(b"".join(full), len(full[0]), pair.dialer.addr, pair.now) == sum(map(len, full))
    assert engine.frames_left == TURN
