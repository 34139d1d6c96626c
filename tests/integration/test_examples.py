"""Every program in examples/ runs, and prints what it promises."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

EXAMPLES = Path(__file__).parents[2] / "examples"


def command(name: str, *args: str) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / name), *args]


def run(name: str, *args: str) -> str:
    done = subprocess.run(command(name, *args), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_all_are_tested() -> None:
    tested = {
        "echo.py",
        "chat.py",
        "http_over_a_stream.py",
        "several_protocols.py",
        "events.py",
        "key_file.py",
        "group_chat.py",
        "members.py",
        "rpc.py",
        "consensus_node.py",
    }
    assert {file.name for file in EXAMPLES.glob("*.py")} == tested


def test_echo() -> None:
    assert run("echo.py") == "steak recipes, please\n"


def test_http_over_a_stream() -> None:
    assert run("http_over_a_stream.py") == "[b'<h1>You asked for /ribeye</h1>']\n"


def test_several_protocols() -> None:
    assert run("several_protocols.py").splitlines() == [
        "hello in /greet/2.7.1",
        "hello in /hello/1.0.0",
        "refused: /greet/3.0.0",
    ]


def test_events() -> None:
    told = run("events.py").splitlines()
    assert told[0].startswith("connected: 12D3KooW")
    assert told[1] == "b'come in'"
    assert "StreamStarted /knock/1.0.0" in told
    assert "StreamEnded /knock/1.0.0" in told
    assert told[-1].startswith("lost: connection closed by the peer")


def test_key_file(tmp_path: Path) -> None:
    path = str(tmp_path / "key")
    assert run("key_file.py", path) == run("key_file.py", path)


def test_chat() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(command("chat.py"), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as bob:
        assert bob.stdout
        address = bob.stdout.readline().strip()
        with subprocess.Popen(command("chat.py", address), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as alice:
            assert alice.stdin
            alice.stdin.write("hello, Bob\n")
            alice.stdin.flush()
            assert bob.stdout.readline() == "them: hello, Bob\n"
            alice.stdin.close()
            assert bob.communicate("hello, Alice\n", timeout=30) == ("", "")
            assert alice.stdout
            assert alice.stderr
            assert alice.stdout.read().endswith("them: hello, Alice\n")
            assert alice.stderr.read() == ""
    assert (alice.returncode, bob.returncode) == (0, 0)


def test_group_chat() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(command("group_chat.py"), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as bob:
        assert bob.stdout
        address = bob.stdout.readline().strip()
        with subprocess.Popen(
            command("group_chat.py", address), stdin=pipe, stdout=pipe, stderr=pipe, text=True
        ) as alice:
            assert alice.communicate("hello, all\n", timeout=30)[1] == ""
            assert bob.stdout.readline().endswith(": hello, all\n")
        assert bob.communicate("", timeout=30)[1] == ""
    assert (alice.returncode, bob.returncode) == (0, 0)


@pytest.mark.parametrize(("name", "most"), [("members.py", 110), ("rpc.py", 60), ("consensus_node.py", 140)])
def test_whole_programs_are_short(name: str, most: int) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) <= most


class Program:
    """An example that runs, and is talked to by its terminal."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def until(self, end: str) -> None:
        """Read lines until one ends like that."""
        seen = []
        while not (line := self.line()).endswith(end):
            seen.append(line)
            assert line, (end, seen)

    def type(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


@contextmanager
def program(name: str, *args: str, cwd: Path | None = None) -> Iterator[Program]:
    pipe = subprocess.PIPE
    if cwd is not None:
        cwd.mkdir(exist_ok=True)
    with subprocess.Popen(
        command(name, *args), stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, cwd=cwd
    ) as process:
        watchdog = threading.Timer(60, process.kill)  # else a line that never comes is waited for
        watchdog.start()
        try:
            yield Program(process)
        finally:
            watchdog.cancel()
            process.kill()


def test_rpc() -> None:
    told = run("rpc.py").splitlines()
    assert told[:3] == ["1000 answers", "error: NotANumber b'twelve'", "counted [b'0', b'1', b'2']"]
    assert sorted(told[3:5]) == ["bob stops counting", "late: call /calls/1.0.0/calc/count/1 took more than 0.3 s"]
    assert told[5:] == ["asking the next one: DialError", "b'bob: 144'"]


def test_members_come_are_killed_and_come_back(tmp_path: Path) -> None:
    listen = "/ip4/127.0.0.1/tcp/0"
    with (
        program("members.py", "ann", "key", listen, cwd=tmp_path / "ann") as ann,
        program("members.py", "bob", "key", listen, ann.line(), cwd=tmp_path / "bob") as bob,
    ):
        bob_addr = bob.line()
        bob.until("online: ann")
        ann.until("online: bob")
        with program("members.py", "eve", "key", listen, bob_addr, cwd=tmp_path / "eve") as eve:
            eve_addr, _, _ = eve.line().partition("/p2p/")
            assert {eve.line(), eve.line()} == {"* online: ann", "* online: bob"}
            ann.until("online: eve")  # of whom it has heard from bob
            bob.until("online: eve")
            eve.type("hello, all")
            ann.until("<eve> hello, all")
            bob.until("<eve> hello, all")
            eve.process.kill()
        ann.until("offline: eve")
        bob.until("offline: eve")
        with program("members.py", "eve", "key", eve_addr, cwd=tmp_path / "eve") as eve:  # who knows nobody any more
            ann.until("online: eve")
            bob.until("online: eve")
            (tmp_path / "ann" / "big.bin").write_bytes(data := os.urandom(5_000_000))
            ann.type("/send eve big.bin")
            ann.until("sent: big.bin")
            eve.until("received: big.bin")
            assert (tmp_path / "eve" / "big.bin").read_bytes() == data
            eve.type("/quit")
            ann.until("offline: eve")
            assert eve.process.wait(30) == 0


def test_consensus_nodes_stay_with_their_own_chain() -> None:
    status = "/eth2/beacon_chain/req/status/1/ssz_snappy"
    with (
        program("consensus_node.py", "01" * 32, "aabbccdd", "0") as one,
        program("consensus_node.py", "02" * 32, "aabbccdd", "0", *(addrs := one.line().split())) as two,
    ):
        one_id, two_id = addrs[0].rpartition("/")[2], two.line().rpartition("/")[2]
        two.until(f"on our chain: {one_id}")
        one.until(f"on our chain: {two_id}")
        tcp_only = [addr for addr in addrs if "/tcp/" in addr]
        with program("consensus_node.py", "03" * 32, "00000000", "0", *tcp_only) as stranger:
            stranger.until("IRRELEVANT_NETWORK")
            stranger.type("")
            assert stranger.process.wait(30) == 0
        two.type("")
        one.until(f"goodbye: {two_id} SHUTDOWN")
        said = two.process.communicate(timeout=30)[0]
        assert f"{status}: " in said
        assert "/ipfs/id/1.0.0: " in said
