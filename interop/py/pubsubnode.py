"""A pubsub node that another program commands: ../README.md, "In one pubsub network"."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from functools import partial
from typing import Any

import trio
from libp2p.peer.id import ID as PeerID  # noqa: N811
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub import pubsub as theirs
from libp2p.pubsub.floodsub import PROTOCOL_ID as FLOODSUB
from libp2p.pubsub.gossipsub import (
    PROTOCOL_ID,
    PROTOCOL_ID_V11,
    PROTOCOL_ID_V12,
    PROTOCOL_ID_V13,
    GossipSub,
)
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr
from peer import MANY, running_host

Line = dict[str, Any]

# It drops what is beyond 32 RPCs in wait for a peer, and beyond some messages in wait for a reader.
theirs.RpcQueue = partial(RpcQueue, max_size=MANY)
theirs.SUBSCRIPTION_CHANNEL_SIZE = MANY

NO_MESH = {"degree": 0, "degree_low": 0, "degree_high": 0}
MESH = {"degree": 6, "degree_low": 5, "degree_high": 12}


def say(line: Line) -> None:
    """Print a line for whoever commands."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def sha256_of_data(message: rpc_pb2.Message) -> bytes:
    return hashlib.sha256(message.data).digest()


async def slowly(delay: float, _: PeerID, __: rpc_pb2.Message) -> bool:
    """A validator."""
    await trio.sleep(delay)
    return True


class ScriptedNode:
    """Acts on commands."""

    def __init__(self, pubsub: Pubsub, router: GossipSub, nursery: trio.Nursery, options: Line) -> None:
        self.options = options
        self.pubsub = pubsub
        self.router = router
        self.nursery = nursery

    async def act(self, command: Line) -> None:
        topic = command.get("Topic", "")
        if command["Do"] == "connect":
            await self.pubsub.host.connect(info_from_p2p_addr(Multiaddr(command["Addr"])))
        elif command["Do"] == "subscribe":
            if delay := self.options.get("Delay"):
                self.pubsub.set_topic_validator(topic, partial(slowly, delay / 1000), is_async_validator=True)
            self.nursery.start_soon(self.listen_to, topic, await self.pubsub.subscribe(topic))
        elif command["Do"] == "wait":
            while self.reached(topic) < command["Peers"]:  # noqa: ASYNC110 - nothing tells of a change
                await trio.sleep(0.005)
            say({"waited": topic})
        elif command["Do"] == "publish":
            for n in range(command["First"], command["First"] + command["Count"]):
                await self.pubsub.publish(topic, str(n).ljust(command["Size"], ".").encode())
            say({"published": topic})
        else:
            raise ValueError(f"no command {command['Do']!r}")

    def reached(self, topic: str) -> int:
        """How many peers it would send a message to: those that speak gossipsub must be in its mesh."""
        members = self.pubsub.peer_topics.get(topic, set())
        mesh = self.router.mesh.get(topic, set())
        return sum(peer in mesh or self.router.peer_protocol.get(peer) == FLOODSUB for peer in members)

    async def listen_to(self, topic: str, subscription: Any) -> None:
        own = self.pubsub.host.get_id()
        while True:
            message = await subscription.get()
            if not self.options.get("Quiet") and message.from_id != own.to_bytes():
                say({"got": topic, "n": message.data.decode().rstrip("."), "from": ""})


async def main(options: Line) -> None:
    quic = {"enable_quic": True} if os.environ.get("TRANSPORT") == "quic-v1" else {}
    # Its gossip knows no ids but the default's: only who forwards, and does nothing else, is given others.
    ids = {"msg_id_constructor": sha256_of_data} if options.get("NoSign") else {}
    suffix = "udp/0/quic-v1" if quic else "tcp/0"
    router = GossipSub(
        [PROTOCOL_ID_V13, PROTOCOL_ID_V12, PROTOCOL_ID_V11, PROTOCOL_ID, FLOODSUB],
        **(NO_MESH if options.get("NoMesh") else MESH),
        heartbeat_interval=1,
        do_px=bool(options.get("PX")),
        spam_protection_enabled=False,  # it drops what is beyond 10 messages a second, its own too
    )
    async with running_host(f"/ip4/127.0.0.1/{suffix}", handlers={}, **quic) as host:
        pubsub = Pubsub(host, router, strict_signing=not options.get("NoSign"), **ids)
        async with (
            background_trio_service(pubsub),
            background_trio_service(router),
            trio.open_nursery() as nursery,
        ):
            await pubsub.wait_until_ready()
            say({"addr": str(host.get_addrs()[0])})
            node = ScriptedNode(pubsub, router, nursery, options)
            while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                await node.act(json.loads(line))
            nursery.cancel_scope.cancel()
            os._exit(0)  # its services would wait for peers that are gone


logging.disable(logging.ERROR)
trio.run(main, json.loads(sys.argv[1]))
