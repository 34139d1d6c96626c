"""`python -m interop.dht [--peer NAME...] [--transport NAME...]`: nodes of this library and of another in one DHT.

For each other implementation, and each choice of who is the bootstrap node, who puts and provides, and who looks for
it: a network of these three, and the checks. Prints a line for each network; exit code 1 where a check failed, 2 where
an implementation can't be built.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from collections.abc import Sequence

from interop.build import BuildError

from .checks import checks
from .kinds import LACKS, OTHERS, OWN, PROTOCOLS, lacks, start
from .peers import LISTEN


async def network(transport: str, kinds: Sequence[str]) -> tuple[int, dict[str, str]]:
    """Run the checks in a network of three nodes: how many they were; those that failed, and why."""
    protocol = next((PROTOCOLS[kind] for kind in kinds if kind in PROTOCOLS), OWN)
    asked = {name: check for name, check in checks(kinds).items() if not lacks(kinds, transport, name)}
    failed: dict[str, str] = {}
    bootstrap, provider, querier = (start(kind, transport, protocol) for kind in kinds)
    async with bootstrap, provider, querier:
        await provider.connect(bootstrap.addr)
        await querier.connect(bootstrap.addr)
        for name, check in asked.items():
            try:
                async with asyncio.timeout(60):
                    await check(bootstrap, provider, querier)
            except Exception as error:  # whatever went wrong is the result
                failed[name] = f"{type(error).__name__}: {error}"
    return len(asked), failed


async def main(arguments: argparse.Namespace) -> int:
    worst = networks = 0
    print(f"{'transport':<10}{'bootstrap':<10}{'provider':<10}{'querier':<10}")
    for transport, other in itertools.product(arguments.transport, arguments.peer):
        for kinds in itertools.product(("us", other), repeat=3):
            if "us" not in kinds or other not in kinds:
                continue
            started = time.perf_counter()
            try:
                count, failed = await network(transport, kinds)
            except BuildError as error:
                print(error, file=sys.stderr)
                return 2
            except Exception as error:  # a network that does not come up is a result too
                count, failed = 1, {"start": f"{type(error).__name__}: {error}"}
            networks += 1
            took = time.perf_counter() - started
            print(f"{transport:<10}{''.join(f'{kind:<10}' for kind in kinds)}", end="")
            print(f"{count - len(failed)} of {count}  {took:.1f} s", flush=True)
            for name, reason in failed.items():
                worst += 1
                print(f"    {name}: {reason}")
    for (kind, transport, name), why in LACKS.items():
        if kind in arguments.peer:
            print(f"not asked of {kind}{' over ' * bool(transport)}{transport}: {name}: {why}")
    print(f"{networks} networks, {worst} checks failed")
    return min(worst, 1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m interop.dht", description=__doc__)
    parser.add_argument("--peer", nargs="+", choices=OTHERS, default=OTHERS)
    parser.add_argument("--transport", nargs="+", choices=tuple(LISTEN), default=tuple(LISTEN))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(parse())))
