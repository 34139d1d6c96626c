"""WebSocket frames: how they are cut, and how the bytes arrive, makes no difference; nonsense is a peer's error."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from libp2p.errors import RemoteProtocolError
from libp2p.transports.websocket.core import MAX_PAYLOAD, Framing

SIDES = st.sampled_from([Side.CLIENT, Side.SERVER])
PIECES = st.one_of(
    st.tuples(st.just(Opcode.BINARY), st.binary(max_size=400) | st.integers(0, 70_000).map(bytes), st.integers(1, 4)),
    st.tuples(st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125), st.just(1)),
)


def frames_of(pieces: list[tuple[Opcode, bytes, int]], *, mask: bool) -> bytes:
    """Messages cut into frames, with control frames between messages and between the frames of one."""
    wire = b""
    for index, (opcode, data, cuts) in enumerate(pieces):
        if opcode is not Opcode.BINARY:
            wire += Frame(opcode, data).serialize(mask=mask)
            continue
        step = len(data) // cuts + 1
        for start in range(0, max(len(data), 1), step):
            kind = Opcode.CONT if start else Opcode.BINARY
            wire += Frame(kind, data[start : start + step], fin=start + step >= len(data)).serialize(mask=mask)
            if index % 2:
                wire += Frame(Opcode.PONG, b"in between").serialize(mask=mask)
    return wire


def feed(framing: Framing, wire: bytes, sizes: list[int]) -> tuple[bytes, list[bytes]]:
    got, answers, start, turn = bytearray(), [], 0, 0
    while start < len(wire):
        size = sizes[turn % len(sizes)]
        start, turn = start + framing.receive(memoryview(wire)[start : start + size], got.extend), turn + 1
        answers += framing.answer()
    return bytes(got), answers


@given(
    SIDES, st.lists(PIECES, max_size=6), st.lists(st.integers(1, 20) | st.integers(1, 50_000), min_size=1, max_size=5)
)
def test_any_split_yields_the_same_bytes(side: Side, pieces: list[tuple[Opcode, bytes, int]], sizes: list[int]) -> None:
    if all(size < 20 for size in sizes):
        sizes = [*sizes, 10_000]  # or it takes for ever
    wire = frames_of(pieces, mask=side is Side.SERVER)
    got, answers = feed(Framing(Protocol(side)), wire, sizes)
    assert got == b"".join(data for opcode, data, _ in pieces if opcode is Opcode.BINARY)
    pings = [data for opcode, data, _ in pieces if opcode is Opcode.PING]
    assert bool(answers) is bool(pings)
    assert len(answers) <= len(pings)
    if answers and side is Side.SERVER:
        assert answers[-1] == Frame(Opcode.PONG, pings[-1]).serialize(mask=False)


@given(SIDES, st.lists(st.binary(max_size=300) | st.integers(0, 300_000).map(bytes), max_size=5))
def test_what_one_side_seals_the_other_reads(side: Side, buffers: list[bytes]) -> None:
    ours, theirs = Framing(Protocol(side)), Framing(Protocol(Side(1 - side)))
    frames = ours.seal(buffers)
    assert all(len(frame) <= MAX_PAYLOAD + 14 for frame in frames)
    got = bytearray()
    for frame in frames:
        assert theirs.receive(memoryview(frame), got.extend) == len(frame)
        assert theirs.answer() == []
    assert got == b"".join(buffers)


@given(SIDES, st.binary(max_size=200), st.binary(max_size=40))
def test_nonsense_is_refused_by_name(side: Side, nonsense: bytes, more: bytes) -> None:
    framing = Framing(Protocol(side))
    with suppress(RemoteProtocolError):
        framing.receive(memoryview(nonsense), lambda data: None)
        framing.receive(memoryview(more), lambda data: None)
