"""What a user sees of the package by `help()`, by a type checker, and in the terminal."""

from __future__ import annotations

import asyncio
import inspect
import logging
import pydoc
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import libp2p
from libp2p import DialError, Host, Multiaddr, PeerConnected, PeerIdentified, StageTimeout
from libp2p.transports.quic import Quic, QuicConfig
from libp2p.transports.tcp import Tcp


def test_help_of_a_host_shows_everything_public() -> None:
    shown = pydoc.plain(pydoc.render_doc(Host))
    host = Host(transports=[])
    for name in dir(host):
        if not name.startswith("_"):
            assert name in shown, name
            member = inspect.getattr_static(Host, name, None)
            assert member is None or (inspect.getdoc(member) or "").strip(), name


def test_help_of_the_package_is_a_table_of_contents() -> None:
    contents = inspect.getdoc(libp2p) or ""
    errors = {name for name in libp2p.__all__ if isinstance(getattr(libp2p, name), type)}
    errors = {name for name in errors if issubclass(getattr(libp2p, name), Exception)}
    for name in set(libp2p.__all__) - errors - {"Handler", "StreamErrorCode"}:
        assert name in contents, name
    for module in ("transports", "security", "muxers", "protocols", "discovery", "io", "events", "swarm", "testing"):
        assert f"libp2p.{module}" in contents


PROGRAM = """
from libp2p import *
from libp2p.host import AddrsChanged, ProtocolsChanged, ReachabilityChanged
from libp2p.swarm import DialFailed, InboundFailed, ListenAddrAdded, ListenAddrRemoved, ListenerLost

class Program:
    def __init__(self, host: Host) -> None:
        host.events.on(PeerConnected, self.connected)
{lines}

    def connected(self, event: PeerConnected) -> bool:
        return str(event.peer) != ""
"""
KINDS = (
    "AddrsChanged ConnectionLost ConnectionOpened DialFailed InboundFailed ListenAddrAdded ListenAddrRemoved "
    "ListenerLost PeerConnected PeerDisconnected PeerIdentified ProtocolsChanged ReachabilityChanged StreamEnded "
    "StreamStarted"
)
HANDLER = """
        def on_{kind}(event: {kind}) -> None: ...
        host.events.on({kind}, on_{kind})
"""


@pytest.mark.real
def test_type_checkers_accept_a_handler_of_each_kind(tmp_path: Path) -> None:
    lines = "".join(HANDLER.format(kind=kind) for kind in KINDS.split())
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(lines=lines))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(libp2p.__file__).parents[1])
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


async def test_events_can_be_expected_by_a_filter() -> None:
    async with Host(listen_addrs=["/memory/0"]) as server, Host() as client:

        def is_server(event: PeerConnected | PeerIdentified) -> bool:
            return event.peer == server.id

        async with (
            client.events.expect(PeerConnected, is_server) as connected,
            client.events.expect(PeerIdentified, is_server) as identified,
        ):
            await client.connect(server.addrs[0])
            assert (await connected).peer == server.id
            assert (await identified).info.public_key == server.key.public_key


@pytest.mark.real
async def test_a_dial_that_nobody_answers_is_a_stage_timeout() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        addr = Multiaddr(f"/ip4/127.0.0.1/udp/{silent.getsockname()[1]}/quic-v1")
        async with Host(transports=[Quic(QuicConfig(handshake_timeout=0.3))]) as host:
            with pytest.raises(DialError) as failed:
                await host.connect(addr)
        assert isinstance(failed.value.attempts[addr], StageTimeout)


@pytest.mark.real
@pytest.mark.parametrize("addr", ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"])
async def test_losing_a_peer_writes_nothing_to_the_terminal(addr: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "")
    async with Host(listen_addrs=[addr], transports=[Quic(), Tcp()]) as server:

        @server.handle("/flood/1")
        async def flood(stream: libp2p.Stream) -> None:
            while True:
                await stream.write(bytes(65536))

        async with Host(transports=[Quic(), Tcp()]) as client:
            streams = [await client.new_stream(server.addrs[0], "/flood/1") for _ in range(8)]
            for stream in streams:
                await stream.readexactly(100_000)
            client.connections[0].abort()
            await asyncio.sleep(0.2)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
