"""What all services have in common: everything of one is gone at its end."""

import asyncio
from typing import Any

import pytest

from libp2p.connection import Service, Stream, StreamErrorCode
from libp2p.errors import LocalProtocolError, StreamReset
from libp2p.host import Host
from libp2p.host.events import ProtocolsChanged

ECHO = "/echo/1"


class Echo(Service):
    """Does a bit of everything that a service may do."""

    def __init__(self, host: Host, *, cleanup: float = 0.0, start_fails: bool = False, goodbye: float = 0.0) -> None:
        super().__init__(host)
        self.cleanup, self.start_fails, self.goodbye = cleanup, start_fails, goodbye
        self.heard: list[ProtocolsChanged] = []
        self.ended: list[str] = []

    async def start(self) -> None:
        self.serve([ECHO], self.answer)
        self.follow(ProtocolsChanged, self.heard.append)
        self.spawn(self.work(), name="work")
        await asyncio.sleep(0)
        if self.start_fails:
            raise OSError("no start today")

    async def stop(self) -> None:
        if self.goodbye:
            await asyncio.sleep(self.goodbye)

    async def work(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(self.cleanup)
            self.ended.append("work")

    async def answer(self, stream: Stream) -> None:
        try:
            async for chunk in stream:
                await stream.write(chunk)
        finally:
            self.ended.append("handler")


async def test_everything_is_gone_at_the_end() -> None:
    async with Host(listen_addrs=["/memory/0"]) as host, Host() as other:
        async with Echo(host, cleanup=2) as service:
            stream = await other.new_stream(host.addrs[0], ECHO)
            await stream.write(b"hello")
            assert await stream.readexactly(5) == b"hello"
        assert sorted(service.ended) == ["handler", "work"]
        assert ECHO not in host.protocols
        with pytest.raises(StreamReset) as reset:
            await stream.read()
        assert reset.value.code == StreamErrorCode.SHUTDOWN
        heard = len(service.heard)
        host.handle("/late")(service.answer)
        assert len(service.heard) == heard
        assert service.spawn(service.work(), name="late") is None
        await service.close()


async def test_a_service_that_does_not_start_leaves_nothing() -> None:
    async with Host() as host:
        service = Echo(host, start_fails=True)
        with pytest.raises(OSError, match="no start today"):
            await service.__aenter__()
        assert ECHO not in host.protocols
        assert service.ended == ["work"]
        async with Echo(host):
            pass
        with pytest.raises(LocalProtocolError, match="make another one"):
            await service.__aenter__()


@pytest.mark.parametrize("seconds", [1, 6], ids=["saying goodbye", "waiting for its task"])
async def test_a_close_that_is_cancelled_has_ended_everything(seconds: float) -> None:
    async with Host(listen_addrs=["/memory/0"]) as host, Host() as other:
        service = await Echo(host, goodbye=5, cleanup=5).__aenter__()
        stream = await other.new_stream(host.addrs[0], ECHO)
        await stream.agreed()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await service.close()
        assert ECHO not in host.protocols
        await asyncio.sleep(6)
        assert sorted(service.ended) == ["handler", "work"]  # cancelled once: the cleaning up was not cut off
        with pytest.raises(StreamReset):
            await stream.read()


async def test_a_handler_may_end_its_service() -> None:
    class Stopping(Service):
        async def start(self) -> None:
            self.serve([ECHO], self.answer)

        async def answer(self, stream: Stream) -> None:
            await self.close()
            await stream.write(b"done")

    async with Host(listen_addrs=["/memory/0"]) as host, Host() as other, Stopping(host):
        stream = await other.new_stream(host.addrs[0], ECHO)
        assert await stream.read() == b"done"
        assert ECHO not in host.protocols


async def test_the_end_leaves_what_others_serve_by_now() -> None:
    async def other(_: Any) -> None:
        pass

    async with Host() as host:
        async with Echo(host):
            host.remove_handler(ECHO)
            host.handle(ECHO)(other)
        assert ECHO in host.protocols
