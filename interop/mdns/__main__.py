"""`python -m interop.mdns [--peer NAME...]`: `libp2p listen --mdns` and another implementation find each other.

Each has a network namespace of its own, joined by a cable; which needs root, and iproute2. Prints a line for each
implementation; exit code 1 where one was not found, 2 where something that is needed is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from interop.build import BuildError, Command, need
from interop.dht.kinds import command
from interop.dht.peers import PATIENCE, Program

PEERS = ("go", "rust", "js")
ADDRESSES = ("10.177.0.1", "10.177.0.2")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def cable() -> Iterator[tuple[str, str]]:
    """Two namespaces that a cable joins; they are gone afterwards."""
    names = (f"mdns-a-{os.getpid()}", f"mdns-b-{os.getpid()}")
    for name in names:
        ip("netns", "add", name)
    try:
        ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "route", "add", "default", "dev", "eth0")  # multicast too
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)


class Listener:
    """`libp2p listen --mdns --json` in a namespace."""

    def __init__(self, namespace: str, address: str) -> None:
        words = [sys.executable, "-m", "libp2p.cli", "listen", f"/ip4/{address}/tcp/0", "--mdns", "--json"]
        self._command = ["ip", "netns", "exec", namespace, *words]

    async def __aenter__(self) -> Listener:
        self._process = await asyncio.create_subprocess_exec(*self._command, stdout=asyncio.subprocess.PIPE)
        self.peer = (await self._next("addr")).rpartition("/")[2]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.communicate()

    async def found(self, peer: str) -> None:
        while await self._next("found") != peer:
            pass

    async def _next(self, field: str) -> str:
        """The value of the next line that has this field."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if field in (said := json.loads(line)):
                return str(said[field])
        raise ConnectionError("libp2p listen has ended")


async def meet(kind: str) -> str:
    """How it went: "ok", or what did not happen."""
    with cable() as (ours, theirs):
        where: Command = ("ip", "netns", "exec", theirs)
        listen = f"/ip4/{ADDRESSES[1]}/tcp/0"
        async with AsyncExitStack() as stack:
            us = await stack.enter_async_context(Listener(ours, ADDRESSES[0]))
            other = Program((*where, *command(kind, listen, "/interop/kad/1.0.0"), "mdns"), "tcp")
            await stack.enter_async_context(other)
            peer = other.addr.rpartition("/")[2]
            try:
                async with asyncio.timeout(PATIENCE):
                    await us.found(peer)
            except TimeoutError:
                return f"we did not find {kind}"
            try:
                await other.do("found", us.peer)
            except Exception as error:  # whatever went wrong is the result
                return f"{kind} did not find us: {error}"
    return "ok"


async def main(kinds: list[str]) -> int:
    worst = 0
    try:
        need("ip", "install iproute2")
        if os.geteuid():
            raise BuildError("network namespaces need root")
        for kind in kinds:
            verdict = await meet(kind)
            worst |= verdict != "ok"
            print(f"mdns  us  {kind:<6}{verdict}", flush=True)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    return worst


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m interop.mdns", description=__doc__)
    parser.add_argument("--peer", nargs="+", choices=PEERS, default=PEERS)
    sys.exit(asyncio.run(main(parser.parse_args().peer)))
