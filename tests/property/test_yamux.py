"""Yamux under input that nobody planned."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

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
actions = st.sampled_from(["open", "send", "send", "close", "reset", "flush", "flush"])


def guarded() -> YamuxSession:
    return YamuxSession(
        is_dialer=False, config=YamuxConfig(max_inbound_streams=2, ack_backlog=1), max_payload=1000, draw=lambda _: True
    )


def side(is_dialer: bool) -> YamuxSession:
    return YamuxSession(is_dialer=is_dialer, config=YamuxConfig(ack_backlog=4), max_payload=1000, draw=lambda _: True)


@given(wires, st.data())
def test_any_split_of_the_input_yields_the_same_events(
    check_any_split: Callable[..., None], wire: bytes, data: st.DataObject
) -> None:
    check_any_split(guarded, wire, data)


@given(st.lists(st.tuples(st.integers(0, 1), actions, st.integers(0, 5), st.binary(max_size=3000)), max_size=60))
def test_two_sessions_never_accuse_each_other(
    check_two_sessions: Callable[..., None], steps: list[tuple[int, str, int, bytes]]
) -> None:
    check_two_sessions(side, steps)
