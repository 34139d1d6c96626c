"""Handlers: which one serves a protocol, and what becomes of the stream when it ends."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from libp2p.connection import Stream, StreamErrorCode
from libp2p.errors import (
    InvalidMultiaddr,
    ProtocolNotSupported,
    RemoteProtocolError,
    StreamClosed,
    StreamReset,
)
from libp2p.host import Host
from libp2p.host.handlers import HandlerTable, Served, is_mistake
from libp2p.multiaddr import Multiaddr


async def one(stream: Stream) -> None: ...


async def two(stream: Stream) -> None: ...


ONE, TWO = Served(one), Served(two)


def test_exact_ids_come_before_match_functions_and_these_in_their_order() -> None:
    table = HandlerTable()
    table.add((), lambda protocol: protocol.startswith("/a"), ONE)
    table.add(("/a/2", "/b"), lambda protocol: protocol.startswith(("/a/9", "/c")), TWO)
    found = {protocol: table.find(protocol) for protocol in ("/a/1", "/a/2", "/a/9", "/b", "/c/1", "/d")}
    assert found == {"/a/1": ONE, "/a/2": TWO, "/a/9": ONE, "/b": TWO, "/c/1": TWO, "/d": None}
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
    table.add(("/taken",), None, ONE)
    with pytest.raises(ValueError, match=message):
        table.add(protocols, match, TWO)
    assert table.protocols == ["/taken"]


def test_removing() -> None:
    table = HandlerTable()
    table.add(("/a", "/b"), lambda protocol: protocol == "/m", ONE)
    table.add(("/c",), None, TWO)
    with pytest.raises(KeyError):
        table.remove(("/a", "/nope"))
    assert table.find("/a") is ONE, "all or nothing"
    table.remove(("/a",))
    assert (table.find("/a"), table.find("/m"), table.find("/b"), table.find("/c")) == (None, None, ONE, TWO)


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


@pytest.mark.parametrize("peer_stops_by", ["reset", "half-close and reset"])
async def test_a_handler_whose_stream_is_reset_is_cancelled(pair: Any, log: Any, peer_stops_by: str) -> None:
    async with pair() as (listener, dialer, _):
        ended: list[str] = []

        @listener.handle("/work")
        async def work(stream: Stream) -> None:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        @listener.handle("/on", cancel_on_reset=False)
        async def on(stream: Stream) -> None:
            outcome = await stream.wait_closed()
            await asyncio.sleep(5)
            ended.append(repr(outcome))

        for protocol in ("/work", "/on"):
            stream = await dialer.new_stream(listener.id, protocol)
            await stream.agreed()
            if peer_stops_by == "half-close and reset":
                await stream.close_write()
            await asyncio.sleep(1)
            stream.reset(StreamErrorCode.GARBAGE_COLLECTED)
        await asyncio.sleep(10)
        assert ended == ["cancelled", repr(StreamReset(StreamErrorCode.GARBAGE_COLLECTED, by="remote"))]
        assert not log.records


async def test_a_peer_that_closes_does_not_stop_the_handler(pair: Any) -> None:
    async with pair() as (listener, dialer, _):
        got: list[bytes] = []

        @listener.handle("/take")
        async def take(stream: Stream) -> None:
            data = await stream.read()
            await asyncio.sleep(5)
            got.append(data)

        async with await dialer.new_stream(listener.id, "/take") as stream:
            await stream.write(b"work")
        await asyncio.sleep(1)
        await dialer.close()
        await asyncio.sleep(10)
        assert got == [b"work"]


async def test_a_host_that_closes_does_not_wait_for_a_cancelled_handler(pair: Any) -> None:
    async with pair() as (listener, dialer, _):
        steps: list[str] = []

        @listener.handle("/slow")
        async def slow(stream: Stream) -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                steps.append("cancelled")
                await asyncio.sleep(1000)
                steps.append("cleaned up")

        stream = await dialer.new_stream(listener.id, "/slow")
        await stream.agreed()
        stream.reset()
        await asyncio.sleep(0.5)
        assert steps == ["cancelled"]
        async with asyncio.timeout(10):
            await listener.close()
        assert steps == ["cancelled"]


async def test_a_handler_that_is_no_decorator(pair: Any) -> None:
    async with pair() as (listener, dialer, _):

        async def answer(stream: Stream) -> None:
            await stream.write(stream.protocol.encode())

        assert listener.handle("/given", answer) is answer
        assert await (await dialer.new_stream(listener.id, "/given")).read() == b"/given"
        listener.remove_handler("/given", handler=answer)
        assert "/given" not in listener.protocols


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["/p"],), r"protocol ids are text, each an argument of its own.*got \['/p'\]"),
        ((b"/p",), "protocol ids are text"),
        ((one, "/p"), "protocol ids are text"),
        (("/p", one, two), "protocol ids are text"),
        (("/p", len), "a handler is an `async def` function of one stream, which <built-in function len> is not"),
        (("/p", lambda _: None), "a handler is an `async def` function"),
    ],
)
def test_what_is_no_way_to_serve(arguments: Any, message: str) -> None:
    host = Host()
    with pytest.raises(TypeError, match=message):
        host.handle(*arguments)
    assert "/p" not in host.protocols


def test_a_decorated_function_that_is_no_handler() -> None:
    host = Host()
    with pytest.raises(TypeError, match=r"which <function .*wrong.*> is not"):

        @host.handle("/p")
        def wrong(stream: Stream) -> None: ...  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="async def"):

        @host.handle("/p")
        async def yields(stream: Stream) -> Any:
            yield b""

    with pytest.raises(ValueError, match='"wait" or "refuse", not \'drop\''):
        host.handle("/p", when_full="drop")(one)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="at least 1, not 0"):
        host.handle("/p", max_streams_per_peer=0)(one)
    assert "/p" not in host.protocols


async def test_objects_that_are_called_serve_too(pair: Any) -> None:
    class Answer:
        async def __call__(self, stream: Stream) -> None:
            await stream.write(b"object")

    async with pair() as (listener, dialer, _):
        listener.handle("/object", Answer())
        assert await (await dialer.new_stream(listener.id, "/object")).read() == b"object"


async def test_mistakes_are_logged_and_a_peer_that_leaves_is_not(pair: Any, log: Any) -> None:
    async with pair() as (listener, dialer, _):

        @listener.handle("/typo")
        async def typo(stream: Stream) -> None:
            Multiaddr("/ip4/127.0.0.1:4001")

        @listener.handle("/late")
        async def late(stream: Stream) -> None:
            await stream.close_write()
            await stream.write(b"too late")

        @listener.handle("/chat")
        async def chat(stream: Stream) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(stream.readexactly(1000))
                group.create_task(asyncio.sleep(60))

        @listener.handle("/slow")
        async def slow(stream: Stream) -> None:
            async with asyncio.timeout(1):
                await stream.readexactly(1000)

        for protocol in ("/typo", "/late", "/chat", "/slow"):
            await (await dialer.new_stream(listener.id, protocol)).agreed()
        await asyncio.sleep(2)
        await dialer.close()
        await asyncio.sleep(1)
        kinds = [type(record.exc_info[1]) for record in log.records]
        assert kinds == [InvalidMultiaddr, StreamClosed]


def test_a_group_is_a_mistake_where_one_of_it_is() -> None:
    left = StreamReset(by="remote")
    assert not is_mistake(ExceptionGroup("all", [left, ExceptionGroup("within", [left])]))
    assert is_mistake(ExceptionGroup("all", [left, ExceptionGroup("within", [KeyError()])]))


async def test_a_peers_streams_above_the_limit_wait_or_are_refused(pair: Any) -> None:
    async with pair() as (listener, dialer, _):
        running: list[str] = []

        async def serve(stream: Stream) -> None:
            running.append(stream.protocol)
            try:
                await stream.write(await stream.readexactly(1))
            finally:
                running.remove(stream.protocol)

        listener.handle("/wait", serve, max_streams_per_peer=2, when_full="wait")
        listener.handle("/refuse", serve, max_streams_per_peer=2)
        waiting = [await dialer.new_stream(listener.id, "/wait") for _ in range(5)]
        refused = [await dialer.new_stream(listener.id, "/refuse") for _ in range(3)]
        await asyncio.sleep(1)
        assert sorted(running) == ["/refuse"] * 2 + ["/wait"] * 2
        with pytest.raises(StreamReset) as caught:
            await refused[2].read()
        assert caught.value.code == StreamErrorCode.RESOURCE_LIMIT_EXCEEDED
        waiting.pop(3).reset()  # it gives up while it waits
        for stream in waiting:
            await stream.write(b"x")
        for stream in waiting:
            assert await stream.read() == b"x"
        for stream in refused[:2]:
            await stream.write(b"x")
            assert await stream.read() == b"x"
        again = [await dialer.new_stream(listener.id, protocol) for protocol in ("/wait", "/refuse") for _ in range(2)]
        await asyncio.sleep(1)
        assert sorted(running) == ["/refuse"] * 2 + ["/wait"] * 2
        for stream in again:
            stream.reset()
        await asyncio.sleep(1)
        assert not running
