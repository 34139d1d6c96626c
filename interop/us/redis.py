"""As much of a Redis client as handing over one address takes."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Redis:
    """One connection to `HOST:PORT`."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def send(self, *words: str) -> str:
        """Send one command of plain words; the last string (or the number) of its answer. `OSError` on a refusal."""
        self._writer.write(" ".join(words).encode() + b"\r\n")
        return await self._answer()

    async def _answer(self) -> str:
        line = (await self._reader.readline()).decode().rstrip("\r\n")
        kind, rest = line[:1], line[1:]
        if kind == "*" and rest != "-1":
            return [await self._answer() for _ in range(int(rest))][-1]
        if kind == "$" and rest != "-1":
            return (await self._reader.readexactly(int(rest) + 2))[:-2].decode()
        if kind in {":", "+"}:
            return rest
        raise ConnectionError(f"redis: {line or 'connection closed'}")
