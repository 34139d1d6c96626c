"""Yamux under input that nobody planned."""

from hypothesis import given
from hypothesis import strategies as st

from libp2p.errors import RemoteProtocolError
from libp2p.muxers.session import DataReceived
from libp2p.muxers.yamux.core import YamuxConfig, YamuxSession
from libp2p.muxers.yamux.wire import HEADER

frames = st.builds(
    lambda version, kind, flags, stream_id, length, body: (
        HEADER.pack(version, kind, flags, stream_id, len(body) if kind == 0 else length) + (body if kind == 0 else b"")
    ),
    st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1]),
    st.sampled_from([0, 0, 1, 1, 2, 3, 4]),
    st.integers(0, 15) | st.integers(0, 0xFFFF),
    st.integers(0, 6) | st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=40),
)
wires = st.lists(frames, max_size=12).map(b"".join) | st.binary(max_size=200)


def events_of(pieces: list[bytes]) -> list[object]:
    """All events, neighbouring data of a stream joined, and the error at the end if there was one."""
    core = YamuxSession(is_dialer=False, config=YamuxConfig(max_inbound_streams=3), max_payload=1000)
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
    """Two sessions that exchange random calls must never accuse each other of a violation, or lose a byte."""

    def __init__(self) -> None:
        config = YamuxConfig(ack_backlog=4)
        self.sides = [YamuxSession(is_dialer=d, config=config, max_payload=1000) for d in (True, False)]
        self.sent: dict[tuple[int, int], bytes] = {}
        self.received: dict[tuple[int, int], bytes] = {}
        self.ids: list[int] = []

    def step(self, side: int, action: str, which: int, payload: bytes) -> None:
        core = self.sides[side]
        if action == "open":
            if core.can_open():
                self.ids.append(core.open_stream(0.0))
            return
        if not self.ids:
            return
        stream_id = self.ids[which % len(self.ids)]
        stream = core._streams.get(stream_id)
        if action == "flush":
            self.deliver(side)
        elif stream is None:
            return
        elif action == "send" and not stream.local_closed:
            accepted = core.send(stream_id, memoryview(payload))
            self.sent[side, stream_id] = self.sent.get((side, stream_id), b"") + payload[:accepted]
        elif action == "close":
            core.close_write(stream_id)
        elif action == "reset":
            core.reset(stream_id, 5)

    def deliver(self, side: int) -> None:
        wire = b"".join(self.sides[side].data_to_send())
        for event in self.sides[1 - side].receive_data(memoryview(wire), 1.0):
            if isinstance(event, DataReceived):
                key = side, event.stream_id
                self.received[key] = self.received.get(key, b"") + bytes(event.data)
                if self.sides[1 - side].is_open(event.stream_id):
                    self.sides[1 - side].consumed(event.stream_id, len(event.data), 1.0)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from(["open", "send", "send", "close", "reset", "flush", "flush"]),
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
