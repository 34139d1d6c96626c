"""Runs one cell: a listener and a dialer, each a process, which find each other through Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from .build import Command
from .matrix import CHECKS, Cell

TIME_LIMIT = 180.0  # seconds for one cell
SOURCES = Path(__file__).parent.parent / "src"
TAIL = 3000  # characters of a failed peer's messages that are shown


@dataclass(slots=True)
class Result:
    """How a cell went. `verdicts` has one of each check that was run, `problem` what is wrong apart from these, `said`
    what the two programs of a failed cell wrote to stderr."""

    cell: Cell
    problem: str = ""
    said: str = ""
    verdicts: dict[str, str] = field(default_factory=dict)
    latency: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def failures(self) -> dict[str, str]:
        failed = {check: verdict for check, verdict in self.verdicts.items() if verdict != "ok"}
        return {"cell": self.problem, **failed} if self.problem else failed

    def as_json(self) -> dict[str, object]:
        cell = self.cell
        return {
            "dialer": cell.dialer,
            "listener": cell.listener,
            "transport": cell.transport,
            "secureChannel": cell.security,
            "muxer": cell.muxer,
            "status": "fail" if self.failures else "pass",
            "failures": self.failures,
            "said": self.said,
            "checks": self.verdicts,
            "lacking": cell.lacking(),
            "latency_ms": self.latency,
            "seconds": round(self.seconds, 2),
        }


async def run_cell(cell: Cell, commands: Mapping[str, Command], redis: str, checks: tuple[str, ...] = CHECKS) -> Result:
    """Run `cell`; whatever happens, both processes are gone at the end."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "REDIS_ADDR": redis,
        "TEST_KEY": cell.key,
        "TRANSPORT": cell.transport,
        "SECURE_CHANNEL": cell.security or "",
        "MUXER": cell.muxer or "",
        "LISTENER_IP": "127.0.0.1",
        "CHECKS": ",".join(check for check in checks if check not in cell.lacking()),
    }

    def start_peer(who: str, is_dialer: str, stderr: BinaryIO) -> AbstractAsyncContextManager[Process]:
        return process(commands[who], {**env, **own(who), "IS_DIALER": is_dialer}, stderr)

    result = Result(cell)
    start = time.monotonic()
    with TemporaryFile() as listener_said, TemporaryFile() as dialer_said:
        try:
            async with (
                asyncio.timeout(TIME_LIMIT),
                start_peer(cell.listener, "false", listener_said) as listener,
                start_peer(cell.dialer, "true", dialer_said) as dialer,
            ):
                result.problem = await converse(listener, dialer, result)
        except TimeoutError:
            result.problem = f"not done after {TIME_LIMIT:g} s"
        if result.failures:
            result.said = "\n".join(filter(None, (said("listener", listener_said), said("dialer", dialer_said))))
    result.seconds = time.monotonic() - start
    return result


def own(implementation: str) -> dict[str, str]:
    """Our program runs from the sources, so what it tests is what is there."""
    return {"PYTHONPATH": str(SOURCES)} if implementation == "us" else {}


async def converse(listener: Process, dialer: Process, result: Result) -> str:
    """Wait for the dialer's report; what went wrong with the processes, "" for nothing."""
    assert dialer.stdout is not None
    report = asyncio.ensure_future(dialer.stdout.read())
    gone = asyncio.ensure_future(listener.wait())
    try:
        await asyncio.wait({report, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        report.cancel()
        gone.cancel()
        await asyncio.wait({report, gone})
    if report.cancelled():
        return f"the listener ended with {listener.returncode}"
    read_report(report.result().decode(errors="replace"), result)
    code = await dialer.wait()
    if not result.latency:
        return f"no connection or no ping; the dialer ended with {code}"
    if (code == 0) != all(verdict == "ok" for verdict in result.verdicts.values()):
        return f"the dialer ended with {code}"
    return ""


def read_report(text: str, result: Result) -> None:
    """The YAML of a dialer, as far as the peers here use it: two levels, values on one line."""
    section = ""
    for line in text.splitlines():
        if heading := re.fullmatch(r"(\w+):", line):
            section = heading[1]
        elif entry := re.fullmatch(r"  ([\w-]+): (.+)", line):
            name, value = entry.groups()
            if section == "checks":
                result.verdicts[name] = json.loads(value)
            elif section == "latency" and name != "unit":
                result.latency[name] = float(value)


def said(who: str, file: BinaryIO) -> str:
    file.seek(0)
    text = file.read().decode(errors="replace").strip()
    return f"{who} said: {text[-TAIL:]}" if text else ""


@asynccontextmanager
async def process(command: Command, env: Mapping[str, str], stderr: BinaryIO) -> AsyncIterator[Process]:
    """A child that does not outlive the block."""
    child = await asyncio.create_subprocess_exec(
        *command, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=stderr
    )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            async with asyncio.timeout(2):
                await child.communicate()
        except TimeoutError:
            child.kill()
            await child.communicate()


@asynccontextmanager
async def redis_server(program: str) -> AsyncIterator[str]:
    """A Redis of our own, without files, on a free port; its `HOST:PORT`."""
    while True:
        port = free_port()
        options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        with TemporaryFile() as log:
            async with process((program, *options), os.environ, log) as server:
                assert server.stdout is not None
                while line := await server.stdout.readline():
                    if b"Ready to accept connections" in line:
                        drain = asyncio.ensure_future(server.stdout.read())
                        try:
                            yield f"127.0.0.1:{port}"
                        finally:
                            drain.cancel()
                        return
        # Somebody else took the port in between: try another.


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
