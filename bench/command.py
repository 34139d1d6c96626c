"""The command line of the Python peers that `python -m bench` runs, and the lines of JSON that they print.

    python -m MODULE listen [MULTIADDR]
    python -m MODULE dial ADDR bench WHAT N ...

Each peer is a process of its own. It prints one line when it is ready, or one for each measurement; the last one tells
of the error that ended it, if there was one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Collection
from typing import Any

Line = dict[str, Any]
Wanted = list[tuple[str, int]]
"""What to measure, and how much of it, in order."""


async def serve_until_stdin_closes(*addrs: str) -> None:
    """Tell that these addresses are ready, then wait to be told to end."""
    _print({"ready": True, "addrs": addrs})
    await asyncio.to_thread(sys.stdin.read)


def report(what: str, count: int, result: Line) -> None:
    """Print one result."""
    _print({"what": what, "ok": True, "count": count, **result})


def run(
    module: str,
    *,
    listen: Callable[..., Awaitable[None]],
    dial: Callable[[str, Wanted], Awaitable[None]],
    benches: Collection[str],
    errors: tuple[type[Exception], ...],
) -> int:
    """Do what the command line says; return the exit status. `listen` is called with the address, if there is one.
    Of `errors` that `dial` raises a line is printed.
    """

    async def dialed(address: str, wanted: Wanted) -> int:
        try:
            await dial(address, wanted)
        except errors as error:
            _print({"ok": False, "error": f"{type(error).__name__}: {error}"})
            return 1
        return 0

    async def listened(*address: str) -> int:
        await listen(*address)
        return 0

    match sys.argv[1:]:
        case ["listen", *rest] if len(rest) <= 1:
            return asyncio.run(listened(*rest))
        case ["dial", address, "bench", *rest] if rest and len(rest) % 2 == 0 and set(rest[::2]) <= set(benches):
            counts = [int(count) for count in rest[1::2]]
            return asyncio.run(dialed(address, list(zip(rest[::2], counts, strict=True))))
    print(f"usage: python -m {module} listen [MULTIADDR] | dial ADDR bench WHAT N ...", file=sys.stderr)
    return 2


def _print(line: Line) -> None:
    print(json.dumps(line), flush=True)
