"""A host that is the same peer each time: its private key lives in a file, which is made the first time."""

import asyncio
import sys

from libp2p import Host, load_or_create_private_key


async def main(path: str) -> None:
    key = load_or_create_private_key(path)  # mode 0600; PEM files are read too
    async with Host(key, ["/ip4/127.0.0.1/tcp/0"]) as host:
        print("I am", host.id)


asyncio.run(main(sys.argv[1] if sys.argv[1:] else "example.key"))
