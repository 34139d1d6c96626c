"""The yamux session as a state machine: frames in, events and frames out."""

from dataclasses import replace
from typing import Any

import pytest

from libp2p.errors import LimitExceeded, RemoteProtocolError
from libp2p.muxers.session import (
    DataReceived,
    EndReceived,
    GoAwayReceived,
    PeerAccepted,
    PeerOpened,
    PeerSilent,
    ResetReceived,
    Violation,
    WindowOpened,
)
from libp2p.muxers.yamux.core import YamuxConfig, YamuxSession
from libp2p.muxers.yamux.flow_control import INITIAL_WINDOW, StreamWindow
from libp2p.muxers.yamux.wire import DATA, GO_AWAY, HEADER, HEADER_SIZE, PING, WINDOW_UPDATE

SYN, ACK, FIN, RST = 1, 2, 4, 8
NO_LIMIT = YamuxConfig()


def session(*, is_dialer: bool = False, config: YamuxConfig = NO_LIMIT, max_payload: int = 65507) -> YamuxSession:
    return YamuxSession(is_dialer=is_dialer, config=config, max_payload=max_payload, draw=lambda _: True)


def frame(kind: int, flags: int, stream_id: int, length: int, body: bytes = b"") -> bytes:
    return HEADER.pack(0, kind, flags, stream_id, length) + body


def data(stream_id: int, body: bytes, flags: int = 0) -> bytes:
    return frame(DATA, flags, stream_id, len(body), body)


def sent(core: YamuxSession) -> list[tuple[int, int, int, int, bytes]]:
    """The frames to send, as (type, flags, stream id, length, body)."""
    wire = b"".join(core.data_to_send())
    frames = []
    while wire:
        _, kind, flags, stream_id, length = HEADER.unpack_from(wire)
        size = HEADER_SIZE + (length if kind == DATA else 0)
        frames.append((kind, flags, stream_id, length, wire[HEADER_SIZE:size]))
        wire = wire[size:]
    return frames


def receive(core: YamuxSession, wire: bytes, now: float = 0.0) -> list[object]:
    events = core.receive_data(memoryview(wire), now)
    if events and isinstance(violation := events[-1], Violation):
        raise violation.error
    return [shown(event) for event in events]


def shown(event: Any) -> object:
    """The event with its stream's number in place of the stream, and its data copied."""
    if isinstance(event, DataReceived):
        event = replace(event, data=bytes(event.data))
    return replace(event, stream=event.stream.id) if hasattr(event, "stream") else event


def test_stream_opened_written_and_closed_by_the_dialer() -> None:
    dialer, listener = session(is_dialer=True), session()
    opened = dialer.open_stream(0.0)
    assert dialer.send(opened, memoryview(b"steak")) == 5
    dialer.close_write(opened)
    frames = sent(dialer)
    assert frames == [(DATA, SYN, 1, 5, b"steak"), (WINDOW_UPDATE, FIN, 1, 0, b"")]
    wire = data(1, b"steak", SYN) + frame(WINDOW_UPDATE, FIN, 1, 0)
    assert receive(listener, wire) == [PeerOpened(1), DataReceived(1, b"steak"), EndReceived(1)]
    stream = listener._streams[1]
    listener.accept_stream(stream)
    listener.send(stream, memoryview(b"yes"))
    listener.close_write(stream)
    assert sent(listener) == [(DATA, ACK, 1, 3, b"yes"), (WINDOW_UPDATE, FIN, 1, 0, b"")]
    assert stream.is_over
    answer = data(1, b"yes", ACK) + frame(WINDOW_UPDATE, FIN, 1, 0)
    assert receive(dialer, answer) == [PeerAccepted(1), DataReceived(1, b"yes"), EndReceived(1)]
    assert opened.is_over


def test_ids_are_odd_for_the_dialer_and_even_for_the_listener() -> None:
    assert [session(is_dialer=side).open_stream(0.0).id for side in (True, False)] == [1, 2]


def test_a_stream_that_is_only_opened_still_sends_its_syn_once() -> None:
    core = session(is_dialer=True)
    core.open_stream(0.0)
    assert sent(core) == [(WINDOW_UPDATE, SYN, 1, 0, b"")]
    assert sent(core) == []


def test_an_accepted_stream_sends_its_ack_even_where_nothing_else_is_sent() -> None:
    core = session()
    receive(core, data(1, b"x", SYN))
    core.accept_stream(core._streams[1])
    assert sent(core) == [(WINDOW_UPDATE, ACK, 1, 0, b"")]
    assert sent(core) == []


def test_small_writes_of_one_stream_share_a_frame() -> None:
    core = session(is_dialer=True, max_payload=10)
    first, second = core.open_stream(0.0), core.open_stream(0.0)
    for stream, piece in [(first, b"ab"), (first, b"cdefgh"), (first, b"ijk"), (second, b"x"), (first, b"l")]:
        core.send(stream, memoryview(piece))
    assert [f[1:] for f in sent(core)] == [
        (SYN, 1, 8, b"abcdefgh"),
        (0, 1, 3, b"ijk"),
        (SYN, 3, 1, b"x"),
        (0, 1, 1, b"l"),
    ]
    core.send(first, memoryview(b"m"))
    core.close_write(first)
    assert sent(core) == [(DATA, 0, 1, 1, b"m"), (WINDOW_UPDATE, FIN, 1, 0, b"")]


def test_a_syn_may_come_late_and_out_of_order() -> None:
    core = session()
    assert receive(core, data(5, b"b", SYN) + data(1, b"a", SYN)) == [
        PeerOpened(5),
        DataReceived(5, b"b"),
        PeerOpened(1),
        DataReceived(1, b"a"),
    ]


def test_a_peer_without_ack_accepts_by_answering() -> None:
    core = session(is_dialer=True)
    core.open_stream(0.0)
    assert receive(core, data(1, b"x")) == [PeerAccepted(1), DataReceived(1, b"x")]


def test_data_is_cut_into_frames_and_stops_at_the_window() -> None:
    core = session(is_dialer=True, max_payload=100_000)
    opened = core.open_stream(0.0)
    assert core.send(opened, memoryview(bytes(INITIAL_WINDOW + 1))) == INITIAL_WINDOW
    assert [f[3] for f in sent(core)] == [100_000, 100_000, INITIAL_WINDOW - 200_000]
    assert core.send(opened, memoryview(b"x")) == 0
    assert receive(core, frame(WINDOW_UPDATE, ACK, 1, 1)) == [PeerAccepted(1), WindowOpened(1)]
    assert core.send(opened, memoryview(b"xy")) == 1


def test_data_with_fin_ends_behind_its_body() -> None:
    core = session()
    wire = data(1, b"abc", SYN | FIN)
    assert receive(core, wire[:13]) == [PeerOpened(1), DataReceived(1, b"a")]
    assert receive(core, wire[13:]) == [DataReceived(1, b"bc"), EndReceived(1)]


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (HEADER.pack(1, DATA, SYN, 1, 0), "version 1"),
        (frame(4, 0, 1, 0), "unknown type 4"),
        (frame(DATA, 0x10, 1, 0), "unknown flags 0x0010"),
        (frame(DATA, SYN, 0, 0), "stream 0"),
        (frame(DATA, SYN, 2, 0), "id that is ours"),
        (frame(DATA, SYN, 1, 0) * 2, "opened twice"),
        (frame(DATA, SYN, 1, INITIAL_WINDOW + 1), f"{INITIAL_WINDOW + 1} bytes on stream 1"),
        (data(1, b"x", SYN | FIN) + data(1, b"y"), "behind its end"),
        (frame(WINDOW_UPDATE, SYN, 1, 0xFFFFFFFF), "grows above"),
    ],
)
def test_a_violation_is_named_and_answered_with_go_away(wire: bytes, reason: str) -> None:
    core = session()
    with pytest.raises(RemoteProtocolError, match=reason):
        receive(core, wire)
    assert sent(core)[-1] == (GO_AWAY, 0, 0, 1, b"")


def test_frames_for_a_stream_that_is_gone_are_ignored() -> None:
    core = session()
    assert receive(core, data(1, b"lost") + frame(WINDOW_UPDATE, RST, 3, 0) + frame(WINDOW_UPDATE, 0, 5, 7)) == []


def test_reset_carries_a_code_both_ways() -> None:
    core = session()
    receive(core, frame(DATA, SYN, 1, 0) + frame(DATA, SYN, 3, 0))
    core.reset(core._streams[1], 42)
    assert sent(core) == [(WINDOW_UPDATE, RST, 1, 42, b"")]
    assert receive(core, frame(WINDOW_UPDATE, RST, 3, 0x1001)) == [ResetReceived(3, 0x1001)]
    assert core._streams == {}


def test_reset_by_a_data_frame_drops_its_body() -> None:
    core = session()
    receive(core, frame(DATA, SYN, 1, 0))
    assert receive(core, data(1, b"junk", RST) + frame(DATA, SYN, 3, 0)) == [ResetReceived(1, 0), PeerOpened(3)]


def test_a_stream_reset_in_the_middle_of_a_frame_swallows_the_rest_of_it() -> None:
    core = session()
    wire = data(1, b"abcdef", SYN)
    receive(core, wire[:14])
    core.reset(core._streams[1], 0)
    assert receive(core, wire[14:] + frame(DATA, SYN, 3, 0)) == [PeerOpened(3)]


def test_too_many_inbound_streams_are_reset_with_the_limit_code() -> None:
    core = session(config=YamuxConfig(max_inbound_streams=1, ack_backlog=0))
    assert receive(core, data(1, b"a", SYN) + data(3, b"b", SYN)) == [PeerOpened(1), DataReceived(1, b"a")]
    assert sent(core) == [(WINDOW_UPDATE, RST, 3, 0x1002, b"")]


def test_the_ack_backlog_holds_openers_until_the_peer_accepts() -> None:
    core = session(is_dialer=True, config=YamuxConfig(ack_backlog=2))
    core.open_stream(0.0)
    core.open_stream(0.0)
    assert not core.can_open()
    receive(core, frame(WINDOW_UPDATE, ACK, 1, 0))
    assert core.can_open()
    core.open_stream(0.0)
    core.reset(core._streams[3], 0)
    assert core.can_open()


def test_too_many_outbound_streams_are_refused_by_name() -> None:
    core = session(is_dialer=True, config=YamuxConfig(max_outbound_streams=1))
    core.open_stream(0.0)
    with pytest.raises(LimitExceeded, match="max_outbound_streams of 1"):
        core.open_stream(0.0)


def test_ping_is_answered_and_measures_the_round_trip() -> None:
    core = session()
    core.start(10.0)
    assert sent(core) == [(PING, SYN, 0, 1, b"")]
    assert receive(core, frame(PING, SYN, 0, 77), 10.0) == []
    assert sent(core) == [(PING, ACK, 0, 77, b"")]
    receive(core, frame(PING, ACK, 0, 1), 10.25)
    assert core.rtt == 0.25


def test_a_silent_peer_is_noticed() -> None:
    core = session(is_dialer=True, config=YamuxConfig(keepalive_interval=30, keepalive_timeout=20))
    core.start(0.0)
    receive(core, frame(PING, ACK, 0, 1), 1.0)
    assert core.next_deadline() == 30.0
    assert core.handle_timer(30.0, 0, 0) == []
    assert sent(core)[-1][:2] == (PING, SYN)
    assert core.next_deadline() == 50.0
    assert core.handle_timer(50.0, 0, 0) == [PeerSilent(49.0)]


def test_go_away_is_told() -> None:
    core = session()
    assert receive(core, frame(GO_AWAY, 0, 0, 2)) == [GoAwayReceived(2)]
    core.go_away(0)
    assert sent(core) == [(GO_AWAY, 0, 0, 0, b"")]


def test_thousands_of_streams_leave_nothing_behind() -> None:
    dialer, listener = session(is_dialer=True), session()
    for _ in range(5000):
        opened = dialer.open_stream(0.0)
        dialer.send(opened, memoryview(b"hello"))
        dialer.close_write(opened)
        receive(listener, b"".join(dialer.data_to_send()))
        stream = listener._streams[opened.id]
        listener.accept_stream(stream)
        listener.close_write(stream)
        receive(dialer, b"".join(listener.data_to_send()))
    for core in (dialer, listener):
        assert core._streams == {}
        assert (core._inbound, core._outbound, core._unaccepted, core._unsent_flags) == (0, 0, 0, {})


class TestStreamWindow:
    def window(self, *, maximum: int = 8 * INITIAL_WINDOW) -> StreamWindow:
        return StreamWindow(maximum=maximum, draw=lambda _: True, now=0.0)

    def test_an_unread_window_grants_nothing(self) -> None:
        window = self.window()
        assert window.receive(INITIAL_WINDOW)
        assert not window.receive(1)

    def test_reading_half_of_it_grants_half(self) -> None:
        window = self.window()
        window.receive(INITIAL_WINDOW)
        assert window.consume(INITIAL_WINDOW // 2 - 1, 100.0, 0.1) == 0
        assert window.consume(1, 100.0, 0.1) == INITIAL_WINDOW // 2

    def test_a_fast_reader_doubles_it_up_to_the_maximum(self) -> None:
        window = self.window()
        for _ in range(10):
            granted = window.granted
            window.receive(granted)
            window.consume(granted, 0.01, 0.1)
        assert window.size == 8 * INITIAL_WINDOW

    @pytest.mark.parametrize(("now", "rtt"), [(100.0, 0.1), (0.01, None)])
    def test_a_slow_reader_or_an_unknown_round_trip_time_leaves_it(self, now: float, rtt: float | None) -> None:
        window = self.window()
        window.receive(INITIAL_WINDOW)
        assert window.consume(INITIAL_WINDOW, now, rtt) == INITIAL_WINDOW
        assert window.size == INITIAL_WINDOW

    def test_it_grows_only_where_there_is_memory(self) -> None:
        asked: list[int] = []
        window = StreamWindow(maximum=8 * INITIAL_WINDOW, draw=lambda n: bool(asked.append(n)), now=0.0)  # type: ignore[func-returns-value]
        for _ in range(2):
            window.receive(INITIAL_WINDOW)
            assert window.consume(INITIAL_WINDOW, 0.01, 0.1) == INITIAL_WINDOW
        assert asked == [INITIAL_WINDOW] * 2
        assert window.size == INITIAL_WINDOW
