"""Every program in examples/ runs, and prints what it promises."""

from __future__ import annotations

import subprocess
import sys
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
