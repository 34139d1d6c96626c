"""How long providing and finding take, beside go-libp2p-kad-dht: `python -m interop.dht.times [--nodes N]`.

One network of N nodes (default 50) on loopback, half of them ours, all in one process, and half go's, each a process.
Contents are provided, and found elsewhere, by nodes of each kind in turn; all ask the same servers.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack

from interop.build import BuildError
from libp2p.cid import Cid

from .contents import Content
from .kinds import OWN, AnyNode, start

KINDS = ("us", "go")
CONTENTS = 20
"""Contents that each kind provides, and as many that it finds."""


async def network(count: int, stack: AsyncExitStack) -> dict[str, list[AnyNode]]:
    """Nodes of each kind in turn, each of which has begun with the first one; then all fill their tables once more."""
    made: dict[str, list[AnyNode]] = {kind: [] for kind in KINDS}
    first: AnyNode | None = None
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        node = await stack.enter_async_context(start(kind, "tcp", OWN))
        if first is None:
            first = node
        else:
            await node.connect(first.addr)
        made[kind].append(node)
    for nodes in made.values():
        for node in nodes:
            if node is not first:
                await node.connect(first.addr)  # which fills the table
    return made


async def timed(work: Awaitable[object]) -> float:
    """Seconds that `work` took."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def measure(count: int) -> None:
    """Print one line for each kind."""
    async with AsyncExitStack() as stack:
        made = await network(count, stack)
        print(f"{count} nodes on loopback, seconds: median / worst of {CONTENTS}\n")
        print(f"{'':<6}{'provide':>18}{'find, by ours':>18}{'find, by go':>18}")
        for kind, nodes in made.items():
            providing: list[float] = []
            finding: dict[str, list[float]] = {other: [] for other in made}
            for n in range(CONTENTS):
                data = f"{kind} {n}".encode()
                content = Content(data, Cid.of(data))
                providing.append(await timed(nodes[n % len(nodes)].provide(content)))
                for other, seekers in made.items():
                    seeker = seekers[(n + 7) % len(seekers)]
                    finding[other].append(await timed(_found(seeker, content)))
            cells = [f"{statistics.median(some):.3f} / {max(some):.3f}" for some in (providing, *finding.values())]
            print(f"{kind:<6}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


async def _found(seeker: AnyNode, content: Content) -> None:
    if not await seeker.find_providers(content):
        raise RuntimeError(f"nobody was found to provide {content.cid}")


def main() -> int:
    """Measure; 2 where go's node can't be built."""
    parser = argparse.ArgumentParser(prog="python -m interop.dht.times", description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=50)
    args = parser.parse_args()
    try:
        asyncio.run(measure(args.nodes))
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
