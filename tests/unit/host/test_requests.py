"""Requests and answers between two hosts: both forms, errors, deadlines, cancelling, limits, and how they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libp2p.connection import Connection, Stream
from libp2p.errors import (
    ConnectionClosed,
    InvalidInput,
    LocalProtocolError,
    MessageTooLarge,
    ProtocolNotSupported,
    RemoteProtocolError,
    RequestFailed,
    StageTimeout,
    StreamClosed,
    StreamReset,
)
from libp2p.host import Host, HostConfig
from libp2p.host.requests import Request, RequestsConfig
from libp2p.host.requests.wire import (
    ANSWER,
    ERROR,
    ITEM,
    OPEN,
    PREFIX,
    REQUEST,
    Frame,
    FrameParser,
    decode_deadline,
    decode_error,
    encode_deadline,
    encode_error,
    encode_frame,
)

Asking = tuple[Host, Host, Connection]


@asynccontextmanager
async def asking(config: RequestsConfig | None = None) -> AsyncIterator[Asking]:
    """Who answers, who asks, and the connection between them."""
    settings = HostConfig(requests=config or RequestsConfig())
    async with Host(listen_addrs=["/memory/0"], config=settings) as listener, Host(config=settings) as dialer:
        yield listener, dialer, await dialer.connect(listener.addrs[0])


async def echo(request: Request) -> bytes:
    return request.data


def of(connection: Connection, protocol: str) -> list[Stream]:
    return [stream for stream in connection.streams if stream.protocol.endswith(protocol)]


async def test_many_requests_share_one_stream() -> None:
    async with asking() as (server, client, connection):
        server.respond("/echo/1")(echo)
        answers = await asyncio.gather(*(client.request(connection, "/echo/1", b"%d" % n) for n in range(1000)))
        assert answers == [b"%d" % n for n in range(1000)]
        assert len(of(connection, "/echo/1")) == 1
        assert await client.request(connection.remote_peer, "/echo/1", b"by its peer id") == b"by its peer id"
        assert len(of(connection, "/echo/1")) == 1


async def test_answers_come_as_they_are_ready() -> None:
    async with asking() as (server, client, connection):

        @server.respond("/sleep/1")
        async def sleep(request: Request) -> bytes:
            await asyncio.sleep(float(request.data))
            return request.data

        slow = asyncio.ensure_future(client.request(connection, "/sleep/1", b"5"))
        assert await client.request(connection, "/sleep/1", b"1") == b"1"
        assert not slow.done()
        assert await slow == b"5"


async def test_a_peer_that_speaks_the_plain_form_only() -> None:
    async with Host(listen_addrs=["/memory/0"]) as other, Host() as client:

        @other.handle("/plain/1")
        async def answer(stream: Stream) -> None:
            await stream.write(b"you said: " + await stream.read())

        connection = await client.connect(other.addrs[0])
        for _ in range(2):
            assert await client.request(connection, "/plain/1", b"hello") == b"you said: hello"


async def test_a_peer_that_asks_in_the_plain_form() -> None:
    async with Host(listen_addrs=["/memory/0"]) as server, Host() as other:
        server.respond("/echo/1", limit=10)(echo)
        async with await other.new_stream(server.addrs[0], "/echo/1") as stream:
            await stream.write(b"hello")
            await stream.close_write()
            assert await stream.read() == b"hello"
        stream = await other.new_stream(server.addrs[0], "/echo/1")
        await stream.write(b"more than ten bytes")
        await stream.close_write()
        with pytest.raises(StreamReset):
            await stream.read()


async def test_a_responder_learns_who_asks_and_how_long_they_wait() -> None:
    async with asking() as (server, client, connection):

        @server.respond("/who/1")
        async def who(request: Request) -> bytes:
            assert request.time_left is not None
            return f"{request.peer} {request.protocol} {request.time_left:.0f}".encode()

        answer = await client.request(connection, "/who/1", b"", timeout=7)
        assert answer.decode() == f"{connection.local_peer} /who/1 7"


async def test_errors_travel_with_type_and_text(caplog: pytest.LogCaptureFixture) -> None:
    async with asking() as (server, client, connection):

        @server.respond("/fails/1")
        async def fails(request: Request) -> bytes:
            if request.data == b"chosen":
                raise RequestFailed("not-found", "no such thing")
            raise KeyError("a mistake")

        with pytest.raises(RequestFailed) as chosen:
            await client.request(connection, "/fails/1", b"chosen")
        assert (chosen.value.kind, chosen.value.text, chosen.value.peer) == (
            "not-found",
            "no such thing",
            connection.remote_peer,
        )
        assert not caplog.records
        with caplog.at_level(logging.ERROR), pytest.raises(RequestFailed, match="KeyError: 'a mistake'"):
            await client.request(connection, "/fails/1", b"")
        assert [record.message for record in caplog.records] == ["the responder of /fails/1 failed"]


async def test_an_answer_that_is_no_bytes(caplog: pytest.LogCaptureFixture) -> None:
    async with asking() as (server, client, connection):

        @server.respond("/text/1")
        async def text(request: Request) -> bytes:
            return "text"  # type: ignore[return-value]

        with caplog.at_level(logging.CRITICAL), pytest.raises(RequestFailed, match="returned str, not bytes"):
            await client.request(connection, "/text/1", b"")


@pytest.mark.parametrize("way", ["deadline", "cancelled"])
async def test_both_sides_stop(way: str) -> None:
    async with asking() as (server, client, connection):
        started, stopped = asyncio.Event(), asyncio.Event()

        @server.respond("/hang/1")
        async def hang(request: Request) -> bytes:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
            return b""

        asked = asyncio.ensure_future(client.request(connection, "/hang/1", b"", timeout=5))
        await started.wait()
        if way == "cancelled":
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
        else:
            with pytest.raises(StageTimeout, match="more than 5"):
                await asked
        async with asyncio.timeout(0.1):
            await stopped.wait()


async def test_every_call_ends_when_the_connection_does() -> None:
    async with asking() as (server, client, connection):

        @server.respond("/hang/1")
        async def hang(request: Request) -> bytes:
            await asyncio.Event().wait()
            return b""

        asked = [asyncio.ensure_future(client.request(connection, "/hang/1", b"")) for _ in range(1000)]
        await asyncio.sleep(1)
        connection.abort("killed")
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {ConnectionClosed}
        assert len({id(outcome) for outcome in outcomes}) == 1000
        await asyncio.sleep(1)


async def test_calls_beyond_the_limit_wait() -> None:
    async with asking(RequestsConfig(max_calls=10)) as (server, client, connection):
        running = most = 0

        @server.respond("/busy/1")
        async def busy(request: Request) -> bytes:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(1)
            running -= 1
            return request.data

        answers = await asyncio.gather(*(client.request(connection, "/busy/1", b"%d" % n) for n in range(95)))
        assert answers == [b"%d" % n for n in range(95)]
        assert most == 10


async def test_large_messages_pass_and_larger_ones_are_refused() -> None:
    async with asking() as (server, client, connection):
        server.respond("/echo/1", limit=1_000_000)(echo)
        large = bytes(1_000_000)
        assert await asyncio.gather(*(client.request(connection, "/echo/1", large) for _ in range(8))) == [large] * 8
        with pytest.raises(StreamReset):
            await client.request(connection, "/echo/1", bytes(1_000_100))
        assert await client.request(connection, "/echo/1", b"on a new stream") == b"on a new stream"


async def test_an_answer_above_the_limit() -> None:
    async with asking() as (server, client, connection):

        @server.respond("/large/1")
        async def answer_large(request: Request) -> bytes:
            return bytes(1000)

        with pytest.raises(MessageTooLarge, match="answer"):
            await client.request(connection, "/large/1", b"", limit=900)


async def test_nobody_answers_there() -> None:
    async with asking() as (_, client, connection):
        with pytest.raises(ProtocolNotSupported):
            await client.request(connection, "/nothing/1", b"")


async def test_a_stream_of_calls_that_is_not_used_is_closed() -> None:
    async with asking() as (server, client, connection):
        server.respond("/echo/1")(echo)
        await client.request(connection, "/echo/1", b"")
        await asyncio.sleep(50)
        await client.request(connection, "/echo/1", b"")
        await asyncio.sleep(50)
        assert of(connection, "/echo/1")
        await asyncio.sleep(20)
        assert not of(connection, "/echo/1")
        assert await client.request(connection, "/echo/1", b"again") == b"again"


async def test_closing_the_service_ends_its_calls() -> None:
    async with asking() as (server, client, connection):

        @server.respond("/hang/1")
        async def hang(request: Request) -> bytes:
            await asyncio.Event().wait()
            return b""

        asked = asyncio.ensure_future(client.request(connection, "/hang/1", b""))
        await asyncio.sleep(1)
        await client.close()
        with pytest.raises((StreamClosed, StreamReset)):
            await asked


class TestManyMessages:
    async def test_each_way(self) -> None:
        async with asking() as (server, client, connection):

            @server.respond("/double/1")
            async def double(request: Request) -> AsyncIterator[bytes]:
                async for message in request:
                    yield message * 2

            async with await client.call(connection, "/double/1") as call:
                for n in range(3):
                    await call.send(b"%d" % n)
                    assert await anext(call) == b"%d" % n * 2
                await call.end()
                assert [message async for message in call] == []

    async def test_many_answers_to_one_request(self) -> None:
        async with asking() as (server, client, connection):

            @server.respond("/count/1")
            async def count(request: Request) -> AsyncIterator[bytes]:
                async for message in request:
                    for n in range(int(message)):
                        yield b"%d" % n

            async with await client.call(connection, "/count/1") as call:
                await call.send(b"1000")
                await call.end()
                assert [message async for message in call] == [b"%d" % n for n in range(1000)]
            with pytest.raises(RequestFailed, match="ask by `call`"):
                await client.request(connection, "/count/1", b"5")

    async def test_many_messages_and_one_answer(self) -> None:
        async with asking() as (server, client, connection):

            @server.respond("/sum/1")
            async def total(request: Request) -> bytes:
                return b"%d" % sum([int(message) async for message in request])

            async def numbers() -> AsyncIterator[bytes]:
                for n in range(10):
                    await asyncio.sleep(1)
                    yield b"%d" % n

            assert await client.request(connection, "/sum/1", numbers()) == b"45"
            assert await client.request(connection, "/sum/1", b"7") == b"7"

    async def test_an_error_in_the_middle(self) -> None:
        async with asking() as (server, client, connection):

            @server.respond("/some/1")
            async def some(request: Request) -> AsyncIterator[bytes]:
                yield b"first"
                raise RequestFailed("gone", "half-way")

            async with await client.call(connection, "/some/1") as call:
                assert await anext(call) == b"first"
                with pytest.raises(RequestFailed, match="gone: half-way"):
                    await anext(call)
                with pytest.raises(LocalProtocolError, match="has ended"):
                    await call.send(b"too late")

    async def test_leaving_early_stops_the_responder(self) -> None:
        async with asking() as (server, client, connection):
            stopped = asyncio.Event()

            @server.respond("/forever/1")
            async def forever(request: Request) -> AsyncIterator[bytes]:
                try:
                    while True:
                        yield b"more"
                        await asyncio.sleep(1)
                finally:
                    stopped.set()

            async with await client.call(connection, "/forever/1") as call:
                await anext(call)
            async with asyncio.timeout(2):
                await stopped.wait()

    async def test_its_deadline(self) -> None:
        async with asking() as (server, client, connection):
            stopped = asyncio.Event()

            @server.respond("/forever/1")
            async def forever(request: Request) -> AsyncIterator[bytes]:
                try:
                    yield b"once"
                    await asyncio.Event().wait()
                finally:
                    stopped.set()

            async with await client.call(connection, "/forever/1", timeout=3) as call:
                assert await anext(call) == b"once"
                with pytest.raises(StageTimeout, match="more than 3"):
                    await anext(call)
            async with asyncio.timeout(0.1):
                await stopped.wait()

    async def test_a_slow_reader_holds_the_responder(self) -> None:
        async with asking() as (server, client, connection):
            yielded = 0

            @server.respond("/flood/1")
            async def flood(request: Request) -> AsyncIterator[bytes]:
                nonlocal yielded
                while True:
                    yield bytes(100_000)
                    yielded += 1

            async with await client.call(connection, "/flood/1") as call:
                await anext(call)
                await asyncio.sleep(60)
                assert yielded < 50


@pytest.mark.parametrize("responder", [lambda request: b"", 5, "text"])
def test_what_is_no_responder(responder: object) -> None:
    with pytest.raises(InvalidInput, match="async def"):
        Host().respond("/p")(responder)  # type: ignore[type-var]


class TestFrames:
    FRAMES = (Frame(1, REQUEST, b"abc"), Frame(300, ANSWER, b""), Frame(2, ERROR, bytes(500)))

    @pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
    def test_any_split_gives_the_same(self, step: int) -> None:
        data = b"".join(encode_frame(*frame) for frame in self.FRAMES)
        parser = FrameParser(limit=600, what="request")
        frames = [frame for start in range(0, len(data), step) for frame in parser.feed(data[start : start + step])]
        assert tuple(frames) == self.FRAMES

    def test_golden_bytes(self) -> None:
        assert encode_frame(5, REQUEST, encode_deadline(1.5) + b"hi") == bytes.fromhex("06 05 00 dc0b 6869")
        assert encode_frame(300, ERROR, encode_error("E", "x")) == bytes.fromhex("06 ac02 02 01 45 78")

    @pytest.mark.parametrize("data", ["00", "0105", "020507", "02ff01", "80808080808080808080"])
    def test_malformed(self, data: str) -> None:
        with pytest.raises(RemoteProtocolError):
            list(FrameParser(limit=600, what="request").feed(bytes.fromhex(data)))

    def test_too_large(self) -> None:
        with pytest.raises(MessageTooLarge):
            list(FrameParser(limit=600, what="request").feed(bytes.fromhex("d904")))

    def test_deadlines_and_errors(self) -> None:
        assert decode_deadline(encode_deadline(2.5) + b"x") == (2.5, b"x")
        assert decode_deadline(encode_deadline(None)) == (None, b"")
        assert decode_error(encode_error("Kind", "wörds")) == ("Kind", "wörds")
        for broken in (b"", b"\x80"):
            with pytest.raises(RemoteProtocolError):
                decode_deadline(broken)
        with pytest.raises(RemoteProtocolError):
            decode_error(b"\x05ab")


@pytest.mark.parametrize(
    "frames",
    [
        [Frame(1, ITEM, b"")],
        [Frame(1, ANSWER, b"")],
        [Frame(1, REQUEST, b"\0"), Frame(1, REQUEST, b"\0")],
        [Frame(0, OPEN, b"\0"), Frame(0, REQUEST, b"\0")],
        [Frame(0, OPEN, b"\x80")],
    ],
)
async def test_a_client_that_breaks_the_protocol(frames: list[Frame]) -> None:
    async with Host(listen_addrs=["/memory/0"]) as server, Host() as other:

        @server.respond("/all/1")
        async def read_all(request: Request) -> bytes:
            [message async for message in request]
            await asyncio.Event().wait()
            return b""

        stream = await other.new_stream(server.addrs[0], PREFIX + "/all/1")
        await stream.write(b"".join(encode_frame(*frame) for frame in frames))
        with pytest.raises((StreamReset, AssertionError)):
            assert b"RemoteProtocolError" not in await stream.read()
