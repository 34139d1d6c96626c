"""One measurement: a listener process, a dialer process, one number.

Rules: both are started for this one measurement, talk to each other only, and are gone when it is over: the dialer ends
by itself, the listener when its stdin is closed, and what does not is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from . import floor
from .rivals import Implementation

READY_TIME_LIMIT = 60.0  # seconds until a listener is ready
DIAL_TIME_LIMIT = 300.0  # seconds for one measurement
END_TIME_LIMIT = 15.0  # seconds until a listener has ended
IDLE_WARM_UP = 50  # connections that `idle` of every peer makes besides those it counts


class MeasurementError(Exception):
    """There is no number; says why."""


def floor_speed(kind: str, size: int) -> float:
    """MB/s of the floor `tcp` or `cipher` for `size` bytes. Raises `MeasurementError`."""
    try:
        return {"tcp": floor.run_tcp, "cipher": floor.run_cipher}[kind](size)
    except (OSError, RuntimeError, TimeoutError) as error:
        raise MeasurementError(f"{type(error).__name__}: {error}") from error


def import_seconds(implementation: Implementation) -> float:
    """Seconds of the import in a fresh process. Raises `MeasurementError`."""
    return float(asyncio.run(_output(implementation, implementation.imports)))


def between_peers(
    dialer: Implementation, listener: Implementation, transport: str, what: str, count: int
) -> dict[str, Any]:
    """What the dialer prints for `bench what count` over `tcp` or `quic-v1`. Raises `MeasurementError`."""
    both = [replace(one, env={**one.env, "TRANSPORT": transport}) for one in (dialer, listener)]
    return asyncio.run(_between_peers(*both, what, count))


async def _between_peers(dialer: Implementation, listener: Implementation, what: str, count: int) -> dict[str, Any]:
    async with _listener(listener) as address:
        output = await _output(dialer, (*dialer.peer, "dial", address, "bench", what, str(count)))
    try:
        result: dict[str, Any] = json.loads(output.splitlines()[-1])
    except ValueError as error:
        raise MeasurementError(f"the dialer printed {output[:200]!r}") from error
    if not result["ok"]:
        raise MeasurementError(result["error"])
    if result.get("open", count + IDLE_WARM_UP) != count + IDLE_WARM_UP:
        raise MeasurementError(f"{result['open']} of {count + IDLE_WARM_UP} connections stayed open")
    return result


@contextlib.asynccontextmanager
async def _listener(implementation: Implementation) -> AsyncIterator[str]:
    """A listening peer; yields its address."""
    async with _process(implementation, (*implementation.peer, "listen")) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(READY_TIME_LIMIT):
                address = json.loads(await process.stdout.readline())["addrs"][0]
        except (TimeoutError, ValueError) as error:
            raise MeasurementError(f"the listener did not get ready: {error!r}") from error
        yield address
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_TIME_LIMIT):
                await process.wait()


async def _output(implementation: Implementation, command: tuple[str, ...]) -> str:
    """What `command` prints."""
    async with _process(implementation, command) as process:
        try:
            async with asyncio.timeout(DIAL_TIME_LIMIT):
                output, _ = await process.communicate()
        except TimeoutError as error:
            raise MeasurementError(f"not finished within {DIAL_TIME_LIMIT:.0f} s") from error
    if not output.strip():
        raise MeasurementError(f"printed nothing, exited with {process.returncode}")
    return output.decode()


@contextlib.asynccontextmanager
async def _process(implementation: Implementation, command: tuple[str, ...]) -> AsyncIterator[Process]:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=implementation.folder,
            env=implementation.env,
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
        )
    except OSError as error:
        raise MeasurementError(f"{command[0]} does not start: {error}") from error
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
