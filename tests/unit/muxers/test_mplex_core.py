"""The mplex session as a state machine: messages in, events and messages out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from libp2p.errors import LimitExceeded, MessageTooLarge, RemoteProtocolError
from libp2p.muxers.mplex import Mplex, MplexConfig
from libp2p.muxers.mplex.core import MplexSession
from libp2p.muxers.mplex.wire import MAX_MESSAGE, decode_header, encode_header
from libp2p.muxers.session import DataReceived, EndReceived, PeerOpened, ResetReceived, Violation

NEW, MESSAGE_R, MESSAGE_I, CLOSE_R, CLOSE_I, RESET_R, RESET_I = range(7)
NO_LIMIT = MplexConfig()
MAX_UNREAD = 100


def session(*, is_dialer: bool = False, config: MplexConfig = NO_LIMIT, max_payload: int = 65000) -> MplexSession:
    return MplexSession(is_dialer=is_dialer, config=config, max_payload=max_payload)


def message(number: int, flag: int, body: bytes = b"") -> bytes:
    return encode_header(number, flag, len(body)) + body


def sent(core: MplexSession) -> list[tuple[int, int, bytes]]:
    """The messages to send, as (number, flag, body)."""
    size, wire = core.unsent, b"".join(core.data_to_send())
    assert (len(wire), core.unsent) == (size, 0)
    messages = []
    while wire:
        header = decode_header(wire)
        assert header is not None
        number, flag, length, start = header
        messages.append((number, flag, wire[start : start + length]))
        wire = wire[start + length :]
    return messages


def receive(core: MplexSession, wire: bytes) -> list[object]:
    events = core.receive_data(memoryview(wire), 0.0)
    if events and isinstance(violation := events[-1], Violation):
        raise violation.error
    return [shown(event) for event in events]


def shown(event: Any) -> object:
    """The event with its stream's number in place of the stream, and its data copied."""
    if isinstance(event, DataReceived):
        event = replace(event, data=bytes(event.data))
    return replace(event, stream=event.stream.id) if hasattr(event, "stream") else event


def test_the_bytes_on_the_wire() -> None:
    """Stream 18, whose header takes two bytes: (18 << 3 | 2) is 0x92 0x01."""
    core = session(is_dialer=True)
    for _ in range(18):
        core.open_stream(0.0)
    core.data_to_send()
    stream_id = core.open_stream(0.0)
    core.send(stream_id, memoryview(b"steak"))
    core.close_write(stream_id)
    assert b"".join(core.data_to_send()) == bytes.fromhex("9001 00  9201 05 737465616b  9401 00")


def test_a_stream_from_its_opening_to_its_end() -> None:
    dialer, listener = session(is_dialer=True), session()
    ours = dialer.open_stream(0.0)
    assert dialer.send(ours, memoryview(b"question")) == 8
    dialer.close_write(ours)
    wire = [(0, NEW, b""), (0, MESSAGE_I, b"question"), (0, CLOSE_I, b"")]
    assert sent(dialer) == wire
    events = receive(listener, b"".join(message(*each) for each in wire))
    assert events == [PeerOpened(ours.id), DataReceived(ours.id, b"question"), EndReceived(ours.id)]
    theirs = listener._streams[ours.id]
    listener.accept_stream(theirs)
    listener.send(theirs, memoryview(b"answer"))
    listener.close_write(theirs)
    listener.close_write(theirs)
    wire = [(0, MESSAGE_R, b"answer"), (0, CLOSE_R, b"")]
    assert sent(listener) == wire
    assert receive(dialer, b"".join(message(*each) for each in wire)) == [
        DataReceived(ours.id, b"answer"),
        EndReceived(ours.id),
    ]
    assert ours.is_over
    assert theirs.is_over


def test_both_sides_may_use_the_same_number() -> None:
    dialer, listener = session(is_dialer=True), session()
    ours, theirs = dialer.open_stream(0.0), listener.open_stream(0.0)
    assert ours.id != theirs.id
    dialer.send(ours, memoryview(b"of the dialer"))
    listener.send(theirs, memoryview(b"of the listener"))
    to_listener, to_dialer = b"".join(dialer.data_to_send()), b"".join(listener.data_to_send())
    assert receive(dialer, to_dialer) == [PeerOpened(theirs.id), DataReceived(theirs.id, b"of the listener")]
    assert receive(listener, to_listener) == [PeerOpened(ours.id), DataReceived(ours.id, b"of the dialer")]
    dialer.reset(dialer._streams[theirs.id], 5)
    assert sent(dialer) == [(0, RESET_R, b"")]
    assert receive(listener, message(0, RESET_R)) == [ResetReceived(theirs.id, 0)]
    assert not ours.is_over
    assert not listener._streams[ours.id].is_over


def test_data_is_cut_into_messages() -> None:
    core = session(is_dialer=True, max_payload=4)
    stream_id = core.open_stream(0.0)
    assert core.send(stream_id, memoryview(b"0123456789")) == 10
    assert [body for _, _, body in sent(core)] == [b"", b"0123", b"4567", b"89"]


def test_data_is_passed_on_before_its_message_is_complete() -> None:
    core = session()
    wire = message(0, NEW, b"a name") + message(0, MESSAGE_I, bytes(300))
    assert receive(core, wire[:12]) == [PeerOpened(1), DataReceived(1, b"\0")]
    assert receive(core, wire[12:]) == [DataReceived(1, bytes(299))]
    assert receive(core, message(0, CLOSE_I)) == [EndReceived(1)]


@pytest.mark.parametrize(
    ("wire", "kind", "reason"),
    [
        (message(0, 7), RemoteProtocolError, "unknown flag 7"),
        (message(3, NEW) * 2, RemoteProtocolError, "stream 3 opened twice"),
        (message(3, NEW) + message(3, CLOSE_I) + message(3, MESSAGE_I), RemoteProtocolError, "behind its end"),
        (encode_header(0, MESSAGE_I, MAX_MESSAGE + 1), MessageTooLarge, "1048577 bytes, the limit is 1048576"),
        (encode_header(0, NEW, MAX_MESSAGE + 1), MessageTooLarge, "1048577 bytes, the limit is 1048576"),
        (b"\x80\x00\x00", RemoteProtocolError, "shortest form"),
        (b"\xff" * 9 + b"\x01\x00", RemoteProtocolError, "longer than 9 bytes"),
        (b"\xff" * 18, RemoteProtocolError, "longer than 18 bytes"),
    ],
)
def test_violations_are_named(wire: bytes, kind: type[Exception], reason: str) -> None:
    with pytest.raises(kind, match=reason):
        receive(session(), wire)


def test_messages_for_a_stream_that_is_gone_are_ignored() -> None:
    core = session()
    assert receive(core, message(9, MESSAGE_I, b"x" * 50) + message(9, CLOSE_I) + message(9, RESET_R)) == []
    receive(core, message(9, NEW) + encode_header(9, MESSAGE_I, 50) + bytes(20))
    core.reset(core._streams[19], 0)
    assert receive(core, bytes(30) + message(9, MESSAGE_I, b"late") + message(9, CLOSE_I, b"!")) == []
    assert receive(core, message(9, NEW) + message(9, MESSAGE_I, b"anew")) == [
        PeerOpened(19),
        DataReceived(19, b"anew"),
    ]


def test_streams_above_the_limit_are_reset_and_room_is_freed() -> None:
    core = session(config=MplexConfig(max_inbound_streams=2))
    assert len(receive(core, b"".join(message(number, NEW) for number in range(4)))) == 2
    assert sent(core) == [(2, RESET_R, b""), (3, RESET_R, b"")]
    receive(core, message(0, RESET_I))
    assert receive(core, message(4, NEW)) == [PeerOpened(9)]


def test_opening_above_the_limit_is_refused() -> None:
    core = session(config=MplexConfig(max_outbound_streams=2))
    first = core.open_stream(0.0)
    core.open_stream(0.0)
    with pytest.raises(LimitExceeded, match="max_outbound_streams of 2"):
        core.open_stream(0.0)
    core.reset(first, 0)
    assert core.open_stream(0.0).id not in (first.id, first.id + 2)


class TestUnread:
    """While one stream holds more than `max_unread`, no data is wanted."""

    def session(self) -> MplexSession:
        core = session(config=MplexConfig(max_unread=MAX_UNREAD))
        receive(core, message(0, NEW) + message(1, NEW))
        receive(core, message(0, MESSAGE_I, bytes(MAX_UNREAD)) + message(1, MESSAGE_I, bytes(MAX_UNREAD)))
        assert core.wants_data, "both are just full"
        receive(core, message(0, MESSAGE_I, b"x"))
        assert not core.wants_data
        return core

    def test_data_that_is_under_way_is_still_taken(self) -> None:
        assert receive(self.session(), message(0, MESSAGE_I, b"more")) == [DataReceived(1, b"more")]

    def test_each_stream_above_the_limit_must_be_read(self) -> None:
        core = self.session()
        receive(core, message(1, MESSAGE_I, b"x"))
        core.consumed(core._streams[1], 1, 0.0)
        assert not core.wants_data
        core.consumed(core._streams[3], MAX_UNREAD, 0.0)
        assert core.wants_data

    @pytest.mark.parametrize("end", [MESSAGE_I, RESET_I, RESET_R, CLOSE_I])
    def test_a_stream_that_is_gone_holds_nobody(self, end: int) -> None:
        core = self.session()
        stream = core._streams[1]
        if end == RESET_I:
            receive(core, message(0, RESET_I))
        elif end == RESET_R:
            core.reset(core._streams[1], 0)
        elif end == CLOSE_I:
            core.close_write(stream)
            receive(core, message(0, CLOSE_I))
        else:
            core.consumed(stream, 1, 0.0)
        assert core.wants_data
        core.consumed(stream, 50, 0.0)
        assert core.wants_data

    def test_our_end_of_the_stream_changes_nothing(self) -> None:
        core = self.session()
        core.close_write(core._streams[1])
        assert not core.wants_data

    def test_a_stream_that_the_peer_has_ended_grows_no_more_and_holds_nobody(self) -> None:
        core = self.session()
        receive(core, message(0, CLOSE_I))
        assert core.wants_data
        core.consumed(core._streams[1], 50, 0.0)
        receive(core, message(1, MESSAGE_I, b"x"))
        assert not core.wants_data


def test_nothing_is_left_of_many_streams() -> None:
    core = session()
    for number in range(500):
        receive(core, message(number, NEW) + message(number, MESSAGE_I, b"data"))
        if number % 2:
            receive(core, message(number, RESET_I))
        else:
            core.close_write(core._streams[number << 1 | 1])
            receive(core, message(number, CLOSE_I))
    assert (core._streams, core._inbound, core._overfull) == ({}, 0, 0)


def test_a_limit_that_a_closed_stream_could_exceed_for_ever_is_refused() -> None:
    with pytest.raises(ValueError, match="max_unread 1000 is below 131072"):
        Mplex(MplexConfig(max_unread=1000))
