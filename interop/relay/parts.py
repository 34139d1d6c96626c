"""The programs of `interop/` as parts: here, or where a command takes them. ../README.md has their words."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections import deque
from types import TracebackType
from typing import Self

from interop.build import Command

_ENVIRONMENT = {"SECURE_CHANNEL": "noise", "MUXER": "yamux"}


class PartFailed(Exception):
    """A program has ended, or said something else than it should; says what it complained about."""


class Part:
    """A program, run by the command `through`, and the lines that it has printed. An async context manager."""

    def __init__(self, command: Command, transport: str, *words: str, through: Command = ()) -> None:
        self._command = (*through, *command, "relay", *words)
        self._name = f"{command[-1].rpartition('/')[2]} {' '.join(words)}"
        self._environment = {**os.environ, **_ENVIRONMENT, "TRANSPORT": transport}
        self.lines: list[str] = []
        self._changed = asyncio.Event()
        self._complaints: deque[str] = deque(maxlen=20)

    async def __aenter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, stderr=pipe, env=self._environment
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            asyncio.create_task(self._read(self._process.stdout, self.lines)),
            asyncio.create_task(self._read(self._process.stderr, self._complaints)),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.gather(*self._readers)

    @property
    def pid(self) -> int:
        """The program's process, in its namespace too."""
        return self._process.pid

    async def _read(self, stream: asyncio.StreamReader, into: list[str] | deque[str]) -> None:
        while line := await stream.readline():
            into.append(line.decode(errors="replace").rstrip())
            self._changed.set()
        self._changed.set()

    async def line(self, *starts: str, since: int = 0, within: float = 30.0) -> str:
        """The first line from number `since` on that begins with one of `starts`. Raises `PartFailed` without one."""
        try:
            async with asyncio.timeout(within):
                while True:
                    self._changed.clear()
                    for line in self.lines[since:]:
                        if line.startswith(starts):
                            return line
                    if self._readers[0].done():
                        raise self._failed(f"ended before it said {' or '.join(starts)}")
                    await self._changed.wait()
        except TimeoutError:
            raise self._failed(f"did not say {' or '.join(starts)} within {within:g} s") from None

    def _failed(self, what: str) -> PartFailed:
        return PartFailed(f"{self._name} {what}; said {self.lines[-5:]}, complained {list(self._complaints)[-5:]}")
