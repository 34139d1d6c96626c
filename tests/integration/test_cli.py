"""The `libp2p` command, as scripts use it: real processes, JSON lines, exit codes, and nothing else on stderr."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from libp2p.cli.sizes import format_size, parse_size
from libp2p.identity import KeyType, PrivateKey, PublicKey
from libp2p.multiaddr import Multiaddr

pytestmark = pytest.mark.real

COMMAND = [sys.executable, "-W", "error", "-m", "libp2p.cli"]
SOMEWHERE = "/ip4/127.0.0.1/tcp/1"
SOMEBODY = str(PrivateKey.generate().public_key.peer_id)


def libp2p(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *args], input=stdin, capture_output=True, text=True, timeout=60, check=False)


def lines(*args: str) -> list[dict[str, Any]]:
    """What a command that works prints with --json."""
    done = libp2p(*args, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def process(*args: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A command that listens, and its addresses."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *args, "--json"], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as running:
        try:
            assert running.stdout
            addrs = []
            for line in running.stdout:
                message = json.loads(line)
                if message == {"ready": True}:
                    break
                addrs.append(message["addr"])
            yield running, addrs
        finally:
            running.kill()


@pytest.fixture(scope="module")
def listening() -> Iterator[str]:
    with process("listen", "/ip4/127.0.0.1/tcp/0") as (_, addrs):
        yield addrs[0]


def test_ping(listening: str) -> None:
    *pings, summary = lines("ping", listening, "-c", "3", "--interval", "0")
    assert [ping["seq"] for ping in pings] == [1, 2, 3]
    assert all(0 < ping["rtt_ms"] < 5000 for ping in pings)
    assert summary["count"] == 3
    assert summary["min_ms"] <= summary["median_ms"] <= summary["max_ms"]


def test_identify(listening: str) -> None:
    [info] = lines("identify", listening)
    assert info["peer_id"] == listening.rpartition("/")[2]
    assert {"/ipfs/ping/1.0.0", "/ipfs/id/1.0.0", "/perf/1.0.0", "/echo/1.0.0"} <= set(info["protocols"])
    assert info["listen_addrs"] == [listening.rpartition("/p2p/")[0]]


def test_perf(listening: str) -> None:
    *runs, summary = lines("perf", listening, "--upload", "1MiB", "--download", "2MB", "--runs", "2")
    assert [(run["direction"], run["bytes"]) for run in runs] == [("upload", 1 << 20), ("download", 2_000_000)] * 2
    for run in runs:
        assert run["mb_per_s"] == pytest.approx(run["bytes"] / run["seconds"] / 1e6)
    assert summary["runs"] == 2
    assert {"upload_mb_per_s", "download_mb_per_s"} <= set(summary)


def test_output_for_people(listening: str) -> None:
    assert (
        "median of 1: download" in libp2p("perf", listening, "--upload", "0", "--download", "1k", "--runs", "1").stdout
    )
    assert "1 answered" in libp2p("ping", listening, "-c", "1").stdout
    assert "/echo/1.0.0" in libp2p("identify", listening).stdout


@pytest.mark.parametrize(
    ("code", "args"),
    [
        (1, ["ping", f"/ip4/127.0.0.1/tcp/1/p2p/{SOMEBODY}"]),
        (1, ["identify", SOMEBODY]),
        (1, ["listen", "/ip4/192.0.2.1/tcp/0"]),
        (2, ["ping", "nonsense"]),
        (2, ["ping", "/ip4/127.0.0.1/nonsense/1"]),
        (2, ["perf", "/ip4/127.0.0.1/tcp/1", "--upload", "many"]),
        (2, ["perf", "/ip4/127.0.0.1/tcp/1", "--upload", "0", "--download", "0"]),
        (2, ["listen", "--security", "rot13"]),
        (2, ["id", "--key", "/nonexistent/key"]),
        (2, ["unknown"]),
    ],
)
def test_exit_codes_of_what_cannot_work(code: int, args: list[str]) -> None:
    done = libp2p(*args)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_somebody_else_answers(listening: str) -> None:
    done = libp2p("ping", str(Multiaddr(listening.rpartition("/p2p/")[0]).with_peer(SOMEBODY)))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert SOMEBODY in done.stderr


def test_chat_both_ways_and_a_protocol_that_is_lacking() -> None:
    with process("chat") as (bob, addrs):
        refused = libp2p("perf", addrs[0])
        assert refused.returncode == 3
        assert "/perf/1.0.0" in refused.stderr
        pipe = subprocess.PIPE
        with subprocess.Popen([*COMMAND, "chat", addrs[0], "--json"], stdin=pipe, stdout=pipe, text=True) as alice:
            assert alice.stdin
            alice.stdin.write("hello, Bob\n")
            alice.stdin.flush()
            assert bob.stdin
            assert bob.stdout
            assert json.loads(bob.stdout.readline())["event"] == "joined"
            assert json.loads(bob.stdout.readline())["text"] == "hello, Bob"
            alice.stdin.close()
            bob_said, _ = bob.communicate("hello, Alice\nthis is \x1b[31mred\n", timeout=30)
            alice_heard = [json.loads(line) for line in alice.stdout or ()]
        assert [message["text"] for message in alice_heard if "text" in message] == ["hello, Alice", "this is �[31mred"]
        assert json.loads(bob_said)["event"] == "left"
        assert (alice.returncode, bob.returncode) == (0, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_listen_ends_in_order(number: signal.Signals) -> None:
    with process("listen") as (running, addrs):
        assert addrs
        assert all("/p2p/" in addr and "/0.0.0.0/" not in addr and "/tcp/0/" not in addr for addr in addrs)
        running.send_signal(number)
        assert running.communicate(timeout=30) == ("", "")
    assert running.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")
def test_listen_says_who_uses_what() -> None:
    with process("listen") as (running, addrs):
        assert libp2p("ping", addrs[0], "--count", "1").returncode == 0
        running.send_signal(signal.SIGUSR1)
        assert running.stdout
        first = json.loads(running.stdout.readline())
        assert (first["scope"], first["limit"], first["value"]) == ("host", "max_connections", 4096)
        running.send_signal(signal.SIGTERM)
        rest, _ = running.communicate(timeout=30)
    assert {"host", "max_handlers"} <= {value for line in rest.splitlines() for value in json.loads(line).values()}
    assert running.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")
def test_interrupted(listening: str) -> None:
    command = [*COMMAND, "ping", listening, "--interval", "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=30) == ("", "")
    assert running.returncode == 130


def test_id(tmp_path: Path) -> None:
    file = tmp_path / "key"
    assert libp2p("id", "--key", str(file)).returncode == 2
    assert not file.exists()
    [made] = lines("id", "--key", str(file), "--create", "--type", "secp256k1")
    assert libp2p("id", "--key", str(file)).stdout.strip() == made["peer_id"]


@pytest.mark.parametrize("key_type", [kind.name.lower() for kind in KeyType])
def test_id_of_a_new_key(key_type: str) -> None:
    [made] = lines("id", "--type", key_type)
    assert made["type"] == key_type
    assert str(PublicKey.from_protobuf(base64.b64decode(made["public_key"])).peer_id) == made["peer_id"]


def test_listen_as_the_peer_of_the_last_run(tmp_path: Path) -> None:
    before = []
    for _ in range(2):
        with process("listen", "/ip4/127.0.0.1/tcp/0", "--data-dir", str(tmp_path / "node")) as (_, addrs):
            before.append(addrs)
    assert before[0] == before[1]


def test_listen_under_a_key(tmp_path: Path) -> None:
    key = str(tmp_path / "key")
    with process("listen", "/ip4/127.0.0.1/tcp/0", "--key", key) as (_, addrs):
        assert addrs[0].endswith(f"/p2p/{lines('id', '--key', key)[0]['peer_id']}")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("500", 500),
        ("10MB", 10**7),
        ("10 mb", 10**7),
        ("1GiB", 1 << 30),
        ("1.5k", 1500),
        ("2Ti", 2 << 40),
        ("7B", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_what_is_no_size() -> None:
    for text in ("", "many", "-1", "1e3", "1XB", "MB"):
        with pytest.raises(ValueError, match="is no size"):
            parse_size(text)
    assert [format_size(size) for size in (7, 1500, 14_112_088, 5e12)] == ["7 bytes", "1.5 kB", "14.1 MB", "5000.0 GB"]


def test_without_the_extra() -> None:
    program = "import sys; sys.modules['typer'] = None; from libp2p.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "typer" in done.stderr
    assert 'pip install "py-libp2p[cli]"' in done.stderr


def test_pubsub() -> None:
    listen = "/ip4/127.0.0.1/tcp/0"
    with process("pubsub", "sub", "news", "--listen", listen, "--count", "2") as (subscriber, addrs):
        sent = libp2p("pubsub", "pub", "news", "--connect", addrs[0], stdin="steak recipes\nmore \x1b[1mrecipes")
        assert (sent.returncode, sent.stderr) == (0, "")
        assert sent.stdout == "sent to 1 peers\n" * 2
        out, err = subscriber.communicate(timeout=30)
        assert (subscriber.returncode, err) == (0, "")
        got = [json.loads(line) for line in out.splitlines()]
        assert {message["text"] for message in got} == {"steak recipes", "more \ufffd[1mrecipes"}
        assert base64.b64decode(got[0]["data"]) in (b"steak recipes", b"more \x1b[1mrecipes")


def test_pubsub_peers_and_signals() -> None:
    with process("pubsub", "sub", "news", "--listen", "/ip4/127.0.0.1/tcp/0") as (subscriber, addrs):
        [peer] = lines("pubsub", "peers", "--connect", addrs[0])
        assert peer == {"peer": addrs[0].rpartition("/")[2], "topics": ["news"]}
        nobody = libp2p("pubsub", "peers", "weather", "--connect", addrs[0], "--wait", "0.2")
        assert (nobody.returncode, nobody.stderr) == (1, "libp2p: nobody is in the topic 'weather'\n")
        subscriber.send_signal(signal.SIGTERM)
        assert subscriber.wait(30) == 0


def test_pubsub_with_nobody_there() -> None:
    sent = libp2p("pubsub", "pub", "news", "--wait", "0", stdin="steak\n")
    assert (sent.returncode, sent.stdout) == (1, "sent to 0 peers\n")
    assert sent.stderr == "libp2p: nobody took 1 of 1 messages\n"


def test_a_relay_and_a_peer_behind_it() -> None:
    with process("relay", "/ip4/127.0.0.1/tcp/0") as (running, relays):
        with process("listen", "/ip4/127.0.0.1/tcp/0", "--relay", relays[0]) as (_, addrs):
            (circuit,) = [addr for addr in addrs if "p2p-circuit" in addr]
            assert circuit.startswith(relays[0] + "/p2p-circuit/p2p/")
            pings = lines("ping", circuit, "--count", "2", "--interval", "0")
            assert pings[-1]["count"] == 2
            assert lines("identify", circuit)[0]["peer_id"] == circuit.rpartition("/")[2]
            listen = ("--listen", "/ip4/127.0.0.1/tcp/0", "--seconds", "1")
            (told,) = lines("doctor", addrs[0], SOMEWHERE, "--relay", relays[0], *listen)
            assert told["relays"] == {relays[0]: None}
            assert (told["peers"], list(told["errors"])) == (2, [SOMEWHERE])
            assert f"relay {relays[0]}: works" in libp2p("doctor", "--relay", relays[0], addrs[0], *listen).stdout
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
    done = libp2p("ping", circuit)
    assert done.returncode == 1
    assert "refused" in done.stderr.lower()
