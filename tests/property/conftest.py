"""What the properties of all muxer sessions have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

from libp2p.muxers.session import DataReceived, GoAwayReceived, MuxerSession, PeerSilent, Substream, Violation


def events_of(core: MuxerSession, pieces: list[bytes]) -> list[object]:
    """All events, streams numbered in the order they came up, neighbouring data of a stream joined, errors as text."""
    events: list[object] = []
    streams: dict[Substream, int] = {}
    for piece in pieces:
        for event in core.receive_data(memoryview(piece), 0.0):
            if isinstance(event, Violation):
                return [*events, str(event.error)]
            if isinstance(event, (GoAwayReceived, PeerSilent)):
                events.append(event)
                continue
            stream = streams.setdefault(event.stream, len(streams))
            last = events[-1] if events else None
            if not isinstance(event, DataReceived):
                events.append((type(event), stream, event.stream.id, getattr(event, "code", None)))
            elif isinstance(last, tuple) and last[:2] == (DataReceived, stream):
                events[-1] = (DataReceived, stream, last[2] + bytes(event.data))
            else:
                events.append((DataReceived, stream, bytes(event.data)))
    return events


@pytest.fixture(scope="session")
def check_any_split() -> Callable[..., None]:
    """Any split of `wire` yields the same events."""

    def check(make: Callable[[], MuxerSession], wire: bytes, data: st.DataObject) -> None:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
        pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
        in_pieces = events_of(make(), pieces)
        one_by_one = events_of(make(), [wire[i : i + 1] for i in range(len(wire))])
        whole = events_of(make(), [wire])
        assert in_pieces == whole
        assert one_by_one == whole

    return check


class Peers:
    """Two sessions that exchange random calls must never accuse each other of a violation, or lose a byte.

    With flow control, each reads at once what arrives. Without (where `max_unread` is given) it reads when told to;
    then it takes all that is sent, but must not go on wanting data while a stream is overfull.
    """

    def __init__(self, make: Callable[[bool], Any], max_unread: int | None) -> None:
        self.sides = [make(is_dialer) for is_dialer in (True, False)]
        self.max_unread = max_unread
        self.sent: dict[tuple[int, int], bytes] = {}
        self.received: dict[tuple[int, int], bytes] = {}
        self.ids: list[int] = []

    def step(self, side: int, action: str, which: int, payload: bytes) -> None:
        core = self.sides[side]
        if action == "open":
            if core.can_open() or self.max_unread is not None:
                self.ids.append(core.open_stream(0.0).id)
            return
        if action == "flush":
            self.deliver(side)
            return
        if not self.ids:
            return
        stream_id = self.ids[which % len(self.ids)]
        stream = core._streams.get(stream_id)
        if stream is None:
            return
        if action == "send" and not stream.local_closed:
            accepted = core.send(stream, memoryview(payload))
            assert accepted == len(payload) or self.max_unread is None
            self.sent[side, stream_id] = self.sent.get((side, stream_id), b"") + payload[:accepted]
        elif action == "close":
            core.close_write(stream)
        elif action == "reset":
            core.reset(stream, 5)
        elif action == "read":
            core.consumed(stream, stream.unread, 0.0)

    def deliver(self, side: int) -> None:
        other = self.sides[1 - side]
        wire = b"".join(self.sides[side].data_to_send())
        for event in other.receive_data(memoryview(wire), 1.0):
            assert not isinstance(event, Violation)
            if isinstance(event, DataReceived):
                key = side, event.stream.id
                self.received[key] = self.received.get(key, b"") + bytes(event.data)
                if self.max_unread is None:
                    other.consumed(event.stream, len(event.data), 1.0)
        if self.max_unread is not None:
            overfull = any(stream.unread > self.max_unread for stream in other._streams.values())
            assert other.wants_data is not overfull


@pytest.fixture(scope="session")
def check_two_sessions() -> Callable[..., None]:
    """Two sessions that `make(is_dialer)` makes, that go through `steps`: see `Peers`."""

    def check(
        make: Callable[[bool], MuxerSession], steps: list[tuple[int, str, int, bytes]], max_unread: int | None = None
    ) -> None:
        peers = Peers(make, max_unread)
        for step in steps:
            peers.step(*step)
        for side in (0, 1, 0, 1):
            peers.deliver(side)
        for key, received in peers.received.items():
            assert peers.sent[key].startswith(received)

    return check
