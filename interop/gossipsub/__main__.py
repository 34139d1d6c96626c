"""`python -m interop.gossipsub --params params.json`: a node, whose number is that of the host's name, node7.

It listens on TCP port 9000, and finds the others by their names, as in the simulator of the framework. With
`--loopback` node n is 127.1.0.n+1, and its number is given by `--node`: all nodes run on one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import re
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from libp2p.errors import DialError
from libp2p.host import Host
from libp2p.multiaddr import Multiaddr
from libp2p.transports.tcp import Tcp

from .script import Instruction, ScriptedNode, key_of

PORT = 9000
PATIENCE = 10.0  # seconds for another node to come up


def log(msg: str, **fields: object) -> None:
    """A line of the output, without spaces: the framework's checks look for `"msg":"..."` in it."""
    time = datetime.now(UTC).isoformat()
    line = json.dumps({"time": time, "level": "INFO", "msg": msg} | fields, separators=(",", ":"))
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def own_number() -> int:
    """The node's number, by the name of its machine. Raises `ValueError`."""
    name = socket.gethostname()
    if (found := re.match(r"node(\d+)", name)) is None:
        raise ValueError(f"the machine is named {name!r}, not node and a number")
    return int(found[1])


async def run(script: list[Instruction], node: int, *, loopback: bool) -> None:
    """Be this node, to the end of the script."""
    loop = asyncio.get_running_loop()
    started = loop.time()

    async def connect(host: Host, other: int) -> None:
        ip = f"127.1.0.{other + 1}" if loopback else await address_of(f"node{other}")
        addr = Multiaddr(f"/ip4/{ip}/tcp/{PORT}/p2p/{key_of(other).peer_id}")
        while True:
            try:
                await host.connect(addr)
            except DialError:
                if loop.time() - started > PATIENCE:
                    raise
                await asyncio.sleep(0.1)  # it may not listen yet
            else:
                return

    own = f"127.1.0.{node + 1}" if loopback else "0.0.0.0"
    listen = [f"/ip4/{own}/tcp/{PORT}"]
    async with Host(key=key_of(node), listen_addrs=listen, transports=[Tcp()]) as host:
        await ScriptedNode(node, host, connect, log).run(script, started)


async def address_of(name: str) -> str:
    found = await asyncio.get_running_loop().getaddrinfo(name, PORT, family=socket.AF_INET, type=socket.SOCK_STREAM)
    return str(found[0][4][0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m interop.gossipsub", description=__doc__)
    parser.add_argument("--params", type=Path, required=True, help="a params.json of the framework")
    parser.add_argument("--loopback", action="store_true", help="all nodes are on this machine")
    parser.add_argument("--node", type=int, help="with --loopback: which node this is")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    node = own_number() if options.node is None else options.node
    asyncio.run(run(json.loads(options.params.read_text())["script"], node, loopback=options.loopback))


if __name__ == "__main__":
    main()
