"""`libp2p dht` and `libp2p listen --dht`, as scripts use them: real processes, JSON lines, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from libp2p.cid import Cid
from libp2p.cli.dht import parse_key
from libp2p.errors import InvalidInput
from libp2p.identity import PrivateKey
from libp2p.records.ipns import IpnsRecord

pytestmark = pytest.mark.real

COMMAND = [sys.executable, "-W", "error", "-m", "libp2p.cli"]
NETWORK = ["--namespace", "v", "--dht-protocol", "/test/kad/1.0.0"]
CID = str(Cid.of(b"content"))
KEY = PrivateKey.generate()


@contextmanager
def node(*args: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server of the DHT, and its address."""
    command = [*COMMAND, "listen", "/ip4/127.0.0.1/tcp/0", "--dht", "server", *NETWORK, *args, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout
            addr = json.loads(running.stdout.readline())["addr"]
            assert json.loads(running.stdout.readline()) == {"ready": True}
            yield addr, running
        finally:
            running.kill()


@pytest.fixture(scope="module")
def network() -> Iterator[list[str]]:
    """Three nodes, the last one provides a content."""
    with (
        node() as (one, _),
        node("--bootstrap", one) as (two, _),
        node("--bootstrap", one, "--bootstrap", two, "--provide", CID) as (three, last),
    ):
        assert last.stdout
        assert json.loads(last.stdout.readline()) == {"provides": CID}
        yield [one, two, three]


def dht(network: list[str], *args: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "dht", *args, "--bootstrap", network[0], "--protocol", "/test/kad/1.0.0", "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def lines(network: list[str], *args: str) -> list[dict[str, Any]]:
    done = dht(network, *args)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_find_peer(network: list[str]) -> None:
    addr, _, peer = network[2].rpartition("/p2p/")
    [found] = lines(network, "find-peer", peer)
    assert found["peer"] == peer
    assert addr in found["addrs"]


def test_closest(network: list[str]) -> None:
    found = lines(network, "closest", "some key")
    assert {one["peer"] for one in found} == {addr.rpartition("/")[2] for addr in network}


def test_providers(network: list[str]) -> None:
    [found] = lines(network, "find-providers", CID)
    assert found["peer"] == network[2].rpartition("/")[2]
    other = str(Cid.of(b"other"))
    assert dht(network, "find-providers", other).returncode == 1
    [provided] = lines(network, "provide", other)
    [found] = lines(network, "find-providers", other, "--limit", "1")
    assert found["peer"] == provided["peer"]


def test_crawl(network: list[str], tmp_path: Path) -> None:
    plot = tmp_path / "network.svg"
    command = [*COMMAND, "crawl", "--bootstrap", network[0], "--protocol", "/test/kad/1.0.0", "--json"]
    command += ["--plot", str(plot)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    *found, summary = [json.loads(line) for line in done.stdout.splitlines()]
    peers = {addr.rpartition("/")[2] for addr in network}
    assert {one["peer"] for one in found if not one["error"]} == peers
    assert all(set(one["neighbours"]) >= peers - {one["peer"]} and one["addrs"] for one in found if not one["error"])
    assert summary["reached"] == 3
    assert plot.read_text().endswith("</svg>\n")


def test_values(network: list[str], tmp_path: Path) -> None:
    lines(network, "put", "/v/a", "hello", "--namespace", "v")
    [got] = lines(network, "get", "/v/a", "--namespace", "v")
    assert bytes.fromhex(got["value"]) == b"hello"
    assert dht(network, "get", "/v/a").returncode == 2
    name = KEY.peer_id.to_cid("base36")
    record = IpnsRecord.make(KEY, "/ipfs/bafy", sequence=3, now=4e9 - 1e9)
    (tmp_path / "record").write_bytes(record.encoded)
    lines(network, "put", f"/ipns/{name}", f"@{tmp_path / 'record'}")
    assert lines(network, "get", f"/ipns/{name}") == [{"value": "/ipfs/bafy", "sequence": 3, "ttl": 300.0}]


@pytest.mark.parametrize(
    ("code", "args"),
    [
        (2, ["find-peer", "nonsense"]),
        (2, ["find-providers", "nonsense"]),
        (2, ["get", "/ipns/nonsense"]),
        (2, ["closest", "0xnonsense"]),
        (1, ["find-peer", str(KEY.peer_id)]),
        (1, ["get", f"/pk/{KEY.peer_id}"]),
    ],
)
def test_exit_codes(network: list[str], code: int, args: list[str]) -> None:
    done = dht(network, *args)
    assert done.returncode == code
    assert done.stderr.count("\n") == 1


def test_nobody_to_begin_with() -> None:
    done = subprocess.run(
        [*COMMAND, "dht", "closest", "a", "--protocol", "/test/kad/1.0.0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--bootstrap" in done.stderr


def test_keys() -> None:
    peer = KEY.peer_id
    assert parse_key(f"/ipns/{peer.to_cid('base36')}") == b"/ipns/" + peer.to_bytes()
    assert parse_key(f"/pk/{peer}") == b"/pk/" + peer.to_bytes()
    assert parse_key("/v/a") == b"/v/a"
    assert parse_key("0x00ff") == b"\0\xff"
    with pytest.raises(InvalidInput):
        parse_key("0xf")
