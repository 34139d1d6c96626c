"""Runs every triangle in which we have a part: `python -m interop.relay [--transport T...] [--peer NAME...]`.

On the loopback interface, with the limits of a public relay. Each part is a program: ../README.md has what it is told
and what it says. Prints a line for each triangle; exit code 0: all passed; 1: one did not; 2: something that is needed
is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from itertools import product

from interop.build import BuildError, build

from .parts import Part, PartFailed

TRANSPORTS = ("tcp", "quic-v1")
PEERS = ("go", "rust", "js")
NOT_ASKED = {
    ("go", "rust"): "go's reservations name public addresses only, none on this interface, and rust takes none without",
}
"""Pairs of a relay and a listener that can't do it without us either, and why. Listed at the end."""
ANSWER = "through the relay"
PATIENCE = 60.0
_LISTEN = {"tcp": "/ip4/127.0.0.1/tcp/0", "quic-v1": "/ip4/127.0.0.1/udp/0/quic-v1"}


async def triangle(transport: str, dialer: str, relay: str, target: str) -> None:
    """Raises what went wrong."""
    at = _LISTEN[transport]
    async with (
        asyncio.timeout(PATIENCE),
        Part(build(relay), transport, "server", at) as server,
        Part(build(target), transport, "listen", await server.line("/ip"), at) as listener,
        Part(build(dialer), transport, "dial", await listener.line("/ip"), at) as dialing,
    ):
        await dialing.line(ANSWER)


async def main(transports: list[str], peers: list[str]) -> int:
    """The exit code."""
    failed = 0
    try:
        for name in ("us", *peers):
            build(name)  # not within a triangle's time
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    for transport, *parts in product(transports, ("us", *peers), ("us", *peers), ("us", *peers)):
        if "us" not in parts or (parts[1], parts[2]) in NOT_ASKED:
            continue
        name = f"{transport:<8} {' -> '.join(parts)}"
        try:
            await triangle(transport, *parts)
        except (PartFailed, TimeoutError) as error:
            failed += 1
            print(f"{name}: failed: {error!r}", flush=True)
        else:
            print(f"{name}: passed", flush=True)
    for (relay, target), why in NOT_ASKED.items():
        if {relay, target} <= set(peers):
            print(f"not asked: ... -> {relay} -> {target}: {why}")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m interop.relay", description=__doc__)
    parser.add_argument("--transport", nargs="+", choices=TRANSPORTS, default=TRANSPORTS)
    parser.add_argument("--peer", nargs="+", choices=PEERS, default=PEERS)
    arguments = parser.parse_args()
    sys.exit(asyncio.run(main(arguments.transport, arguments.peer)))
