"""Unix sockets: the files that stand for them, and who may connect."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from libp2p.errors import InvalidMultiaddr, ListenError
from libp2p.multiaddr import Multiaddr
from libp2p.testing.transports import AcceptAll, RawUpgrader, context
from libp2p.transports.unix import Unix, UnixConfig

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="the system has no Unix sockets"),
]


class Accepted(AcceptAll):
    def __init__(self) -> None:
        super().__init__()
        self.opened: asyncio.Queue[Any] = asyncio.Queue()

    def connection_opened(self, connection: Any, scope: Any) -> None:
        self.opened.put_nowait(connection)

    def connection_failed(self, local_addr: Multiaddr, remote_addr: Multiaddr, error: Exception) -> None:
        raise AssertionError(error)


def unix(config: UnixConfig | None = None) -> Any:
    return Unix(config).use(context(upgrader=RawUpgrader()))


def addr_of(path: Path) -> Multiaddr:
    return Multiaddr(f"/unix{path}")


async def test_bytes_go_over_and_the_file_goes_with_the_listener(tmp_path: Path) -> None:
    path, accepted = tmp_path / "a socket", Accepted()
    listener = await unix().listen(addr_of(path), accepted)
    assert path.is_socket()
    dialed = await unix().dial(addr_of(path), None)
    inbound = await accepted.opened.get()
    await dialed.write(b"hello")
    assert await inbound.readexactly(5) == b"hello"
    await listener.close()
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        await unix().dial(addr_of(path), None)
    await asyncio.gather(dialed.close(), inbound.close())


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o777])
async def test_the_mode_says_who_may_connect(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "socket"
    listener = await unix(UnixConfig(mode=mode)).listen(addr_of(path), Accepted())
    assert stat.S_IMODE(path.stat().st_mode) == mode
    await listener.close()
    assert UnixConfig().mode == 0o600


async def test_a_file_left_over_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
        gone.listen()
    assert path.is_socket()
    listener = await unix().listen(addr_of(path), accepted := Accepted())
    dialed, inbound = await unix().dial(addr_of(path), None), await accepted.opened.get()
    await asyncio.gather(dialed.close(), inbound.close())
    await listener.close()


@pytest.mark.parametrize("backlog", [0, 5])
async def test_a_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path, backlog: int) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waits:
        other.bind(str(path))
        other.listen(backlog)
        waits.connect(str(path))  # which fills a backlog of 0
        with pytest.raises(ListenError, match="in use"):
            await unix().listen(addr_of(path), Accepted())
        assert path.is_socket()
        if not backlog:
            with pytest.raises(ConnectionRefusedError, match="wait at"):
                await unix().dial(addr_of(path), None)


async def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path, link = tmp_path / "notes.txt", tmp_path / "link"
    path.write_text("precious")
    link.symlink_to(tmp_path / "nowhere")
    for addr in (path, link, tmp_path / "no" / "such" / "folder", tmp_path / ("long" * 40)):
        with pytest.raises(ListenError, match=addr.name[:8]):
            await unix().listen(addr_of(addr), Accepted())
    assert path.read_text() == "precious"
    assert link.is_symlink()


async def test_a_file_that_took_the_place_of_ours_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first = await unix().listen(addr_of(path), Accepted())
    os.rename(path, tmp_path / "moved")
    second = await unix().listen(addr_of(path), accepted := Accepted())
    await first.close()
    assert path.is_socket()
    dialed, inbound = await unix().dial(addr_of(path), None), await accepted.opened.get()
    await asyncio.gather(dialed.close(), inbound.close())
    await second.close()
    assert not path.exists()


async def test_a_cancelled_listen_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    for step in range(4):
        listening = asyncio.ensure_future(unix().listen(addr_of(path), Accepted()))
        for _ in range(step):
            await asyncio.sleep(0)
        listening.cancel()
        await asyncio.wait([listening])
        if not listening.cancelled():
            await listening.result().close()
        assert not path.exists(), f"after {step} steps"


def test_only_unix_addresses_are_meant() -> None:
    assert unix().can_dial(Multiaddr("/unix/run/p2p.sock"))
    for other in ("/ip4/127.0.0.1/tcp/1", "/memory/1"):
        assert not unix().can_listen(Multiaddr(other))
        with pytest.raises(InvalidMultiaddr):
            asyncio.run(unix().dial(Multiaddr(other), None))
