"""Dialer and listener of multistream-select: agreement, refusal, eager and lazy peers, cancellation, limits."""

from __future__ import annotations

import asyncio

import pytest

from libp2p.connection.negotiation import incoming_of
from libp2p.errors import (
    IncompleteRead,
    InvalidInput,
    Libp2pError,
    LimitExceeded,
    ProtocolNotSupported,
    RemoteProtocolError,
    StreamReset,
)
from libp2p.io import Buffer, ReceiveBuffer
from libp2p.multistream import MAX_PROPOSALS, Offer, Refused, handle, select
from libp2p.transports.memory.pipe import pipe

HEADER = b"\x13/multistream/1.0.0\n"
ECHO_1 = b"\x0c/echo/1.0.0\n"
ECHO_2 = b"\x0c/echo/2.0.0\n"
NA = b"\x03na\n"


class Wire:
    """A reader that is filled by the test, and a writer that keeps every write."""

    def __init__(self, received: bytes = b"", *, ended: bool = False) -> None:
        self.incoming = ReceiveBuffer()
        self.writes: list[bytes] = []
        self.incoming.feed(received)
        if ended:
            self.incoming.feed_eof()

    async def write(self, data: Buffer) -> None:
        self.writes.append(bytes(data))

    async def select(self, *protocols: str) -> str:
        return await select(self.incoming, self.write, protocols)

    async def handle(self, *protocols: str) -> str:
        return await handle(self.incoming, self.write, protocols.__contains__, listed=lambda: protocols)


@pytest.mark.parametrize(
    ("offered", "supported", "agreed"),
    [
        (["/a"], ["/a"], "/a"),
        (["/a", "/b", "/c"], ["/c", "/b"], "/b"),
        (["/" + "x" * 1022], ["/" + "x" * 1022], "/" + "x" * 1022),
    ],
)
async def test_dialer_and_listener_agree(offered: list[str], supported: list[str], agreed: str) -> None:
    dialer, listener = pipe()
    async with dialer, listener:
        chosen, handled = await asyncio.gather(
            select(incoming_of(dialer), dialer.write, offered),
            handle(incoming_of(listener), listener.write, supported.__contains__, listed=lambda: supported),
        )
        assert (chosen, handled) == (agreed, agreed)
        await dialer.write(b"data")
        assert await listener.readexactly(4) == b"data"
        await asyncio.gather(dialer.close(), listener.close())


async def test_nothing_in_common() -> None:
    wire = Wire(HEADER + NA + NA)
    with pytest.raises(ProtocolNotSupported) as caught:
        await wire.select("/echo/2.0.0", "/echo/1.0.0")
    assert caught.value.offered == ("/echo/2.0.0", "/echo/1.0.0")


async def test_dialer_sends_header_and_first_proposal_in_one_piece() -> None:
    wire = Wire(HEADER + NA + ECHO_1 + b"data")
    assert await wire.select("/echo/2.0.0", "/echo/1.0.0") == "/echo/1.0.0"
    assert wire.writes == [HEADER + ECHO_2, ECHO_1]
    assert wire.incoming.take_all() == b"data"


@pytest.mark.parametrize("protocols", [[], ["/a", ""], ["/a\n/b"]])
async def test_dialer_refuses_what_cannot_be_sent(protocols: list[str]) -> None:
    wire = Wire()
    with pytest.raises(InvalidInput):
        await wire.select(*protocols)
    assert wire.writes == []


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (NA, "expected '/multistream/1.0.0', received 'na'"),
        (HEADER + ECHO_1, "expected '/echo/2.0.0', received '/echo/1.0.0'"),
        (HEADER + b"\x03ls\n", "received 'ls'"),
        (HEADER, "ended after 0 bytes"),
    ],
)
async def test_wrong_answers(answer: bytes, says: str) -> None:
    for attempt in (
        lambda wire: wire.select("/echo/2.0.0"),
        lambda wire: Offer(wire.incoming, "/echo/2.0.0").agreement(),
    ):
        with pytest.raises(RemoteProtocolError, match=says):
            await attempt(Wire(answer, ended=True))


async def test_listener_answers_what_is_there_in_one_write_without_waiting() -> None:
    wire = Wire(HEADER + ECHO_1 + b"data")
    negotiation = wire.handle("/echo/1.0.0")
    with pytest.raises(StopIteration) as stop:
        negotiation.send(None)
    assert stop.value.value == "/echo/1.0.0"
    assert wire.writes == [HEADER + ECHO_1]
    assert wire.incoming.take_all() == b"data"


async def test_listener_greets_a_dialer_that_waits_for_it() -> None:
    wire = Wire(HEADER)
    task = asyncio.ensure_future(wire.handle("/echo/1.0.0"))
    await asyncio.sleep(0)
    assert wire.writes == [HEADER]
    wire.incoming.feed(ECHO_2 + ECHO_1)
    assert await task == "/echo/1.0.0"
    assert wire.writes == [HEADER, NA, ECHO_1]


async def test_listener_lists() -> None:
    wire = Wire(HEADER + b"\x03ls\n" + ECHO_1)
    assert await wire.handle("/echo/1.0.0", "/b") == "/echo/1.0.0"
    assert wire.writes == [HEADER + b"\x12\x0c/echo/1.0.0\n\x03/b\n\n", ECHO_1]


@pytest.mark.parametrize(
    ("received", "error", "says"),
    [
        (ECHO_1, RemoteProtocolError, "expected '/multistream/1.0.0', received '/echo/1.0.0'"),
        (b"", IncompleteRead, "ended after 0 bytes"),
        (HEADER, IncompleteRead, "ended after 0 bytes"),
        (HEADER + ECHO_2, Refused, "gave up: /echo/2.0.0 is not supported"),
        (HEADER + ECHO_2 + ECHO_1[:5], Refused, "gave up: /echo/2.0.0 is not supported"),
        (HEADER + ECHO_2 + b"\xff" * 20, Refused, "gave up: /echo/2.0.0 is not supported"),
        (HEADER + ECHO_2 + b"what it has to say", Refused, "gave up: /echo/2.0.0 is not supported"),
        (HEADER + ECHO_1[:5], IncompleteRead, "ended after 4 bytes"),
        (HEADER + ECHO_2 * MAX_PROPOSALS, LimitExceeded, "MAX_PROPOSALS of 100"),
    ],
)
async def test_dialers_that_get_nowhere(received: bytes, error: type[Libp2pError], says: str) -> None:
    with pytest.raises(error, match=says):
        await Wire(received, ended=True).handle("/echo/1.0.0")


async def test_handler_gets_the_bytes_of_a_dialer_that_reads_no_answer() -> None:
    wire = Wire(HEADER + ECHO_1 + b"fire and forget")

    async def write(_: Buffer) -> None:
        raise StreamReset(by="remote")

    assert await handle(wire.incoming, write, lambda _: True, listed=list) == "/echo/1.0.0"
    assert wire.incoming.take_all() == b"fire and forget"


async def test_offer_is_agreed() -> None:
    wire = Wire(HEADER + ECHO_1 + b"data")
    offer = Offer(wire.incoming, "/echo/1.0.0")
    assert offer.message == HEADER + ECHO_1
    await offer.agreement()
    await offer.agreement()
    assert wire.incoming.take_all() == b"data"


async def test_refusal_of_an_offer_is_remembered() -> None:
    wire = Wire(HEADER + NA + b"data")
    offer = Offer(wire.incoming, "/echo/1.0.0")
    for _ in range(2):
        with pytest.raises(ProtocolNotSupported, match="supports none of: /echo"):
            await offer.agreement()
    assert wire.incoming.take_all() == b"data"


async def test_agreement_survives_cancellation_at_every_byte() -> None:
    wire = Wire()
    protocol = "/" + "x" * 200
    offer = Offer(wire.incoming, protocol)
    for byte in offer.message:
        task = asyncio.ensure_future(offer.agreement())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        wire.incoming.feed(bytes((byte,)))
    await offer.agreement()
    assert not len(wire.incoming)


@pytest.mark.parametrize("offers", [1, 2])
async def test_a_reset_with_the_code_of_a_failed_negotiation_is_a_refusal_while_the_answer_is_awaited(
    offers: int,
) -> None:
    """go-libp2p resets behind its "na"; over QUIC the reset may come before that."""
    wire = Wire(HEADER)
    wire.incoming.set_error(StreamReset(0x1001, by="remote"))
    protocols = ["/echo/2.0.0", "/echo/1.0.0"][:offers]
    offer = Offer(wire.incoming, protocols[0])
    for _ in range(2):
        with pytest.raises(ProtocolNotSupported):
            await (offer.agreement() if offers == 1 else select(wire.incoming, wire.write, protocols))


async def test_a_reset_with_another_code_is_told_as_it_is() -> None:
    wire = Wire(HEADER)
    wire.incoming.set_error(StreamReset(0x1002, by="remote"))
    with pytest.raises(StreamReset, match="RESOURCE_LIMIT_EXCEEDED"):
        await Offer(wire.incoming, "/echo/1.0.0").agreement()
    with pytest.raises(StreamReset, match="RESOURCE_LIMIT_EXCEEDED"):
        await select(wire.incoming, wire.write, ["/echo/1.0.0"])
