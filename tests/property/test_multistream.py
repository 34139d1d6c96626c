"""Any bytes from the peer end a negotiation by agreement or a named error; splits and readers make no difference."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from libp2p.errors import Libp2pError
from libp2p.io import Buffer, ReceiveBuffer
from libp2p.multistream import Offer, handle, select
from libp2p.multistream.core import HEADER_MESSAGE, encode_message

PROTOCOLS = ["/echo/1.0.0", "/echo/2.0.0"]

protocol_ids = st.text(st.characters(blacklist_characters="\n", codec="utf-8"), min_size=1, max_size=60)
messages = st.sampled_from(["/multistream/1.0.0", "na", "ls", *PROTOCOLS]).map(encode_message) | st.binary(max_size=40)
conversations = st.lists(messages, max_size=6).map(b"".join)
openings = st.just(b"") | st.just(encode_message("/multistream/1.0.0"))


async def outcome(role: str, chunks: list[bytes]) -> tuple[str, bytes, bytes]:
    """How a negotiation ends (the protocol, or the error), what was sent, and what was left unread."""
    incoming, sent = ReceiveBuffer(), bytearray()

    async def write(data: Buffer) -> None:
        sent.extend(data)

    async def negotiate() -> str:
        try:
            if role == "listener":
                return await handle(incoming, write, PROTOCOLS.__contains__, listed=lambda: PROTOCOLS)
            if role == "dialer":
                return await select(incoming, write, PROTOCOLS)
            await Offer(incoming, PROTOCOLS[0]).agreement()
        except Libp2pError as error:
            # A listener that fails has greeted before, or not: that depends on how much had arrived.
            sent[:] = sent.removeprefix(HEADER_MESSAGE)
            return repr(error)
        return PROTOCOLS[0]

    task = asyncio.ensure_future(negotiate())
    for chunk in chunks:
        await asyncio.sleep(0)
        incoming.feed(chunk)
    incoming.feed_eof()
    result = await task
    return result, bytes(sent), incoming.take_all()


@given(st.sampled_from(["dialer", "listener", "offer"]), openings, conversations, st.lists(st.integers(0, 250)))
async def test_any_conversation_split_anywhere_ends_the_same(
    role: str, opening: bytes, conversation: bytes, cuts: list[int]
) -> None:
    data = opening + conversation
    bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    whole = await outcome(role, [data])
    assert await outcome(role, [data[start:stop] for start, stop in pairwise(bounds)]) == whole


@given(st.lists(protocol_ids, min_size=1, max_size=5), st.lists(protocol_ids, max_size=5))
async def test_dialer_gets_its_first_choice_that_the_listener_has(offered: list[str], supported: list[str]) -> None:
    to_listener, to_dialer = ReceiveBuffer(), ReceiveBuffer()

    async def dial(data: Buffer) -> None:
        to_listener.feed(bytes(data))

    async def answer(data: Buffer) -> None:
        to_dialer.feed(bytes(data))

    listener = asyncio.ensure_future(handle(to_listener, answer, supported.__contains__, listed=list))
    expected = next((protocol for protocol in offered if protocol in supported and protocol != "ls"), None)
    if "na" in offered or "ls" in offered:
        listener.cancel()
        return
    try:
        assert await select(to_dialer, dial, offered) == expected == await listener
    except Libp2pError:
        assert expected is None
        to_listener.feed_eof()
        await asyncio.wait([listener])
        assert listener.exception() is not None
