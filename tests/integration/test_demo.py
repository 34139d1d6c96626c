"""`libp2p demo`: runs, verifies everything that it claims, and says so; and it fails when a claim does not hold."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from libp2p.cli.demo.ftp import FTP_CONTROL, FtpClient, FtpServer
from libp2p.cli.demo.http import HTTP, HttpClient, serve_http
from libp2p.connection import Stream
from libp2p.errors import RemoteProtocolError
from libp2p.host import Host
from libp2p.transports.memory import MemoryTransport

DEMO = [sys.executable, "-W", "error", "-m", "libp2p.cli", "demo"]


@pytest.mark.real
def test_demo() -> None:
    done = subprocess.run([*DEMO, "--json"], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    story = [json.loads(line) for line in done.stdout.splitlines()]
    checks = [line for line in story if "check" in line]
    assert len(checks) == 10
    assert all(line["holds"] for line in checks)
    facts = {line["name"]: line["fact"] for line in story if "fact" in line}
    assert facts["security"].startswith("/noise")
    assert facts["muxer"].startswith("/yamux/1.0.0")
    assert "/telepathy/1.0.0" in facts["B's answer"]
    said = [line["said"] for line in story if line.get("who") == "Y <"]
    codes = [line.split()[0] for line in said]
    a_file = ["213", "213", "229", "150", "226"]
    assert codes == ["220", "331", "230", "200", "229", "150", "226", *a_file, *a_file, "221"]


@pytest.mark.real
def test_demo_for_people() -> None:
    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "All 10 checks hold" in done.stdout
    assert "✗" not in done.stdout


def two_hosts() -> tuple[Host, Host]:
    return (
        Host(listen_addrs=["/memory/0"], transports=[MemoryTransport()]),
        Host(transports=[MemoryTransport()]),
    )


async def test_ftp_replies() -> None:
    server_host, client_host = two_hosts()
    async with server_host, client_host:
        FtpServer(server_host, {"a.txt": b"abc"})
        stream = await client_host.new_stream(server_host.addrs[0], FTP_CONTROL)
        ftp = FtpClient(client_host, stream, lambda *_: None)
        await stream.readuntil(b"\r\n")
        for line, code in [
            ("RETR a.txt", "530"),
            ("PASS guest", "530"),
            ("USER root", "331"),
            ("PASS guest", "530"),
            ("USER guest", "331"),
            ("PASS guest", "230"),
            ("TYPE A", "504"),
            ("TYPE I", "200"),
            ("STOR a.txt", "502"),
            ("RETR b.txt", "550"),
            ("RETR a.txt", "425"),  # no channel yet
            ("EPSV", "229"),
            ("RETR a.txt", "150"),
        ]:
            await ftp.command(line, code)
        assert (await stream.readuntil(b"\r\n")).startswith(b"425 ")  # after _DATA_WAIT: nobody opened the channel
        content = bytearray()
        assert (await ftp.retrieve("a.txt", content.extend))[0] == 3
        assert content == b"abc"
        with pytest.raises(RemoteProtocolError, match="expected 200, got '221"):
            await ftp.command("QUIT", "200")


async def test_a_data_channel_serves_only_its_own_connection() -> None:
    server_host, client_host = two_hosts()
    async with server_host, client_host, Host(transports=[MemoryTransport()]) as thief:
        FtpServer(server_host, {"a.txt": b"secret"})
        stream = await client_host.new_stream(server_host.addrs[0], FTP_CONTROL)
        ftp = FtpClient(client_host, stream, lambda *_: None)
        await ftp.login("guest", "guest")
        assert "(|||1|)" in await ftp.command("EPSV", "229")
        stolen = await thief.new_stream(server_host.addrs[0], "/ftp-data/1.0.0/1")
        with pytest.raises(Exception, match="reset"):
            await stolen.read()


async def test_http_answers() -> None:
    server_host, client_host = two_hosts()
    paths: list[str] = []

    async def serve(stream: Stream) -> None:
        paths.extend(await serve_http(stream, {"/": b"steak"}))

    async with server_host, client_host:
        server_host.handle(HTTP)(serve)
        stream = await client_host.new_stream(server_host.addrs[0], HTTP)
        http = HttpClient(stream)
        found, missing = await http.get("/"), await http.get("/tofu", last=True)
        assert (found.status, found.body, found.intact) == (200, b"steak", True)
        assert (missing.status, missing.intact) == (404, True)
        assert await stream.read() == b""
        garbage = await client_host.new_stream(server_host.addrs[0], HTTP)
        await garbage.write(b"STEAK! NOW!\r\n\r\n")
        with pytest.raises(Exception, match="reset"):
            await garbage.read()
    assert paths == ["/", "/tofu"]
