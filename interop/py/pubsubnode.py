"""A pubsub node that another program commands: ../README.md, "In one pubsub network"."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

import trio
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import (
    PROTOCOL_ID,
    PROTOCOL_ID_V11,
    PROTOCOL_ID_V12,
    PROTOCOL_ID_V13,
    GossipSub,
)
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr
from peer import running_host

Line = dict[str, Any]

NO_MESH = {"degree": 0, "degree_low": 0, "degree_high": 0}
MESH = {"degree": 6, "degree_low": 5, "degree_high": 12}


def say(line: Line) -> None:
    """Print a line for whoever commands."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class ScriptedNode:
    """Acts on commands."""

    def __init__(self, pubsub: Pubsub, nursery: trio.Nursery) -> None:
        self.pubsub = pubsub
        self.nursery = nursery

    async def act(self, command: Line) -> None:
        topic = command.get("Topic", "")
        if command["Do"] == "connect":
            await self.pubsub.host.connect(info_from_p2p_addr(Multiaddr(command["Addr"])))
        elif command["Do"] == "subscribe":
            self.nursery.start_soon(self.listen_to, topic, await self.pubsub.subscribe(topic))
        elif command["Do"] == "wait":
            while len(self.pubsub.peer_topics.get(topic, ())) < command["Peers"]:
                await trio.sleep(0.005)
            say({"waited": topic})
        elif command["Do"] == "publish":
            for n in range(command["First"], command["First"] + command["Count"]):
                await self.pubsub.publish(topic, str(n).ljust(command["Size"], ".").encode())
            say({"published": topic})
        else:
            raise ValueError(f"no command {command['Do']!r}")

    async def listen_to(self, topic: str, subscription: Any) -> None:
        own = self.pubsub.host.get_id()
        while True:
            message = await subscription.get()
            if message.from_id != own.to_bytes():
                say({"got": topic, "n": message.data.decode().rstrip("."), "from": ""})


async def main(options: Line) -> None:
    quic = {"enable_quic": True} if os.environ.get("TRANSPORT") == "quic-v1" else {}
    suffix = "udp/0/quic-v1" if quic else "tcp/0"
    router = GossipSub(
        [PROTOCOL_ID_V13, PROTOCOL_ID_V12, PROTOCOL_ID_V11, PROTOCOL_ID],
        **(NO_MESH if options.get("NoMesh") else MESH),
        heartbeat_interval=1,
        do_px=bool(options.get("PX")),
        spam_protection_enabled=False,  # it drops what is beyond 10 messages a second, its own too
    )
    async with running_host(f"/ip4/127.0.0.1/{suffix}", handlers={}, **quic) as host:
        pubsub = Pubsub(host, router)
        async with (
            background_trio_service(pubsub),
            background_trio_service(router),
            trio.open_nursery() as nursery,
        ):
            await pubsub.wait_until_ready()
            say({"addr": str(host.get_addrs()[0])})
            node = ScriptedNode(pubsub, nursery)
            while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                await node.act(json.loads(line))
            nursery.cancel_scope.cancel()
            os._exit(0)  # its services would wait for peers that are gone


logging.disable(logging.ERROR)
trio.run(main, json.loads(sys.argv[1]))
