"""A chat of many, over gossipsub, in the topic of the universal-connectivity apps.

python group_chat.py                 prints addresses and waits
python group_chat.py ADDRESS...      joins by these peers; each line you type goes to all
"""

import asyncio
import sys

from libp2p import Host
from libp2p.protocols.pubsub import GossipSub, Topic

TOPIC = "universal-connectivity"


async def listen(topic: Topic) -> None:
    async for message in topic:
        print(f"{message.sender.short if message.sender else '?'}: {message.data.decode(errors='replace')}", flush=True)


async def main() -> None:
    async with (
        Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"]) as host,
        GossipSub(host) as pubsub,
        await pubsub.subscribe(TOPIC) as topic,
    ):
        print(*host.addrs, sep="\n", flush=True)
        for address in sys.argv[1:]:
            await host.connect(address)
        listening = asyncio.create_task(listen(topic))
        await topic.wait_for_peers()
        while line := await asyncio.to_thread(sys.stdin.readline):
            await topic.publish(line.strip().encode())
        await asyncio.sleep(0.5)  # what others say at this very moment
        listening.cancel()


asyncio.run(main())
