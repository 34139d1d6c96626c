"""ReceiveBuffer against a model: any split of the input and any sequence of reads yield the bytes that were fed."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libp2p.errors import BusyResource, IncompleteRead, MessageTooLarge, StreamReset
from libp2p.io import ReceiveBuffer
from libp2p.io.buffer import _REPORTED

pieces = st.one_of(
    st.binary(max_size=40),
    st.text("ab\n", max_size=20).map(str.encode),
    st.integers(4000, 9000).map(lambda size: bytes(i * i % 251 for i in range(size))),
)
sizes = st.one_of(st.integers(0, 60), st.integers(3000, 20_000))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), pieces),
        st.tuples(st.just("read"), sizes),
        st.tuples(st.just("readexactly"), sizes),
        st.tuples(st.just("readuntil"), st.sampled_from([b"\n", b"ab", b"aba"])),
        st.tuples(st.just("cancel"), st.none()),
        st.tuples(st.just("take_all"), st.none()),
    ),
    max_size=40,
)


class Model:
    """A buffer under test with what went in, what came out, and what was credited."""

    def __init__(self) -> None:
        self.buffer = ReceiveBuffer(self.credit)
        self.fed, self.taken, self.credited = bytearray(), bytearray(), 0
        self.reading: asyncio.Task[bytes] | None = None

    def credit(self, n: int) -> None:
        assert n > 0
        self.credited += n
        assert self.credited <= len(self.fed)

    async def step(self, kind: str, argument: object) -> None:
        if kind == "feed":
            assert isinstance(argument, bytes)
            self.fed += argument
            self.buffer.feed(memoryview(argument))
        elif kind == "cancel":
            if self.reading is not None:
                self.reading.cancel()
        elif kind == "take_all":
            if self.reading is None:
                self.taken += self.buffer.take_all()
        elif self.reading is None:
            self.reading = asyncio.ensure_future(getattr(self.buffer, kind)(argument))
        else:
            with pytest.raises(BusyResource):
                await getattr(self.buffer, kind)(argument)
        await self.settle()

    async def settle(self) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if self.reading is not None and self.reading.done():
            reading, self.reading = self.reading, None
            if reading.cancelled():
                pass
            elif isinstance(error := reading.exception(), IncompleteRead):
                self.taken += error.partial
            elif error is None:
                self.taken += reading.result()
            else:
                assert isinstance(error, MessageTooLarge | StreamReset)
        assert self.taken + bytes(0) == self.fed[: len(self.taken)]
        assert len(self.buffer) == len(self.fed) - len(self.taken)
        claimed = len(self.fed) - self.buffer.unclaimed
        assert len(self.taken) <= claimed
        assert claimed - self.credited >= 0
        assert claimed - self.credited < _REPORTED or self.buffer.ended


@given(steps, st.booleans())
async def test_any_reads_of_any_split(script: list[tuple[str, object]], by_error: bool) -> None:
    model = Model()
    for kind, argument in script:
        await model.step(kind, argument)
    if by_error:
        model.buffer.set_error(StreamReset(1, by="remote"))
    else:
        model.buffer.feed_eof()
    await model.settle()
    assert model.reading is None, "the end ends every read"
    while len(model.buffer):
        await model.step("read", 7001)
    assert model.taken == model.fed
    assert model.credited <= len(model.fed)


@given(st.lists(st.binary(max_size=30), max_size=10), st.data())
async def test_cancelling_at_any_moment_loses_nothing(chunks: list[bytes], data: st.DataObject) -> None:
    """The cancellation may come in the same turn as the bytes, before or behind them."""
    buffer, got = ReceiveBuffer(), bytearray()
    for chunk in chunks:
        reading = asyncio.ensure_future(buffer.readexactly(data.draw(st.integers(0, 40))))
        for action in data.draw(st.permutations(["turn", "feed", "cancel"])):
            if action == "turn":
                await asyncio.sleep(0)
            elif action == "feed":
                buffer.feed(chunk)
            else:
                reading.cancel()
        await asyncio.wait({reading})
        if not reading.cancelled():
            got += reading.result()
    got += buffer.take_all()
    assert got == b"".join(chunks)
