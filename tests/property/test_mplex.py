"""Mplex under input that nobody planned."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from libp2p.muxers.mplex.core import MplexConfig, MplexSession
from libp2p.muxers.mplex.wire import encode_header

MAX_UNREAD = 2000  # bytes

numbers = st.integers(0, 3) | st.integers(0, 2**60 - 1)
messages = st.builds(
    lambda number, flag, body: encode_header(number, flag, len(body)) + body,
    numbers,
    st.sampled_from([0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 7]),
    st.binary(max_size=40),
)
wires = st.lists(messages, max_size=12).map(b"".join) | st.binary(max_size=200)
actions = st.sampled_from(["open", "send", "send", "close", "reset", "read", "flush", "flush"])


def guarded() -> MplexSession:
    return MplexSession(is_dialer=False, config=MplexConfig(max_inbound_streams=3), max_payload=1000)


def side(is_dialer: bool) -> MplexSession:
    return MplexSession(is_dialer=is_dialer, config=MplexConfig(max_unread=MAX_UNREAD), max_payload=1000)


@given(wires, st.data())
def test_any_split_of_the_input_yields_the_same_events(
    check_any_split: Callable[..., None], wire: bytes, data: st.DataObject
) -> None:
    check_any_split(guarded, wire, data)


@given(st.lists(st.tuples(st.integers(0, 1), actions, st.integers(0, 5), st.binary(max_size=3000)), max_size=60))
def test_two_sessions_never_accuse_each_other(
    check_two_sessions: Callable[..., None], steps: list[tuple[int, str, int, bytes]]
) -> None:
    check_two_sessions(side, steps, max_unread=MAX_UNREAD)
