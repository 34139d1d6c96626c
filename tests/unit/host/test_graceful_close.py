"""`start`, and `close` with a grace: what is at work may finish, and nothing new begins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libp2p.connection import Stream, StreamErrorCode
from libp2p.errors import ConnectionClosed, DialError, LocalProtocolError, RequestFailed, StreamReset
from libp2p.host import Host, Request
from libp2p.multiaddr import Multiaddr

SLOW = "/slow/1"


def serve_slowly(host: Host) -> None:
    @host.handle(SLOW)
    async def slow(stream: Stream) -> None:
        await asyncio.sleep(3)
        await stream.write(b"done")

    @host.respond("/sum/1")
    async def sum_up(request: Request) -> bytes:
        await asyncio.sleep(float(request.data))
        return b"done"


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_start_and_close_do_what_a_block_does() -> None:
    host = Host(listen_addrs=["/memory/0"])
    assert await host.start() is host
    assert host.listen_addrs
    with pytest.raises(LocalProtocolError, match="started before"):
        await host.start()
    assert host.listen_addrs, "which has harmed nothing"
    await host.close()
    assert not host.listen_addrs
    with pytest.raises(LocalProtocolError, match="started before"):
        await host.start()


async def test_handlers_finish_within_the_grace(pair: Any) -> None:
    async with pair(prepare=serve_slowly) as (listener, dialer, _):
        stream = await dialer.new_stream(listener.id, SLOW)
        await stream.agreed()
        answer = asyncio.ensure_future(dialer.request(listener.id, "/sum/1", b"2"))
        kept = listener.keep(dialer.id)
        await asyncio.sleep(1)
        start = now()
        closing = asyncio.ensure_future(listener.close(grace=5))
        await asyncio.sleep(0.1)
        late = await dialer.new_stream(listener.id, SLOW)
        with pytest.raises(StreamReset) as refused:
            await late.read()
        assert refused.value.code == StreamErrorCode.SHUTDOWN
        with pytest.raises(RequestFailed, match="shutting down"):
            await dialer.request(listener.id, "/sum/1", b"0")
        assert await answer == b"done"
        assert await stream.read() == b"done"
        await closing
        assert now() - start == pytest.approx(2, abs=0.2), "no longer than they take"
        assert [one async for one in kept] == []
        assert not listener.connections


async def test_nobody_connects_meanwhile(pair: Any) -> None:
    async with pair(prepare=serve_slowly) as (listener, dialer, _), Host() as other:
        addr: Multiaddr = listener.addrs[0]
        await (await dialer.new_stream(listener.id, SLOW)).agreed()
        closing = asyncio.ensure_future(listener.close(grace=5))
        await asyncio.sleep(0.1)
        with pytest.raises(DialError):
            await other.connect(addr)
        await closing


async def test_who_takes_longer_than_the_grace_is_cut_off(pair: Any) -> None:
    async with pair(prepare=serve_slowly) as (listener, dialer, _):
        stream = await dialer.new_stream(listener.id, SLOW)
        answer = asyncio.ensure_future(dialer.request(listener.id, "/sum/1", b"60"))
        await stream.agreed()
        await asyncio.sleep(0.1)
        start = now()
        await listener.close(grace=2)
        assert now() - start == pytest.approx(2, abs=0.2)
        with pytest.raises((ConnectionClosed, StreamReset)):
            await stream.read()
        with pytest.raises((ConnectionClosed, StreamReset)):
            await answer


async def test_a_graceful_close_that_is_cancelled_has_ended_the_host(pair: Any) -> None:
    async with pair(prepare=serve_slowly) as (listener, dialer, _):
        await (await dialer.new_stream(listener.id, SLOW)).agreed()
        closing = asyncio.ensure_future(listener.close(grace=5))
        await asyncio.sleep(1)
        closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled()
        assert not listener.connections
        assert not listener.listen_addrs
