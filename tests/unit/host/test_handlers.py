"""Handlers: which one serves a protocol, and what becomes of the stream when it ends."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from libp2p.connection import Stream, StreamErrorCode
from libp2p.errors import ProtocolNotSupported, RemoteProtocolError, StreamReset
from libp2p.host.handlers import HandlerTable


async def one(stream: Stream) -> None: ...


async def two(stream: Stream) -> None: ...


def test_exact_ids_come_before_match_functions_and_these_in_their_order() -> None:
    table = HandlerTable()
    table.add((), lambda protocol: protocol.startswith("/a"), one)
    table.add(("/a/2", "/b"), lambda protocol: protocol.startswith(("/a/9", "/c")), two)
    found = {protocol: table.find(protocol) for protocol in ("/a/1", "/a/2", "/a/9", "/b", "/c/1", "/d")}
    assert found == {"/a/1": one, "/a/2": two, "/a/9": one, "/b": two, "/c/1": two, "/d": None}
    assert table.protocols == ["/a/2", "/b"]


@pytest.mark.parametrize(
    ("protocols", "match", "message"),
    [
        ((), None, "needs a protocol id"),
        (("/new", "/taken"), None, "/taken"),
        (("/two\nlines",), None, "a protocol id"),
        (("",), None, "a protocol id"),
        (("/" + 1024 * "x",), None, "a protocol id"),
        (("/one", "/one"), None, "/one"),
    ],
)
def test_what_cannot_be_served_is_refused(protocols: tuple[str, ...], match: Any, message: str) -> None:
    table = HandlerTable()
    table.add(("/taken",), None, one)
    with pytest.raises(ValueError, match=message):
        table.add(protocols, match, two)
    assert table.protocols == ["/taken"]


def test_removing() -> None:
    table = HandlerTable()
    table.add(("/a", "/b"), lambda protocol: protocol == "/m", one)
    table.add(("/c",), None, two)
    with pytest.raises(KeyError):
        table.remove(("/a", "/nope"))
    assert table.find("/a") is one, "all or nothing"
    table.remove(("/a",))
    assert (table.find("/a"), table.find("/m"), table.find("/b"), table.find("/c")) == (None, None, one, two)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.ERROR)
    return caplog


async def test_returning_closes_the_stream(pair: Any) -> None:
    async with pair() as (listener, dialer, _):

        @listener.handle("/x")
        async def answer(stream: Stream) -> None:
            await stream.write(b"answer")

        stream = await dialer.new_stream(listener.id, "/x")
        await stream.close_write()
        assert await stream.read() == b"answer"
        await asyncio.sleep(1)
        assert not [left for left in dialer.connections[0].streams if left.protocol == "/x"]


@pytest.mark.parametrize(
    ("error", "logged"),
    [(ZeroDivisionError("in a handler"), True), (RemoteProtocolError("the peer's fault"), False)],
)
async def test_raising_resets_the_stream_and_harms_nobody_else(
    pair: Any, log: Any, error: Exception, logged: bool
) -> None:
    async with pair() as (listener, dialer, _):

        @listener.handle("/x")
        async def fail(stream: Stream) -> None:
            if await stream.readexactly(1) == b"!":
                raise error
            await stream.write(b"fine")

        good, bad = [await dialer.new_stream(listener.id, "/x") for _ in range(2)]
        await bad.write(b"!")
        with pytest.raises(StreamReset) as caught:
            await bad.read()
        assert caught.value.by == "remote"
        await good.write(b".")
        assert await good.read() == b"fine"
        assert [record.exc_info[1] for record in log.records] == ([error] if logged else [])


async def test_a_failing_match_function_costs_its_stream_only(pair: Any, log: Any) -> None:
    async with pair() as (listener, dialer, connection):

        def broken(protocol: str) -> bool:
            if protocol.startswith("/m/"):
                raise ZeroDivisionError
            return False

        listener.handle("/x", match=broken)(one)
        with pytest.raises(StreamReset):
            await (await dialer.new_stream(listener.id, "/m/1")).agreed()
        assert await (await dialer.new_stream(listener.id, "/x")).agreed() == "/x"
        assert not connection.is_closed
        assert "ZeroDivisionError" in log.text


async def test_match_functions_and_removed_handlers(pair: Any) -> None:
    async with pair() as (listener, dialer, _):
        served: list[str] = []

        @listener.handle("/chat/1.0.0", match=lambda protocol: protocol.startswith("/chat/1."))
        async def chat(stream: Stream) -> None:
            served.append(stream.protocol)
            await stream.write(stream.protocol.encode())
            await stream.read()

        streams = [await dialer.new_stream(listener.id, *offer) for offer in (["/chat/1.7"], ["/chat/2", "/chat/1.3"])]
        for stream, protocol in zip(streams, ("/chat/1.7", "/chat/1.3"), strict=True):
            assert await stream.readexactly(9) == protocol.encode()
            assert stream.protocol == protocol
        assert served == ["/chat/1.7", "/chat/1.3"]
        listener.remove_handler("/chat/1.0.0")
        with pytest.raises(ProtocolNotSupported):
            await dialer.new_stream(listener.id, "/chat/1.0.0", "/chat/1.7")
        await streams[0].write(b"what is open goes on")
        await streams[0].close_write()
        assert await streams[0].read() == b""
        await streams[1].close()


async def test_a_handler_that_host_close_ends_tells_the_peer_so(pair: Any) -> None:
    async with pair() as (listener, dialer, _):

        @listener.handle("/x")
        async def wait(stream: Stream) -> None:
            await stream.readexactly(1000)

        stream = await dialer.new_stream(listener.id, "/x")
        await stream.agreed()
        await asyncio.sleep(1)
        await listener.close()
        with pytest.raises(StreamReset) as caught:
            await stream.read()
        assert caught.value.code == StreamErrorCode.SHUTDOWN
