"""Mplex under input that nobody planned."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libp2p.errors import RemoteProtocolError
from libp2p.muxers.mplex.core import MplexConfig, MplexSession
from libp2p.muxers.mplex.wire import encode_header
from libp2p.muxers.session import DataReceived

numbers = st.integers(0, 3) | st.integers(0, 2**60 - 1)
messages = st.builds(
    lambda number, flag, body: encode_header(number, flag, len(body)) + body,
    numbers,
    st.sampled_from([0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 7]),
    st.binary(max_size=40),
)
wires = st.lists(messages, max_size=12).map(b"".join) | st.binary(max_size=200)


def events_of(pieces: list[bytes]) -> list[object]:
    """All events, neighbouring data of a stream joined, and the error at the end if there was one."""
    core = MplexSession(is_dialer=False, config=MplexConfig(max_inbound_streams=3), max_payload=1000)
    events: list[object] = []
    try:
        for piece in pieces:
            for event in core.receive_data(memoryview(piece), 0.0):
                last = events[-1] if events else None
                if isinstance(event, DataReceived) and isinstance(last, tuple) and last[0] == event.stream_id:
                    events[-1] = (event.stream_id, last[1] + bytes(event.data))
                elif isinstance(event, DataReceived):
                    events.append((event.stream_id, bytes(event.data)))
                else:
                    events.append(event)
    except RemoteProtocolError as error:
        events.append(str(error))
    return events


@given(wires, st.data())
def test_any_split_of_the_input_yields_the_same_events(wire: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    one_by_one = events_of([wire[i : i + 1] for i in range(len(wire))])
    whole = events_of([wire])
    if not isinstance(whole[-1:] and whole[-1], str):
        assert events_of(pieces) == whole
        assert one_by_one == whole
    else:  # what preceded a violation within one piece is not told
        assert events_of(pieces)[-1] == whole[-1]
        assert one_by_one[-1] == whole[-1]


class Peers:
    """Two sessions that exchange random calls must never accuse each other of a violation, lose a byte, or go on
    wanting data while a stream is overfull.
    """

    def __init__(self) -> None:
        self.sides = [
            MplexSession(is_dialer=d, config=MplexConfig(max_unread=2000), max_payload=1000) for d in (True, False)
        ]
        self.sent: dict[tuple[int, int], bytes] = {}
        self.received: dict[tuple[int, int], bytes] = {}
        self.ids: list[int] = []

    def step(self, side: int, action: str, which: int, payload: bytes) -> None:
        core = self.sides[side]
        if action == "open":
            self.ids.append(core.open_stream(0.0))
            return
        if action == "flush":
            self.deliver(side)
        if not self.ids:
            return
        stream_id = self.ids[which % len(self.ids)]
        stream = core._streams.get(stream_id)
        if stream is None:
            return
        if action == "send" and not stream.local_closed:
            core.send(stream_id, memoryview(payload))
            self.sent[side, stream_id] = self.sent.get((side, stream_id), b"") + payload
        elif action == "close":
            core.close_write(stream_id)
        elif action == "reset":
            core.reset(stream_id, 5)
        elif action == "read":
            core.consumed(stream_id, stream.unread, 0.0)

    def deliver(self, side: int) -> None:
        other = self.sides[1 - side]
        wire = b"".join(self.sides[side].data_to_send())
        for event in other.receive_data(memoryview(wire), 1.0):
            if isinstance(event, DataReceived):
                key = side, event.stream_id
                self.received[key] = self.received.get(key, b"") + bytes(event.data)
        assert other.wants_data is all(stream.unread <= 2000 for stream in other._streams.values())


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from(["open", "send", "send", "close", "reset", "read", "flush", "flush"]),
            st.integers(0, 5),
            st.binary(max_size=3000),
        ),
        max_size=60,
    )
)
def test_two_sessions_never_accuse_each_other(steps: list[tuple[int, str, int, bytes]]) -> None:
    peers = Peers()
    for step in steps:
        peers.step(*step)
    for side in (0, 1, 0, 1):
        peers.deliver(side)
    for key, received in peers.received.items():
        assert peers.sent[key].startswith(received)
