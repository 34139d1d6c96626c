"""Our commanded pubsub node, as far as the benchmark needs it: `python -m bench.pubsub_hub OPTIONS`.

It takes lines of JSON as the nodes of interop/README.md do, of which it knows `subscribe`; OPTIONS are what the
benchmark gives to all: anonymous messages, ids that are the SHA-256 of the data.
"""

from __future__ import annotations

import asyncio
import json
import sys

from libp2p.host import Host
from libp2p.protocols.pubsub import GossipSub, GossipSubConfig, SignaturePolicy, Topic, TopicConfig
from libp2p.protocols.pubsub.ids import sha256_of_data
from libp2p.transports.tcp import Tcp


async def main() -> None:
    config = GossipSubConfig(topic=TopicConfig(SignaturePolicy.STRICT_NO_SIGN, sha256_of_data))
    async with (
        Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"], transports=[Tcp()]) as host,
        GossipSub(host, config) as pubsub,
    ):
        print(json.dumps({"addr": str(host.addrs[0])}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            topic = await pubsub.subscribe(json.loads(line)["Topic"])
            host.spawn(read(topic), name="reading")


async def read(topic: Topic) -> None:
    async for _ in topic:
        pass


if __name__ == "__main__":
    asyncio.run(main())
