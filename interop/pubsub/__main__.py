"""`python -m interop.pubsub`: nodes of this library and of others in one pubsub network.

A line for each implementation and transport says how many of the checks passed, and below it why others failed. Exit
code 1 where a check failed, 2 where a program can't be built.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import AsyncExitStack

from interop.build import BuildError

from .checks import CHECKS, World
from .nodes import LISTEN, Failed, command_of

IMPLEMENTATIONS = ("go", "rust", "js", "py")
TIME_LIMIT = 90.0  # seconds for one check

LACKS: dict[tuple[str, str, str], str] = {
    ("rust", "", "their-offers"): "rust-libp2p offers peers without records, and so without addresses",
    ("rust", "", "our-offers"): "it takes no signed records, and dials who is offered without addresses",
    ("js", "", "partial"): "js-libp2p has no gossipsub 1.3",
    ("py", "", "their-gossip"): "no IHAVE came of it, in eight heartbeats",
    ("py", "", "their-offers"): "no peer with an address came of it",
    ("py", "", "our-offers"): "it did not connect to who was offered",
    ("py", "quic-v1", "idontwant"): "over QUIC it sends what it was told is not wanted; over TCP it does not",
    ("py", "", "partial"): "the older Python has gossipsub 1.3, but not this extension",
}
"""What an implementation cannot do: (implementation, transport or "", check) -> why. Listed, and not asked of it."""


async def run(implementation: str, transport: str, checks: list[str]) -> bool:
    """Run the checks with one implementation; whether all passed."""
    command = command_of(implementation)
    failures: dict[str, str] = {}
    lacking = {
        check: why for (who, where, check), why in LACKS.items() if who == implementation and where in ("", transport)
    }
    lacking = {check: why for check, why in lacking.items() if check in checks}
    asked = [check for check in checks if check not in lacking]
    for name in asked:
        try:
            async with asyncio.timeout(TIME_LIMIT), AsyncExitStack() as stack:
                await CHECKS[name](World(implementation, command, transport, stack))
        except TimeoutError:
            failures[name] = f"not done after {TIME_LIMIT:g} s"
        except Failed as failed:
            failures[name] = str(failed)
    print(f"{implementation:5} {transport:8} {len(asked) - len(failures)} of {len(asked)}", flush=True)
    for name, why in failures.items():
        print(f"    {name}: {why}", flush=True)
    for name, why in lacking.items():
        print(f"    not asked: {name}: {why}", flush=True)
    return not failures


async def main() -> int:
    def choice(name: str, names: tuple[str, ...]) -> None:
        given = os.environ.get(name.upper(), "").replace(",", " ").split()
        parser.add_argument(f"--{name}", nargs="+", choices=names, default=given or list(names))

    parser = argparse.ArgumentParser(prog="python -m interop.pubsub", description=__doc__)
    choice("peer", IMPLEMENTATIONS)
    choice("transport", tuple(LISTEN))
    choice("check", tuple(CHECKS))
    options = parser.parse_args()
    try:
        passed = [
            await run(implementation, transport, options.check)
            for transport in options.transport
            for implementation in options.peer
        ]
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
